"""Records as JSON lines, checked line by line."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mmalign.errors import RecordError, StoreError
from mmalign.records.atomic import new_file
from mmalign.records.base import Record
from mmalign.records.samples import Sample

__all__ = ["IdCheck", "explain", "kind_of", "read_jsonl", "write_jsonl"]

RecordT = TypeVar("RecordT", bound=Record)


def read_jsonl(
    path: Path, record_class: type[RecordT], *, require_answer: bool = False
) -> Iterator[RecordT]:
    """The records of a file, one per line; empty lines are skipped.

    Args:
        path: A file that `write_jsonl` or another tool wrote, UTF-8.
        record_class: What the lines hold.
        require_answer: A sample without a gold answer is an error too.

    Raises:
        RecordError: A line is no JSON, has an unknown field, breaks a rule of its record, or
            repeats an id; named as `file:line: pair "id": problem`.
        StoreError: The file cannot be read.
    """
    ids = IdCheck(f"{path}:", record_class)
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.isspace():
                    continue
                where = f"{path}:{number}"
                try:
                    record = record_class.model_validate_json(line)
                except ValidationError as error:
                    raise RecordError(_explain_line(where, line, record_class, error)) from error
                ids.check(number, record, is_empty=_has_empty_id(line))
                if require_answer and isinstance(record, Sample) and not record.answer:
                    raise RecordError(
                        f'{where}: sample "{record.id}": has no answer; give its gold answer or '
                        f"leave the question out"
                    )
                yield record
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: is not UTF-8 text: {error}") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error


def write_jsonl(path: Path, records: Iterable[Record]) -> int:
    """Write records, one per line, whole or not at all.

    Returns:
        The number of records.

    Raises:
        RecordError: Two records have the same id.
        StoreError: The disk is full or the folder cannot be written.
    """
    count = 0
    ids: IdCheck | None = None
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for count, record in enumerate(records, start=1):
            ids = ids or IdCheck(f"{path}:", type(record))
            ids.check(count, record)
            file.write(record.model_dump_json())
            file.write("\n")
    return count


class IdCheck:
    """Finds ids that are empty or come twice in one file."""

    def __init__(self, where: str, record_class: type[Record]) -> None:
        self._where = where
        self._kind = kind_of(record_class)
        self._seen: dict[str, int] = {}

    def check(self, number: int, record: Record, *, is_empty: bool = False) -> None:
        """Note the id of the record in line (or row) `number`.

        Raises:
            RecordError: The id was seen before, or the file holds an empty one.
        """
        record_id = getattr(record, "id", None)
        if record_id is None:
            return
        named = f'{self._where}{number}: {self._kind} "{"" if is_empty else record_id}"'
        if is_empty:
            raise RecordError(
                f"{named}: the id is empty; leave the field out to have it computed from the "
                f"content"
            )
        if (before := self._seen.setdefault(record_id, number)) != number:
            raise RecordError(
                f"{named}: the same id stands at {self._where}{before}; ids are unique in a "
                f"file. Remove one of the two"
            )


def kind_of(record_class: type[Record]) -> str:
    """What messages call a record."""
    names = {"PreferencePair": "pair", "DroppedSample": "dropped sample"}
    return names.get(record_class.__name__, record_class.__name__.lower())


def explain(where: str, kind: str, record_id: object, error: ValidationError) -> str:
    """One line that says which record is wrong, and what about it."""
    named = f'{kind} "{record_id}"' if record_id else kind
    problems = []
    for item in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            problem = f"unknown field {field!r}; remove it or put it under metadata"
        elif item["type"] == "missing":
            problem = f"field {field!r} is missing"
        else:
            message = item["msg"].removeprefix("Value error, ")
            problem = f"{field}: {message}" if field else message
        problems.append(problem)
    return f"{where}: {named}: " + "; ".join(problems)


def _explain_line(where: str, line: str, record_class: type[Record], error: ValidationError) -> str:
    kind = kind_of(record_class)
    try:
        value: Any = json.loads(line.rstrip("\n"))
    except json.JSONDecodeError as bad:
        shown = repr(line.rstrip()[:60])
        return f"{where}: {kind}: not valid JSON: {bad.msg} at column {bad.colno}: {shown}"
    if not isinstance(value, dict):
        return f"{where}: {kind}: holds a {type(value).__name__}, expected an object"
    return explain(where, kind, value.get("id") or value.get("sample_id"), error)


def _has_empty_id(line: str) -> bool:
    # most lines are spared the second parse
    return '""' in line and not json.loads(line).get("id", "absent")
