"""What makes a run this run and no other; a folder holds the records of exactly one."""

import hashlib
import platform
from collections.abc import Iterable, Mapping, Set
from importlib.metadata import version
from typing import Any, ClassVar

from mmalign.records import Record, Sample

__all__ = ["Manifest", "current_versions", "manifest_diff", "samples_fingerprint"]


class Manifest(Record):
    """Everything that decides which records a run builds; budget and concurrency do not."""

    agent: str
    """Import path, `mmalign.agents.rrpo:build_graph`."""
    config: dict[str, Any] = {}
    """The agent's settings and those of its models, as JSON values."""
    dataset: str = ""
    """Name or path; becomes the lineage's source where a sample names none."""
    dataset_fingerprint: str = ""
    """Changes when a sample is added, removed, moved or edited."""
    seed: int = 0
    versions: dict[str, str] = {}
    """Noted, not compared: an update of a package does not make it another run."""

    not_in_id: ClassVar[Set[str]] = frozenset({"versions"})

    @property
    def run_id(self) -> str:
        """The same for the same work, wherever and whenever it is done."""
        return self.content_id()


def current_versions() -> dict[str, str]:
    """Versions of what took part in building the records."""
    packages = {name: version(name) for name in ("mmalign", "langgraph", "pydantic")}
    return {"python": platform.python_version(), **packages}


def samples_fingerprint(samples: Iterable[Sample]) -> str:
    """32 hexadecimal digits over all samples in order; reads the iterable to its end."""
    digest = hashlib.blake2b(digest_size=16)
    for sample in samples:
        digest.update(sample.model_dump_json().encode())
        digest.update(b"\n")
    return digest.hexdigest()


def manifest_diff(stored: Manifest, given: Manifest) -> list[str]:
    """One line per value that differs, `config.keep_fraction: 0.4 there, 0.5 now`."""
    left, right = (
        _leaves(m.model_dump(mode="json", exclude={"versions"})) for m in (stored, given)
    )
    return [
        f"{path}: {left.get(path, 'absent')!r} there, {right.get(path, 'absent')!r} now"
        for path in sorted(left.keys() | right.keys())
        if left.get(path, "absent") != right.get(path, "absent")
    ]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            leaves |= _leaves(item, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = item
    return leaves
