"""The golden numbers of rrpo."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives import (
    PairTerms,
    PreferenceLoss,
    dpo_loss,
    forward_kl,
    masked_sum,
    parse_objective,
    phrase_sums,
)
from mmalign.records.spans import differing_phrases
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    beta, alpha = case["beta"], case["alpha"]
    sides = ("chosen", "rejected")
    logits = {s: t64(case[f"policy_{s}_logits"], requires_grad=True) for s in sides}
    ref_logprobs = {s: t64(case[f"ref_{s}_logprobs"]) for s in sides}
    taken = {s: torch.tensor(case[f"{s}_ids"]).unsqueeze(-1) for s in sides}
    masks = {s: torch.tensor(case[f"{s}_mask"]) for s in sides}
    phrases = {s: torch.tensor(case[f"{s}_phrase_ids"]) for s in sides}
    policy = {s: logits[s].log_softmax(-1).gather(-1, taken[s]).squeeze(-1) for s in sides}
    ref = {s: ref_logprobs[s].gather(-1, taken[s]).squeeze(-1) for s in sides}

    def loss(phrase_ids: Mapping[str, Tensor], *, alpha: float) -> PreferenceLoss:
        terms = PairTerms(
            policy_chosen_token_logps=policy["chosen"],
            policy_rejected_token_logps=policy["rejected"],
            chosen_mask=masks["chosen"],
            rejected_mask=masks["rejected"],
            ref_chosen_token_logps=ref["chosen"],
            ref_rejected_token_logps=ref["rejected"],
            chosen_phrase_ids=phrase_ids["chosen"],
            rejected_phrase_ids=phrase_ids["rejected"],
            chosen_token_kl=forward_kl(logits["chosen"], ref_logprobs["chosen"]),
        )
        return parse_objective({"name": "rrpo", "beta": beta, "alpha": alpha}).loss(terms)

    whole = loss(phrases, alpha=alpha)
    rank_only = loss(phrases, alpha=0.0)
    full_span = loss(masks, alpha=alpha)
    dpo = dpo_loss(
        *(masked_sum(policy[s], masks[s]) for s in sides),
        *(masked_sum(ref[s], masks[s]) for s in sides),
        beta=beta,
    )
    num_phrases = int(max(phrases[s].max() for s in sides))
    phrase_rewards = {
        s: beta * phrase_sums(policy[s] - ref[s], phrases[s] * masks[s], num_phrases=num_phrases)
        for s in sides
    }
    logit_grads = torch.autograd.grad(
        whole.loss.mean(), [logits[s] for s in sides], retain_graph=True
    )
    token_grads = torch.autograd.grad(rank_only.loss.mean(), [policy[s] for s in sides])
    return {
        "phrase_rewards_chosen": phrase_rewards["chosen"],
        "phrase_rewards_rejected": phrase_rewards["rejected"],
        "chosen_rewards": whole.chosen_rewards,
        "rejected_rewards": whole.rejected_rewards,
        "reward_accuracies": (whole.chosen_rewards > whole.rejected_rewards).double(),
        "margin_u": whole.chosen_rewards - whole.rejected_rewards,
        "tkl": whole.metrics["kl"],
        "rank_loss": whole.metrics["rank_loss"],
        "loss_per_sample": whole.loss,
        "loss": whole.loss.mean(),
        "ablation_loss_full_span": full_span.loss.mean(),
        "ablation_loss_no_tkl": rank_only.loss.mean(),
        "dpo_loss_full_span_no_tkl": dpo.loss.mean(),
        "grad_policy_chosen_logits": logit_grads[0],
        "grad_policy_rejected_logits": logit_grads[1],
        "grad_policy_chosen_token_logps_rank_only": token_grads[0],
        "grad_policy_rejected_token_logps_rank_only": token_grads[1],
        **_diff(case, "diff", include_indels=False),
        **_diff(case, "diff_with_indels", include_indels=True),
    }


def _diff(case: Mapping[str, Any], prefix: str, *, include_indels: bool) -> dict[str, Any]:
    found = [
        differing_phrases(chosen, rejected, include_indels=include_indels)
        for chosen, rejected in zip(case["chosen_text_ids"], case["rejected_text_ids"], strict=True)
    ]
    return {
        f"{prefix}_chosen_phrase_ids": [ids.chosen for ids in found],
        f"{prefix}_rejected_phrase_ids": [ids.rejected for ids in found],
        f"{prefix}_num_phrases": [ids.num_phrases for ids in found],
    }
