"""The base of every record: frozen, strict, hashed by its content."""

import hashlib
import json
import math
from collections.abc import Mapping, Set
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = ["JsonDict", "Record", "canonical_json", "content_id"]


class Record(BaseModel):
    """A frozen value that an unknown field makes invalid."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    schema_version: Literal[1] = 1

    not_in_id: ClassVar[Set[str]] = frozenset({"id", "lineage"})
    """Fields that say where a record came from, not what it is."""

    def content_id(self) -> str:
        """Hash of what the record says, without its id, lineage, cost and time.

        A media file counts by its content hash where that is known, else by its URI.
        """
        return content_id(self.id_content())

    def id_content(self) -> dict[str, Any]:
        """What `content_id` hashes: JSON values only."""
        return {
            name: _content(getattr(self, name))
            for name in type(self).model_fields
            if name not in self.not_in_id
        }


def canonical_json(value: Mapping[str, Any] | list[Any]) -> str:
    """One text for one value: sorted keys, no spaces, no escapes, NaN refused."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def content_id(value: Mapping[str, Any] | list[Any]) -> str:
    """32 hexadecimal digits that name a JSON value by its content."""
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=16).hexdigest()


def _content(value: Any) -> Any:
    if isinstance(value, Record):
        return value.id_content()
    return [_content(item) for item in value] if isinstance(value, tuple) else value


def _as_json(value: Any, where: str = "") -> Any:
    """The value as it comes back from a JSON file, so that writing and reading change nothing."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where or 'value'} is {value}; JSON knows finite numbers only")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where or 'value'} has the key {key!r}; JSON keys are strings")
        return {key: _as_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise ValueError(
        f"{where or 'value'} is a {type(value).__name__}; use strings, finite numbers, booleans, "
        f"None, lists and mappings, which JSON can hold"
    )


JsonDict = Annotated[dict[str, Any], BeforeValidator(_as_json)]
"""A free-form mapping of JSON values; tuples become lists, anything else is refused."""
