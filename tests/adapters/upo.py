"""The golden numbers of upo."""

from collections.abc import Mapping
from typing import Any, Literal

import torch

from mmalign.objectives.upo import upo_loss
from mmalign.selection.uncertainty import (
    bald_scores,
    certainty_weights,
    hard_sampling_probs,
    majority_keeps,
    prescreened_pairs,
    top_bottom_pairs,
    uncertainty_label_smoothing,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    bald = bald_scores(case["mc_probs"])
    return {
        "bald": bald,
        "P": certainty_weights(bald),
        "P_exponent": certainty_weights(bald, exponent=case["mu"]),
        "majority_keep": majority_keeps(case["mc_probs"]),
        "easy_prob": certainty_weights(bald),
        "hard_prob": hard_sampling_probs(bald),
        "prescreen_pairs": prescreened_pairs(case["rewards"]),
        "code_pairs": top_bottom_pairs(case["rewards"]),
        **_loss(case, "printed"),
        **_loss(case, "safe"),
    }


def _loss(case: Mapping[str, Any], form: Literal["safe", "printed"]) -> dict[str, Any]:
    alpha = uncertainty_label_smoothing(bald_scores(case["mc_probs"]), form=form)
    policy = [
        t64(case[f"policy_{side}_logps"], requires_grad=True) for side in ("chosen", "rejected")
    ]
    ref = [t64(case["ref_chosen_logps"]), t64(case["ref_rejected_logps"])]
    result = upo_loss(
        *policy,
        *ref,
        beta=case["beta"],
        label_smoothing=torch.from_numpy(alpha),
        chosen_tokens=t64(case["chosen_len"]),
        nll_weight=case["nll_weight"],
    )
    loss = result.loss.mean()
    grads = torch.autograd.grad(loss, policy, retain_graph=True)
    return {
        f"alpha_{form}": alpha,
        f"losses_{form}": result.metrics["rank_loss"],
        f"loss_{form}": loss,
        f"grad_chosen_{form}": grads[0],
        f"grad_rejected_{form}": grads[1],
    }
