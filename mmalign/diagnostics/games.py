"""Preference games over a few answers: values, gaps, and the exact steps of methods.

A game is a table of preferences [A, A], entry i, j the probability that answer i is preferred to
answer j; entry j, i is 1 minus that, the diagonal 1/2.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.diagnostics.tabular import kl_divergence, tilted_policy
from mmalign.errors import ShapeError
from mmalign.objectives.nash import mixed_reference
from mmalign.objectives.sums import require_finite, require_positive, require_same_shape

__all__ = [
    "ExtragradientStep",
    "duality_gap",
    "equivalent_learning_rate",
    "exploitability",
    "extragradient_step",
    "game_value",
    "has_preference_cycle",
    "hedge_average",
    "mirror_descent_step",
    "population_ipo_loss",
]


def game_value(
    logprobs: Tensor,
    opponent_logprobs: Tensor,
    ref_logprobs: Tensor,
    preferences: Tensor,
    *,
    beta: float,
) -> Tensor:
    """What the first player earns: its win rate less its own KL, plus the opponent's.

        value = policy^T preferences opponent - beta * KL(policy || ref)
                + beta * KL(opponent || ref)

    Args:
        logprobs: [A], nats, of the first player's policy.
        opponent_logprobs: [A], of the second player's.
        ref_logprobs: [A], of the reference of both.
        preferences: [A, A], the game.
        beta: Weight of the KL, > 0.

    Returns:
        A scalar; 1/2 where both play the same policy.

    Raises:
        ShapeError: The shapes do not fit, beta is not positive, or the table is no game.

    Source: EGPO (Zhou et al., 2025).
    """
    require_positive(beta=beta)
    _require_game(
        preferences,
        logprobs=logprobs,
        opponent_logprobs=opponent_logprobs,
        ref_logprobs=ref_logprobs,
    )
    wins = logprobs.exp() @ preferences @ opponent_logprobs.exp()
    own, other = (kl_divergence(each, ref_logprobs) for each in (logprobs, opponent_logprobs))
    return wins - beta * own + beta * other


def duality_gap(
    logprobs: Tensor, ref_logprobs: Tensor, preferences: Tensor, *, beta: float
) -> Tensor:
    """What the best replies gain against a policy, in either role, in a game with KL.

        best = ref * exp(preferences policy / beta) / Z
        gap  = value(best, policy) - value(policy, best)

    As the game is symmetric, one reply is best in both roles.

    Args:
        logprobs: [A], nats, of the policy.
        ref_logprobs: [A], of the reference.
        preferences: [A, A], the game.
        beta: Weight of the KL, > 0.

    Returns:
        A scalar, >= 0 up to rounding, 0 at the Nash policy only.

    Raises:
        ShapeError: The shapes do not fit, beta is not positive, or the table is no game.

    Source: EGPO (Zhou et al., 2025).
    """
    _require_game(preferences, logprobs=logprobs, ref_logprobs=ref_logprobs)
    best = tilted_policy(ref_logprobs, preferences @ logprobs.exp(), beta=beta)
    return game_value(best, logprobs, ref_logprobs, preferences, beta=beta) - game_value(
        logprobs, best, ref_logprobs, preferences, beta=beta
    )


def exploitability(probs: Tensor, preferences: Tensor) -> Tensor:
    """How much more often than half of the time the best reply beats a policy.

    Args:
        probs: [A], of the policy, or of an average of policies.
        preferences: [A, A], the game, played without KL.

    Returns:
        A scalar, in [0, 1/2], 0 at a minimax winner only.

    Raises:
        ShapeError: The shapes do not fit, or the table is no game.

    Source: SPO (Swamy et al., 2024).
    """
    _require_game(preferences, probs=probs)
    return (preferences @ probs).max() - 0.5


class ExtragradientStep(NamedTuple):
    """Logits after both halves of a step, not centred."""

    half: Tensor
    """[A], of the policy that serves as opponent only."""
    full: Tensor
    """[A], of the policy that goes on."""


def extragradient_step(
    logits: Tensor, ref_logits: Tensor, preferences: Tensor, *, beta: float, eta: float
) -> ExtragradientStep:
    """One exact step of EGPO: look ahead, then step from where you were against what you saw.

        start = (1 - eta * beta) * logits + eta * beta * ref_logits
        half  = start + eta * preferences softmax(logits)
        full  = start + eta * preferences softmax(half)

    Args:
        logits: [A], of the policy.
        ref_logits: [A], of the reference.
        preferences: [A, A], the game.
        beta: Weight of the game's KL, > 0.
        eta: Step size, > 0, with eta * beta < 1. A gradient step on `population_ipo_loss` with
            the rate `equivalent_learning_rate` does the same.

    Returns:
        The logits of both halves; they count up to a constant.

    Raises:
        ShapeError: The shapes do not fit, a setting is out of range, or the table is no game.

    Source: EGPO (Zhou et al., 2025).
    """
    require_positive(beta=beta, eta=eta)
    if eta * beta >= 1:
        raise ShapeError(f"eta * beta is {eta * beta}, expected less than 1: it would diverge")
    _require_game(preferences, logits=logits, ref_logits=ref_logits)
    start = (1 - eta * beta) * logits + eta * beta * ref_logits
    half = start + eta * (preferences @ logits.softmax(-1))
    full = start + eta * (preferences @ half.softmax(-1))
    return ExtragradientStep(half=half, full=full)


def population_ipo_loss(
    logits: Tensor, ref_logits: Tensor, opponent_win_rates: Tensor, *, beta: float
) -> Tensor:
    """The mean of online IPO over all pairs of answers, drawn uniformly.

        d    = log policy - log ref - opponent_win_rates / beta
        loss = mean over all A^2 ordered pairs of (d[i] - d[j])^2

    Args:
        logits: [A], of the policy; carries gradient.
        ref_logits: [A], of the reference.
        opponent_win_rates: [A], each answer's win rate against the opponent; detached here.
        beta: Weight of the game's KL, > 0.

    Returns:
        A scalar, with gradient 4 / A * (d - mean of d).

    Raises:
        ShapeError: The tensors differ in shape, or beta is not positive.

    Source: EGPO (Zhou et al., 2025).
    """
    require_positive(beta=beta)
    require_same_shape(logits=logits, ref_logits=ref_logits, opponent_win_rates=opponent_win_rates)
    log_ratios = logits.log_softmax(-1) - ref_logits.log_softmax(-1)
    d = log_ratios - opponent_win_rates.detach() / beta
    return (d.unsqueeze(-1) - d.unsqueeze(-2)).square().mean((-1, -2))


def equivalent_learning_rate(*, eta: float, beta: float, num_answers: int) -> float:
    """The rate at which a gradient step on `population_ipo_loss` is a step of size eta.

    Args:
        eta: Step size of `extragradient_step`.
        beta: Weight of the game's KL.
        num_answers: A.

    Returns:
        eta * beta * A / 4. The released simulation has half of it in one place.

    Source: EGPO (Zhou et al., 2025); the constant is derived, not printed there.
    """
    return eta * beta * num_answers / 4


def mirror_descent_step(
    logprobs: Tensor, ref_logprobs: Tensor, preferences: Tensor, *, eta: float, tau: float
) -> Tensor:
    """The exact result of one iteration of INPO.

        next = ref^(tau / eta) * policy^(1 - tau / eta) * exp(preferences policy / eta) / Z

    Args:
        logprobs: [A], nats, of the policy.
        ref_logprobs: [A], of the reference.
        preferences: [A, A], the game.
        eta: Inverse step size, > 0.
        tau: Weight of the game's KL, in [0, eta].

    Returns:
        [A], normalised log-probabilities. Under growing eta the steps lead to the Nash policy,
        ref * exp(preferences policy / tau) / Z.

    Raises:
        ShapeError: The shapes do not fit, a setting is out of range, or the table is no game.

    Source: INPO (Zhang et al., 2024).
    """
    _require_game(preferences, logprobs=logprobs, ref_logprobs=ref_logprobs)
    mixed = mixed_reference(ref_logprobs, logprobs, eta=eta, tau=tau)
    return tilted_policy(mixed, preferences @ logprobs.exp(), beta=eta)


def hedge_average(preferences: Tensor, *, num_steps: int, learning_rate: float) -> Tensor:
    """The average policy of a no-regret learner that plays against itself.

        policy = softmax(logits); logits = logits + learning_rate * preferences policy

    Args:
        preferences: [A, A], the game.
        num_steps: How many policies are averaged, the uniform one at the start included.
        learning_rate: > 0.

    Returns:
        [A], probabilities, near a minimax winner after many steps of a small rate, while the
        policy itself may go round in circles.

    Raises:
        ShapeError: The table is no game, or a setting is not positive.

    Source: SPO (Swamy et al., 2024).
    """
    require_positive(num_steps=num_steps, learning_rate=learning_rate)
    logits = torch.zeros_like(preferences[0])
    _require_game(preferences, logits=logits)
    total = torch.zeros_like(logits)
    for _ in range(num_steps):
        probs = logits.softmax(-1)
        total += probs
        logits = logits + learning_rate * (preferences @ probs)
    return total / num_steps


def has_preference_cycle(preferences: Tensor) -> bool:
    """Whether some answers beat each other in a circle, so that no order of them is right.

    Args:
        preferences: [A, A], the game; beating means to be preferred by more than 1/2.

    Raises:
        ShapeError: The table is no game.

    Source: GPM (Zhang et al., 2024), where a ranking has to be told apart from a cycle.
    """
    _require_game(preferences)
    beats = preferences > 0.5
    for middle in range(len(beats)):
        beats = beats | (beats[:, middle, None] & beats[middle])
    return bool(beats.diagonal().any())


def _require_game(preferences: Tensor, **policies: Tensor) -> None:
    num_answers = preferences.shape[0] if preferences.ndim else 0
    shapes = {name: list(policy.shape) for name, policy in policies.items()}
    if list(preferences.shape) != [num_answers] * 2 or any(
        shape != [num_answers] for shape in shapes.values()
    ):
        raise ShapeError(
            f"expected preferences [A, A] and policies [A], found preferences "
            f"{list(preferences.shape)}, {shapes}"
        )
    require_finite(preferences=preferences)
    bias = (preferences + preferences.T - 1).abs().max()
    if bias > 1e-3 or preferences.min() < 0 or preferences.max() > 1:
        raise ShapeError(
            "preferences are no game: entries must lie in [0, 1], and entry j, i must be 1 minus "
            "entry i, j; take the mean over both orders of each pair"
        )
