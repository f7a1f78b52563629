"""The stage that scores the policy, as it was and as trained, and compares the two."""

import hashlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from mmalign.config import Config, load_yaml, validate
from mmalign.engine import run_apart
from mmalign.errors import ConfigError, StoreError
from mmalign.evaluation import (
    ROLLS_OUT,
    RUNS,
    Difference,
    EvaluationReport,
    RolledOut,
    Scores,
    evaluate,
    functional_correctness,
    paired_bootstrap,
    read_lines,
    read_predictions,
    read_verdicts,
    score,
    score_judged,
)
from mmalign.models.load import load_model
from mmalign.models.protocol import ChatModel
from mmalign.pipeline.config import RunConfig, call_reader
from mmalign.records import Sample
from mmalign.records.atomic import write_text
from mmalign.report.boxes import SHOWN_FILE
from mmalign.report.comparing import comparison_problem
from mmalign.sandbox import Sandbox

__all__ = ["answers_to", "arm_scores", "compare_arms", "evaluate_arm"]

DRAWN = frozenset({"detection"})
"""Metrics of answers that the report draws into the pictures."""
NUM_DRAWN = 12


def evaluate_arm(config: RunConfig, name: str, console: Console) -> EvaluationReport:
    """Score the policy on the evaluation set, as it was (`before`) or as trained (`after`).

    When both are there, `eval/difference.json` tells how they differ.

    Args:
        config: The recipe.
        name: Of the arm; `checkpoint-N` scores that checkpoint of the training.
        console: Where progress is shown.

    Raises:
        ConfigError: The recipe has no evaluation section, or there is no such checkpoint.
    """
    section = config.evaluation
    if section is None:
        raise ConfigError("the recipe has no evaluation section")
    model_config = config.models["policy"]
    if name != "before":
        model_config = trained_policy(config, name)
    samples = list(call_reader(section.dataset, "evaluation.dataset"))
    model = load_model(model_config, config.media)
    report = run_apart(_evaluate(config, model, samples, name, console))
    if section.metric in DRAWN:
        shown = [sample.model_dump_json() for sample in samples[:NUM_DRAWN]]
        write_text(config.output_dir / "eval" / SHOWN_FILE, "\n".join(shown) + "\n")
    for warning in report.warnings:
        console.print(f"[yellow]{warning}[/yellow]")
    if all((config.output_dir / "eval" / f"{arm}.json").exists() for arm in ("before", "after")):
        compare_arms(config)
    return report


def arm_scores(config: RunConfig, name: str) -> Scores:
    """The scores of an arm that was evaluated, item by item.

    Raises:
        ConfigError: The recipe has no evaluation section.
        StoreError: The arm was not evaluated.
    """
    section = config.evaluation
    if section is None:
        raise ConfigError("the recipe has no evaluation section")
    samples = list(call_reader(section.dataset, "evaluation.dataset"))
    folder = config.output_dir / "eval"
    if section.metric in RUNS:
        verdicts = [
            verdict
            for verdict in read_verdicts(folder / f"{name}.verdicts.jsonl")
            if verdict.draw < section.num_samples
        ]
        return functional_correctness(samples, verdicts, profile=section.profile, k=section.k)
    path = folder / f"{name}.predictions.jsonl"
    if section.metric in ROLLS_OUT:
        rolled_out = read_lines(path, RolledOut)
        return score(samples, rolled_out, metric=section.metric, profile=section.profile)
    predictions = read_predictions(path)
    if section.judge is None:
        return score(samples, predictions, metric=section.metric, profile=section.profile)
    return score_judged(
        samples,
        predictions,
        read_predictions(folder / f"{name}.judged.jsonl"),
        metric=section.metric,
        beside=section.beside,
        profile=section.profile,
    )


def answers_to(run_folder: Path, sample_id: str | None = None) -> tuple[Sample, dict[str, str]]:
    """A sample of the evaluation, and what each arm answers.

    Args:
        run_folder: Its config.yaml names the evaluation.
        sample_id: By default the first sample that has an answer.

    Raises:
        ConfigError: The recipe has no evaluation section, or no such sample was answered.
    """
    path = run_folder / "config.yaml"
    config = validate(RunConfig, load_yaml(path), str(path))
    if config.evaluation is None:
        raise ConfigError(f"{path}: the recipe has no evaluation section")
    said: dict[str, dict[str, str]] = {}
    for file in sorted((run_folder / "eval").glob("*.predictions.jsonl"), reverse=True):
        for prediction in read_predictions(file):
            said.setdefault(prediction.id, {})[file.name.split(".")[0]] = prediction.prediction
    for sample in call_reader(config.evaluation.dataset, "evaluation.dataset"):
        if sample.id in said and sample_id in (None, sample.id):
            return sample, said[sample.id]
    raise ConfigError(
        f"{run_folder}/eval: holds no answer to {sample_id or 'any sample'}; evaluate the run, or "
        f"name one of its samples"
    )


def compare_arms(config: RunConfig) -> Difference:
    """How much training has changed the main metric; also written to `eval/difference.json`.

    Raises:
        ConfigError: The recipe has no evaluation section, or the two were evaluated in different
            ways.
        StoreError: `before` or `after` was not evaluated.
    """
    reports = [_eval_report(config, arm) for arm in ("before", "after")]
    path = config.output_dir / "eval" / "difference.json"
    if problem := comparison_problem(*reports):
        path.unlink(missing_ok=True)
        raise ConfigError(problem)
    before, after = arm_scores(config, "before"), arm_scores(config, "after")
    difference = paired_bootstrap([before.table], [after.table], before.main)
    text = json.dumps({"metric": before.main, **difference._asdict()}, indent=1)
    write_text(path, text + "\n")
    return difference


def _eval_report(config: RunConfig, arm: str) -> dict[str, Any]:
    """What `eval/ARM.json` holds."""
    path = config.output_dir / "eval" / f"{arm}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise StoreError(f"{path}: cannot be read: {error}; evaluate this arm again") from error
    return found


def _weights_folder(config: RunConfig, arm: str) -> Path | None:
    """Where the weights of an arm are, if they are in this file system."""
    if arm != "before":
        return _trained_folder(config, arm)
    folder = Path(getattr(config.models["policy"], "model_name_or_path", ""))
    return folder if folder.is_dir() else None


def weights_hash(folder: Path | None) -> str:
    """Hash of a folder's safetensors: a model that was trained again is another model."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.glob("*.safetensors")) if folder else ():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _trained_folder(config: RunConfig, arm: str) -> Path:
    """Where training left the weights of an arm.

    Raises:
        ConfigError: The arm is a checkpoint that is not there.
    """
    folder = config.output_dir / "train"
    if not arm.startswith("checkpoint-"):
        return folder
    if not (folder / arm).is_dir():
        kept = ", ".join(sorted(path.name for path in folder.glob("checkpoint-*"))) or "none"
        raise ConfigError(
            f"{folder / arm}: no such checkpoint; found {kept}. Raise trainer.save_total_limit to "
            f"keep more of them"
        )
    return folder / arm


def trained_policy(config: RunConfig, arm: str = "after") -> Config:
    """The policy's settings with the run's training in place of its weights or beside them."""
    trained = str(_trained_folder(config, arm))
    key = "adapter" if config.lora is not None else "model_name_or_path"
    return config.models["policy"].model_copy(update={key: trained})


async def _evaluate(
    config: RunConfig, model: ChatModel, samples: list[Sample], name: str, console: Console
) -> EvaluationReport:
    section = config.evaluation
    assert section is not None
    judge = None if section.judge is None else load_model(section.judge, config.media)
    sandbox = Sandbox(config.sandbox) if section.metric in RUNS | ROLLS_OUT else None
    try:
        return await evaluate(
            model,
            samples,
            metric=section.metric,
            profile=section.profile,
            sampling=section.sampling,
            max_concurrency=section.max_concurrency,
            out_folder=config.output_dir / "eval",
            name=name,
            fingerprint={"weights": weights_hash(_weights_folder(config, name))},
            console=console,
            judge=judge,
            beside=section.beside,
            num_samples=section.num_samples,
            k=section.k,
            answer_seed=config.seed,
            sandbox=sandbox,
            rollouts=config.rollouts,
        )
    finally:
        for opened in (model, judge):
            if opened is not None:
                await opened.close()
        if sandbox is not None:
            sandbox.close()
