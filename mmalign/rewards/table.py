"""The rewards by name; adding one is a function and a line here."""

from collections.abc import Mapping
from types import MappingProxyType

from mmalign.config import Method
from mmalign.rewards.multi_objective import (
    orchestrated_rewards,
    scalarised_rewards,
    target_weights,
)
from mmalign.rewards.overlong import overlong_penalty
from mmalign.rewards.self_evaluation import fast_step_reward, self_evaluation_reward
from mmalign.rewards.tool_efficiency import otc_grpo_reward, otc_ppo_reward
from mmalign.rewards.vision_r1 import vision_r1_release_reward, vision_r1_reward
from mmalign.rewards.win_rates import queue_win_rates, win_rates

__all__ = ["REWARDS"]

REWARDS: Mapping[str, Method] = MappingProxyType({
    # in the order of the alphabet
    "direction": Method(scalarised_rewards, "dpa", "DPA (Wang et al., 2024)"),
    "itool_fast_step": Method(fast_step_reward, "itool", "iTool (Zeng et al., 2025)"),
    "itool_self_evaluation": Method(self_evaluation_reward, "itool", "iTool (Zeng et al., 2025)"),
    "orchestrated": Method(
        orchestrated_rewards, "pro", "Preference Orchestrator (Liu et al., 2025)"
    ),
    "orchestrator_targets": Method(
        target_weights, "pro", "Preference Orchestrator (Liu et al., 2025)"
    ),
    "otc_grpo": Method(otc_grpo_reward, "otc", "OTC (Wang et al., 2025)"),
    "otc_ppo": Method(otc_ppo_reward, "otc", "OTC (Wang et al., 2025)"),
    "overlong_penalty": Method(overlong_penalty, "grpo", "DAPO (Yu et al., 2025)"),
    "queue_win_rates": Method(queue_win_rates, "spo-selfplay", "SPO (Swamy et al., 2024)"),
    "vision_r1": Method(vision_r1_reward, "vision-r1", "Vision-R1 (Zhan et al., 2025)"),
    "vision_r1_release": Method(
        vision_r1_release_reward, "vision-r1", "Vision-R1 (Zhan et al., 2025), its code"
    ),
    "win_rates": Method(win_rates, "spo-selfplay", "SPO (Swamy et al., 2024)"),
})  # fmt: skip
