"""SimulPL: preferences between simultaneous translations, with their latency.

The authors published no code. Average lagging is the standard measure; the losses, the labels
and the rule of decoding are a reconstruction. Left out: expected lagging with gradient.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives.pairwise import log_ratio_rewards
from mmalign.objectives.sums import masked_sum, require_one_per_pair, require_same_shape
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "WriteDecisions",
    "average_lagging",
    "latency_gap",
    "read_schedule",
    "schedule_of_alignment",
    "simulpl_loss",
    "write_policy_loss",
]


class WriteDecisions(NamedTuple):
    """The decisions between READ and WRITE on the way to each chosen translation."""

    logits: Tensor
    """[B, S], of WRITE; carries gradient into the head."""
    labels: Tensor
    """[B, S], 1 for WRITE, 0 for READ."""
    mask: Tensor
    """[B, S], not 0 on real decisions."""
    num_per_pair: Tensor
    """A scalar: real decisions over pairs, both counted over the global batch."""


def simulpl_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    latency_gaps: Tensor,
    decisions: WriteDecisions,
    *,
    beta: float,
    latency_weight: float,
    write_weight: float,
) -> PreferenceLoss:
    """DPO whose margin counts latency, with the read/write head trained beside it.

        h    = chosen_reward - rejected_reward + latency_weight * latency_gap
        loss = -log sigmoid(h) + write_weight * `write_policy_loss`

    The gap is a constant offset: a pair whose chosen side is faster already needs less push. The
    form of the loss is a reconstruction.

    Args:
        policy_chosen_logps: [B], nats, summed over target tokens of which each sees only the
            source words read before it; carries gradient.
        policy_rejected_logps: [B], the same for the rejected translation.
        ref_chosen_logps: [B], nats, with the same masking; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected translation.
        latency_gaps: [B], `latency_gap` of each pair, detached.
        decisions: Those of the chosen side.
        beta: Inverse temperature, > 0.
        latency_weight: lam, >= 0.
        write_weight: mu, >= 0; 0 lets the head drift.

    Returns:
        Loss per pair [B], DPO's where both weights are 0; rewards without latency; metrics
        `margin` (h), `preference_loss` and `write_loss`.

    Raises:
        ShapeError: The tensors are not [B] or [B, S], or beta is not positive.

    Source: SimulPL (Yu et al., 2025), stage 2; a reconstruction.
    """
    chosen_rewards, rejected_rewards = log_ratio_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    write_loss = write_policy_loss(decisions)
    require_one_per_pair(
        chosen_rewards=chosen_rewards, latency_gaps=latency_gaps, write_loss=write_loss
    )
    margins = chosen_rewards - rejected_rewards + latency_weight * latency_gaps.detach()
    preference_loss = -F.logsigmoid(margins)
    return PreferenceLoss(
        loss=preference_loss + write_weight * write_loss,
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
        metrics={
            "margin": margins.detach(),
            "preference_loss": preference_loss.detach(),
            "write_loss": write_loss.detach(),
        },
    )


def write_policy_loss(decisions: WriteDecisions) -> Tensor:
    """Binary cross-entropy of the decisions to write.

        loss = (sum over real decisions of -label * log sigmoid(logit)
                - (1 - label) * log sigmoid(-logit)) / num_per_pair

    Coupled over the batch: the mean over the pairs is one mean over all real decisions, 0 where
    there is none. Stage 1 adds it to the translation's cross-entropy with weight 1.

    Args:
        decisions: Logits, labels, mask and their number.

    Returns:
        [B], with gradient sigmoid(logit) - label on real decisions and 0 elsewhere, up to scale.

    Raises:
        ShapeError: Logits, labels and mask differ in shape.

    Source: SimulPL (Yu et al., 2025), a reconstruction.
    """
    logits, labels, mask, num_per_pair = decisions
    require_same_shape(logits=logits, labels=labels, mask=mask)
    losses = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    sums = masked_sum(losses, mask)
    return sums / num_per_pair.to(sums.dtype).clamp(min=torch.finfo(sums.dtype).tiny)


def average_lagging(
    schedule: Sequence[int], *, source_words: int, target_words: int | None = None
) -> float:
    """How many source words a translation lags behind an ideal simultaneous translator.

        AL = mean over t = 1 ... tau of g(t) - (t - 1) * source_words / target_words

    Args:
        schedule: g(t), source words read before target word t is written; never falling, from 1
            to source_words.
        source_words: |x|, >= 1; characters where the language has no spaces.
        target_words: |y|, by default the schedule's length; max(|y|, reference length) makes it
            length-adaptive average lagging.

    Returns:
        Source words; may be negative. tau is the first t with g(t) = source_words, the schedule's
        length where the source is never read to its end.

    Raises:
        RecordError: The schedule is empty, falls, or leaves 1 ... source_words; or target_words
            is below its length.

    Source: STACL (Ma et al., 2019).
    """
    steps = list(schedule)
    if not steps or steps != sorted(steps) or steps[0] < 1 or steps[-1] > source_words:
        raise RecordError(
            f"expected a schedule that never falls, from 1 to {source_words} source words, "
            f"found {steps}"
        )
    length = len(steps) if target_words is None else target_words
    if length < len(steps):
        raise RecordError(f"target_words is {length}, expected {len(steps)} or more")
    num_terms = next((t for t, read in enumerate(steps, 1) if read == source_words), len(steps))
    ideal = source_words / length
    return sum(read - t * ideal for t, read in enumerate(steps[:num_terms])) / num_terms


def latency_gap(
    chosen_schedule: Sequence[int], rejected_schedule: Sequence[int], *, source_words: int
) -> float:
    """How much of the source the rejected translation lags behind the chosen one.

    Args:
        chosen_schedule: As for `average_lagging`.
        rejected_schedule: The same of the rejected translation.
        source_words: |x|.

    Returns:
        A share of the source, > 0 where the chosen translation is faster.

    Source: SimulPL (Yu et al., 2025); a reconstruction.
    """
    chosen = average_lagging(chosen_schedule, source_words=source_words)
    return (average_lagging(rejected_schedule, source_words=source_words) - chosen) / source_words


def read_schedule(
    write_probs: Sequence[Sequence[float]], *, threshold: float, source_words: int
) -> list[int]:
    """The schedule that follows from the head's probabilities; a reconstruction.

    One source word is read. Then, until all target words are written: write if the probability is
    at least the threshold or the source is finished, else read one more word.

    Args:
        write_probs: Row r, column t: probability of WRITE when r source words are read and t
            target words are written; source_words + 1 rows, of which row 0 is never read.
        threshold: 0 writes at once, above 1 reads all first; a sweep trades latency for quality.
        source_words: >= 1.

    Returns:
        g(t) of each target word, never falling.

    Raises:
        ShapeError: The number of rows is another, the rows differ in length, or one holds NaN.

    Source: SimulPL (Yu et al., 2025).
    """
    lengths = {len(row) for row in write_probs}
    if source_words < 1 or len(write_probs) != source_words + 1 or len(lengths) != 1:
        raise ShapeError(
            f"expected write_probs of {source_words + 1} rows of one length for {source_words} "
            f"source words, found {len(write_probs)} rows of the lengths {sorted(lengths)}"
        )
    if any(math.isnan(prob) for row in write_probs for prob in row):
        raise ShapeError("write_probs holds NaN, expected probabilities of WRITE")
    schedule, read = [], 1
    for written in range(lengths.pop()):
        while read < source_words and not write_probs[read][written] >= threshold:
            read += 1
        schedule.append(read)
    return schedule


def schedule_of_alignment(aligned: Sequence[Collection[int]]) -> list[int]:
    """The earliest schedule at which each target word's source words have been read.

    Args:
        aligned: For each target word the places (from 1) of the source words it translates; an
            unaligned word has none.

    Returns:
        g(t): the largest place up to and with word t, at least 1.

    Raises:
        RecordError: A place is below 1.

    Source: SimulPL (Yu et al., 2025), labels of stage 1; a reconstruction.
    """
    schedule, read = [], 1
    for word, places in enumerate(aligned):
        if any(place < 1 for place in places):
            raise RecordError(f"target word {word} is aligned to {list(places)}, expected 1 ...")
        read = max(read, *places) if places else read
        schedule.append(read)
    return schedule
