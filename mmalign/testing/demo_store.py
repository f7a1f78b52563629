"""A run folder with a real store, as a build leaves it: the demo run's pairs, scored."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from mmalign.engine.manifest import Manifest
from mmalign.engine.store import Outcome, RunStore
from mmalign.media import operation
from mmalign.records import DroppedSample, PreferencePair
from mmalign.records.jsonl import read_jsonl
from mmalign.testing.demo_run import write_demo_run

__all__ = ["commit_outcomes", "demo_outcomes", "write_demo_store"]

MANIFEST = Manifest(
    agent="mmalign.agents.rrpo:build_graph",
    config={"media": {"num_frames": 8}},
    dataset="mmalign.datasets.shapes:read",
)


def write_demo_store(folder: Path, *, num_pairs: int = 12, film: Path | None = None) -> Path:
    """Write the demo run and commit its records to a store.

    Args:
        folder: Is created.
        num_pairs: Pairs; the second one shows each side another clip.
        film: A longer clip that two further pairs are about.

    Returns:
        The folder.
    """
    write_demo_run(folder, num_pairs=num_pairs, film=film)
    with RunStore(folder) as store:
        store.claim(MANIFEST)
        asyncio.run(commit_outcomes(store, demo_outcomes(folder)))
    return folder


def demo_outcomes(folder: Path) -> list[Outcome]:
    """The demo run's records by sample: pairs with scores and metadata, then the dropped ones."""
    pairs = [
        _judged(number, pair)
        for number, pair in enumerate(read_jsonl(folder / "data" / "pairs.jsonl", PreferencePair))
    ]
    dropped = list(read_jsonl(folder / "data" / "dropped.jsonl", DroppedSample))
    kept = [Outcome(at, pair.sample_id, (pair,), ()) for at, pair in enumerate(pairs)]
    lost = [
        Outcome(len(pairs) + at, drop.sample_id, (), (drop,)) for at, drop in enumerate(dropped)
    ]
    return [*kept, *lost]


async def commit_outcomes(store: RunStore, outcomes: Sequence[Outcome]) -> None:
    """Make the outcomes durable."""
    await asyncio.gather(*(store.commit_outcome(outcome) for outcome in outcomes))
    await store.drain()


def _judged(number: int, pair: PreferencePair) -> PreferencePair:
    """The pair as an agent with a judge would write it, with an id of its own."""
    values = pair.model_dump(mode="json", exclude={"id"})
    values["chosen"]["score"] = 0.9 - 0.01 * number
    values["rejected"]["score"] = 0.1 + 0.05 * (number % 7)
    values["metadata"] = {
        "ambiguity": (number % 5) / 4,
        "sentences": {
            "rejected": [
                {"sentence": pair.rejected.text, "label": "wrong", "reason": "not in the clip"}
            ]
        },
    }
    if number == 1:
        shown = [ref.then(operation("mask", seed=number)) for ref in pair.media]
        values["rejected"]["media"] = [ref.model_dump(mode="json") for ref in shown]
    return PreferencePair.model_validate(values)
