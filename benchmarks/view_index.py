"""How long `mmalign view` takes for its list at 100,000 pairs.

    python benchmarks/view_index.py --num-pairs 100000 --json

The store is written by the engine's own calls, with texts of the demo run's length. Timed are the
first reading, a reading after one more outcome, and the list by filter, words and order, each for
the first time and again; the figure is the median of five. CPU time of the process, for on a
machine that is busy with other work wall time measures the other work.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mmalign.engine.store import Outcome, RunStore
from mmalign.records import PreferencePair
from mmalign.report.review.index import Index
from mmalign.report.review.queries import Query
from mmalign.testing.demo_run import write_demo_run
from mmalign.testing.demo_store import MANIFEST, commit_outcomes, demo_outcomes

BATCH = 2000
QUERIES = {
    "all": Query(),
    "by question type": Query(tags=(("question_type", "color"),)),
    "by words": Query(text="crosses the middle red"),
    "by score difference": Query(sort="score_difference", descending=True),
    "by metadata, bounded": Query(sort="metadata.ambiguity", low=0.2, high=0.8),
    "undecided": Query(decision="undecided"),
}


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-pairs", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.num_pairs)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for name, milliseconds in result.items():
            print(f"{name:40} {milliseconds:10.1f}")


def measure(folder: Path, num_pairs: int) -> dict[str, float]:
    """Milliseconds by what was done."""
    models = [
        outcome.pairs[0] for outcome in demo_outcomes(write_demo_run(folder)) if outcome.pairs
    ]
    with RunStore(folder) as store:
        store.claim(MANIFEST)
        for start in range(0, num_pairs, BATCH):
            numbers = range(start, min(start + BATCH, num_pairs))
            asyncio.run(commit_outcomes(store, [outcome(n, models) for n in numbers]))
        result = {}
        index = Index(store)
        result["first reading"] = timed(index.refresh)
        asyncio.run(commit_outcomes(store, [outcome(num_pairs, models)]))
        index._read_again_at = 0.0
        result["one more outcome"] = timed(index.refresh)
        result["nothing new"] = statistics.median(timed(index.refresh) for _ in range(5))
        for name, query in QUERIES.items():
            first = []
            for _ in range(5):
                index._results.clear()
                first.append(timed(partial(index.find, query)))
            result[name] = statistics.median(first)
            result[f"{name}, again"] = timed(partial(index.find, query))
        row = index.find(Query())[num_pairs // 2]
        result["neighbours"] = timed(lambda: index.neighbours(Query(), row))
        index.close()
    return result


def outcome(number: int, models: list[PreferencePair]) -> Outcome:
    """One of the demo run's pairs under another name."""
    pair = models[number % len(models)]
    named = pair.model_copy(update={"sample_id": f"sample-{number:06d}", "id": f"{number:032x}"})
    return Outcome(number, named.sample_id, (named,), ())


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of CPU time."""
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started)


if __name__ == "__main__":
    main()
