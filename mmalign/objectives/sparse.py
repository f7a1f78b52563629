"""SparsePO: weigh the reward and the KL of each token by masks that may be zero."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.sums import at_least_float32, require_same_shape, zero_outside
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "activation_mask",
    "learned_mask",
    "mask_sparsity",
    "sparsepo_loss",
]


def sparsepo_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_token_kl: Tensor,
    rejected_token_kl: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    chosen_reward_weights: Tensor,
    rejected_reward_weights: Tensor,
    chosen_kl_weights: Tensor,
    rejected_kl_weights: Tensor,
    *,
    beta: float,
    reward_l1: float = 0.0,
    kl_l1: float = 0.0,
    shared_weights: bool = False,
) -> PreferenceLoss:
    """Token-level DPO in which few tokens carry the reward and few are held to the reference.

        u    = sum of reward_weight * (policy_token_logps - ref_token_logps), chosen - rejected
        d    = sum of kl_weight * token_kl, rejected - chosen
        loss = -log sigmoid(beta * (u - d))
               + reward_l1 * sum of |reward_weight| + kl_l1 * sum of |kl_weight|, both sides

    All sums run over response tokens. Weights of 1 make this TDPO1; reward weights of 1 and KL
    weights of 0 make it DPO.

    Args:
        policy_chosen_token_logps: [B, T], nats; carries gradient.
        policy_rejected_token_logps: [B, T'], the same for the rejected response.
        ref_chosen_token_logps: [B, T], nats, from the frozen reference; carries no gradient.
        ref_rejected_token_logps: [B, T'].
        chosen_token_kl: [B, T], nats, KL(reference || policy) over the vocabulary where the token
            is predicted, of `forward_kl`; carries gradient on both sides.
        rejected_token_kl: [B, T'].
        chosen_mask: [B, T], 1 on response tokens.
        rejected_mask: [B, T'].
        chosen_reward_weights: [B, T], >= 0, of `activation_mask` or `learned_mask`; carries
            gradient where it is learned.
        rejected_reward_weights: [B, T'].
        chosen_kl_weights: [B, T], the same for the KL; may be the same tensor.
        rejected_kl_weights: [B, T'].
        beta: Inverse temperature, > 0.
        reward_l1: Price of the reward weights, >= 0; 0 for activation masks.
        kl_l1: Price of the KL weights, >= 0.
        shared_weights: Both kinds of weight are one mask, which stands in both prices: each is
            halved, as in the released code.

    Returns:
        Loss per pair [B], log 2 where policy equals reference and both prices are 0; rewards
        beta * (weighted log-ratio + weighted KL), whose margin is beta * (u - d); metrics
        `reward_margin` (u), `kl_gap` (d), `chosen_kl` and `rejected_kl` (weighted), in nats.

    Raises:
        ShapeError: Tensors of one side differ in shape, the sides in B, beta is not positive or
            a price is negative.

    Source: SparsePO (Christopoulou et al., 2024), with the signs of its code. Its code logs
        rewards with the sign of the KL reversed; these are those of the loss.
    """
    if not (reward_l1 >= 0 and kl_l1 >= 0):
        raise ShapeError(
            f"reward_l1 is {reward_l1} and kl_l1 is {kl_l1}, expected numbers from 0 on"
        )
    chosen = _weighted_side(
        policy_chosen_token_logps,
        ref_chosen_token_logps,
        chosen_token_kl,
        chosen_mask,
        chosen_reward_weights,
        chosen_kl_weights,
        side="chosen",
    )
    rejected = _weighted_side(
        policy_rejected_token_logps,
        ref_rejected_token_logps,
        rejected_token_kl,
        rejected_mask,
        rejected_reward_weights,
        rejected_kl_weights,
        side="rejected",
    )
    zeros = torch.zeros_like(chosen.kl)  # the reference is in the log-ratios already
    ranked = dpo_loss(
        chosen.log_ratio + chosen.kl, rejected.log_ratio + rejected.kl, zeros, zeros, beta=beta
    )
    price = reward_l1 * (chosen.reward_norm + rejected.reward_norm) + kl_l1 * (
        chosen.kl_norm + rejected.kl_norm
    )
    return ranked._replace(
        loss=ranked.loss + (0.5 * price if shared_weights else price),
        metrics={
            "reward_margin": (chosen.log_ratio - rejected.log_ratio).detach(),
            "kl_gap": (rejected.kl - chosen.kl).detach(),
            "chosen_kl": chosen.kl.detach(),
            "rejected_kl": rejected.kl.detach(),
        },
    )


def activation_mask(groups: Sequence[Sequence[Tensor]], mask: Tensor) -> Tensor:
    """Weights of tokens by how active the reference is where it predicts them.

        a      = mean over features of one activation tensor
        scaled = (a - min a) / (max a - min a), over the response's tokens
        weight = mean over groups of the mean over a group's tensors of scaled

    The paper's variant without parameters, called MaPO there; not margin-aware preference
    optimisation, which has the same short name. Its z-score ahead of the scaling is left out:
    it changes nothing.

    Args:
        groups: The activation tensors [B, T, D] of each group of modules (MLP, attention,
            residual stream, logits); D may differ. Entry t belongs to the state that predicts
            token t. Detached.
        mask: [B, T], 1 on response tokens.

    Returns:
        [B, T], in [0, 1], 0 outside the response, without gradient. A tensor that is constant
        over a response, as with a response of one token, counts as 1 there: a reconstruction.

    Raises:
        ShapeError: A group is empty, or a tensor's B and T are not the mask's.

    Source: SparsePO (Christopoulou et al., 2024), zn_rescale in its code.
    """
    if not groups or not all(groups):
        raise ShapeError("expected groups of activation tensors, found none or an empty one")
    inside = mask.bool()
    means = [torch.stack([_scaled(tensor, inside) for tensor in group]).mean(0) for group in groups]
    return torch.stack(means).mean(0)


def learned_mask(
    ref_hidden: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    layer_weights: Tensor,
    layer_biases: Tensor,
    mixer: Tensor,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """Weights of tokens by a small network on the reference's hidden states.

        a    = relu(layer_weight . LayerNorm(hidden) + layer_bias)    in each layer
        mask = relu(sum over layers of mixer * a)

    Args:
        ref_hidden: [B, T, L, D], hidden states of the layers, without the embeddings, in the
            state that predicts token t. Detached.
        norm_weight: [D], of the one LayerNorm that all layers share; carries gradient, as the
            other parameters do.
        norm_bias: [D].
        layer_weights: [L, D].
        layer_biases: [L]; slightly above 0 at the start, or the mask may be born dead.
        mixer: [L], without bias.
        eps: Added to the variance.

    Returns:
        [B, T], >= 0 and not bounded above, also outside the response; without dropout.

    Raises:
        ShapeError: The parameters do not fit L and D.

    Source: SparsePO (Christopoulou et al., 2024), simple_all in its code; the paper averages over
        layers in place of the mixer.
    """
    layers, features = ref_hidden.shape[-2:]
    wanted = {
        "norm_weight": (norm_weight, (features,)),
        "norm_bias": (norm_bias, (features,)),
        "layer_weights": (layer_weights, (layers, features)),
        "layer_biases": (layer_biases, (layers,)),
        "mixer": (mixer, (layers,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise ShapeError(
                f"{name} is {list(tensor.shape)}, expected {list(shape)} for ref_hidden "
                f"{list(ref_hidden.shape)}"
            )
    hidden = F.layer_norm(ref_hidden.detach(), (features,), norm_weight, norm_bias, eps)
    activity = F.relu((hidden * layer_weights).sum(-1) + layer_biases)
    return F.relu((activity * mixer).sum(-1))


def mask_sparsity(weights: Tensor, mask: Tensor) -> Tensor:
    """Share of response tokens whose weight is exactly 0, pooled over the batch.

    Near 1, a learned mask is dead: the loss stays at log 2 and its gradient at 0.

    Args:
        weights: [B, T], of `learned_mask` or `activation_mask`.
        mask: [B, T], 1 on response tokens.

    Returns:
        A scalar in [0, 1], without gradient; 0 without any token.

    Source: SparsePO (Christopoulou et al., 2024).
    """
    require_same_shape(weights=weights, mask=mask)
    inside = mask.bool()
    zeros = ((weights == 0) & inside).sum()
    return zeros.to(at_least_float32(weights).dtype) / inside.sum().clamp(min=1)


class _WeightedSide(NamedTuple):
    """Sums over the response tokens of one side; [B] each, with gradient."""

    log_ratio: Tensor
    kl: Tensor
    reward_norm: Tensor
    kl_norm: Tensor


def _weighted_side(
    policy_token_logps: Tensor,
    ref_token_logps: Tensor,
    token_kl: Tensor,
    mask: Tensor,
    reward_weights: Tensor,
    kl_weights: Tensor,
    *,
    side: str,
) -> _WeightedSide:
    require_same_shape(**{
        f"policy_{side}_token_logps": policy_token_logps,
        f"ref_{side}_token_logps": ref_token_logps,
        f"{side}_token_kl": token_kl,
        f"{side}_mask": mask,
        f"{side}_reward_weights": reward_weights,
        f"{side}_kl_weights": kl_weights,
    })  # fmt: skip
    # zeros in both factors, or NaN in the padding of one would spoil the other's gradient
    log_ratios = zero_outside(policy_token_logps - ref_token_logps, mask)
    token_kl = zero_outside(token_kl, mask)
    reward_weights = zero_outside(reward_weights, mask)
    kl_weights = zero_outside(kl_weights, mask)
    return _WeightedSide(
        log_ratio=(reward_weights * log_ratios).sum(-1),
        kl=(kl_weights * token_kl).sum(-1),
        reward_norm=reward_weights.abs().sum(-1),
        kl_norm=kl_weights.abs().sum(-1),
    )


def _scaled(activations: Tensor, inside: Tensor) -> Tensor:
    means = at_least_float32(activations.detach()).mean(-1)
    require_same_shape(activations=means, mask=inside)
    lowest = means.where(inside, torch.inf).amin(-1, keepdim=True)
    highest = means.where(inside, -torch.inf).amax(-1, keepdim=True)
    scaled = torch.where(highest > lowest, (means - lowest) / (highest - lowest), 1.0)
    return zero_outside(scaled, inside)
