"""How often the programs that a selection chooses and rejects agree with hidden tests.

`python -m mmalign.pipeline.agreement NAME RUN_FOLDER...` reads runs that were built over the same
data set with different seeds, runs every program of their matrices against the hidden tests of its
sample, and writes docs/proofs/NAME.json and the tables of docs/proofs.md. Nothing is trained: the
matrices tell what each rule would choose. A random pair is a pass and a failure drawn evenly; its
rates are exact means over all draws.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from mmalign.errors import ConfigError, RecordError
from mmalign.evaluation import Proof, arm_result, paired_bootstrap, write_proof
from mmalign.evaluation.table import Table
from mmalign.pipeline.config import read_recipe
from mmalign.pipeline.proof import versions, write_page
from mmalign.pipeline.stages import read_samples
from mmalign.records import EXECUTION_MATRIX, ExecutionMatrix, PreferencePair, Sample
from mmalign.records.jsonl import read_jsonl
from mmalign.sandbox import Sandbox
from mmalign.selection.minimax import minimax_pair

__all__ = ["RULES", "Rates", "agreement", "minimax_rates", "random_rates", "right_programs"]


class Rates(NamedTuple):
    """Probabilities that a rule agrees with the hidden tests on one matrix."""

    chosen_right: float
    """The chosen program passes all of them."""
    rejected_wrong: float
    """The rejected program fails one."""
    both: float


def minimax_rates(results: Sequence[Sequence[int]], right: Sequence[bool]) -> Rates:
    """Of the one pair that minimax makes; each rate is 0 or 1.

    Args:
        results: [J][K], 1 where program j passes test k; at least one 1 and one 0.
        right: [J], whether program j passes the hidden tests.
    """
    choice = minimax_pair(results)
    assert choice.chosen is not None  # the matrix is mixed
    assert choice.rejected is not None
    chosen_right, rejected_wrong = right[choice.chosen.code], not right[choice.rejected.code]
    return Rates(chosen_right, rejected_wrong, chosen_right and rejected_wrong)


def random_rates(results: Sequence[Sequence[int]], right: Sequence[bool]) -> Rates:
    """Of a pass and a failure drawn evenly and apart from each other; see `minimax_rates`."""
    cells = [(j, passes) for j, row in enumerate(results) for passes in row]
    chosen_right = fmean(right[j] for j, passes in cells if passes)
    rejected_wrong = fmean(not right[j] for j, passes in cells if not passes)
    return Rates(chosen_right, rejected_wrong, chosen_right * rejected_wrong)


RULES: Mapping[str, Callable[[Sequence[Sequence[int]], Sequence[bool]], Rates]] = {
    "random_pair": random_rates,
    "minimax": minimax_rates,
}


def right_programs(
    matrices: Mapping[str, ExecutionMatrix], samples: Mapping[str, Sample], sandbox: Sandbox
) -> dict[str, list[bool]]:
    """Which programs of each matrix pass all hidden tests of its sample.

    A matrix of which the machine spoilt a run is left out.

    Raises:
        RecordError: A matrix belongs to no sample, or a sample has no tests.
    """
    jobs = [(name, code) for name, matrix in matrices.items() for code in matrix.codes]

    def status(job: tuple[str, str]) -> str:
        sample = samples.get(job[0])
        if sample is None or not sample.tests:
            found = "no such sample" if sample is None else "a sample without tests"
            raise RecordError(f"{job[0]!r}: found {found}, expected hidden tests to compare with")
        tests = "\n".join(sample.tests)
        return sandbox.check(job[1], tests, str(sample.metadata["entry_point"])).status

    with ThreadPoolExecutor(sandbox.config.num_workers or cpu_count()) as threads:
        statuses = dict(zip(jobs, threads.map(status, jobs), strict=True))
    found = {
        name: [statuses[name, code] for code in matrix.codes] for name, matrix in matrices.items()
    }
    return {
        name: [status == "pass" for status in row]
        for name, row in found.items()
        if "infra_error" not in row
    }


def agreement(folders: Sequence[Path], command: str) -> tuple[Proof, dict[str, list[Table]]]:
    """Rates of both rules on the instructions that have a matrix in every folder.

    Raises:
        ConfigError: A folder holds no built run, or the folders have no instruction in common.
    """
    seeds, read = [], []
    for folder in folders:
        config = read_recipe(folder / "config.yaml")
        samples = {sample.id: sample for sample in read_samples(config.datasets)}
        matrices = dict(_matrices(folder))
        with Sandbox(config.sandbox) as sandbox:
            read.append((matrices, right_programs(matrices, samples, sandbox), samples))
        seeds.append(config.seed)
    units = [name for name in read[0][1] if all(name in right for _, right, _ in read)]
    if not units:
        raise ConfigError(f"{', '.join(map(str, folders))}: no instruction has a matrix in all")
    strata = tuple(str(read[0][2][name].metadata.get("question_type") or "") for name in units)
    tables = {
        rule: [
            _table(units, strata, [rates(matrices[name].results, right[name]) for name in units])
            for matrices, right, _ in read
        ]
        for rule, rates in RULES.items()
    }
    proof = Proof(
        command=command,
        versions=versions(),
        seeds=tuple(seeds),
        metric="both",
        arms={rule: arm_result(found, "both") for rule, found in tables.items()},
        also={
            name: {rule: arm_result(found, name) for rule, found in tables.items()}
            for name in ("chosen_right", "rejected_wrong")
        },
        notes=tuple(_notes(read, units)),
    )
    return proof, tables


Read = tuple[dict[str, ExecutionMatrix], dict[str, list[bool]], dict[str, Sample]]


def _notes(read: Sequence[Read], units: Sequence[str]) -> Iterator[str]:
    """What a reader of the table should know."""
    yield (
        f"no model was trained and no test split read: {len(units)} instructions that have a pair "
        f"with every seed, their own programs and tests, and the hidden tests of the same "
        f"instructions; both: the chosen program passes them and the rejected one does not"
    )
    programs = [is_right for _, right, _ in read for row in right.values() for is_right in row]
    yield f"{100 * fmean(programs):.1f} % of the {len(programs)} different programs pass them"
    agree = [
        passes == is_right
        for matrices, right, _ in read
        for name, row in right.items()
        for passed, is_right in zip(matrices[name].results, row, strict=True)
        for passes in passed
    ]
    yield f"{100 * fmean(agree):.1f} % of the cells agree with them about their program"


def _matrices(folder: Path) -> Iterator[tuple[str, ExecutionMatrix]]:
    """The matrix of every pair of a run, by sample."""
    path = folder / "data" / "pairs.jsonl"
    if not path.exists():
        raise ConfigError(f"{path}: there are no pairs; run mmalign build with the same recipe")
    for pair in read_jsonl(path, PreferencePair):
        if EXECUTION_MATRIX in pair.metadata:
            yield pair.sample_id, ExecutionMatrix.model_validate(pair.metadata[EXECUTION_MATRIX])


def _table(units: Sequence[str], strata: Sequence[str], rates: Sequence[Rates]) -> Table:
    columns = {name: np.array([getattr(rate, name) for rate in rates]) for name in Rates._fields}
    return Table(tuple(units), tuple(strata), columns, means=Rates._fields)


def main(arguments: Sequence[str]) -> None:
    """Compare the rules on the matrices of built runs."""
    parser = argparse.ArgumentParser(prog="python -m mmalign.pipeline.agreement")
    parser.add_argument("name")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--target", help="the make target that reproduces the figures")
    given = parser.parse_args(arguments)
    proof, tables = agreement(given.folders, given.target or " ".join((parser.prog, *arguments)))
    differences = {
        f"minimax - random_pair{suffix}": paired_bootstrap(
            tables["random_pair"], tables["minimax"], name
        )
        for name, suffix in (
            ("both", ""),
            *((name, f", {name}") for name in ("chosen_right", "rejected_wrong")),
        )
    }
    docs = Path("docs")
    write_proof(docs / "proofs" / f"{given.name}.json", proof, differences)
    write_page(docs)
    for rule in proof.arms:
        found = {
            "both": proof.arms[rule],
            **{name: arms[rule] for name, arms in proof.also.items()},
        }
        told = (f"{name} {r.mean:.1f} ({r.low:.1f} to {r.high:.1f})" for name, r in found.items())
        print(f"{rule}: {', '.join(told)}")


if __name__ == "__main__":
    main(sys.argv[1:])
