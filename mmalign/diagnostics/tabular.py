"""Policies over a few answers, written as tables of log-probabilities."""

from torch import Tensor

from mmalign.objectives.kl import forward_kl
from mmalign.objectives.sums import at_least_float32, require_positive, require_same_shape

__all__ = ["kl_divergence", "tilted_policy"]


def tilted_policy(ref_logprobs: Tensor, reward: Tensor, *, beta: float) -> Tensor:
    """The policy with the most reward minus beta times its KL to the reference.

        policy(y) = ref(y) * exp(reward(y) / beta) / Z

    Tilting twice equals tilting once by the sum of the exponents, in either order; so aligning
    the result of one step for a second reward is the joint optimum.

    Args:
        ref_logprobs: [..., A], nats; -inf where the reference gives nothing. What they sum to
            does not matter.
        reward: [..., A], one number per answer, finite; carries gradient if it has any.
        beta: Weight of KL(policy || reference), > 0, in the reward's unit.

    Returns:
        [..., A], log-probabilities in nats, computed as logarithms throughout: entries that
        underflow as probabilities keep their digits. -inf where the reference is.

    Raises:
        ShapeError: The two differ in shape, or beta is not positive.

    Source: DPO (Rafailov et al., 2023), eq. 4; in two steps SACPO (Wachi et al., 2024).
    """
    require_positive(beta=beta)
    require_same_shape(ref_logprobs=ref_logprobs, reward=reward)
    return (at_least_float32(ref_logprobs) + at_least_float32(reward) / beta).log_softmax(-1)


def kl_divergence(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """KL(policy || other policy) over the last dimension.

    Args:
        logprobs: [..., A], nats, normalised; -inf where the probability is 0.
        other_logprobs: [..., A], the same for the second policy.

    Returns:
        [...], nats, >= 0 up to rounding; infinite where the second policy excludes an answer
        that the first gives.

    Raises:
        ShapeError: The two differ in shape.
    """
    require_same_shape(logprobs=logprobs, other_logprobs=other_logprobs)
    return forward_kl(other_logprobs, logprobs)
