"""The policy or its reference as a `ChatModel`, while the policy is being trained."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.errors import CapabilityError
from mmalign.models.families import EncodedCompletion, EncodedPrompt, ModelFamily
from mmalign.models.local import TransformersChatModel
from mmalign.records import Message
from mmalign.training.config import TrainerConfig
from mmalign.training.examples import Encoder
from mmalign.training.forward import (
    Layout,
    Row,
    base_model,
    completion_hidden,
    completion_ids,
)
from mmalign.training.logprobs import score_tokens
from mmalign.training.reference import Reference
from mmalign.training.stored_reference import row_key
from mmalign.training.vision_cache import VisionFeatures

__all__ = ["KnownReference", "LiveModel"]


class KnownReference:
    """A reference's log-probabilities, taken from where it has scored the same rows already."""

    def __init__(self, reference: Reference, config: TrainerConfig) -> None:
        self._reference = reference
        self._config = config
        self._known: dict[str, Tensor] = {}
        self.num_computed = 0
        """Rows that went through the reference for their log-probabilities alone."""

    def begin_step(self) -> None:
        """Forget the last step's rows."""
        self._known.clear()

    def keep(self, rows: Sequence[Row], hidden: Tensor) -> None:
        """Remember rows of one branch each whose states [N, H] the reference has computed."""
        scored = score_tokens(
            hidden,
            self._reference.head,
            completion_ids(rows),
            chunk_size=self._config.logps_chunk_size,
        )
        sizes = [int(branch.mask.sum()) for row in rows for branch in row.branches]
        for row, logps in zip(rows, torch.split(scored.logps, sizes), strict=True):
            self._known[row_key(row)] = logps

    @torch.no_grad()
    def logps(self, rows: Sequence[Row]) -> Tensor:
        """[N] nats of the scored tokens of all branches, row by row, without gradient."""
        keys = [row_key(row) for row in rows]
        missing = [row for row, key in zip(rows, keys, strict=True) if key not in self._known]
        if missing:
            self.num_computed += len(missing)
            self.keep(missing, self._reference.hidden(missing, layout=self._config.layout))
        return torch.cat([self._known[key] for key in keys])


class LiveModel(TransformersChatModel):
    """Weights in training, asked between two steps.

    Frames go through the tower once a step, whoever asks; what the reference computes to compare
    clips also gives its log-probabilities of the loss.

    Args:
        model: The policy, with its adapter if it has one.
        family: Of the model.
        encoder: The trainer's, so that prompts are encoded as in training.
        layout: Of the forward pass.
        vision: Features of the step, where the tower allows it.
        reference: Whom to speak for; None speaks for the policy.
        known: Where the reference's log-probabilities are kept, if they are.
        autocast: The trainer's precision.
        name: Name of the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        family: ModelFamily,
        encoder: Encoder,
        *,
        layout: Layout,
        vision: VisionFeatures | None,
        reference: Reference | None,
        known: KnownReference | None,
        autocast: Callable[[], AbstractContextManager[Any]],
        name: str,
    ) -> None:
        self._trained = reference.model if reference else model
        super().__init__(
            self._trained,  # type: ignore[arg-type]  # families load transformers models
            encoder.processor,
            family,
            encoder.sampling,
            name=name,
        )
        self._encoder = encoder
        self._layout = layout
        self._vision = vision
        self._reference = reference
        self._known = known
        self._autocast = autocast
        self.num_rows = 0
        """Prompts that went through the decoder to compare clips."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """It changes with every step, so nothing of it is ever stored."""
        return {}

    async def encode_messages(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> EncodedPrompt:
        """A prompt as the trainer encodes it."""
        return self._encoder.prompt(messages, tools=tools)

    def features_of(self, prompts: Sequence[EncodedPrompt]) -> Sequence[Tensor]:
        """[M, D] of each prompt's media tokens, from the step's features where they are shared."""
        if self._vision is None:
            return super().features_of(prompts)
        if any(not prompt.media for prompt in prompts):
            raise CapabilityError("found prompts without media, expected clips to compare")
        with self._autocast():
            return self._vision.of([self._row(prompt) for prompt in prompts])

    @torch.no_grad()
    def states_of(
        self, prompts: Sequence[EncodedPrompt], answer: EncodedCompletion
    ) -> tuple[Tensor, nn.Module]:
        """[N, R, H] by the forward pass of training; the answer must be all the model's own."""
        rows = [self._row(prompt, answer) for prompt in prompts]
        self.num_rows += len(rows)
        with self._autocast():
            hidden, head = self._states(rows)
        return torch.unflatten(hidden, 0, (len(rows), -1)), head

    def _states(self, rows: Sequence[Row]) -> tuple[Tensor, nn.Module]:
        if self._reference is None:
            with self._evaluating():
                hidden = completion_hidden(
                    self._trained,
                    self._family,
                    rows,
                    layout=self._layout,
                    features=self._vision.of(rows) if self._vision else None,
                )
            return hidden, self._family.head(base_model(self._trained))
        hidden = self._reference.hidden(rows, layout=self._layout)
        if self._known is not None:
            self._known.keep(rows, hidden)
        return hidden, self._reference.head

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        in_place = self._reference.in_place() if self._reference else super()._evaluating()
        with in_place, self._autocast():  # tokens are drawn from what the loss will see
            yield

    def _row(self, prompt: EncodedPrompt, *branches: EncodedCompletion) -> Row:
        return Row(prompt, branches).to(next(self._trained.parameters()).device)
