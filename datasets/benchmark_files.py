"""Read the JSON files of published benchmarks, with errors that name file and place."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign.api import ConfigError, RecordError

__all__ = ["load_list", "load_mapping", "require_text"]


def load_list(path: Path) -> list[Any]:
    """The list that a file holds.

    Raises:
        ConfigError: There is no such file.
        RecordError: It is not valid JSON, or holds something else.
    """
    value = _load(path)
    if not isinstance(value, list):
        raise RecordError(f"{path}: holds a {type(value).__name__}, expected a list")
    return value


def load_mapping(path: Path) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        ConfigError: There is no such file.
        RecordError: It is not valid JSON, or holds something else.
    """
    value = _load(path)
    if not isinstance(value, dict):
        raise RecordError(f"{path}: holds a {type(value).__name__}, expected an object")
    return value


def require_text(where: str, record: object, names: Sequence[str]) -> Mapping[str, Any]:
    """The record, once all named fields are known to be texts.

    Raises:
        RecordError: One of them is missing, empty or no text.
    """
    if not isinstance(record, Mapping):
        raise RecordError(f"{where}: is a {type(record).__name__}, expected an object")
    for name in names:
        if not isinstance(record.get(name), str) or not record[name].strip():
            raise RecordError(
                f"{where}: field {name!r} is {record.get(name)!r}, expected a text that is not "
                f"empty"
            )
    return record


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; root must be the folder that the benchmark's own download "
            f"unpacks to"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not valid JSON: {error}") from error
