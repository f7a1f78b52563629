"""Clotho-AQA: questions about sounds, each answered by three people.

Source: Clotho-AQA (Lipping et al., 2022), the released files.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from mmalign.api import ConfigError, MediaRef, RecordError, Sample, user

__all__ = ["FORMS", "Split", "read"]

Split = Literal["train", "val", "test"]
FORMS = {
    "yes_no": "{question}\nAnswer the question using 'yes' or 'no'.",
    "word": "{question}\nAnswer the question using a single word.",
}
"""How a question asks for either kind of answer; the data set has no prompt of its own."""
_FIELDS = ("file_name", "QuestionText", "answer")


def read(
    root: str | Path,
    *,
    split: Split = "train",
    num_samples: int | None = None,
    min_votes: int = 2,
) -> Iterator[Sample]:
    """Questions in the file's order, with the answer that most of the three people gave.

    Args:
        root: Folder with `clotho_aqa_SPLIT.csv` and `audio_files/`.
        split: Whose file is read.
        num_samples: Stop after so many.
        min_votes: Questions on whose answer fewer people agree are left out.

    Yields:
        Samples with one sound each. Their metadata holds `dataset`, `split`, `question_type`
        (yes_no or word) and all `answers`. Questions about one sound share their group_id.

    Raises:
        ConfigError: The split's file is not there.
        RecordError: The file is no UTF-8 text, or a row does not have the published columns;
            named by file and line.
    """
    folder = Path(root)
    path = folder / f"clotho_aqa_{split}.csv"
    answers: dict[tuple[str, str], list[str]] = {}
    for file_name, question, answer in _rows(path):
        answers.setdefault((file_name, question), []).append(answer)
    samples = (
        _sample(folder, split, index, *key, given)
        for index, (key, given) in enumerate(answers.items())
        if Counter(given).most_common(1)[0][1] >= min_votes
    )
    return islice(samples, num_samples)


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """File, question and answer in lower case of every row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; root is the folder that holds it and audio_files/"
        ) from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: {error}; save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for row in reader:
        found = {name: (row.get(name) or "").strip() for name in _FIELDS}
        if missing := [name for name, value in found.items() if not value]:
            raise RecordError(
                f"{path}:{reader.line_num}: {', '.join(missing)} missing or empty; expected the "
                f"columns {', '.join(_FIELDS)}"
            )
        yield found["file_name"], found["QuestionText"], found["answer"].lower()


def _sample(
    folder: Path, split: str, index: int, file_name: str, question: str, answers: list[str]
) -> Sample:
    answer = Counter(answers).most_common(1)[0][0]
    question_type = "yes_no" if answer in ("yes", "no") else "word"
    sound = MediaRef(kind="audio", uri=str(folder / "audio_files" / file_name))
    return Sample(
        id=f"clotho-aqa/{split}/{index:05d}",
        group_id=f"clotho-aqa/{split}/{file_name}",
        messages=(user(FORMS[question_type].format(question=question), sound),),
        answer=answer,
        metadata={
            "dataset": "clotho_aqa",
            "split": split,
            "question_type": question_type,
            "answers": answers,
        },
    )
