"""Questions with several right answers, in JSON lines of `id`, `question`, `golden_answers`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmalign.api import ConfigError, RecordError, Sample, user
from mmalign.datasets.benchmark_files import require_text

__all__ = ["read_questions"]


def read_questions(
    path: str | Path, dataset: str, *, num_samples: int | None = None, type_key: str | None = None
) -> Iterator[Sample]:
    """All questions of a file of FlashRAG's form.

    Args:
        path: The file.
        dataset: Its name; ids begin with it, for data sets that are trained on together number
            their rows alike.
        num_samples: Stop after so many.
        type_key: Of the row's `metadata`: what becomes the question's type.

    Raises:
        ConfigError: There is no such file.
        RecordError: A row does not have the form, an id comes twice, or no gold answer is left.
    """
    seen: set[str] = set()
    for number, line in enumerate(_lines(Path(path)), start=1):
        if len(seen) == num_samples:
            return
        where = f"{path}:{number}"
        row = _row(where, line)
        if row["id"] in seen:
            raise RecordError(f"{where}: id {row['id']!r} comes twice")
        seen.add(row["id"])
        kind = (row.get("metadata") or {}).get(type_key) if type_key else None
        yield Sample(
            id=f"{dataset}-{row['id']}",
            messages=(user(row["question"]),),
            answer=row["golden_answers"][0],
            metadata={
                "dataset": dataset,
                "golden_answers": row["golden_answers"],
                **({"question_type": kind} if isinstance(kind, str) else {}),
            },
        )


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from (line for line in file if line.strip())
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; give file: a JSONL file of FlashRAG's data sets"
        ) from error


def _row(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise RecordError(f"{where}: not valid JSON: {error}") from error
    found = dict(require_text(where, row, ("id", "question")))
    golds = found.get("golden_answers")
    if not isinstance(golds, list) or not golds or not all(isinstance(gold, str) for gold in golds):
        raise RecordError(
            f"{where}: field 'golden_answers' is {golds!r}, expected a list of texts that is not "
            f"empty"
        )
    return found
