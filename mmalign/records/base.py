"""The base of every record: frozen, strict, hashed by its content."""

import hashlib
import json
from collections.abc import Mapping, Set
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Record", "canonical_json", "content_id"]


class Record(BaseModel):
    """A frozen value that an unknown field makes invalid."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    schema_version: Literal[1] = 1

    not_in_id: ClassVar[Set[str]] = frozenset({"id", "lineage"})
    """Fields that say where a record came from, not what it is."""

    def content_id(self) -> str:
        """Hash of what the record says, without its id, lineage, cost and time."""
        return content_id(self.model_dump(mode="json", exclude=set(self.not_in_id)))


def canonical_json(value: Mapping[str, Any] | list[Any]) -> str:
    """One text for one value: sorted keys, no spaces, no escapes, NaN refused."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def content_id(value: Mapping[str, Any] | list[Any]) -> str:
    """32 hexadecimal digits that name a JSON value by its content."""
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=16).hexdigest()
