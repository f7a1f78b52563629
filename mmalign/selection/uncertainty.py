"""How sure a classifier with dropout is of a pair; which pairs and labels follow from it."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmalign.errors import ShapeError
from mmalign.objectives.sums import require_positive
from mmalign.selection.candidates import ChosenRejected, require_numbers

__all__ = [
    "bald_scores",
    "certainty_weights",
    "draw_pairs",
    "hard_sampling_probs",
    "majority_keeps",
    "prescreened_pairs",
    "top_bottom_pairs",
    "uncertainty_label_smoothing",
]

_NO_UNCERTAINTY = 1e-12


def bald_scores(pass_probs: ArrayLike) -> NDArray[np.float64]:
    """What the passes of a classifier with dropout disagree on, beyond what each is unsure of.

        bald = H(mean over passes of p) - mean over passes of H(p),  H(p) = -sum of p log p

    Args:
        pass_probs: [T, J, 2], for each of T passes and J pairs the probabilities that the chosen
            response is the better (0) and that the rejected one is (1).

    Returns:
        [J], nats, in [0, log 2]: 0 where all passes say the same, log 2 where half of them are
        certain of either. All 0 is the mark of a classifier whose dropout was off.

    Raises:
        ShapeError: Another shape, no pass, or entries that are no distributions.

    Source: UPO (Wang et al., 2024); BALD (Houlsby et al., 2011).
    """
    probs = _distributions(pass_probs)
    found = _entropy(probs.mean(0)) - _entropy(probs).mean(0)
    return np.asarray(np.clip(found, 0.0, math.log(2)))  # rounding only


def majority_keeps(pass_probs: ArrayLike, *, keep_ties: bool = False) -> NDArray[np.bool_]:
    """Whether most passes find the chosen response the better one.

    A pass votes for the chosen response where both are equally likely.

    Args:
        pass_probs: [T, J, 2], as for `bald_scores`.
        keep_ties: Keep a pair with exactly half of the votes, as the released code does.

    Returns:
        [J].

    Raises:
        ShapeError: As for `bald_scores`.

    Source: UPO's code (Wang et al., 2024).
    """
    probs = _distributions(pass_probs)
    doubled = 2 * (probs[..., 0] >= probs[..., 1]).sum(0)
    return np.asarray(doubled >= len(probs) if keep_ties else doubled > len(probs))


def certainty_weights(bald: ArrayLike, *, exponent: float = 1.0) -> NDArray[np.float64]:
    """The share of each pair in the certainty of all: how likely an easy pair is to be drawn.

        weight = (1 - bald)^exponent / sum over pairs (1 - bald)^exponent

    Args:
        bald: [J], nats, in [0, log 2].
        exponent: mu, > 0. In the paper it is a factor, which cancels; as an exponent, a
            reconstruction, a larger one prefers the surest pairs.

    Returns:
        [J], adding up to 1; even where no pair is uncertain.

    Raises:
        ShapeError: bald is not [J] in [0, log 2], or exponent not positive.

    Source: UPO (Wang et al., 2024).
    """
    require_positive(exponent=exponent)
    weights = (1 - _uncertainties(bald)) ** exponent
    return np.asarray(weights / weights.sum())


def hard_sampling_probs(bald: ArrayLike) -> NDArray[np.float64]:
    """How likely each pair is to be drawn where uncertain ones are wanted.

    Args:
        bald: [J], nats, in [0, log 2].

    Returns:
        [J], bald over its sum; even where that sum is below 1e-12.

    Raises:
        ShapeError: bald is not [J] in [0, log 2].

    Source: UPO's code (Wang et al., 2024).
    """
    found = _uncertainties(bald)
    if found.sum() <= _NO_UNCERTAINTY:
        return np.full(len(found), 1 / len(found))
    return np.asarray(found / found.sum())


def draw_pairs(probs: ArrayLike, *, num_drawn: int, rng: np.random.Generator) -> list[int]:
    """Draw different pairs, each time in proportion to the probabilities of those left.

    Args:
        probs: [J], of `certainty_weights` or `hard_sampling_probs`.
        num_drawn: How many; fewer come where fewer have a probability above 0.
        rng: Draws.

    Returns:
        Positions in the order of drawing.

    Source: UPO's code (Wang et al., 2024).
    """
    found = np.asarray(probs, dtype=np.float64)
    size = min(num_drawn, int(np.count_nonzero(found)))
    drawn: list[int] = rng.choice(len(found), size=size, replace=False, p=found).tolist()
    return drawn


def uncertainty_label_smoothing(
    bald: ArrayLike, *, form: Literal["safe", "printed"] = "safe"
) -> NDArray[np.float64]:
    """The share of flipped labels to expect of each pair, for `cdpo_loss`.

        safe    = bald / (2 * log 2)
        printed = 1 / (1 + certainty weight)

    Args:
        bald: [J], nats, in [0, log 2].
        form: `safe`, a reconstruction: DPO where nothing is uncertain, no preference where all
            is. `printed` is the paper's equation, for study only: it is at least 1/2 for every
            pair and so teaches the policy to prefer the rejected responses.

    Returns:
        [J], in [0, 1/2] for `safe`, in [1/2, 1] for `printed`.

    Raises:
        ShapeError: bald is not [J] in [0, log 2].

    Source: UPO (Wang et al., 2024).
    """
    if form == "printed":
        return np.asarray(1 / (certainty_weights(bald) + 1))
    return np.asarray(_uncertainties(bald) / (2 * math.log(2)))


def prescreened_pairs(rewards: Sequence[float]) -> list[ChosenRejected]:
    """Pair every answer of the better half with every one of the worse half.

    Sorted by falling reward, of equal ones the first before; the middle one of an odd number is
    in neither half; equal rewards make no pair.

    Args:
        rewards: Of the answers to one prompt.

    Returns:
        The best answer's pairs first, against the better of the worse half first.

    Raises:
        ShapeError: A reward is not finite.

    Source: UPO (Wang et al., 2024).
    """
    order = _falling(rewards)
    half = len(order) // 2
    return [
        ChosenRejected(chosen, rejected)
        for chosen in order[:half]
        for rejected in order[len(order) - half :]
        if rewards[chosen] > rewards[rejected]
    ]


def top_bottom_pairs(rewards: Sequence[float]) -> list[ChosenRejected]:
    """Pair the two best and the two worst answers with each other, six pairs at most.

    Sorted as in `prescreened_pairs`; equal rewards make no pair.

    Args:
        rewards: Of the answers to one prompt; of four and fewer all take part.

    Raises:
        ShapeError: A reward is not finite.

    Source: UPO's code (Wang et al., 2024), before it thins them out.
    """
    order = _falling(rewards)
    kept = order if len(order) <= 4 else order[:2] + order[-2:]
    return [
        ChosenRejected(chosen, rejected)
        for place, chosen in enumerate(kept)
        for rejected in kept[place + 1 :]
        if rewards[chosen] > rewards[rejected]
    ]


def _falling(rewards: Sequence[float]) -> list[int]:
    require_numbers(rewards=rewards)
    return sorted(range(len(rewards)), key=lambda place: -rewards[place])


def _entropy(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    logs = np.log(np.where(probs > 0, probs, 1.0))  # 0 log 0 is 0
    return np.asarray(-(probs * logs).sum(-1))


def _distributions(pass_probs: ArrayLike) -> NDArray[np.float64]:
    probs = np.asarray(pass_probs, dtype=np.float64)
    if probs.ndim != 3 or probs.shape[2] != 2 or not len(probs):
        raise ShapeError(f"pass_probs has the shape {list(probs.shape)}, expected [T, J, 2], T > 0")
    wrong = ~((probs >= 0).all(-1) & np.isclose(probs.sum(-1), 1.0, rtol=0, atol=1e-6))
    if wrong.any():
        place = [int(index) for index in np.argwhere(wrong)[0]]
        raise ShapeError(
            f"pass_probs{place} is {probs[tuple(place)].tolist()}, expected two probabilities "
            f"that add up to 1; drop the pair"
        )
    return probs


def _uncertainties(bald: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(bald, dtype=np.float64)
    if found.ndim != 1 or not len(found):
        raise ShapeError(f"bald has the shape {list(found.shape)}, expected [J], J > 0")
    if not ((found >= 0) & (found <= math.log(2))).all():
        raise ShapeError(f"bald is {found.tolist()}, expected numbers from 0 to log 2")
    return found
