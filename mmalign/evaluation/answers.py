"""The file of answers: one line each as it comes, one model and one set of questions for all."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from pydantic import ValidationError

from mmalign.errors import RecordError, StoreError
from mmalign.evaluation.predictions import Prediction
from mmalign.records import Sample
from mmalign.records.atomic import write_text

__all__ = ["AnswerFile", "Key", "read_lines", "read_predictions", "samples_digest"]

PredictionT = TypeVar("PredictionT", bound=Prediction)
Key = tuple[str, int]
"""Sample and draw."""


def read_predictions(path: Path) -> list[Prediction]:
    """The answers of a file; a last line that was cut off by a kill is left out.

    Raises:
        RecordError: Another line is no prediction.
        StoreError: The file cannot be read.
    """
    return read_lines(path, Prediction)


def read_lines(path: Path, record: type[PredictionT]) -> list[PredictionT]:
    """The lines of a file as records; a last line that was cut off by a kill is left out.

    Raises:
        RecordError: Another line is no prediction.
        StoreError: The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines[:-1], start=1):  # behind the last newline: cut off
        try:
            found.append(record.model_validate_json(line))
        except ValidationError as error:
            raise RecordError(f"{path}:{number}: is no prediction: {line[:60]!r}") from error
    return found


def samples_digest(items: Sequence[Sample]) -> str:
    """Hash of all questions with their gold answers and tests, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        digest.update(f"{item.id}\x1f{item.content_id()}\n".encode())
    return digest.hexdigest()


class AnswerFile(Generic[PredictionT]):
    """What was said about one set of questions, and the manifest that says by whom."""

    def __init__(self, path: Path, record: type[PredictionT]) -> None:
        self._path = path
        self._record = record
        self._manifest = path.with_name(path.name.removesuffix(".jsonl") + ".manifest.json")

    def claim(self, items: Sequence[Sample], origin: Mapping[str, Any]) -> None:
        """Make the file this evaluation's, or see that it already is.

        Args:
            items: The questions.
            origin: Everything that makes it another evaluation: the model, its sampling ...

        Raises:
            StoreError: It holds another evaluation, or one of other questions; says which.
        """
        given = json.loads(json.dumps({**origin, "samples": samples_digest(items)}, default=str))
        if self._path.exists():
            self._compare(given)
        else:
            write_text(self._manifest, json.dumps(given, indent=1) + "\n")

    def read(self, questions: Iterable[Key]) -> dict[Key, PredictionT]:
        """What the file holds about these questions; the last line where there are several."""
        if not self._path.exists():
            return {}
        asked = set(questions)
        found = {(line.id, line.draw): line for line in read_lines(self._path, self._record)}
        return {key: line for key, line in found.items() if key in asked}

    @contextmanager
    def appending(self) -> Iterator[TextIO]:
        """The file, ready for further lines.

        Raises:
            StoreError: It cannot be written.
        """
        try:
            self._drop_cut_line()
            file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be written: {error.strerror}") from error
        with file:
            yield file

    def _compare(self, given: Mapping[str, Any]) -> None:
        try:
            stored = json.loads(self._manifest.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(
                f"{self._path}: nothing says which model gave these answers "
                f"({self._manifest.name} is missing); remove the file or choose another name"
            ) from error
        except (OSError, json.JSONDecodeError) as error:
            raise StoreError(f"{self._manifest}: cannot be read: {error}") from error
        different = [
            f"{key}: {json.dumps(stored.get(key))[:100]} there, {json.dumps(value)[:100]} now"
            for key, value in given.items()
            if stored.get(key) != value
        ]
        if different:
            raise StoreError(
                f"{self._path}: holds the answers of another evaluation ({'; '.join(different)}); "
                f"remove the file or choose another name"
            )

    def _drop_cut_line(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
