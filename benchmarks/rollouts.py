"""What the rollout loop costs a turn, and what joining a running batch saves.

    python benchmarks/rollouts.py

`loop`: a policy that answers at once takes turns with a tool that answers at once. `bare` asks it
for the same turns and splices the same observations in without graph, budgets and records; the
figure is the median of the differences.

`continuous`: requests of unlike lengths behind one model. `static` decodes them batch by batch
until the longest has ended; `continuous` lets the next one in as soon as a row is free. Both draw
the same tokens.

CPU time of the process on one thread, arms in turns and in changing order.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch
from langchain_core.tools import StructuredTool

from mmalign.engine.rollouts import RolloutConfig, RolloutTool, ToolConfig, roll_out
from mmalign.models.decoding import Draw
from mmalign.models.protocol import Sampling
from mmalign.models.running_batch import RunningBatch
from mmalign.records import Sample, user
from mmalign.testing.policies import ScriptedPolicy
from mmalign.testing.tiny_models import TinyModel, tiny_causal_lm

NUM_TURNS = 4


def _find(query: str) -> str:
    return f"about {query}"


TOOL = StructuredTool.from_function(_find, name="search", description="Find things.")
CONFIG = RolloutConfig(
    format="search_r1", tools=(ToolConfig(path="benchmarks:tool"),), prompt="{question}"
)


def say(said: str, seed: int) -> str:
    """Three searches, then the answer."""
    done = said.count("<information>")
    return "<search>x</search>" if done < NUM_TURNS - 1 else "<answer>4</answer>"


def run_loop(num_rollouts: int) -> None:
    """By the graph."""
    samples = [Sample(id=str(place), messages=(user("?"),)) for place in range(num_rollouts)]
    groups = asyncio.run(
        roll_out(
            ScriptedPolicy(say),
            samples,
            CONFIG,
            [RolloutTool(TOOL)],
            seed=0,
            epoch=0,
            num_generations=1,
        )
    )
    assert all(group[0].metadata["num_turns"] == NUM_TURNS for group in groups)


def run_bare(num_rollouts: int) -> None:
    """The same turns without it."""

    async def one() -> None:
        policy = ScriptedPolicy(say)
        ids: list[int] = []
        sampling = Sampling(temperature=1.0, stop=("</search>", "</answer>"))
        for turn in range(NUM_TURNS):
            sampled = await policy.sample_tokens((user("?"),), ids, sampling=sampling, seed=turn)
            ids += sampled.token_ids
            if turn < NUM_TURNS - 1:
                shown = f"\n\n<information>{_find('x')}</information>\n\n"
                ids += await policy.tokenize(shown)

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(num_rollouts)))

    asyncio.run(all_of_them())


def draws(model: TinyModel, num_draws: int) -> list[Draw]:
    """Prompts of a few words; most answers short, some long, as turns of an agent are."""
    rng = random.Random(0)  # not for secrets
    found = []
    for place in range(num_draws):
        asked = [user("what moves? " * rng.randint(1, 8))]
        prompt = model.family.encode_prompt(model.processor, asked, [])
        length = rng.choice((8, 16, 16, 24, 32, 128))
        found.append(Draw(prompt, seed=place, temperature=1.0, max_tokens=length))
    return found


def decode(
    model: TinyModel, wanted: Sequence[Draw], *, max_rows: int, joins: bool
) -> dict[int, list[int]]:
    """Tokens of every draw, by its seed."""
    batch = RunningBatch(model.model, model.family, model.processor, end_ids=frozenset())
    waiting, found = list(wanted), {}
    while waiting or batch.num_rows:
        room = max_rows - batch.num_rows if joins or not batch.num_rows else 0
        if room and waiting:
            batch.add(waiting[:room])
            waiting = waiting[room:]
        for draw, drawn in batch.step():
            found[draw.seed] = drawn.token_ids
    return found


def timed(arms: dict[str, Callable[[], Any]], num_repeats: int) -> dict[str, list[float]]:
    """CPU seconds of every arm, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for name in arms:
        arms[name]()
    for repeat in range(num_repeats):
        for name in sorted(arms, reverse=bool(repeat % 2)):
            start = time.process_time()
            arms[name]()
            seconds[name].append(time.process_time() - start)
    return seconds


def measure(*, num_rollouts: int, num_draws: int, max_rows: int, num_repeats: int) -> Any:
    """Both comparisons."""
    loop = timed(
        {"bare": lambda: run_bare(num_rollouts), "loop": lambda: run_loop(num_rollouts)},
        num_repeats,
    )
    model = tiny_causal_lm(hidden_size=256, num_layers=6)
    wanted = draws(model, num_draws)
    static = decode(model, wanted, max_rows=max_rows, joins=False)
    assert static == decode(model, wanted, max_rows=max_rows, joins=True)
    batching = timed(
        {
            "static": lambda: decode(model, wanted, max_rows=max_rows, joins=False),
            "continuous": lambda: decode(model, wanted, max_rows=max_rows, joins=True),
        },
        num_repeats,
    )
    num_tokens = sum(map(len, static.values()))
    turns = num_rollouts * NUM_TURNS
    pairs = list(zip(loop["loop"], loop["bare"], strict=True))
    ratios = [s / c for s, c in zip(batching["static"], batching["continuous"], strict=True)]
    return {
        "loop_ms_per_turn": statistics.median(a - b for a, b in pairs) * 1e3 / turns,
        "static_ms_per_token": statistics.median(batching["static"]) * 1e3 / num_tokens,
        "continuous_ms_per_token": statistics.median(batching["continuous"]) * 1e3 / num_tokens,
        "continuous_gain": statistics.median(ratios),
        "num_rollouts": num_rollouts,
        "num_draws": num_draws,
        "num_tokens": num_tokens,
        "max_rows": max_rows,
        "num_repeats": num_repeats,
    }


def main() -> None:
    """Print both, with machine and versions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--num-rollouts", type=int, default=200)
    parser.add_argument("--num-draws", type=int, default=64)
    parser.add_argument("--max-rows", type=int, default=16)
    parser.add_argument("--num-repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    torch.set_num_threads(1)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {n: version(n) for n in ("torch", "transformers", "langgraph")},
        **measure(**options),
    }
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for key, value in result.items():
            print(f"{key}: {value:.3f}" if isinstance(value, float) else f"{key}: {value}")


if __name__ == "__main__":
    main()
