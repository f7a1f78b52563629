"""The file of answers: one line each as it comes, one model and one set of questions for all."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from mmalign.errors import RecordError, StoreError
from mmalign.evaluation.predictions import Prediction
from mmalign.models.protocol import ChatModel, Sampling
from mmalign.records import Sample
from mmalign.records.atomic import write_text

__all__ = ["AnswerFile", "read_predictions"]


def read_predictions(path: Path) -> list[Prediction]:
    """The answers of a file; a last line that was cut off by a kill is left out.

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
            found.append(Prediction.model_validate_json(line))
        except ValidationError as error:
            raise RecordError(f"{path}:{number}: is no prediction: {line[:60]!r}") from error
    return found


class AnswerFile:
    """Answers of one model to one set of questions, and the manifest that says whose."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._manifest = path.with_name(path.name.removesuffix(".jsonl") + ".manifest.json")

    def claim(
        self,
        model: ChatModel,
        items: Sequence[Sample],
        sampling: Sampling,
        fingerprint: Mapping[str, Any],
    ) -> None:
        """Make the file this evaluation's, or see that it already is.

        Raises:
            StoreError: It holds answers of another model or to other questions; says which.
        """
        digest = hashlib.blake2b(digest_size=16)
        for item in items:
            digest.update(f"{item.id}\x1f{item.content_id()}\n".encode())
        given: dict[str, Any] = {
            "model": model.name,
            "identity": dict(model.identity),
            "sampling": sampling.model_dump(mode="json"),
            "samples": digest.hexdigest(),
            "fingerprint": dict(fingerprint),
        }
        given = json.loads(json.dumps(given, default=str))
        if self._path.exists():
            self._compare(given)
        else:
            write_text(self._manifest, json.dumps(given, indent=1) + "\n")

    def read(self, items: Sequence[Sample]) -> dict[str, Prediction]:
        """The answers so far by sample id."""
        if not self._path.exists():
            return {}
        ids = {item.id for item in items}
        return {answer.id: answer for answer in read_predictions(self._path) if answer.id in ids}

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
