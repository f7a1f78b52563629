"""The value of a reward's best policy under a KL, and how VPO reads it off that policy."""

from torch import Tensor

from mmalign.objectives.sums import require_positive, require_same_shape

__all__ = ["centred_reward", "optimal_value", "value_from_calibration"]


def centred_reward(reward: Tensor, calibration_probs: Tensor) -> Tensor:
    """The reward less its mean under a calibration policy, which preferences cannot tell.

    Args:
        reward: [..., A].
        calibration_probs: [..., A], probabilities of the calibration policy.

    Returns:
        [..., A], of mean 0 under the calibration policy.

    Raises:
        ShapeError: The tensors differ in shape.

    Source: VPO (Cen et al., 2024).
    """
    require_same_shape(reward=reward, calibration_probs=calibration_probs)
    return reward - (calibration_probs * reward).sum(-1, keepdim=True)


def optimal_value(ref_logprobs: Tensor, reward: Tensor, *, beta: float) -> Tensor:
    """The most that a policy can have of the reward less beta times its KL to the reference.

        value = beta * log(sum over y of ref(y) * exp(reward(y) / beta))

    Args:
        ref_logprobs: [..., A], nats, normalised.
        reward: [..., A].
        beta: Weight of KL(policy || reference), > 0.

    Returns:
        [...], in the reward's unit; `tilted_policy` attains it.

    Raises:
        ShapeError: The tensors differ in shape, or beta is not positive.

    Source: VPO (Cen et al., 2024).
    """
    require_positive(beta=beta)
    require_same_shape(ref_logprobs=ref_logprobs, reward=reward)
    return beta * (ref_logprobs + reward / beta).logsumexp(-1)


def value_from_calibration(
    policy_logprobs: Tensor, ref_logprobs: Tensor, calibration_probs: Tensor, *, beta: float
) -> Tensor:
    """The optimal value of a policy's own reward, read off answers of the calibration policy.

        value = -beta * sum over y of calibration(y) * (log policy(y) - log ref(y))

    Args:
        policy_logprobs: [..., A], nats, the best policy of a reward that is centred under the
            calibration policy.
        ref_logprobs: [..., A], nats.
        calibration_probs: [..., A], probabilities.
        beta: Weight of KL(policy || reference), > 0.

    Returns:
        [...], equal to `optimal_value` of that reward: so VPO needs samples, and no search for
        the best policy, to be optimistic.

    Raises:
        ShapeError: The tensors differ in shape, or beta is not positive.

    Source: VPO (Cen et al., 2024).
    """
    require_positive(beta=beta)
    require_same_shape(
        policy_logprobs=policy_logprobs,
        ref_logprobs=ref_logprobs,
        calibration_probs=calibration_probs,
    )
    return -beta * (calibration_probs * (policy_logprobs - ref_logprobs)).sum(-1)
