"""The frozen model that a preference loss compares the policy with."""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from mmalign.errors import ConfigError
from mmalign.models.families import ModelFamily, processor_of
from mmalign.training.forward import Layout, Row, base_model, completion_hidden, completion_ids
from mmalign.training.logprobs import score_tokens
from mmalign.training.vision_cache import VisionFeatures, same_tower

__all__ = ["Reference", "make_reference", "starting_reference"]


class Reference:
    """A frozen model: a copy, another checkpoint, or the policy with its adapter switched off."""

    def __init__(
        self,
        model: nn.Module,
        family: ModelFamily,
        *,
        adapter_off: bool,
        before_training: bool = False,
    ) -> None:
        """Take a model as it is.

        Args:
            model: Holds the weights.
            family: Its adapter.
            adapter_off: It is the policy, whose adapter is switched off when it is asked.
            before_training: It is the policy before its first step.

        Raises:
            ConfigError: Its weights are trainable, though they are not the policy's.
        """
        is_policy = adapter_off or before_training
        if not is_policy and any(weight.requires_grad for weight in model.parameters()):
            raise ConfigError(
                "the reference is trainable; a preference loss compares the policy with frozen "
                "weights: call requires_grad_(False)"
            )
        self._model = model
        self._family = family
        self._adapter_off = adapter_off
        self._vision: VisionFeatures | None = None

    @property
    def head(self) -> nn.Module:
        """Its vocabulary head."""
        return self._family.head(base_model(self._model))

    @property
    def model(self) -> nn.Module:
        """Its weights, once they are `in_place`."""
        return self._model

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Adapter off, where it is the policy without one; dropout off."""
        with _without_adapter(self._model) if self._adapter_off else _in_eval(self._model):
            yield

    @torch.no_grad()
    def hidden(self, rows: Sequence[Row], *, layout: Layout) -> Tensor:
        """[N, H] states that predict the scored tokens, dropout off, without gradient."""
        with self.in_place():
            return completion_hidden(
                self._model,
                self._family,
                rows,
                layout=layout,
                features=self._vision.of(rows) if self._vision else None,
            )

    @torch.no_grad()
    def logps(self, rows: Sequence[Row], *, layout: Layout, chunk_size: int) -> Tensor:
        """[N] nats of the scored tokens of all branches, dropout off, without gradient."""
        hidden = self.hidden(rows, layout=layout)
        return score_tokens(hidden, self.head, completion_ids(rows), chunk_size=chunk_size).logps

    def share(self, vision: VisionFeatures, policy: nn.Module) -> None:
        """Read features of the policy's tower where the reference's own would give the same."""
        if same_tower(self._model, policy, self._family):
            self._vision = vision


def make_reference(
    policy: nn.Module, family: ModelFamily, choice: str, *, dtype: torch.dtype
) -> Reference:
    """The reference that a recipe names.

    Args:
        policy: The model to be trained, before its first step.
        family: Its adapter.
        choice: `auto`, `adapter_off`, `copy`, or the folder or hub name of a model.
        dtype: Of a model that is loaded.

    Raises:
        ConfigError: `adapter_off` without an adapter, or with one on the vocabulary head; or a
            model whose vocabulary is not the policy's.
    """
    has_adapter = isinstance(policy, PeftModel)
    if choice == "adapter_off" and not has_adapter:
        raise ConfigError(
            "trainer.reference: adapter_off needs a LoRA policy; add a lora section or use copy"
        )
    if choice == "adapter_off" or (choice == "auto" and has_adapter):
        if isinstance(family.head(base_model(policy)), BaseTunerLayer):
            raise ConfigError(
                "lora.lora_target_modules holds the vocabulary head, whose adapter would act in "
                "the reference's scores too; leave the head out or set trainer.reference: copy"
            )
        return Reference(policy, family, adapter_off=True)
    if choice in ("auto", "copy"):
        frozen: nn.Module = copy.deepcopy(policy)
    else:
        device = next(policy.parameters()).device
        frozen, processor = family.load(choice, dtype=dtype, device=str(device))
        _require_same_vocabulary(processor, base_model(policy).name_or_path, choice)
    return Reference(frozen.requires_grad_(False).eval(), family, adapter_off=False)


def starting_reference(
    policy: nn.Module, family: ModelFamily, choice: str, *, dtype: torch.dtype
) -> Reference:
    """The reference that a recipe names, good until the policy's first step: never a copy of it.

    Raises:
        ConfigError: `adapter_off` without an adapter, or with one on the vocabulary head.
    """
    if choice in ("auto", "copy"):
        return Reference(
            policy, family, adapter_off=isinstance(policy, PeftModel), before_training=True
        )
    return make_reference(policy, family, choice, dtype=dtype)


def _require_same_vocabulary(processor: Any, policy_path: str | None, choice: str) -> None:
    """The ids of one must be the tokens of the other; embeddings may be padded differently."""
    if not policy_path:  # made in memory, and so is what it is compared with
        return
    theirs, ours = (
        getattr(found, "tokenizer", found).get_vocab()
        for found in (processor, processor_of(policy_path))
    )
    if theirs != ours:
        strange = next(iter(theirs.items() ^ ours.items()))
        raise ConfigError(
            f"trainer.reference: {choice} has another vocabulary than the policy {policy_path} "
            f"({len(theirs)} and {len(ours)} tokens; token and id {strange} are of one alone), so "
            f"their log-probabilities cannot be compared. Name a model with the policy's tokenizer"
        )


@contextlib.contextmanager
def _in_eval(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextlib.contextmanager
def _without_adapter(model: nn.Module) -> Iterator[None]:
    """Adapter off, and the flags back as they were: PEFT sets requires_grad when it ends."""
    if not isinstance(model, PeftModel):
        raise ConfigError("a reference by switching the adapter off needs a LoRA policy")
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with _in_eval(model):
        try:
            with model.disable_adapter():
                yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
