"""Pairs that are built while training: an agent asks the policy as it is at every step."""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmalign.config import Config
from mmalign.engine import (
    AgentGraph,
    Context,
    context_class,
    failed_sample,
    run_apart,
    walk,
)
from mmalign.engine.agent import AgentRecord
from mmalign.errors import ConfigError, FailedRatioError
from mmalign.models.protocol import ChatModel
from mmalign.records import DroppedSample, PreferencePair, Sample
from mmalign.sandbox import Sandbox
from mmalign.training.examples import Batch, Encoder, Example
from mmalign.training.live_model import KnownReference, LiveModel
from mmalign.training.preference import PreferenceTrainer
from mmalign.training.record_files import RecordFiles
from mmalign.training.reference import Reference
from mmalign.training.trainer import ItemLosses

__all__ = ["OnlineAgent", "OnlineTrainer", "SampleBatch", "require_online"]

_MAX_FAILED = 0.05
_FAILURES_JUDGED_FROM = 50
_STEPS_BETWEEN_WARNINGS = 100
_MAX_NATS_LOST = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnlineAgent:
    """The graph that builds a step's pairs."""

    graph: AgentGraph
    config: Config
    """The agent's settings."""
    path: str
    """`package.module:function` of the graph."""
    seed: int
    """Of its draws, with sample and epoch."""
    sandbox: Sandbox | None = None
    """For an agent that runs code."""


@dataclass(frozen=True)
class SampleBatch:
    """Samples of one micro-batch."""

    samples: tuple[Sample, ...]


def collate_samples(samples: Sequence[Sample]) -> SampleBatch:
    """A batch of samples; what is learnt from them is made later."""
    return SampleBatch(tuple(samples))


class OnlineTrainer(PreferenceTrainer):
    """Builds the pairs of each step with an agent, then learns from them.

    Every pair and every dropped sample is written to `online/` in the output folder, with the
    step that it was made for. The agent finds the policy as `Context.policy` and, where the
    objective has one, the reference as the model `reference`.
    """

    collate = staticmethod(collate_samples)  # type: ignore[assignment]  # other items, other batch

    def __init__(
        self, *args: Any, agent: OnlineAgent, encoder: Encoder, output_dir: Path, **kwargs: Any
    ) -> None:
        super().__init__(*args, output_dir=output_dir, **kwargs)
        self.agent = agent
        self._encoder = encoder
        self._known: KnownReference | None = None
        self.models: dict[str, ChatModel] = {}
        """Whom the agent may ask besides the policy, by role."""
        if isinstance(self.reference, Reference):
            if not self.objective.objective.needs & {"token_kl", "token_js"}:
                self._known = KnownReference(self.reference, self.config)
            self.models["reference"] = self._live("reference", self.reference, self._known)
            self.reference = self._known or self.reference
        self._policy = self._live("policy", None, None)
        self._files = RecordFiles(
            output_dir / "online", self.args.process_index, ("pairs", "dropped")
        )
        self._recent: list[AgentRecord] = []
        self._counts: Counter[str] = Counter()
        self._chosen: dict[str, Counter[str]] = defaultdict(Counter)

    def prepare_step(self, batches: list[Any]) -> list[Batch]:
        """The pairs that the agent makes of a step's samples, by the weights of this moment.

        Raises:
            FailedRatioError: Too many samples cannot be read.
        """
        if self._known is not None:
            self._known.begin_step()
        self._files.begin_step(self.state.global_step)
        if self.state.global_step % _STEPS_BETWEEN_WARNINGS == 0:
            for warning in context_class(self.agent.graph).warnings(self._recent):
                _log.warning("step %d: %s", self.state.global_step, warning)
            self._recent = []
        samples = [sample for batch in batches for sample in batch.samples]
        found = iter(run_apart(self._ask_all(samples)))
        return [
            Batch(tuple(example for _ in batch.samples for example in next(found)))
            for batch in batches
        ]

    def item_losses(self, batch: Batch) -> ItemLosses:
        """The objective's loss, summed over pairs; nothing where no sample became one."""
        if batch.examples:
            return super().item_losses(batch)
        some = next(p for p in self.policy.parameters() if p.requires_grad)
        return ItemLosses(total=some.sum() * 0.0, metrics={})

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add how evenly the agent's choices are spread, and warn where training goes wrong."""
        if "loss" in logs:
            for key, counts in self._chosen.items():
                logs[f"online/entropy/{key}"] = _entropy(counts)
            logs["online/dropped"] = float(self._counts["dropped"] + self._counts["failed"])
            self._chosen.clear()
        super().log(logs, start_time)
        lost = -logs.get("rewards/chosen", 0.0) / getattr(self.objective.config, "beta", math.inf)
        if lost > _MAX_NATS_LOST:
            _log.warning(
                "step %d: chosen responses have lost %.1f nats each since training began; stop "
                "here, or anchor them (lambda_sft of pami_vdpo)",
                self.state.global_step,
                lost,
            )

    def _live(
        self, role: str, reference: Reference | None, known: KnownReference | None
    ) -> LiveModel:
        return LiveModel(
            self.policy,
            self.family,
            self._encoder,
            layout=self.config.layout,
            vision=self.vision,
            reference=reference,
            known=known,
            autocast=self.accelerator.autocast,
            name=f"{role} in training",
        )

    async def _ask_all(self, samples: Sequence[Sample]) -> list[list[Example]]:
        """The examples of each sample, in order: none, where it was dropped."""
        examples = []
        for sample in samples:
            records = await self._ask(sample, samples)
            self._keep(records)
            pairs = [record for record in records if isinstance(record, PreferencePair)]
            examples.append([self._encoder.pair(pair) for pair in pairs])  # its clips are at hand
        return examples

    async def _ask(self, sample: Sample, samples: Sequence[Sample]) -> tuple[AgentRecord, ...]:
        make: type[Context] = context_class(self.agent.graph)
        context = make(
            policy=self._policy,
            models=self.models,
            code_sandbox=self.agent.sandbox,
            config=self.agent.config,
            sample_id=sample.id,
            seed=self.agent.seed,
            epoch=int((self.state.epoch or 0.0) + 1e-6),
            progress=self.state.global_step / max(1, self.state.max_steps),
            neighbours=tuple(other for other in samples if other.id != sample.id),
        )
        try:
            return await walk(self.agent.graph, sample, context)
        except Exception as error:
            dropped = failed_sample(sample, error, last_node="")
            if dropped is None:
                raise
            return (dropped,)

    def _keep(self, records: Sequence[AgentRecord]) -> None:
        """Write records down and count them."""
        by_file: dict[str, list[AgentRecord]] = {"pairs": [], "dropped": []}
        for record in records:
            by_file["dropped" if isinstance(record, DroppedSample) else "pairs"].append(record)
        self._files.write(by_file, step=self.state.global_step, epoch=self.state.epoch or 0.0)
        self._recent += records
        for record in records:
            kind = record.kind if isinstance(record, DroppedSample) else "pair"
            self._counts[kind] += 1
            if isinstance(record, PreferencePair):
                for key in self.config.lineage_keys:
                    if key in record.lineage.tags:
                        self._chosen[key][record.lineage.tags[key]] += 1
        failed, total = self._counts["failed"], self._counts.total()
        if total >= _FAILURES_JUDGED_FROM and failed > _MAX_FAILED * total:
            last = next(r for r in reversed(self._recent) if isinstance(r, DroppedSample))
            raise FailedRatioError(
                f"{failed} of {total} samples failed while pairs were built, more than "
                f"{_MAX_FAILED:.0%}; the last one, {last.sample_id!r}, at node {last.node!r} with "
                f"{last.reason}: {last.message}. {self._files.folder} names all of them"
            )


def _entropy(counts: Counter[str]) -> float:
    """Nats."""
    total = counts.total()
    return -math.fsum(n / total * math.log(n / total) for n in counts.values())


def require_online(agent: OnlineAgent | None, *, unit: str, stores_reference: bool) -> None:
    """Refuse settings under which nothing can be built while training.

    Raises:
        ConfigError: No agent, an objective that does not count pairs, or a stored reference.
    """
    why = None
    if agent is None:
        why = "the recipe has no agent"
    elif unit != "pair":
        why = f"the objective counts a {unit}, agents write pairs"
    elif stores_reference:
        why = "reference_logps: store wants the records before training; set it to compute"
    if why is not None:
        raise ConfigError(f"trainer.online: true builds pairs at every step, but {why}")
