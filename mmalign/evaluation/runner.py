"""Ask a model every question of a benchmark once, keep the answers, score them."""

import asyncio
import json
import platform
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress, TaskID

from mmalign.errors import (
    ConfigError,
    MediaError,
    MissingPredictionsError,
    ModelCallError,
    RecordError,
    StoreError,
)
from mmalign.evaluation.answers import AnswerFile
from mmalign.evaluation.bootstrap import Interval, intervals
from mmalign.evaluation.metrics import Scores
from mmalign.evaluation.predictions import Prediction
from mmalign.evaluation.scoring import JUDGES, require_judge, score, score_judged
from mmalign.models.ambiguity_judge import JUDGE_SAMPLING
from mmalign.models.protocol import ChatModel, Sampling
from mmalign.records import Sample, content_id
from mmalign.records.atomic import write_text

__all__ = ["EvaluationReport", "evaluate"]

Answer = Callable[[Sample], Awaitable[Prediction]]

_SHOWN = 5


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
) -> EvaluationReport:
    """Answer every question once, greedily, and score the answers.

    Answers go to `NAME.predictions.jsonl` as they come; the same evaluation started again asks
    only what is left. What a judge says of them goes to `NAME.judged.jsonl` in the same way.
    `NAME.json` holds the report.

    Args:
        model: Who answers.
        samples: The questions.
        metric: A name of `METRICS`.
        out_folder: Where the files go.
        name: Name of the arm: `before`, `after`.
        profile: How answers are read, `strict` or `official`.
        sampling: Length of an answer; temperature 0.
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

    Raises:
        ConfigError: There is no such metric or profile, the judge is missing or idle, or the
            sampling is not greedy.
        RecordError: There are no samples, an id comes twice, or one lacks what the metric needs;
            found before the model is asked.
        MissingPredictionsError: Some questions could not be asked; names five, with reasons.
        StoreError: The predictions there are another model's, or a file cannot be written.
    """
    items = list(samples)
    if not items:
        raise RecordError("the data set has no samples to evaluate")
    if sampling.temperature != 0:
        raise ConfigError(
            f"evaluation is greedy, found temperature {sampling.temperature}; set it to 0"
        )
    require_judge(metric, has_judge=judge is not None, beside=beside)
    for name_of_metric in (metric, beside):  # bad gold data, early
        if name_of_metric is not None:
            score(items, [], metric=name_of_metric, profile=profile, allow_missing=True)
    answers = AnswerFile(out_folder / f"{name}.predictions.jsonl")
    answers.claim(model, items, sampling, fingerprint or {})
    asked = _Asked(items, max_concurrency, allow_missing, console)
    predictions, errors = await asked.all(_answer_of(model, sampling), answers)
    scored: dict[str, Any] = {"metric": metric, "profile": profile, "allow_missing": allow_missing}
    if judge is None:
        scores = score(items, predictions.values(), **scored)
    else:
        told = AnswerFile(out_folder / f"{name}.judged.jsonl")
        replies, more = await asked.replies(judge, metric, predictions, told)
        errors |= more
        scores = score_judged(items, predictions.values(), replies, beside=beside, **scored)
    report = EvaluationReport(
        name=name,
        scorer=metric,
        profile=profile,
        scores=scores,
        intervals=intervals(scores.table, num_draws=num_draws, seed=seed),
        errors=errors,
        model=model.name,
        settings={
            "sampling": sampling.model_dump(mode="json"),
            "frames": _frames(model.identity),
            "prompt_templates": sorted(
                {str(item.metadata.get("prompt_template", "unnamed")) for item in items}
            ),
            "identity": json.loads(json.dumps(dict(model.identity), default=str)),
        },
    )
    write_text(out_folder / f"{name}.json", json.dumps(report.as_json(), indent=1) + "\n")
    return report


@dataclass(frozen=True)
class _Asked:
    """Questions that are asked once each, some at a time."""

    items: Sequence[Sample]
    max_concurrency: int
    allow_missing: bool
    console: Console | None

    async def all(
        self, answer: Answer, answers: AnswerFile
    ) -> tuple[dict[str, Prediction], dict[str, str]]:
        """All answers, those of earlier starts too; what could not be asked, with the reason.

        Raises:
            MissingPredictionsError: Some could not be asked, and none may be missing.
        """
        known = answers.read(self.items)
        todo = [item for item in self.items if item.id not in known]
        errors: dict[str, str] = {}
        rest = iter(todo)
        with answers.appending() as file, _progress(self.console) as progress:
            task = progress.add_task("evaluate", total=len(self.items), completed=len(known))
            workers = [
                asyncio.create_task(_worker(answer, rest, file, errors, progress, task))
                for _ in range(min(self.max_concurrency, len(todo)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if errors and not self.allow_missing:
            raise _missing(errors, len(self.items))
        return answers.read(self.items), errors

    async def replies(
        self,
        judge: ChatModel,
        metric: str,
        predictions: Mapping[str, Prediction],
        told: AnswerFile,
    ) -> tuple[list[Prediction], dict[str, str]]:
        """What the judge says of each answer; what could not be asked, with the reason."""
        texts = {key: answer.prediction for key, answer in predictions.items()}
        told.claim(
            judge, self.items, JUDGE_SAMPLING, {"metric": metric, "answers": content_id(texts)}
        )
        answered = replace(self, items=[item for item in self.items if item.id in texts])

        async def reply(sample: Sample) -> Prediction:
            said = await JUDGES[metric](judge, sample, texts[sample.id])
            return Prediction(id=sample.id, prediction=said)

        replies, errors = await answered.all(reply, told)
        return list(replies.values()), errors


def _answer_of(model: ChatModel, sampling: Sampling) -> Answer:
    frames = _frames(model.identity)

    async def answer(sample: Sample) -> Prediction:
        started = time.perf_counter()
        (completion,) = await model.generate(sample.messages, n=1, sampling=sampling)
        return Prediction(
            id=sample.id,
            prediction=completion.text,
            frames=frames if sample.media else None,
            seconds=round(time.perf_counter() - started, 4),
        )

    return answer


async def _worker(
    answer: Answer,
    rest: Iterator[Sample],
    file: TextIO,
    errors: dict[str, str],
    progress: Progress,
    task: TaskID,
) -> None:
    for sample in rest:  # shared: each sample goes to one worker
        try:
            prediction = await answer(sample)
        except (MediaError, ModelCallError) as error:
            errors[sample.id] = f"{error.reason}: {error}"
        else:
            try:
                file.write(prediction.model_dump_json(exclude={"schema_version"}) + "\n")
                file.flush()
            except OSError as error:
                raise StoreError(f"{file.name}: cannot be written: {error.strerror}") from error
        progress.advance(task)


def _progress(console: Console | None) -> Progress:
    hidden = console is None or not console.is_terminal
    return Progress(console=console, disable=hidden, transient=True)


def _frames(identity: Mapping[str, Any]) -> int | None:
    """Frames per clip, where the model takes the same number of each."""
    found = identity.get("frame_sampling")
    value = found.get("num_frames") if isinstance(found, Mapping) else None
    return value if isinstance(value, int) else None


def _missing(errors: Mapping[str, str], num_items: int) -> MissingPredictionsError:
    shown = "; ".join(f'"{key}": {errors[key]}' for key in list(errors)[:_SHOWN])
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return MissingPredictionsError(
        f"{len(errors)} of {num_items} samples could not be asked: {shown}{more}. The other "
        f"answers are kept: mend the cause and start again, or count them as wrong with "
        f"allow_missing"
    )
