"""Ask a model every question of a benchmark, keep the answers, score them."""

import json
import platform
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from mmalign.engine import draw_seed
from mmalign.engine.rollouts import RolloutConfig
from mmalign.errors import RecordError
from mmalign.evaluation.answers import AnswerFile, Key, samples_digest
from mmalign.evaluation.asking import Asker, Question
from mmalign.evaluation.bootstrap import Interval, intervals
from mmalign.evaluation.code import run_programs, sandbox_settings
from mmalign.evaluation.metrics import Scores
from mmalign.evaluation.pass_at_k import empty_share_warning, functional_correctness
from mmalign.evaluation.predictions import Prediction
from mmalign.evaluation.scoring import (
    JUDGES,
    ROLLS_OUT,
    RUNS,
    require_draws,
    require_judge,
    require_rollouts,
    require_sandbox,
    score,
    score_judged,
)
from mmalign.evaluation.tool_use import (
    RolledOut,
    rolling_out,
    rollout_settings,
    tool_costs,
)
from mmalign.models.ambiguity_judge import JUDGE_SAMPLING
from mmalign.models.protocol import ChatModel, Sampling
from mmalign.records import Sample, content_id
from mmalign.records.atomic import write_text
from mmalign.sandbox import Sandbox

__all__ = ["EvaluationReport", "evaluate"]

Answer = Callable[[Question], Awaitable[Prediction]]


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation found; `eval/NAME.json` holds it."""

    name: str
    scorer: str
    """Name in `METRICS`."""
    profile: str
    scores: Scores
    intervals: Mapping[str, Interval]
    """By metric, and by `subset/metric`."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Samples that could not be asked, and why; they count as wrong."""
    model: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How the model was asked: frames, sampling, prompt templates."""
    warnings: tuple[str, ...] = ()
    """What a reader of the numbers should know."""
    tools: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Calls, failures, cost and mean seconds of each tool, where the policy had any."""

    @property
    def metric(self) -> str:
        """The metric that the benchmark is known by."""
        return self.scores.main

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics over all items, in percent."""
        return self.scores.metrics

    @property
    def value(self) -> float:
        """The metric that the benchmark is known by, in percent."""
        return self.scores.metrics[self.scores.main]

    def as_json(self) -> dict[str, Any]:
        """What the file holds."""
        overall = {name: list(span) for name, span in self.intervals.items() if "/" not in name}
        subsets = {
            subset: {
                **values,
                "intervals": {
                    name: list(self.intervals[f"{subset}/{name}"])
                    for name in values
                    if f"{subset}/{name}" in self.intervals
                },
            }
            for subset, values in self.scores.subsets.items()
        }
        return {
            "name": self.name,
            "scorer": self.scorer,
            "profile": self.profile,
            "metric": self.metric,
            "metrics": dict(self.metrics),
            "intervals": overall,
            "subsets": subsets,
            "counts": dict(self.scores.counts),
            "unparsed": self.scores.unparsed,
            "missing": list(self.scores.missing),
            "errors": dict(self.errors),
            "warnings": list(self.warnings),
            "tools": {name: dict(costs) for name, costs in self.tools.items()},
            "model": self.model,
            "settings": dict(self.settings),
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("mmalign", "numpy", "transformers")},
            },
        }


async def evaluate(
    model: ChatModel,
    samples: Iterable[Sample],
    *,
    metric: str,
    out_folder: Path,
    name: str,
    profile: str = "strict",
    sampling: Sampling = Sampling(max_completion_length=32),
    max_concurrency: int = 64,
    allow_missing: bool = False,
    fingerprint: Mapping[str, Any] | None = None,
    num_draws: int = 2000,
    seed: int = 0,
    console: Console | None = None,
    judge: ChatModel | None = None,
    beside: str | None = None,
    num_samples: int = 1,
    k: Sequence[int] = (1,),
    answer_seed: int = 0,
    sandbox: Sandbox | None = None,
    rollouts: RolloutConfig | None = None,
) -> EvaluationReport:
    """Answer every question, once and greedily unless said otherwise, and score the answers.

    Answers go to `NAME.predictions.jsonl` as they come; the same evaluation started again asks
    only what is left. What a judge says of them goes to `NAME.judged.jsonl` in the same way, what
    became of programs to `NAME.verdicts.jsonl`. `NAME.json` holds the report.

    Args:
        model: Who answers.
        samples: The questions.
        metric: A name of `METRICS`.
        out_folder: Where the files go.
        name: Name of the arm: `before`, `after`.
        profile: How answers are read, `strict` or `official`.
        sampling: Length of an answer; temperature 0, unless several answers are drawn.
        max_concurrency: Questions under way at once.
        allow_missing: A question that could not be asked counts as wrong instead of being an
            error at the end.
        fingerprint: What else makes this another evaluation, as a hash of the weights where the
            model's name and identity do not tell.
        num_draws: Draws of the bootstrap.
        seed: Of the bootstrap.
        console: Where progress is shown; nowhere by default.
        judge: Who is asked about the answers, for a metric of `JUDGES`.
        beside: A second metric, which scores the answers themselves.
        num_samples: Answers drawn to each question, for a metric of `RUNS`.
        k: Sizes of pass@k, for such a metric.
        answer_seed: Of the draws, where there are several.
        sandbox: Where programs are run, for a metric that runs them or rolls out with tools.
        rollouts: How the policy is rolled out, for a metric of `ROLLS_OUT`.

    Raises:
        ConfigError: There is no such metric or profile; judge, sandbox, sampling and number of
            answers do not fit it.
        RecordError: There are no samples, an id comes twice, or one lacks what the metric needs;
            found before the model is asked.
        MissingPredictionsError: Some questions could not be asked; names five, with reasons.
        FailedRatioError: Too many programs could not be run.
        StoreError: The predictions there are another model's, or a file cannot be written.
    """
    items = list(samples)
    require_rollouts(metric, has_rollouts=rollouts is not None)
    rollouts = rollouts if metric in ROLLS_OUT else None
    require_judge(metric, has_judge=judge is not None, beside=beside)
    require_sandbox(metric, has_sandbox=sandbox is not None)
    require_draws(metric, num_samples=num_samples, k=k, temperature=sampling.temperature)
    _require_gold(items, [metric, beside], profile)
    asker = Asker(max_concurrency, allow_missing, console)
    arm = _Arm(items, num_samples, out_folder / name, metric, profile, asker)
    origin: dict[str, Any] = {
        "sampling": sampling.model_dump(mode="json"),
        "fingerprint": dict(fingerprint or {}),
    }
    drawn_from = answer_seed if num_samples > 1 else None
    answer: Answer = _answer_of(model, sampling, drawn_from)
    if drawn_from is not None:
        origin["answer_seed"] = drawn_from
    if rollouts is not None:
        answer = rolling_out(model, rollouts, sandbox=sandbox, seed=answer_seed)
        origin["rollouts"] = rollout_settings(rollouts)
    predictions, errors = await arm.answers(model, answer, origin)
    if sandbox is not None and metric in RUNS:
        scores = await arm.scored_by_running(sandbox, predictions, k)
    elif judge is not None:
        scores, more = await arm.scored_by_judge(judge, predictions, beside)
        errors |= more
    else:
        scores = score(items, predictions.values(), **arm.scored)
    report = EvaluationReport(
        name=name,
        scorer=metric,
        profile=profile,
        scores=scores,
        intervals=intervals(scores.table, num_draws=num_draws, seed=seed),
        errors=errors,
        model=model.name,
        settings=_settings(model, sampling, items, num_samples, sandbox, rollouts),
        warnings=tuple(filter(None, [empty_share_warning(scores)])),
        tools=tool_costs(predictions.values()),
    )
    write_text(out_folder / f"{name}.json", json.dumps(report.as_json(), indent=1) + "\n")
    return report


@dataclass(frozen=True)
class _Arm:
    """One evaluation's questions and files."""

    items: Sequence[Sample]
    num_samples: int
    path: Path
    """Files are named by it and a suffix."""
    metric: str
    profile: str
    asker: Asker

    @property
    def questions(self) -> list[Question]:
        """Every draw of every sample."""
        return [Question(item, draw) for item in self.items for draw in range(self.num_samples)]

    @property
    def scored(self) -> dict[str, Any]:
        """How it is scored."""
        allow_missing = self.asker.allow_missing
        return {"metric": self.metric, "profile": self.profile, "allow_missing": allow_missing}

    def file(self, kind: str) -> Path:
        """Where lines of a kind stand."""
        return self.path.with_name(f"{self.path.name}.{kind}.jsonl")

    async def answers(
        self, model: ChatModel, answer: Answer, origin: Mapping[str, Any]
    ) -> tuple[dict[Key, Prediction], dict[str, str]]:
        """What the model answers; what it could not be asked, with the reason."""
        record = RolledOut if self.metric in ROLLS_OUT else Prediction
        file = AnswerFile(self.file("predictions"), record)
        whose = {"model": model.name, "identity": dict(model.identity)}
        file.claim(self.items, {**whose, **origin})
        return await self.asker.all(self.questions, answer, file)

    async def scored_by_running(
        self, sandbox: Sandbox, predictions: Mapping[Key, Prediction], k: Sequence[int]
    ) -> Scores:
        """Scores of what becomes of the programs in the answers."""
        verdicts = await run_programs(
            sandbox,
            self.questions,
            predictions,
            self.file("verdicts"),
            asker=self.asker,
            profile=self.profile,
        )
        return functional_correctness(
            self.items,
            verdicts,
            profile=self.profile,
            allow_missing=self.asker.allow_missing,
            k=k,
        )

    async def scored_by_judge(
        self, judge: ChatModel, predictions: Mapping[Key, Prediction], beside: str | None
    ) -> tuple[Scores, dict[str, str]]:
        """Scores of what a judge says; what it could not be asked, with the reason."""
        texts = {key: answer.prediction for (key, _), answer in predictions.items()}
        file = AnswerFile(self.file("judged"), Prediction)
        origin = {
            "model": judge.name,
            "identity": dict(judge.identity),
            "sampling": JUDGE_SAMPLING.model_dump(mode="json"),
            "fingerprint": {"metric": self.metric, "answers": content_id(texts)},
        }
        file.claim(self.items, origin)

        async def reply(question: Question) -> Prediction:
            sample = question.sample
            said = await JUDGES[self.metric](judge, sample, texts[sample.id])
            return Prediction(id=sample.id, prediction=said)

        answered = [question for question in self.questions if question.sample.id in texts]
        replies, errors = await self.asker.all(answered, reply, file)
        given = predictions.values()
        scores = score_judged(self.items, given, replies.values(), beside=beside, **self.scored)
        return scores, errors


def _require_gold(items: Sequence[Sample], metrics: Sequence[str | None], profile: str) -> None:
    """Score nothing, so that bad gold data is found before the model is asked."""
    if not items:
        raise RecordError("the data set has no samples to evaluate")
    for metric in filter(None, metrics):
        score(items, [], metric=metric, profile=profile, allow_missing=True)


def _answer_of(model: ChatModel, sampling: Sampling, seed: int | None) -> Answer:
    """How a question is asked; with a seed, its draw has one of its own."""
    frames = _frames(model.identity)

    async def answer(question: Question) -> Prediction:
        sample, draw = question
        started = time.perf_counter()
        drawn = None if seed is None else draw_seed(seed, sample.id, 0, f"answer {draw}")
        (completion,) = await model.generate(sample.messages, n=1, sampling=sampling, seed=drawn)
        return Prediction(
            id=sample.id,
            prediction=completion.text,
            draw=draw,
            frames=frames if sample.media else None,
            seconds=round(time.perf_counter() - started, 4),
        )

    return answer


def _settings(
    model: ChatModel,
    sampling: Sampling,
    items: Sequence[Sample],
    num_samples: int,
    sandbox: Sandbox | None,
    rollouts: RolloutConfig | None,
) -> dict[str, Any]:
    """How the answers came about; two evaluations that differ in it are not compared."""
    names = {
        "@".join(filter(None, [str(item.metadata.get("dataset", "")), _version(item)]))
        for item in items
    }
    settings = {
        "sampling": sampling.model_dump(mode="json"),
        "frames": _frames(model.identity),
        "num_samples": num_samples,
        "prompt_templates": sorted(
            {str(item.metadata.get("prompt_template", "unnamed")) for item in items}
        ),
        "benchmark": {"names": sorted(names), "samples": samples_digest(items)},
        "identity": json.loads(json.dumps(dict(model.identity), default=str)),
    }
    if rollouts is not None:
        settings["rollouts"] = rollout_settings(rollouts)
    return settings if sandbox is None else {**settings, "sandbox": sandbox_settings(sandbox)}


def _version(item: Sample) -> str:
    return str(item.metadata.get("version", ""))


def _frames(identity: Mapping[str, Any]) -> int | None:
    """Frames per clip, where the model takes the same number of each."""
    found = identity.get("frame_sampling")
    value = found.get("num_frames") if isinstance(found, Mapping) else None
    return value if isinstance(value, int) else None
