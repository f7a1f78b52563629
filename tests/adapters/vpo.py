"""The golden numbers of vpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.optimal_value import (
    centred_reward,
    optimal_value,
    value_from_calibration,
)
from mmalign.diagnostics.tabular import tilted_policy
from mmalign.objectives import dpo_loss
from mmalign.objectives.online import vpo_calibration_loss
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    beta, alpha = case["beta"], case["alpha"]
    chosen = t64(case["policy_chosen_logps"], requires_grad=True)
    rejected = t64(case["policy_rejected_logps"], requires_grad=True)
    cal, ref_cal = t64(case["policy_cal_logps"], requires_grad=True), t64(case["ref_cal_logps"])
    dpo = dpo_loss(
        chosen, rejected, t64(case["ref_chosen_logps"]), t64(case["ref_rejected_logps"]), beta=beta
    )
    online_bias = vpo_calibration_loss(cal, ref_cal, beta=beta, alpha=alpha, mode="online")
    offline_bias = vpo_calibration_loss(cal, ref_cal, beta=beta, alpha=alpha, mode="offline")
    online = dpo.loss.mean() + online_bias.mean()
    offline = dpo.loss.mean() + offline_bias.mean()
    grads = torch.autograd.grad(online, (chosen, rejected, cal), retain_graph=True)
    return {
        "pref_losses": dpo.loss,
        "dpo_loss": dpo.loss.mean(),
        "cal_mean": (cal - ref_cal).mean(),
        "online_loss": online,
        "offline_loss": offline,
        "grad_chosen": grads[0],
        "grad_rejected": grads[1],
        "grad_cal_online": grads[2],
        "grad_cal_offline": torch.autograd.grad(offline, cal)[0],
        **_tabular(case),
    }


def _tabular(case: Mapping[str, Any]) -> dict[str, Any]:
    ref, cal, beta = t64(case["tab_ref"]).log(), t64(case["tab_cal"]), case["beta"]
    reward = centred_reward(t64(case["tab_reward"]), cal)
    policy = tilted_policy(ref, reward, beta=beta)
    return {
        "tab_value": optimal_value(ref, reward, beta=beta),
        "tab_value_from_cal": value_from_calibration(policy, ref, cal, beta=beta),
    }
