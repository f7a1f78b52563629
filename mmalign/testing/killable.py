"""A build that tests start as a process of its own, to kill it.

    python -m mmalign.testing.killable RUN_FOLDER CALLS_FILE --num-samples 200

Every call that reaches the model is appended to the file as `sample node` before it is answered.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph.config import get_config

from mmalign.engine import EngineConfig, Manifest, RunStore, export, run_agent_blocking
from mmalign.errors import MmalignError
from mmalign.models.protocol import Completion
from mmalign.records import Message
from mmalign.testing.agents import build_graph, build_person_graph, numbered_samples
from mmalign.testing.models import SlowModel

__all__ = ["build", "main", "main_of_fork"]


_AGENTS = {"build_graph": build_graph, "build_person_graph": build_person_graph}


@dataclass
class WritingModel(SlowModel):
    """Notes each call in a file, so that it outlives the process."""

    file: int = -1

    async def generate(
        self, messages: Sequence[Message], **settings: Any
    ) -> tuple[Completion, ...]:
        """The script's answers."""
        metadata = get_config()["metadata"]
        os.write(self.file, f"{metadata['sample_id']} {metadata['langgraph_node']}\n".encode())
        return await super().generate(messages, **settings)


def build(
    folder: Path,
    calls: Path,
    *,
    num_samples: int,
    wait_s: float = 0.0,
    max_concurrency: int = 8,
    stop_grace_s: float = 1.0,
    agent: str = "build_graph",
) -> None:
    """Build the pairs of an agent of `mmalign.testing.agents` and export them."""
    file = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        with RunStore(folder) as store:
            run_agent_blocking(
                _AGENTS[agent](),
                numbered_samples(num_samples),
                store=store,
                manifest=Manifest(agent=f"mmalign.testing.agents:{agent}", seed=1),
                policy=WritingModel(wait_s=wait_s, file=file),
                engine=EngineConfig(max_concurrency=max_concurrency, stop_grace_s=stop_grace_s),
            )
            export(store)
    finally:
        os.close(file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all samples are done, 1 with the reason when not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("calls", type=Path)
    parser.add_argument("--num-samples", type=int, default=200)
    parser.add_argument("--wait-s", type=float, default=0.002)
    parser.add_argument("--max-concurrency", type=int, default=8)
    parser.add_argument("--stop-grace-s", type=float, default=1.0)
    parser.add_argument("--agent", choices=_AGENTS, default="build_graph")
    options = parser.parse_args(arguments)
    try:
        build(**vars(options))
    except MmalignError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def main_of_fork(errors: Path, arguments: Sequence[str]) -> None:
    """`main` in a process that was forked, with a file as its standard error output."""
    with errors.open("a") as file:
        os.dup2(file.fileno(), 2)
    sys.exit(main(arguments))


if __name__ == "__main__":
    sys.exit(main())
