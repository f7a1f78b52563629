"""A proof: arms with one search budget each on validation, scored once a seed on test.

`python -m mmalign.pipeline.proof configs/proof_rrpo.yaml` searches each arm's settings on the
validation split with the first seed, trains every arm on every seed with the settings that won,
scores it once on the test split, and writes docs/proofs/NAME.json and the tables of docs/proofs.md.
Pairs that an arm learns from are built once a seed for all arms that ask for the same ones.
Everything that is finished is left as it is when called again.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console

from mmalign.config import Config, apply_overrides, load_yaml, validate
from mmalign.errors import ConfigError
from mmalign.evaluation import (
    Difference,
    Proof,
    Scores,
    arm_result,
    paired_bootstrap,
    write_proof,
)
from mmalign.evaluation.table import Table
from mmalign.pipeline.config import Plugin, RunConfig
from mmalign.pipeline.evaluating import arm_scores, evaluate_arm
from mmalign.pipeline.gates import Gate, verdict
from mmalign.pipeline.stages import (
    DECIDES_PAIRS,
    build_pairs,
    claim_folder,
    train_policy,
    trains_on_pairs,
)
from mmalign.records import content_id
from mmalign.records.atomic import write_text

__all__ = ["ProofConfig", "prove", "versions", "write_page"]

_PACKAGES = ("mmalign", "torch", "transformers", "peft", "langgraph")


class ArmConfig(Config):
    """One way to train; all arms have the same number of candidates."""

    fixed: dict[str, Any] = {}
    """Recipe values that make the arm what it is, as `objective.name: dpo`."""
    search: dict[str, list[Any]] = {}
    """Recipe values to choose from; every combination is a candidate."""

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """All combinations of the searched values, with the fixed ones."""
        names = list(self.search)
        return [
            {**self.fixed, **dict(zip(names, values, strict=True))}
            for values in product(*self.search.values())
        ]


class ProofConfig(Config):
    """What is compared, on which splits, and what must come out."""

    name: str
    recipe: dict[str, Any]
    """A run's recipe; its evaluation section is the test split."""
    validation: Plugin
    """Data set that the search is scored on."""
    seeds: tuple[int, ...] = Field(min_length=3)
    arms: dict[str, ArmConfig]
    gate: str
    """The arm that is compared with all others, the base model included."""
    gates: tuple[Gate, ...] = ()
    """What must come out, where it is something else than that this arm lies above all others."""
    beside: dict[str, str] = {}
    """Further files that are written of the same runs, with the main metric of each."""
    also: tuple[str, ...] = ()
    """Other metrics of the evaluation that are reported, as `Audio/Counting/accuracy`."""
    target: str
    """The make target that reproduces the proof."""
    remarks: tuple[str, ...] = ()
    """What a reader should know, written after the outcome was seen."""


def prove(config: ProofConfig, console: Console) -> Proof:
    """Run or finish a proof.

    Raises:
        ConfigError: The arms do not have the same search budget.
    """
    budgets = {name: len(arm.candidates) for name, arm in config.arms.items()}
    if len(set(budgets.values())) > 1:
        raise ConfigError(f"{config.name}: the arms' search budgets differ: {budgets}")
    root = Path(config.recipe["output_dir"])
    winners = {name: _search(config, root, name, console) for name in config.arms}
    scores = {"base": [_score(config, root, "base", config.seeds[0], {}, console)]}
    for name, winner in winners.items():
        scores[name] = [_score(config, root, name, seed, winner, console) for seed in config.seeds]
    return _write(config, root, scores, winners)


def _run_config(
    config: ProofConfig, folder: Path, seed: int, values: Mapping[str, Any]
) -> RunConfig:
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    recipe = apply_overrides(
        config.recipe,
        [*overrides, f"output_dir={folder}", f"seed={seed}", f"trainer.seed={seed}"],
    )
    return validate(RunConfig, recipe, f"{config.name}.recipe")


def _pairs_folder(root: Path, seed: int, run: RunConfig) -> Path:
    """Where the pairs of a seed are built for all arms that want the same."""
    recipe = content_id({key: run.model_dump(mode="json")[key] for key in DECIDES_PAIRS})
    return root / f"seed-{seed}" / f"pairs-{recipe[:8]}"


def _build(root: Path, seed: int, run: RunConfig, console: Console) -> Path:
    """The file of the pairs that a run learns from."""
    folder = _pairs_folder(root, seed, run)
    if not (folder / "data" / "funnel.json").exists():
        own = run.model_copy(update={"output_dir": folder})
        claim_folder(own)
        build_pairs(own, console)
    return folder / "data" / "pairs.jsonl"


def _train(
    config: ProofConfig,
    root: Path,
    folder: Path,
    seed: int,
    values: Mapping[str, Any],
    console: Console,
) -> RunConfig:
    """Train in a folder of its own, on the seed's pairs where it needs any."""
    run = _run_config(config, folder, seed, values)
    claim_folder(run)
    if trains_on_pairs(run):
        pairs = _build(root, seed, run, console)
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / "pairs.jsonl").write_bytes(pairs.read_bytes())
    train_policy(run, console)
    return run


def _search(config: ProofConfig, root: Path, name: str, console: Console) -> dict[str, Any]:
    """The arm's candidate that scores highest on validation."""
    seed = config.seeds[0]
    found: list[tuple[float, dict[str, Any]]] = []
    for index, values in enumerate(config.arms[name].candidates):
        folder = root / "search" / name / str(index)
        run = _train(config, root, folder, seed, values, console)
        assert run.evaluation is not None
        on_validation = run.evaluation.model_copy(update={"dataset": config.validation})
        report = evaluate_arm(
            run.model_copy(update={"evaluation": on_validation}), "validation", console
        )
        console.print(f"search {name} {values}: {report.metric} {report.value:.1f}")
        found.append((report.value, values))
    best = max(found, key=lambda item: item[0])
    write_text(root / "search" / f"{name}.json", json.dumps(found, indent=1))
    return best[1]


def _score(
    config: ProofConfig,
    root: Path,
    name: str,
    seed: int,
    values: Mapping[str, Any],
    console: Console,
) -> Scores:
    """The arm's scores on test, from the one evaluation that there is of them."""
    if name == "base":
        run = _run_config(config, root / "base", seed, {})
        claim_folder(run)
        arm = "before"
    else:
        folder = root / f"seed-{seed}" / name
        run = _train(config, root, folder, seed, values, console)
        arm = "after"
    if not (run.output_dir / "eval" / f"{arm}.json").exists():
        report = evaluate_arm(run, arm, console)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        with (root / "test_evaluations.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps([when, name, seed, report.metric, report.value]) + "\n")
    return arm_scores(run, arm)


def _write(
    config: ProofConfig,
    root: Path,
    scores: Mapping[str, Sequence[Scores]],
    winners: Mapping[str, Mapping[str, Any]],
) -> Proof:
    tables = {name: [found.table for found in arm] for name, arm in scores.items()}
    main = scores["base"][0].main
    folder = Path("docs") / "proofs"
    folder.mkdir(parents=True, exist_ok=True)
    proofs = {}
    for name, metric in {config.name: main, **config.beside}.items():
        proof, differences = _proof_of(config, root, tables, metric, winners)
        write_proof(folder / f"{name}.json", proof, differences)
        proofs[name] = proof
    write_page(folder.parent)
    return proofs[config.name]


def _proof_of(
    config: ProofConfig,
    root: Path,
    tables: Mapping[str, Sequence[Table]],
    metric: str,
    winners: Mapping[str, Mapping[str, Any]],
) -> tuple[Proof, dict[str, Difference]]:
    """All arms by one metric, and what they differ by in it and in the others."""
    others = [name for name in tables if name != config.gate]
    differences: dict[str, Difference] = {
        f"{config.gate} - {other}": paired_bootstrap(tables[other], tables[config.gate], metric)
        for other in others
    }
    further = {
        f"{config.gate} - {other}, {name}": paired_bootstrap(
            tables[other], tables[config.gate], name
        )
        for name in config.also
        for other in others
    }
    arms = {name: arm_result(arm, metric) for name, arm in tables.items()}
    base = arms["base"]
    arms["base"] = base.model_copy(update={"values": base.values * len(config.seeds)})
    proof = Proof(
        command=config.target,
        versions=versions(),
        seeds=config.seeds,
        metric=metric,
        arms=arms,
        also={
            name: {arm: arm_result(found, name) for arm, found in tables.items()}
            for name in config.also
        },
        notes=(
            *(verdict(gate, tables) for gate in config.gates),
            *(_verdict(pair, difference) for pair, difference in differences.items()),
            *(f"{name} after search: {json.dumps(values)}" for name, values in winners.items()),
            f"search budget: {len(next(iter(config.arms.values())).candidates)} candidates an arm, "
            f"scored on validation",
            *_pair_counts(config, root, winners),
            f"recipe {_recipe_id(config)}",
            *config.remarks,
        ),
    )
    return proof, differences | further


def _recipe_id(config: ProofConfig) -> str:
    """What is asked by default is not said, so that older proofs keep their id."""
    unsaid = {name for name in ("gates", "beside") if not getattr(config, name)}
    return content_id(config.model_dump(mode="json", exclude={"remarks", *unsaid}))


def _verdict(pair: str, difference: Difference) -> str:
    if difference.low > 0:
        return f"{pair}: above 0 with 95 % of the draws"
    if difference.value > 0:
        return f"{pair}: above 0 in the mean, not with 95 % of the draws"
    return f"{pair}: not above 0"


def _pair_counts(
    config: ProofConfig, root: Path, winners: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """How many pairs each arm was given."""
    for name, values in winners.items():
        runs = {seed: _run_config(config, root, seed, values) for seed in config.seeds}
        if trains_on_pairs(runs[config.seeds[0]]):
            files = [
                _pairs_folder(root, seed, run) / "data" / "pairs.jsonl"
                for seed, run in runs.items()
            ]
            counts = [len(file.read_text(encoding="utf-8").splitlines()) for file in files]
            yield f"{name}: pairs of the seeds: {counts}"


def versions() -> dict[str, str]:
    """Of Python and of what decides the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def write_page(docs: Path) -> None:
    """Write docs/proofs.md anew from all of docs/proofs/*.json."""
    blocks = [
        "# Proofs\n\nEach table is written by its command from the files in `proofs/`. Values are "
        "percent on the test split, which is scored once per arm and seed; intervals are 95 % over "
        "draws of items and seeds; settings are chosen on the validation split, with one budget "
        "for every arm."
    ]
    for path in sorted((docs / "proofs").glob("*.json")):
        blocks.append(_section(path.stem, json.loads(path.read_text(encoding="utf-8"))))
    write_text(docs / "proofs.md", "\n\n".join(blocks) + "\n")


def _section(name: str, proof: Mapping[str, Any]) -> str:
    lines = [
        f"## {name}",
        "",
        f"`{proof['command']}`, metric {proof['metric']}, seeds {proof['seeds']}",
        "",
        "| arm | " + " | ".join(f"seed {seed}" for seed in proof["seeds"]) + " | mean | 95 % |",
        "|---" * (len(proof["seeds"]) + 3) + "|",
    ]
    for arm, result in proof["arms"].items():
        values = " | ".join(f"{value:.1f}" for value in result["values"])
        spread = f"{result['low']:.1f} to {result['high']:.1f}"
        lines.append(f"| {arm} | {values} | **{result['mean']:.1f}** | {spread} |")
    if proof.get("also"):
        lines += ["", "| also, mean (95 %) | " + " | ".join(proof["arms"]) + " |"]
        lines += ["|---" * (len(proof["arms"]) + 1) + "|"]
    for name, arms in proof.get("also", {}).items():
        cells = (f"{a['mean']:.1f} ({a['low']:.1f} to {a['high']:.1f})" for a in arms.values())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| difference | points | 95 % |", "|---|---|---|"]
    for pair, gap in proof["differences"].items():
        lines.append(f"| {pair} | {gap['value']:+.1f} | {gap['low']:+.1f} to {gap['high']:+.1f} |")
    lines += ["", *(f"- {note}" for note in proof["notes"])]
    versions = ", ".join(f"{package} {number}" for package, number in proof["versions"].items())
    return "\n".join([*lines, f"- {versions}"])


def main(arguments: Sequence[str]) -> None:
    """Run the proof that a recipe describes."""
    parser = argparse.ArgumentParser(prog="python -m mmalign.pipeline.proof")
    parser.add_argument("recipe", type=Path)
    path = parser.parse_args(arguments).recipe
    console = Console()
    proof = prove(validate(ProofConfig, load_yaml(path), str(path)), console)
    for name, arm in proof.arms.items():
        console.print(f"{name}: {arm.mean:.1f} ({arm.low:.1f} to {arm.high:.1f})")


if __name__ == "__main__":
    main(sys.argv[1:])
