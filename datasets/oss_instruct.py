"""Instructions of OSS-Instruct, a programming language at a time; its answers are left alone.

Source: Magicoder (Wei et al., 2023), the released JSON lines file.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mmalign.api import ConfigError, RecordError, Sample, user
from mmalign.datasets.benchmark_files import require_text

__all__ = ["read"]


def read(
    file: str | Path, *, language: str = "python", num_samples: int | None = None
) -> Iterator[Sample]:
    """The problems of a language, in the order of the file.

    No problem names its function, so that an agent which wants one must find it out.

    Args:
        file: JSON lines; a line has `lang`, `problem` and more.
        language: As `lang` has it.
        num_samples: Only so many.

    Raises:
        ConfigError: There is no such file.
        RecordError: A line is no JSON object with these texts; named by its number.
    """
    return islice(_all_of(Path(file), language), num_samples)


def _all_of(path: Path, language: str) -> Iterator[Sample]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; put the data set's JSON lines file there")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            try:
                row = require_text(where, json.loads(line), ("lang", "problem"))
            except json.JSONDecodeError as error:
                raise RecordError(f"{where}: expected a JSON object: {line[:80]!r}") from error
            if row["lang"] == language:
                yield Sample(
                    id=f"oss-instruct/{number:06d}",
                    messages=(user(row["problem"].strip()),),
                    metadata={"dataset": "oss_instruct", "question_type": language},
                )
