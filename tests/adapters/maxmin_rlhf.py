"""The golden numbers of maxmin-rlhf."""

from collections.abc import Mapping
from typing import Any

from mmalign.diagnostics.populations import fit_populations, maxmin_policy, worst_group
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    pairs = t64(case["users"])
    found = fit_populations(
        pairs.flatten(0, 1),
        [user for user in range(pairs.shape[0]) for _ in range(pairs.shape[1])],
        t64(case["theta0"]),
        learning_rate=case["lr"],
        steps_per_round=case["m_steps"],
        max_rounds=case["max_iters"],
    )
    worst = worst_group(t64(case["sample_rewards"]))
    policy = maxmin_policy(t64(case["tab_ref"]).log(), t64(case["tab_rewards"]), beta=case["beta"])
    return {
        "theta": found.weights,
        "assignment": found.assignment,
        "history": found.history,
        "log_likelihood": found.log_likelihoods,
        "group_utilities": worst.utilities,
        "worst_group": worst.group,
        "step_reward": worst.rewards,
        "maxmin_weight": policy.weight,
        "maxmin_policy": policy.logprobs.exp(),
        "maxmin_values": policy.values,
    }
