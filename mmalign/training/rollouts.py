"""Training on rollouts: sample with the policy of the moment, reward, weigh, learn.

What the trainers over rollouts share. One generation of rollouts serves `steps_per_generation`
optimiser steps; checkpoints fall between generations, so that a resumed run draws the rollouts of
its first step again, from the same weights and seeds, and gets the same ones.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from transformers import Trainer

from mmalign.engine import run_apart
from mmalign.engine.rollouts import prompt_messages, roll_out, tool_schemas
from mmalign.errors import FailedRatioError
from mmalign.models.families import EncodedPrompt
from mmalign.objectives import BatchCounts, RolloutSettings
from mmalign.records import DroppedSample, Rollout, Sample
from mmalign.rewards.scoring import RewardRunner, Scored
from mmalign.training.branches import BranchScores, score_branches
from mmalign.training.examples import Batch, Encoder
from mmalign.training.live_model import LiveModel
from mmalign.training.out_of_memory import explain_memory
from mmalign.training.prompt_order import Places, PromptOrder
from mmalign.training.record_files import RecordFiles
from mmalign.training.rollout_examples import Group, RolloutExample, example_of
from mmalign.training.rollout_metrics import (
    EqualGroups,
    RolloutFacts,
    facts_of,
    generation_metrics,
    generation_warnings,
)
from mmalign.training.rollout_task import RolloutTask, require_fitting
from mmalign.training.trainer import ObjectiveTrainer
from mmalign.training.vocabulary import Measure

__all__ = ["RolloutTrainer"]

STATE_FILE = "rollout_state.json"
"""In a checkpoint: what later rewards depend on."""
_MAX_FAILED = 0.05
_FAILURES_JUDGED_FROM = 50
_STEPS_BETWEEN_WARNINGS = 100
_MAX_LOGP_DIFFERENCE = 0.05
_log = logging.getLogger(__name__)


class _Step(NamedTuple):
    """What one optimiser step learns from, and what its loss is averaged over, in this process."""

    batches: list[Batch]
    num_rollouts: int
    """Also those whose gradient is 0, which are no branches."""
    num_tokens: int
    num_branches: int


def _places(places: Sequence[int]) -> list[int]:
    """Nothing is learnt from them."""
    return list(places)


class RolloutTrainer(ObjectiveTrainer):
    """Rolls out the prompts of a generation, then takes the steps that it is for.

    Every rollout is written to `rollouts/` in the output folder, with the step that it was made
    for, its rewards, its advantage and the author of each of its tokens; what is left out of the
    training stands in `rollouts/dropped-PROCESS.jsonl`.
    """

    collate = staticmethod(_places)  # type: ignore[assignment]  # other items, no batch

    def __init__(
        self, *args: Any, task: RolloutTask, encoder: Encoder, output_dir: Path, **kwargs: Any
    ) -> None:
        super().__init__(*args, output_dir=output_dir, **kwargs)
        config = self.objective.config
        assert isinstance(config, RolloutSettings)
        self.settings: RolloutSettings = config
        self.task = task
        self.rewards = RewardRunner(task.rewards)
        self.samples: Sequence[Sample] = self.train_dataset.samples  # type: ignore[union-attr]
        require_fitting(config, task, self.config, self.objective.name)
        self.order = PromptOrder(len(self.samples), self._prompts_per_generation, task.seed)
        self.train_dataset = Places(
            self.order.per_epoch * self._prompts_per_generation * config.num_iterations
        )
        self._policy = LiveModel(
            self.policy,
            self.family,
            encoder,
            layout=self.config.layout,
            vision=self.vision,
            reference=None,
            known=None,
            autocast=self.accelerator.autocast,
            name="policy in training",
        )
        self._files = RecordFiles(
            output_dir / "rollouts", self.args.process_index, ("rollouts", "dropped")
        )
        self._steps: list[_Step] = []
        self.counts = BatchCounts(torch.tensor(0), torch.tensor(0))
        self._is_empty_step = False
        self._num_rollouts = self._num_failed = 0
        self._warned: dict[str, int] = {}
        self._equal_groups = EqualGroups(getattr(config, "max_equal_groups", None))

    def weigh(self, examples: Sequence[RolloutExample]) -> list[RolloutExample]:
        """The examples of this process with advantages; comparing over all processes."""
        raise NotImplementedError

    def fill(self, generation: int, groups: dict[int, Group]) -> dict[int, Group]:
        """The groups to learn from by their place, of this process."""
        return groups

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """The micro-batches of one step; the losses are shares of the step's mean already."""
        if self.vision is not None:
            self.vision.begin_step()
        Trainer.get_batch_samples(self, epoch_iterator, num_batches, device)
        place = self.state.global_step % self.settings.steps_per_generation
        if place == 0:
            self._steps = self._generate(self.state.global_step)
        step = self._steps[place % self.settings.num_mini_batches]
        sums = torch.tensor([step.num_rollouts, step.num_tokens, step.num_branches], device=device)
        total = self.accelerator.gather(sums.unsqueeze(0)).sum(0)
        self.counts = BatchCounts(total[0], total[1])
        self._is_empty_step = int(total[2]) == 0
        return step.batches, torch.ones((), device=device)

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """No gradient at all where nobody has anything to learn: the weights stay as they are."""
        if self._is_empty_step:
            return torch.zeros((), device=self.args.device)
        return super().training_step(model, inputs, num_items_in_batch)

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """transformers' loop, with rewards that remember what they had learnt."""
        if resume_from_checkpoint:
            path = Path(resume_from_checkpoint) / STATE_FILE
            self.load_rollout_state(json.loads(path.read_text(encoding="utf-8")))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def rollout_state(self) -> dict[str, Any]:
        """What later steps depend on besides weights, optimiser and position."""
        return {"rewards": self.rewards.state()}

    def load_rollout_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rewards.load_state(state["rewards"])

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            text = json.dumps(self.rollout_state(), indent=1)
            (folder / STATE_FILE).write_text(text, encoding="utf-8")

    def score_rollouts(
        self, rows: Sequence[Any], *, reference: Any, measures: frozenset[Measure] = frozenset()
    ) -> BranchScores:
        """One forward pass over prompts with rollouts."""
        return score_branches(
            self.policy,
            self.family,
            rows,
            self.config,
            reference=reference,
            vision=self.vision,
            measures=measures,
        )

    @torch.no_grad()
    def measure(
        self,
        examples: Sequence[RolloutExample],
        keep: Callable[[RolloutExample, BranchScores], RolloutExample],
        *,
        with_reference: bool,
    ) -> list[RolloutExample]:
        """Examples with numbers of the policy that sampled them, by the forward pass of training.

        Args:
            examples: Of this process; those without branches stay as they are.
            keep: Puts what it wants of a forward pass into its example.
            with_reference: Whether the reference is asked.
        """
        measured: list[RolloutExample] = []
        for example in examples:
            if not example.places:
                measured.append(example)
                continue
            rows = [row.to(self.args.device) for row in example.rows]
            with explain_memory([example], self.config), self.accelerator.autocast():
                scores = self.score_rollouts(
                    rows, reference=self.reference if with_reference else None
                )
            measured.append(keep(example, scores))
        return measured

    def record_metrics(self, metrics: Mapping[str, float]) -> None:
        """Numbers of a generation that are the same on all processes."""
        for name, value in metrics.items():
            self._metrics[name].append((float(value), 1))

    def warn(self, key: str, message: str) -> None:
        """Say something about the run, at most once in a hundred steps."""
        step = self.state.global_step
        if step - self._warned.get(key, -_STEPS_BETWEEN_WARNINGS) >= _STEPS_BETWEEN_WARNINGS:
            self._warned[key] = step
            if self.accelerator.is_main_process:
                _log.warning("step %d: %s", step, message)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Also warn where the sampler's log-probabilities are not the trainer's."""
        super().log(logs, start_time)
        difference = logs.get("sampling/logp_difference", 0.0)
        if difference > _MAX_LOGP_DIFFERENCE:
            self.warn(
                "logp_difference",
                f"log-probabilities of sampled tokens differ by {difference:.3f} nats on average "
                f"between sampling and training; the sampler has other weights, another dtype or "
                f"another template",
            )

    def roll_out(
        self, prompts: Mapping[int, Sample], generation: int, *, round_: int
    ) -> dict[int, Group]:
        """Groups of prompts by their place, sampled and rewarded by the policy as it is.

        Every process must call it as often as the others: what rewards remember is shared.
        """
        found = run_apart(
            roll_out(
                self._policy,
                list(prompts.values()),
                self.task.config,
                self.task.tools,
                seed=self.task.seed + round_,
                epoch=self.order.epoch(generation),
                num_generations=self.task.config.num_generations,
            )
        )
        groups = list(zip(prompts.values(), found, strict=True))
        self._require_few_failures([rollout for rollouts in found for rollout in rollouts])
        scored = self.rewards.score(
            groups, step=self.state.global_step, num_steps=self.state.max_steps
        )
        self._share_histories([sample.id for sample in prompts.values()])
        return {
            place: Group(sample, tuple(map(_with_rewards, rollouts, scores)))
            for place, (sample, rollouts), scores in zip(prompts, groups, scored, strict=True)
        }

    def drop(self, group: Group, reason: str, message: str) -> None:
        """Write down what is not learnt from."""
        dropped = DroppedSample(
            sample_id=group.sample.id, reason=reason, node="rollouts", message=message
        )
        self._write({"rollouts": group.rollouts, "dropped": [dropped]})
        self._metrics[f"dropped/{reason}"].append((1.0, 1))

    def _generate(self, step: int) -> "list[_Step]":
        """Roll out, reward, weigh and cut into the micro-batches of the generation's steps."""
        self._files.begin_step(step)
        generation = step // self.settings.steps_per_generation
        indices = self.order.prompts(generation)
        own = [p for p in range(len(indices)) if self._is_own(p)]
        groups = self.roll_out(
            {place: self.samples[indices[place]] for place in own}, generation, round_=0
        )
        groups = self.fill(generation, groups)
        encoded = [self._example(group) for group in groups.values()]
        weighed = dict(zip(groups, self.weigh(encoded), strict=True))
        self._report(groups, weighed)
        return [self._step(weighed, mini) for mini in range(self.settings.num_mini_batches)]

    def _step(self, examples: Mapping[int, RolloutExample], mini: int) -> "_Step":
        """The micro-batches of one mini-batch: this process's places in it."""
        size, num_micro = self.args.train_batch_size, self.args.gradient_accumulation_steps
        parts = []
        for micro in range(mini * num_micro, (mini + 1) * num_micro):
            start = (micro * self.args.world_size + self.args.process_index) * size
            parts.append([examples[p] for p in range(start, start + size) if p in examples])
        everything = [example for part in parts for example in part]
        return _Step(
            batches=[Batch(tuple(example for example in part if example.places)) for part in parts],
            num_rollouts=sum(example.num_rollouts for example in everything),
            num_tokens=sum(example.num_tokens for example in everything),
            num_branches=sum(len(example.places) for example in everything),
        )

    def _example(self, group: Group) -> RolloutExample:
        prompt = run_apart(self._encoded_prompt(group.sample))
        masks_truncated = self.settings.mask_truncated_completions
        return example_of(
            group,
            prompt,
            carries_loss=lambda rollout: not (masks_truncated and rollout.stop == "length"),
        )

    async def _encoded_prompt(self, sample: Sample) -> EncodedPrompt:
        config, tools = self.task.config, self.task.tools
        messages = prompt_messages(sample, config, tools)
        return await self._policy.encode_messages(messages, tool_schemas(tools, config))

    def _report(self, groups: Mapping[int, Group], examples: Mapping[int, RolloutExample]) -> None:
        """Write the generation down, and say what is to be said about it."""
        facts: list[RolloutFacts] = []
        for place, group in groups.items():
            facts += [facts_of(place, rollout) for rollout in group.rollouts]
            if all(rollout.reward is None for rollout in group.rollouts):
                self.drop(group, "no_reward", "none of its rollouts has a reward")
                continue
            example = examples[place]
            means = {
                p: float(a.mean()) for p, a in zip(example.places, example.advantages, strict=True)
            }
            self._write(
                {
                    "rollouts": [
                        rollout.model_copy(
                            update={
                                "advantage": means.get(p, None if rollout.reward is None else 0.0)
                            }
                        )
                        for p, rollout in enumerate(group.rollouts)
                    ]
                }
            )
        everywhere = gather_object(facts)
        self.record_metrics(
            generation_metrics(everywhere, uses_tools=self.task.config.format != "none")
        )
        self._equal_groups.require_few(everywhere)
        for name, warning in generation_warnings(everywhere):
            self.warn(name, warning)

    def _write(self, records: Mapping[str, Sequence[Any]]) -> None:
        self._files.write(records, step=self.state.global_step, epoch=self.state.epoch or 0.0)

    def _share_histories(self, sample_ids: Sequence[str]) -> None:
        """What rewards of groups remember, told to all processes."""
        own = {
            name: {i: known[i] for i in sample_ids if i in known}
            for name, known in self.rewards.histories.items()
        }
        for part in gather_object([own]):
            for name, known in part.items():
                self.rewards.histories[name].update(known)

    def _require_few_failures(self, rollouts: Sequence[Rollout]) -> None:
        failed = [rollout for rollout in rollouts if rollout.stop == "error"]
        self._num_rollouts += len(rollouts)
        self._num_failed += len(failed)
        many = self._num_failed > _MAX_FAILED * self._num_rollouts
        if failed and many and self._num_rollouts >= _FAILURES_JUDGED_FROM:
            raise FailedRatioError(
                f"{self._num_failed} of {self._num_rollouts} rollouts failed by the machine's "
                f"fault, more than {_MAX_FAILED:.0%}; the last one, of {failed[-1].sample_id!r}: "
                f"{failed[-1].metadata.get('error', 'unknown')}"
            )

    @property
    def _prompts_per_generation(self) -> int:
        micro_batches = self.args.gradient_accumulation_steps * self.settings.num_mini_batches
        return int(self.args.train_batch_size * self.args.world_size * micro_batches)

    def _is_own(self, place: int) -> bool:
        process = place // self.args.train_batch_size % self.args.world_size
        return bool(process == self.args.process_index)


def _with_rewards(rollout: Rollout, scored: Scored) -> Rollout:
    metadata = dict(rollout.metadata)
    if scored.parts:
        metadata["reward_parts"] = scored.parts
    if scored.notes:
        metadata["reward_notes"] = scored.notes
    return rollout.model_copy(
        update={"rewards": scored.values, "reward": scored.total, "metadata": metadata}
    )
