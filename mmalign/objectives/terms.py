"""What a trainer hands to an objective, and what it gets back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.aggregation import BatchCounts
from mmalign.objectives.sums import require_same_shape

__all__ = [
    "ListTerms",
    "Need",
    "PairTerms",
    "PreferenceLoss",
    "RolloutTerms",
    "UnpairedTerms",
    "check_terms",
]

Need = Literal[
    "policy_logps",
    "ref_logps",
    "token_logps",
    "spans",
    "token_kl",
    "token_entropy",
    "token_js",
    "chosen_tokens_per_pair",
    "reference_point",
    "scores",
    "weights",
]
"""What an objective asks the trainer for, besides the masks.

- `policy_logps`, `ref_logps`: log-probabilities of both responses under policy and reference.
- `token_logps`: the ones above token by token; without it, stored sums serve as well.
- `spans`: phrase ids of the tokens of both responses.
- `token_kl`: full-vocabulary KL from the policy to the reference at each chosen token.
- `token_entropy`: the policy's entropy over the vocabulary at each token of both responses.
- `token_js`: full-vocabulary Jensen-Shannon divergence of policy and reference, likewise.
- `chosen_tokens_per_pair`: the mean length of the chosen responses over the global batch.
- `scores`: a number for each response, from its record.
- `weights`: how much each pair counts, `weight` of its record's metadata or 1.
- `reference_point`: the mean log-ratio of mismatched responses over the global batch.
"""


class PreferenceLoss(NamedTuple):
    """What an objective says about each pair of a batch."""

    loss: Tensor
    """[B], to be minimised; the trainer averages it over the global batch."""
    chosen_rewards: Tensor
    """[B], detached."""
    rejected_rewards: Tensor
    """[B], detached."""
    metrics: Mapping[str, Tensor] = MappingProxyType({})
    """Further numbers to log, [B] each, detached: `kl` ..."""


class _Terms:
    """What a trainer hands over; optional tensors are None unless an objective needs them."""

    def get(self, name: str) -> Tensor:
        """The tensor of that name.

        Raises:
            ShapeError: The trainer left it out.
        """
        tensor = getattr(self, name)
        if not isinstance(tensor, Tensor):
            raise ShapeError(
                f"the objective reads {name}, which is missing; the trainer must compute all "
                f"that the objective's `needs` names"
            )
        return tensor


@dataclass(frozen=True)
class PairTerms(_Terms):
    """Everything that objectives over pairs read; the trainer fills in what is needed.

    All tensors of one side have the shape [B, T] of that side and are aligned: entry [b, t] of
    each belongs to token t, whose log-probability is predicted at t - 1.
    """

    policy_chosen_token_logps: Tensor
    """Nats; carries gradient."""
    policy_rejected_token_logps: Tensor
    chosen_mask: Tensor
    """1 on response tokens, end of turn included, 0 on prompt, media and padding."""
    rejected_mask: Tensor
    ref_chosen_token_logps: Tensor | None = None
    """Nats, from the frozen reference; carries no gradient."""
    ref_rejected_token_logps: Tensor | None = None
    chosen_phrase_ids: Tensor | None = None
    """Integers, 0 on tokens that both sides share."""
    rejected_phrase_ids: Tensor | None = None
    chosen_token_kl: Tensor | None = None
    """Nats, KL(reference || policy) over the vocabulary; carries gradient."""
    chosen_token_entropy: Tensor | None = None
    """Nats, of the policy over the vocabulary; carries gradient."""
    rejected_token_entropy: Tensor | None = None
    chosen_token_js: Tensor | None = None
    """Bits, Jensen-Shannon divergence from the reference; carries gradient."""
    rejected_token_js: Tensor | None = None
    chosen_tokens_per_pair: Tensor | None = None
    """A scalar: chosen response tokens over pairs, both counted over the global batch."""
    chosen_scores: Tensor | None = None
    """[B], as the records have them."""
    rejected_scores: Tensor | None = None
    weights: Tensor | None = None
    """[B], >= 0, how much each pair counts; 1 where its record does not say."""

    def __post_init__(self) -> None:
        """Refuse tensors of different shapes on one side."""
        for side in ("chosen", "rejected"):
            names = [name for name in _PER_TOKEN if side in name]
            given = {name: getattr(self, name) for name in names}
            require_same_shape(**{k: v for k, v in given.items() if v is not None})


@dataclass(frozen=True)
class UnpairedTerms(_Terms):
    """Everything that objectives over labelled responses read."""

    policy_logps: Tensor
    """[B], nats, summed over response tokens; carries gradient."""
    labels: Tensor
    """[B], not 0 where the response is desirable."""
    ref_logps: Tensor | None = None
    """[B], nats, from the frozen reference; carries no gradient."""
    reference_point: Tensor | None = None
    """A scalar: the mean log-ratio of mismatched responses, at least 0; carries no gradient."""


@dataclass(frozen=True)
class ListTerms(_Terms):
    """Everything that objectives over ranked responses read."""

    policy_logps: Tensor
    """[B, N], nats, summed over response tokens; carries gradient."""
    scores: Tensor
    """[B, N], higher is better; equal scores are ties."""
    ref_logps: Tensor | None = None
    """[B, N], nats, from the frozen reference; carries no gradient."""


_PER_TOKEN = (
    "policy_chosen_token_logps",
    "policy_rejected_token_logps",
    "chosen_mask",
    "rejected_mask",
    "ref_chosen_token_logps",
    "ref_rejected_token_logps",
    "chosen_phrase_ids",
    "rejected_phrase_ids",
    "chosen_token_kl",
    "chosen_token_entropy",
    "rejected_token_entropy",
    "chosen_token_js",
    "rejected_token_js",
)


@dataclass(frozen=True)
class RolloutTerms(_Terms):
    """Everything that objectives over rollouts read.

    Entry [b, t] belongs to token t of rollout b, whose log-probability is predicted at t - 1.
    """

    policy_token_logps: Tensor
    """[B, T], nats; carries gradient."""
    mask: Tensor
    """[B, T], 1 on tokens that the policy wrote."""
    advantages: Tensor
    """[B], or [B, T] of a critic; without gradient."""
    counts: BatchCounts
    """Of the whole step, over all micro-batches and processes."""
    max_completion_tokens: int
    """The longest completion that is allowed."""
    old_token_logps: Tensor | None = None
    """[B, T], nats, of the policy that sampled; None where the rollouts serve one step alone."""
    ref_token_logps: Tensor | None = None
    """[B, T], nats, from the frozen reference."""


def check_terms(terms: PairTerms, record_ids: Sequence[str]) -> None:
    """Stop before a broken number reaches the weights.

    Asks the device once. The objectives do not call it; the trainer does, before each loss.

    Args:
        terms: One batch.
        record_ids: The batch's pairs, for the message.

    Raises:
        ShapeError: A response has no token, a side has phrase ids but no phrase, or a value
            inside a mask is NaN or infinite; with the record and the first such position.
    """
    failures = _failures(terms)
    if not torch.stack([bad.any() for _, bad in failures]).any():
        return
    for problem, bad in failures:
        places = bad.nonzero()
        if len(places):
            row, *token = places[0].tolist()
            where = f" at token {token[0]}" if token else ""
            raise ShapeError(f"pair {record_ids[row]!r}{where}: {problem}")


def _failures(terms: PairTerms) -> list[tuple[str, Tensor]]:
    failures = []
    for side in ("chosen", "rejected"):
        mask = getattr(terms, f"{side}_mask").bool()
        failures.append(
            (
                f"the {side} response has no token left after truncation; raise max_length or "
                f"drop the pair",
                ~mask.any(-1),
            )
        )
        phrase_ids = getattr(terms, f"{side}_phrase_ids")
        if phrase_ids is not None:
            failures.append(
                (
                    f"no token of the {side} response carries a phrase id, so there is nothing to "
                    f"learn from the pair; drop it",
                    ~((phrase_ids > 0) & mask).any(-1),
                )
            )
        for name in _PER_TOKEN:
            values = getattr(terms, name)
            if side in name and values is not None and values.is_floating_point():
                failures.append(
                    (
                        f"{name} is not finite; the model overflows or the input is broken",
                        ~values.detach().isfinite() & mask,
                    )
                )
    return failures
