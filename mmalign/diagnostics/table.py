"""The diagnostics by name; adding one is a function and a line here."""

from collections.abc import Mapping
from types import MappingProxyType

from mmalign.config import Method
from mmalign.diagnostics.contexts import context_accuracy, context_errors, marginal_preferences
from mmalign.diagnostics.games import (
    duality_gap,
    exploitability,
    extragradient_step,
    has_preference_cycle,
    hedge_average,
    mirror_descent_step,
    population_ipo_loss,
)
from mmalign.diagnostics.iterations import accelerated_policies, accelerated_rewards
from mmalign.diagnostics.optimal_value import optimal_value, value_from_calibration
from mmalign.diagnostics.populations import fit_populations, maxmin_policy, worst_group
from mmalign.diagnostics.ranking import (
    exact_list_match,
    flip_difficulty,
    ipo_flip_losses,
    rank_transitions,
    ranked_right,
    ranking_gap,
)
from mmalign.diagnostics.tabular import tilted_policy
from mmalign.diagnostics.three_d import dispersion, dpo_gradient_ratios, three_d_flags
from mmalign.objectives.diffusion.captions import caption_separation
from mmalign.objectives.diffusion.pairs import implicit_accuracy
from mmalign.objectives.schedule import mean_margin
from mmalign.objectives.sparse import mask_sparsity
from mmalign.rewards.themis import ranking_accuracy_of_rewards
from mmalign.rewards.tool_efficiency import tool_productivity

__all__ = ["DIAGNOSTICS"]

DIAGNOSTICS: Mapping[str, Method] = MappingProxyType({
    # in the order of the alphabet
    "accelerated_policies": Method(
        accelerated_policies, "apo-accelerated", "APO (He et al., 2024)"
    ),
    "accelerated_rewards": Method(accelerated_rewards, "apo-accelerated", "APO (He et al., 2024)"),
    "context_accuracy": Method(context_accuracy, "context-aware", "Pitis et al. (2024)"),
    "context_errors": Method(context_errors, "context-aware", "Pitis et al. (2024)"),
    "context_marginals": Method(marginal_preferences, "context-aware", "Pitis et al. (2024)"),
    "dcpo_caption_separation": Method(caption_separation, "dcpo", "DCPO (Saeidi et al., 2025)"),
    "dispersion": Method(dispersion, "three-d-properties", "3D-Properties (Yan et al., 2024)"),
    "dpo_gradient_ratios": Method(
        dpo_gradient_ratios, "three-d-properties", "3D-Properties (Yan et al., 2024)"
    ),
    "duality_gap": Method(duality_gap, "egpo", "EGPO (Zhou et al., 2025)"),
    "exploitability": Method(exploitability, "spo-selfplay", "SPO (Swamy et al., 2024)"),
    "extragradient_step": Method(extragradient_step, "egpo", "EGPO (Zhou et al., 2025)"),
    "flip_difficulty": Method(flip_difficulty, "ranking-accuracy", "Chen et al. (2024)"),
    "flip_difficulty_ipo": Method(ipo_flip_losses, "ranking-accuracy", "Chen et al. (2024)"),
    "hedge_average": Method(hedge_average, "spo-selfplay", "SPO (Swamy et al., 2024)"),
    "implicit_accuracy": Method(
        implicit_accuracy, "diffusion-dpo", "Diffusion-DPO (Wallace et al., 2024)"
    ),
    "list_match": Method(exact_list_match, "ranking-accuracy", "Chen et al. (2024)"),
    "mask_sparsity": Method(mask_sparsity, "sparsepo", "SparsePO (Christopoulou et al., 2024)"),
    "maxmin_groups": Method(
        fit_populations, "maxmin-rlhf", "MaxMin-RLHF (Chakraborty et al., 2024)"
    ),
    "maxmin_policy": Method(
        maxmin_policy, "maxmin-rlhf", "MaxMin-RLHF (Chakraborty et al., 2024)"
    ),
    "maxmin_worst_group": Method(
        worst_group, "maxmin-rlhf", "MaxMin-RLHF (Chakraborty et al., 2024)"
    ),
    "mean_margin": Method(mean_margin, "sdpo", "sDPO (Kim et al., 2024)"),
    "mirror_descent_step": Method(mirror_descent_step, "inpo", "INPO (Zhang et al., 2024)"),
    "optimal_value": Method(optimal_value, "vpo", "VPO (Cen et al., 2024)"),
    "population_ipo_loss": Method(population_ipo_loss, "egpo", "EGPO (Zhou et al., 2025)"),
    "preference_cycle": Method(has_preference_cycle, "gpm", "GPM (Zhang et al., 2024)"),
    "ranking_accuracy": Method(ranked_right, "ranking-accuracy", "Chen et al. (2024)"),
    "ranking_gap": Method(ranking_gap, "ranking-accuracy", "Chen et al. (2024)"),
    "ranking_transitions": Method(rank_transitions, "ranking-accuracy", "Chen et al. (2024)"),
    "reward_ranking_accuracy": Method(
        ranking_accuracy_of_rewards, "themis", "Themis (Li et al., 2023)"
    ),
    "three_d_flags": Method(
        three_d_flags, "three-d-properties", "3D-Properties (Yan et al., 2024)"
    ),
    "tilted_policy": Method(tilted_policy, "sacpo", "DPO (Rafailov et al., 2023), eq. 4"),
    "tool_productivity": Method(tool_productivity, "otc", "OTC (Wang et al., 2025)"),
    "value_from_calibration": Method(value_from_calibration, "vpo", "VPO (Cen et al., 2024)"),
})  # fmt: skip
