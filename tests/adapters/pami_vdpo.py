"""The golden numbers of pami-vdpo."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives.contrast import altered_clip_loss
from mmalign.objectives.sums import masked_sum
from mmalign.objectives.terms import PreferenceLoss
from mmalign.selection.clip_choice import choose_clip
from mmalign.selection.clips import clip_closeness, response_divergence
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    mask = t64(case["response_mask"])
    closeness = clip_closeness(t64(case["feat_orig"]), t64(case["feat_aug"]))
    divergence = response_divergence(
        t64(case["score_orig_logprobs"]), t64(case["score_aug_logprobs"]), mask
    )
    settings = {name: case[name] for name in ("tau_close", "tau_far", "gamma")}
    choices = [
        choose_clip(close, far, **settings)
        for close, far in zip(closeness.tolist(), divergence.tolist(), strict=True)
    ]
    selected = torch.tensor([choice.selected for choice in choices])
    weights = t64([choice.weight for choice in choices])
    policy = t64(case["policy_orig_token_logps"], requires_grad=True)
    policy_altered = t64(case["policy_aug_token_logps"], requires_grad=True)
    altered_mask = mask.unsqueeze(1).expand_as(policy_altered)

    def loss(selected: Tensor, weights: Tensor) -> PreferenceLoss:
        return altered_clip_loss(
            masked_sum(policy, mask),
            masked_sum(policy_altered, altered_mask),
            masked_sum(t64(case["ref_orig_token_logps"]), mask),
            masked_sum(t64(case["ref_aug_token_logps"]), altered_mask),
            selected,
            weights,
            beta=case["beta"],
        )

    result = loss(selected, weights)
    first = loss(torch.zeros_like(selected), torch.ones_like(weights))
    grads = torch.autograd.grad(result.loss.mean(), (policy, policy_altered))
    return {
        "closeness": closeness,
        "kept": [[int(kept) for kept in choice.kept] for choice in choices],
        "fallback_to_closest": [choice.fallback for choice in choices],
        "js_divergence": divergence,
        "selected_index": selected,
        "weights": weights,
        "chosen_rewards": result.chosen_rewards,
        "rejected_rewards": result.rejected_rewards,
        "logits": result.chosen_rewards - result.rejected_rewards,
        "loss_per_sample": result.metrics["rank_loss"],
        "loss": result.loss.mean(),
        "vdpo_loss_selected_unweighted": result.metrics["rank_loss"].mean(),
        "vdpo_loss_first_candidate": first.loss.mean(),
        "grad_policy_orig_token_logps": grads[0],
        "grad_policy_aug_token_logps": grads[1],
    }
