"""Writes a run's records as files that need no database to be read."""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmalign.engine.agent import AgentGraph, context_class
from mmalign.engine.context import Context
from mmalign.engine.database import store_errors
from mmalign.engine.funnel import Funnel, funnel_of
from mmalign.engine.reviews import reviewed_lines
from mmalign.engine.store import RunStore
from mmalign.records import DroppedSample, PreferencePair

__all__ = ["agent_warnings", "export"]


def export(store: RunStore, folder: Path | None = None) -> Funnel:
    """Write data/pairs.jsonl, data/dropped.jsonl and data/funnel.json.

    Records stand in the order of the data set, as people have reviewed them: pairs that were
    rejected are among the dropped, with the reason `review_rejected`, edited ones carry the new
    text. Each file is replaced whole or not at all.

    Args:
        store: The run.
        folder: The run folder; by default the store's.

    Raises:
        StoreError: The folder cannot be written.
    """
    data = (folder or store.folder) / "data"
    funnel = funnel_of(store)
    with store_errors(data):
        data.mkdir(parents=True, exist_ok=True)
        _replace(data / "pairs.jsonl", reviewed_lines(store, "pairs"))
        _replace(data / "dropped.jsonl", reviewed_lines(store, "dropped"))
        _replace(data / "funnel.json", [json.dumps(funnel.to_json(), indent=2)])
    return funnel


def agent_warnings(graph: AgentGraph, store: RunStore) -> Sequence[str]:
    """What the agent has to say about all that it has written, where it says anything."""
    asked = context_class(graph)
    if getattr(asked.warnings, "__func__", None) is getattr(Context.warnings, "__func__", None):
        return ()
    pairs = map(PreferencePair.model_validate_json, reviewed_lines(store, "pairs"))
    dropped = map(DroppedSample.model_validate_json, reviewed_lines(store, "dropped"))
    return asked.warnings([*pairs, *dropped])


def _replace(path: Path, lines: Iterable[str]) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
