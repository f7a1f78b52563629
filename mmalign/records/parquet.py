"""Records as Parquet: columns follow the fields, free-form mappings are JSON text."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

import mmalign
from mmalign.errors import RecordError, StoreError
from mmalign.records.atomic import new_file
from mmalign.records.base import Record, canonical_json
from mmalign.records.jsonl import IdCheck, explain, kind_of

__all__ = ["arrow_schema", "read_parquet", "write_parquet"]

RecordT = TypeVar("RecordT", bound=Record)

_MANIFEST = b"mmalign"
_JSON = {b"mmalign": b"json"}
"""Marks a text column that holds JSON."""


def arrow_schema(record_class: type[Record]) -> pa.Schema:
    """The columns of a record class, with a manifest of its name and schema version."""
    manifest = {
        "record": record_class.__name__,
        "schema_version": record_class.model_fields["schema_version"].default,
        "version": mmalign.__version__,
    }
    return pa.schema(_fields((record_class,)), metadata={_MANIFEST: canonical_json(manifest)})


def write_parquet(
    path: Path,
    records: Iterable[RecordT],
    record_class: type[RecordT],
    *,
    row_group_size: int = 1024,
) -> int:
    """Write records, whole or not at all, one row group in memory at a time.

    Args:
        path: The new file.
        records: All of one class.
        record_class: That class; it names the columns even where there are no records.
        row_group_size: Records in a row group.

    Returns:
        The number of records.

    Raises:
        RecordError: Two records have the same id, or a number does not fit its column.
        StoreError: The disk is full or the folder cannot be written.
    """
    schema = arrow_schema(record_class)
    ids = IdCheck(f"{path}: row ", record_class)
    count = 0
    rest = iter(records)
    with new_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while group := list(islice(rest, row_group_size)):
            rows = []
            for count, record in enumerate(group, start=count + 1):  # noqa: B020  # it goes on
                ids.check(count, record)
                rows.append(_encode(record.model_dump(), schema))
            try:
                table = pa.Table.from_pylist(rows, schema=schema)
            except (pa.ArrowInvalid, OverflowError) as error:
                first = count - len(group) + 1
                raise RecordError(
                    f"{path}: rows {first}-{count}: a value does not fit its column: {error}"
                ) from error
            writer.write_table(table)
    return count


def read_parquet(path: Path, record_class: type[RecordT]) -> Iterator[RecordT]:
    """The records of a file that `write_parquet` wrote, one row group in memory at a time.

    Raises:
        RecordError: The file holds other records or a later schema, or a row breaks a rule of
            its record or repeats an id; named as `file: row N: pair "id": problem`.
        StoreError: The file cannot be read.
    """
    kind = kind_of(record_class)
    ids = IdCheck(f"{path}: row ", record_class)
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            _check_manifest(path, file.schema_arrow, record_class)
            for group in range(file.num_row_groups):
                for row in _rows(path, file.read_row_group(group)):
                    number += 1
                    try:
                        record = record_class.model_validate(row)
                    except ValidationError as error:
                        row_id = row.get("id") or row.get("sample_id")
                        where = f"{path}: row {number}"
                        raise RecordError(explain(where, kind, row_id, error)) from error
                    ids.check(number, record, is_empty=row.get("id") == "")
                    yield record
    except pa.ArrowInvalid as error:
        raise RecordError(f"{path}: is no Parquet file: {error}") from error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_manifest(path: Path, schema: pa.Schema, record_class: type[Record]) -> None:
    metadata = schema.metadata or {}
    if _MANIFEST not in metadata:
        raise RecordError(
            f"{path}: has no manifest of mmalign; it was written by another tool. Import it with "
            f"one of the formats of mmalign.records.interop"
        )
    manifest = json.loads(metadata[_MANIFEST])
    if manifest["record"] != record_class.__name__:
        raise RecordError(
            f"{path}: holds {manifest['record']} records, expected {record_class.__name__}"
        )
    expected = record_class.model_fields["schema_version"].default
    if manifest["schema_version"] != expected:
        raise RecordError(
            f"{path}: has schema version {manifest['schema_version']}, this mmalign "
            f"{mmalign.__version__} reads {expected}; it was written by mmalign "
            f"{manifest['version']}"
        )


# Columns ------------------------------------------------------------------------------------


def _fields(classes: tuple[type[BaseModel], ...], above: tuple[type, ...] = ()) -> list[pa.Field]:
    """The columns of a record; of several alternatives, those of all of them."""
    fields: dict[str, pa.Field] = {}
    for record_class in classes:
        for name, info in record_class.model_fields.items():
            if name not in fields:
                kind = _arrow_type(info.annotation, (*above, *classes))
                is_text = kind is None
                fields[name] = pa.field(
                    name, pa.string() if is_text else kind, metadata=_JSON if is_text else None
                )
    return list(fields.values())


def _arrow_type(annotation: Any, above: tuple[type, ...]) -> pa.DataType | None:
    """The type of a column; None for a value that is kept as JSON text."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _arrow_type(args[0], above)
    if origin in (Union, UnionType):
        parts = [part for part in args if part is not NoneType]
        if len(parts) == 1:
            return _arrow_type(parts[0], above)
        return pa.struct(_fields(tuple(parts), above))
    if origin is Literal:
        return pa.int64() if isinstance(args[0], int) else pa.string()
    if origin is tuple:
        item = _arrow_type(args[0], above)
        return None if item is None else pa.list_(item)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        # a clip within an operation within a clip: no column is infinitely deep
        return None if annotation in above else pa.struct(_fields((annotation,), above))
    return {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
    }.get(annotation)


# Rows ---------------------------------------------------------------------------------------


def _encode(values: dict[str, Any], fields: Iterable[pa.Field]) -> dict[str, Any]:
    return {field.name: _encode_value(values.get(field.name), field) for field in fields}


def _encode_value(value: Any, field: pa.Field) -> Any:
    if value is None:
        return None
    if field.metadata == _JSON:
        return json.dumps(value, ensure_ascii=False)
    return _encode_type(value, field.type)


def _encode_type(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return _encode(value, kind)
    if pa.types.is_list(kind):
        return [_encode_type(item, kind.value_type) for item in value]
    return value


def _rows(path: Path, table: pa.Table) -> Iterator[dict[str, Any]]:
    for row in table.to_pylist():
        try:
            yield _decode(row, table.schema)
        except json.JSONDecodeError as error:
            raise RecordError(f"{path}: a JSON column holds no JSON: {error}") from error


def _decode(values: dict[str, Any], fields: Iterable[pa.Field]) -> dict[str, Any]:
    return {field.name: _decode_value(values[field.name], field) for field in fields}


def _decode_value(value: Any, field: pa.Field) -> Any:
    if value is None:
        return None
    if field.metadata and b"mmalign" in field.metadata:
        return json.loads(value)
    return _decode_type(value, field.type)


def _decode_type(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        decoded = _decode(value, kind)
        # of two alternatives only one's fields are set: the others' would be unknown fields
        return {name: item for name, item in decoded.items() if item is not None}
    if pa.types.is_list(kind):
        return [_decode_type(item, kind.value_type) for item in value]
    return value
