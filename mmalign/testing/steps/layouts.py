"""One training step in each layout: ours, plain, TRL's code, ms-swift's layout.

Every step takes the same ids, clip, weights and loss and returns the loss with its graph.

TRL 1.16 runs its own code: `DPOTrainer._compute_loss` with its fused head, made by its own
constructor, and the log-probability pass of `GRPOTrainer`. Its collator and that pass know
pictures and no clips; the clip is therefore handed on as a model argument, once per answer, as TRL
repeats pictures. It refuses stored references for vision, so its reference is computed.

ms-swift needs an environment of its own; its layout is written down here: answers concatenated in
one batch, prompt and clip repeated for each, logits only at the positions of the answers, the
reference computed in each step.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import Tensor, nn

from mmalign.errors import ConfigError
from mmalign.objectives import dpo_loss
from mmalign.objectives.aggregation import BatchCounts
from mmalign.objectives.policy_gradient import grpo_loss
from mmalign.testing.steps.world import World
from mmalign.training.branches import score_branches
from mmalign.training.config import TrainerConfig
from mmalign.training.forward import Row, base_model
from mmalign.training.reference import Reference
from mmalign.training.stored_reference import ReferenceStore
from mmalign.training.vision_cache import VisionFeatures

__all__ = ["BETA", "Caches", "Case", "LayoutName", "Layouts", "ObjectiveName", "Step", "caches_of"]

BETA = 0.1

LayoutName = Literal["branch", "plain", "trl", "swift"]
Caches = Literal["none", "vision", "reference"]
ObjectiveName = Literal["dpo", "grpo"]
Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """One row of a benchmark."""

    bench: str
    objective: ObjectiveName
    """dpo: a pair against its reference; grpo: the answers of a group, on policy, without one."""
    layout: LayoutName
    caches: Caches
    """vision: features are read from the cache; reference: reference log-probabilities as well."""
    prompt_tokens: int
    answer_tokens: int
    branches: int


def caches_of(layout: LayoutName, objective: ObjectiveName) -> tuple[Caches, ...]:
    """What a layout can read in a step: only ours reads anything, and a group has no reference."""
    if layout != "branch":
        return ("none",)
    return ("none", "vision", "reference") if objective == "dpo" else ("none", "vision")


class Layouts:
    """Steps over the records of one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def step(self, case: Case, row: Row) -> Step:
        """The forward pass of a case up to its loss; what it may prepare is prepared here."""
        known = caches_of(case.layout, case.objective)
        if case.caches not in known:
            raise ConfigError(
                f"a {case.objective} step in layout {case.layout}: caches is {case.caches!r}, "
                f"expected one of {', '.join(known)}"
            )
        steps: dict[LayoutName, Callable[[Case, Row], Step]] = {
            "branch": self._ours,
            "plain": self._ours,
            "trl": self._trl,
            "swift": self._swift,
        }
        decoders: list[Any] = [
            self.world.family.decoder(base_model(model)) for model in self.world.models
        ]
        inner = steps[case.layout](case, row)

        def run() -> Tensor:
            if case.layout != "branch":  # whose attention stays in the config once it was used
                for decoder in decoders:
                    decoder.config._attn_implementation = "sdpa"
            return inner()

        return run

    def _ours(self, case: Case, row: Row) -> Step:
        world = self.world
        config = TrainerConfig(layout="branch" if case.layout == "branch" else "plain")
        vision = None
        reference: Reference | ReferenceStore | None = None
        if case.layout == "branch":
            vision = VisionFeatures(
                world.policy, world.family, max_bytes=2**40, across_steps=case.caches != "none"
            )
        if case.objective == "dpo":
            reference = world.reference
            if vision is not None:
                reference.share(vision, world.policy)
            if case.caches == "reference":
                reference = self._stored(reference, row, config)
        if vision is not None and case.caches != "none":
            vision.of([row])

        def step() -> Tensor:
            if vision is not None:
                vision.begin_step()
            scores = score_branches(
                world.policy, world.family, [row], config, reference=reference, vision=vision
            )
            ref_logps = None if scores.ref_logps is None else torch.stack(scores.ref_logps)
            return _loss(torch.stack(scores.logps), ref_logps)

        return step

    def _stored(self, reference: Reference, row: Row, config: TrainerConfig) -> ReferenceStore:
        """Log-probabilities that were written once; those that were read stay in memory."""
        with TemporaryDirectory() as folder:
            store = ReferenceStore(Path(folder), {})
            chunk_size = config.logps_chunk_size
            store.put(row, reference.logps([row], layout=config.layout, chunk_size=chunk_size))
            store.flush()
        return store

    def _swift(self, case: Case, row: Row) -> Step:
        inputs = self._repeated(row)
        policy = self.world.policy

        def step() -> Tensor:
            logps = _kept_logps(policy, inputs, case.answer_tokens)
            if case.objective == "grpo":
                return _loss(logps, None)
            with torch.no_grad(), self._reference_model() as reference:
                ref_logps = _kept_logps(reference, inputs, case.answer_tokens)
            return _loss(logps, ref_logps)

        return step

    def _trl(self, case: Case, row: Row) -> Step:
        inputs = self._repeated(row)
        if case.objective == "grpo":
            return self._trl_group(inputs, case)
        mask = torch.ones_like(inputs["attention_mask"])
        mask[:, : case.prompt_tokens] = 0
        trainer, forward = self._dpo_trainer

        def step() -> Tensor:
            with _with_forward(self.world.base, forward):
                loss: Tensor = trainer._compute_loss(
                    self.world.policy, inputs | {"completion_mask": mask}, return_outputs=False
                )
            return loss

        return step

    def _trl_group(self, inputs: dict[str, Tensor], case: Case) -> Step:
        trainer, forward = self._grpo_trainer
        own = ("input_ids", "attention_mask", "mm_token_type_ids")
        named = {name: inputs[name] for name in own if name in inputs}
        media = {name: value for name, value in inputs.items() if name not in own}
        model = partial(self.world.policy, **media)

        def step() -> Tensor:
            with _with_forward(self.world.base, forward):
                logps, _, _ = trainer._get_per_token_logps_and_entropies(
                    model, logits_to_keep=case.answer_tokens, compute_entropy=True, **named
                )
            return _loss(logps, None)

        return step

    def _repeated(self, row: Row) -> dict[str, Tensor]:
        """The model's arguments with prompt and clip before each answer."""
        world, number = self.world, len(row.branches)
        tails = torch.stack([branch.input_ids for branch in row.branches])
        ids = torch.cat([row.prompt.input_ids.expand(number, -1), tails], dim=1)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if world.family.name == "qwen2_5_vl":
            types = row.prompt.token_types.expand(number, -1)
            inputs["mm_token_type_ids"] = torch.cat([types, torch.zeros_like(tails)], dim=1)
        return inputs | world.family.join_media([row.prompt.media] * number)

    @contextlib.contextmanager
    def _reference_model(self) -> Iterator[nn.Module]:
        if self.world.frozen is not None:
            yield self.world.frozen
            return
        assert isinstance(self.world.policy, PeftModel)
        with self.world.policy.disable_adapter():
            yield self.world.policy

    @cached_property
    def _dpo_trainer(self) -> tuple[Any, Any]:
        """TRL's trainer and the forward that its constructor gave the model."""
        from datasets import Dataset
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        class Offline(DPOTrainer):
            def _send_telemetry(self) -> None:
                """Nothing leaves the machine."""

        policy: Any = self.world.policy
        lora = isinstance(policy, PeftModel)
        record = {"images": [], "prompt": "", "chosen": "", "rejected": ""}
        with TemporaryDirectory() as folder:  # it makes one, and the step writes nothing
            trainer = Offline(
                policy,
                self.world.frozen,
                DPOConfig(
                    output_dir=folder,
                    beta=BETA,
                    bf16=False,  # the weights say which precision
                    activation_checkpointing=lora,
                    activation_checkpointing_kwargs={"use_reentrant": False},
                    max_length=None,
                    report_to="none",
                    use_cpu=self.world.device.type == "cpu",
                ),
                data_collator=dict,  # never called: the step is given its batch
                train_dataset=Dataset.from_list([record]),
                processing_class=self.world.processor,
            )
        if lora:
            # It keeps a copy of the adapter as reference; in every layout it is the adapter off.
            policy.delete_adapter("ref")
        return trainer, _taken_forward(self.world.base)

    @cached_property
    def _grpo_trainer(self) -> tuple[Any, Any]:
        """TRL's trainer with the one attribute that the pass reads, and its forward."""
        from accelerate import Accelerator
        from trl.trainer.grpo_trainer import GRPOTrainer
        from trl.trainer.utils import add_fused_lm_head

        trainer = GRPOTrainer.__new__(GRPOTrainer)
        trainer.accelerator = Accelerator(cpu=self.world.device.type == "cpu")
        add_fused_lm_head(self.world.base, outputs=("log_probs", "entropy"))
        return trainer, _taken_forward(self.world.base)


def _loss(logps: Tensor, ref_logps: Tensor | None) -> Tensor:
    """DPO of the first two answers against a reference, else GRPO with prescribed advantages.

    Args:
        logps: [G, R], carries gradient.
        ref_logps: [2, R].
    """
    if ref_logps is not None:
        chosen, rejected = logps.sum(-1)[:, None]
        ref_chosen, ref_rejected = ref_logps.sum(-1)[:, None]
        return dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=BETA).loss.mean()
    mask = torch.ones_like(logps)
    advantages = torch.linspace(-1.0, 1.5, len(logps), device=logps.device)
    counts = BatchCounts(mask.any(-1).sum(), mask.sum())
    return grpo_loss(logps, None, advantages, mask, counts, kl_weight=0.0).loss.sum()


def _kept_logps(model: nn.Module, inputs: dict[str, Tensor], num_tokens: int) -> Tensor:
    """[G, R] of the last tokens of each sequence, from logits at no other position."""
    logits = model(**inputs, use_cache=False, logits_to_keep=num_tokens + 1).logits[:, :-1]
    precision = torch.promote_types(logits.dtype, torch.float32)
    logprobs = torch.log_softmax(logits, -1, dtype=precision)
    return logprobs.gather(-1, inputs["input_ids"][:, -num_tokens:, None])[..., 0]


@contextlib.contextmanager
def _with_forward(model: nn.Module, forward: Any) -> Iterator[None]:
    """A forward of another library for the length of one call."""
    model.__dict__["forward"] = forward
    try:
        yield
    finally:
        del model.__dict__["forward"]


def _taken_forward(model: nn.Module) -> Any:
    """The forward that a library laid over the class's, which is then in force again."""
    return model.__dict__.pop("forward")
