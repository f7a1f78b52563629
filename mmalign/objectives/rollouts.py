"""The objectives over rollouts: their settings, and what they read of a batch."""

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from mmalign.config import Config
from mmalign.objectives.aggregation import BatchCounts, LossAggregation
from mmalign.objectives.configs import NotNegative, Positive
from mmalign.objectives.groups import AdvantageScale
from mmalign.objectives.kl import KLEstimator
from mmalign.objectives.policy_gradient import PolicyLoss, clipped_token_losses
from mmalign.objectives.sums import masked_sum
from mmalign.objectives.terms import RolloutTerms

__all__ = [
    "OF_GROUP_TRAINER",
    "OF_PPO_TRAINER",
    "DAPOConfig",
    "DrGRPOConfig",
    "GRPOConfig",
    "GSPOConfig",
    "GroupSettings",
    "PPOConfig",
    "RLOOConfig",
    "RolloutSettings",
    "read_policy_terms",
    "read_policy_terms_with_length",
    "read_policy_terms_with_reference",
    "rloo_loss",
]

ClipRange = Annotated[float, Field(gt=0, allow_inf_nan=False)]
DualClip = Annotated[float, Field(gt=1, allow_inf_nan=False)] | None
Share = Annotated[float, Field(ge=0, le=1)]


class RolloutSettings(Config):
    """What every objective over rollouts tells the trainer, and not its function."""

    num_iterations: int = Field(default=1, ge=1)
    """Passes over the rollouts of a generation, mu in the papers."""
    num_mini_batches: int = Field(default=1, ge=1)
    """Optimiser steps of one pass: a generation is so many times per_device_train_batch_size x
    gradient_accumulation_steps x processes prompts."""
    reward_kl_weight: NotNegative = 0.0
    """Price of the log-ratio to the reference, taken off the reward."""
    mask_truncated_completions: bool = False
    """Rollouts that ran into the length limit count in their group and carry no loss. Source:
    overlong filtering of DAPO."""

    @property
    def uses_reference(self) -> bool:
        """Whether log-probabilities of the reference are computed."""
        return self.reward_kl_weight > 0 or self.loss_kl_weight > 0

    @property
    def loss_kl_weight(self) -> float:
        """Of the KL in the loss; 0 where the objective has none."""
        return float(getattr(self, "kl_weight", 0.0))

    @property
    def steps_per_generation(self) -> int:
        """Optimiser steps that learn from the same rollouts."""
        return self.num_iterations * self.num_mini_batches


class GroupSettings(RolloutSettings):
    """The same where the rollouts of a prompt are compared with each other."""

    advantage_scale: AdvantageScale = "group_std"
    """What a reward, centred in its group, is divided by. Source: DeepSeekMath, sec. 4.1."""
    std_eps: NotNegative = 1e-6
    """Added to that deviation. Source: verl; 1e-4 in TRL."""
    dynamic_sampling: bool = False
    """Replace groups whose rewards are all equal by groups of further prompts. Source: DAPO."""
    max_equal_groups: Share | None = None
    """End the training where all rewards are equal in a larger share of the first groups, 100 or
    more: the policy cannot do the task yet. None only warns. Vision-R1 wants 0.5."""
    max_sampling_rounds: int = Field(default=10, ge=1)
    """How often at most; then a step learns from what it has. Source: DAPO's script."""


class GRPOConfig(GroupSettings):
    """Settings of grpo."""

    kl_weight: NotNegative = 0.04
    """beta in the paper and in TRL, of the KL in the loss. Source: DeepSeekMath, sec. 4.2."""
    clip_low: ClipRange = 0.2
    """epsilon in TRL."""
    clip_high: ClipRange = 0.2
    """epsilon_high in TRL."""
    dual_clip: DualClip = None
    """c for negative advantages; 3 in verl."""
    kl_estimator: KLEstimator = "k3"
    """Source: DeepSeekMath, eq. 4."""
    loss_aggregation: LossAggregation = "seq-mean-token-mean"
    """Source: DeepSeekMath, eq. 3; verl and TRL take token-mean today."""


class DrGRPOConfig(GroupSettings):
    """Settings of dr_grpo."""

    advantage_scale: AdvantageScale = "none"
    """Source: Dr.GRPO, sec. 3.2."""
    clip_low: ClipRange = 0.2
    clip_high: ClipRange = 0.2
    dual_clip: DualClip = None


class DAPOConfig(GroupSettings):
    """Settings of dapo; its overlong shaping is the reward `overlong_penalty`."""

    dynamic_sampling: bool = True
    """Source: DAPO, sec. 3.2."""
    clip_low: ClipRange = 0.2
    clip_high: ClipRange = 0.28
    """Source: DAPO, sec. 4.1."""
    dual_clip: DualClip = None


class GSPOConfig(GroupSettings):
    """Settings of gspo."""

    clip_low: ClipRange = 3e-4
    """Source: GSPO, sec. 5.1."""
    clip_high: ClipRange = 4e-4


class RLOOConfig(GroupSettings):
    """Settings of rloo."""

    advantage_scale: AdvantageScale = "leave_one_out"
    """Source: RLOO, eq. 9."""
    reward_kl_weight: NotNegative = 0.05
    """beta. Source: TRL."""
    clip_low: ClipRange = 0.2
    """Source: TRL; the paper takes one step for each rollout and has no clip."""
    clip_high: ClipRange = 0.2


class PPOConfig(RolloutSettings):
    """Settings of ppo; `num_iterations` are its epochs, and it has no groups."""

    reward_kl_weight: NotNegative = 0.001
    """Source: verl and Search-R1; 0.05 in TRL."""
    target_kl: Positive | None = None
    """Nats per rollout that the KL's weight is steered to; None keeps the weight."""
    kl_horizon: int = Field(default=10000, ge=1)
    """Rollouts in which the weight changes by a fifth at most. Source: verl."""
    gamma: Share = 1.0
    """Discount per token. Source: verl."""
    gae_lambda: Share = 1.0
    """Source: verl and Search-R1; 0.95 in TRL."""
    clip_low: ClipRange = 0.2
    clip_high: ClipRange = 0.2
    dual_clip: DualClip = None
    """3 in verl."""
    clip_value: Positive = 0.5
    """How far a value may move from that of sampling time. Source: verl; 0.2 in TRL."""
    value_weight: Positive = 0.1
    """Of the value loss beside the policy's. Source: TRL."""
    value_learning_rate: Positive = 1e-5
    """Of the value head; its peak. Source: verl's critic."""
    loss_aggregation: LossAggregation = "token-mean"
    """Source: verl."""


OF_GROUP_TRAINER = frozenset(GroupSettings.model_fields)
"""Settings that an objective's function does not take."""
OF_PPO_TRAINER = frozenset(RolloutSettings.model_fields) | {
    "target_kl", "kl_horizon", "gamma", "gae_lambda", "clip_value", "value_weight",
    "value_learning_rate",
}  # fmt: skip


def rloo_loss(
    policy_token_logps: Tensor,
    old_token_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    counts: BatchCounts,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> PolicyLoss:
    """REINFORCE on whole rollouts, each one action; the rest of its group is the baseline.

        ratio = exp(sum over the rollout's tokens (policy_token_logps - old_token_logps))
        loss  = max(-A * ratio, -A * clip(ratio, 1 - clip_low, 1 + clip_high))    mean over rollouts

    In the first step after sampling its gradient is that of -A * log p(rollout).

    Args:
        policy_token_logps: [B, T], nats; carries gradient.
        old_token_logps: [B, T], nats, of the policy that sampled; None stands for the present one.
        advantages: [B], of `group_advantages` with scale `leave_one_out`; without gradient.
        mask: [B, T], 1 on tokens that the policy wrote.
        counts: Of the whole batch.
        clip_low: How far the ratio may earn below 1, > 0.
        clip_high: How far above 1, > 0.

    Returns:
        Shares of the loss, ratios and clipped rollouts, [B] each.

    Raises:
        ShapeError: Different shapes, or a setting out of range.

    Source: RLOO (Ahmadian et al., 2024), eq. 9; the clip as in TRL.
    """
    old = policy_token_logps.detach() if old_token_logps is None else old_token_logps
    rollouts = clipped_token_losses(
        masked_sum(policy_token_logps, mask).unsqueeze(-1),
        masked_sum(old, mask).unsqueeze(-1),
        advantages.unsqueeze(-1),
        mask.bool().any(-1, keepdim=True),
        clip_low=clip_low,
        clip_high=clip_high,
    )
    loss = rollouts.losses[:, 0] / counts.num_rollouts.clamp(min=1)
    return PolicyLoss(loss, rollouts.ratios[:, 0], rollouts.clipped[:, 0])


def read_policy_terms(terms: RolloutTerms) -> dict[str, Any]:
    """What every clipped policy loss takes."""
    return {
        "policy_token_logps": terms.policy_token_logps,
        "old_token_logps": terms.old_token_logps,
        "advantages": terms.advantages,
        "mask": terms.mask,
        "counts": terms.counts,
    }


def read_policy_terms_with_length(terms: RolloutTerms) -> dict[str, Any]:
    """The above, and the longest completion that is allowed."""
    return read_policy_terms(terms) | {"max_completion_tokens": terms.max_completion_tokens}


def read_policy_terms_with_reference(terms: RolloutTerms) -> dict[str, Any]:
    """The above, and the reference where there is one."""
    return read_policy_terms_with_length(terms) | {"ref_token_logps": terms.ref_token_logps}
