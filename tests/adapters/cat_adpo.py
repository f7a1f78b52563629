"""The golden numbers of cat-adpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import PairTerms, dpo_loss, masked_sum, parse_objective
from mmalign.selection.ambiguity import JudgedAnswer, choose_ambiguous
from mmalign.testing.golden import t64

SIDES = ("chosen", "rejected")


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    return _loss(case) | _selection(case)


def _loss(case: Mapping[str, Any]) -> dict[str, Any]:
    policy = {side: t64(case[f"policy_{side}_token_logps"], requires_grad=True) for side in SIDES}
    ref = {side: t64(case[f"ref_{side}_token_logps"]) for side in SIDES}
    masks = {side: t64(case[f"{side}_mask"]) for side in SIDES}
    terms = PairTerms(
        policy_chosen_token_logps=policy["chosen"],
        policy_rejected_token_logps=policy["rejected"],
        chosen_mask=masks["chosen"],
        rejected_mask=masks["rejected"],
        ref_chosen_token_logps=ref["chosen"],
        ref_rejected_token_logps=ref["rejected"],
    )
    section = {"name": "cat_adpo", "beta": case["beta"], "lm_coef": case["lm_coef"]}
    result = parse_objective(section).loss(terms)
    grads = torch.autograd.grad(result.loss.mean(), [policy[side] for side in SIDES])
    swapped = dpo_loss(
        *(masked_sum(policy[side], masks[side]) for side in reversed(SIDES)),
        *(masked_sum(ref[side], masks[side]) for side in reversed(SIDES)),
        beta=case["beta"],
    )
    return {
        "policy_chosen_logps": masked_sum(policy["chosen"], masks["chosen"]),
        "policy_rejected_logps": masked_sum(policy["rejected"], masks["rejected"]),
        "chosen_rewards": result.chosen_rewards,
        "rejected_rewards": result.rejected_rewards,
        "margins": result.chosen_rewards - result.rejected_rewards,
        "reward_accuracies": (result.chosen_rewards > result.rejected_rewards).double(),
        "dpo_loss_per_sample": result.metrics["rank_loss"],
        "dpo_loss": result.metrics["rank_loss"].mean(),
        "lm_loss": result.metrics["nll"].mean(),
        "loss": result.loss.mean(),
        "dpo_loss_if_roles_swapped": swapped.loss.mean(),
        "grad_policy_chosen_token_logps": grads[0],
        "grad_policy_rejected_token_logps": grads[1],
    }


def _selection(case: Mapping[str, Any]) -> dict[str, Any]:
    questions = [
        [JudgedAnswer(**response) for response in question["responses"]]
        for question in case["questions"]
    ]
    choices = [
        choose_ambiguous(answers, has_chosen=question["has_gold"], threshold=case["tau_amb"])
        for answers, question in zip(questions, case["questions"], strict=True)
    ]
    return {
        "ambiguity": [[answer.ambiguity for answer in answers] for answers in questions],
        "rejected_index": [
            -1 if choice.rejected is None else choice.rejected for choice in choices
        ],
        "pair_kept": [choice.kept for choice in choices],
    }
