"""The selection rules by name; adding one is a function and a line here."""

from collections.abc import Mapping
from types import MappingProxyType

from mmalign.config import Method
from mmalign.objectives.diffusion.captions import caption_fields
from mmalign.objectives.diffusion.margin import smoothed_preference
from mmalign.objectives.diffusion.pairs import order_by_label
from mmalign.objectives.diffusion.personal import personal_shots
from mmalign.objectives.groups import mixed_groups
from mmalign.objectives.schedule import easy_to_hard_order
from mmalign.objectives.semantic import semantic_weights
from mmalign.selection.ambiguity import choose_ambiguous
from mmalign.selection.clip_choice import choose_clip
from mmalign.selection.curriculum import curriculum_order
from mmalign.selection.deficiency import select_deficient, step_preference
from mmalign.selection.degrees import removed_phrases
from mmalign.selection.directions import choose_along, neighbours
from mmalign.selection.few_shot import pack_few_shot
from mmalign.selection.graph_edits import nearest, random_edits
from mmalign.selection.instructions import contrast_prompts, distinguishing_instructions
from mmalign.selection.minimax import minimax_pair
from mmalign.selection.rejection_sampling import (
    first_round_pairs,
    rejection_sample,
    tournament_pairs,
)
from mmalign.selection.restarts import branch_points, restart_temperatures
from mmalign.selection.reward_programs import best_and_worst_run
from mmalign.selection.segments import choose_segments
from mmalign.selection.tool_pairs import tool_pairs
from mmalign.selection.tournament import best_and_worst, knockout_tournament, score_targets
from mmalign.selection.tree_pairs import complete_pairs, sibling_pair, step_pairs
from mmalign.selection.two_metrics import two_metric_pairs
from mmalign.selection.uncertainty import (
    majority_keeps,
    prescreened_pairs,
    top_bottom_pairs,
)

__all__ = ["SELECTION_RULES"]

SELECTION_RULES: Mapping[str, Method] = MappingProxyType({
    # in the order of the alphabet
    "alphallm_cpl_complete_pairs": Method(
        complete_pairs, "alphallm-cpl", "AlphaLLM-CPL (Wang et al., 2024)"
    ),
    "alphallm_cpl_order": Method(
        curriculum_order, "alphallm-cpl", "AlphaLLM-CPL (Wang et al., 2024)"
    ),
    "alphallm_cpl_step_pairs": Method(
        step_pairs, "alphallm-cpl", "AlphaLLM-CPL (Wang et al., 2024)"
    ),
    "best_along_direction": Method(choose_along, "dpa", "DPA (Wang et al., 2024)"),
    "best_and_worst": Method(best_and_worst, "inpo", "INPO (Zhang et al., 2024)"),
    "cat_adpo_answers": Method(choose_ambiguous, "cat-adpo", "ADPO of CAT (Ye et al., 2024)"),
    "dcpo_captions": Method(caption_fields, "dcpo", "DCPO (Saeidi et al., 2025)"),
    "diffusion_dpo_order": Method(
        order_by_label, "diffusion-dpo", "Diffusion-DPO (Wallace et al., 2024)"
    ),
    "dstc_minimax_pair": Method(minimax_pair, "dstc", "DSTC (Liu et al., 2024)", status="proven"),
    "easy_to_hard_order": Method(easy_to_hard_order, "sdpo", "sDPO (Kim et al., 2024)"),
    "fspo_packing": Method(pack_few_shot, "fspo", "FSPO (Singh et al., 2025)"),
    "icpl_best_and_worst": Method(best_and_worst_run, "icpl", "ICPL (Yu et al., 2024)"),
    "itool_deficient_samples": Method(select_deficient, "itool", "iTool (Zeng et al., 2025)"),
    "itool_step_preference": Method(step_preference, "itool", "iTool (Zeng et al., 2025)"),
    "knockout_tournament": Method(knockout_tournament, "inpo", "INPO (Zhang et al., 2024)"),
    "longdpo_segments": Method(choose_segments, "longdpo", "LongDPO (Ping et al., 2025)"),
    "mapl_instructions": Method(distinguishing_instructions, "mapl", "MAPL (Sun et al., 2025)"),
    "mapl_prompts": Method(contrast_prompts, "mapl", "MAPL (Sun et al., 2025)"),
    "mcts_dpo_sibling_pair": Method(sibling_pair, "mcts-dpo", "MCTS-DPO (Xie et al., 2024)"),
    "mixed_groups": Method(mixed_groups, "grpo", "DAPO (Yu et al., 2025)"),
    "otc_tool_pairs": Method(tool_pairs, "otc", "OTC (Wang et al., 2025)"),
    "pami_vdpo_clips": Method(choose_clip, "pami-vdpo", "PaMi-VDPO (Ding et al., 2025)"),
    "ppd_shots": Method(personal_shots, "ppd", "PPD (Dang et al., 2025)"),
    "rps_neighbours": Method(neighbours, "rps", "RPS (Mao et al., 2026)"),
    "rso_first_round_pairs": Method(first_round_pairs, "rso", "RSO (Liu et al., 2023)"),
    "rso_rejection_sample": Method(rejection_sample, "rso", "RSO (Liu et al., 2023)"),
    "rso_tournament_pairs": Method(tournament_pairs, "rso", "RSO (Liu et al., 2023)"),
    "scdpo_branches": Method(branch_points, "scdpo", "SCDPO (Lu et al., 2024)"),
    "scdpo_temperatures": Method(restart_temperatures, "scdpo", "SCDPO (Lu et al., 2024)"),
    "score_targets": Method(score_targets, "gpm", "GPO (Zhang et al., 2024)"),
    "sem_dpo_weights": Method(semantic_weights, "sem-dpo", "Sem-DPO (Mohamed et al., 2025)"),
    "smpo_diffusion_preference": Method(
        smoothed_preference, "smpo-diffusion", "SmPO-Diffusion (Lu et al., 2025)"
    ),
    "spo_degree_removals": Method(
        removed_phrases, "spo-degree", "SPO, degrees (Li et al., 2024)"
    ),
    "two_metric_pairs": Method(two_metric_pairs, "sacpo", "SACPO (Wachi et al., 2024)"),
    "upo_majority": Method(majority_keeps, "upo", "UPO's code (Wang et al., 2024)"),
    "upo_prescreened_pairs": Method(prescreened_pairs, "upo", "UPO (Wang et al., 2024)"),
    "upo_top_bottom_pairs": Method(top_bottom_pairs, "upo", "UPO's code (Wang et al., 2024)"),
    "vpg_graph_edits": Method(random_edits, "vpg", "VPG (Kang et al., 2025)"),
    "vpg_neighbours": Method(nearest, "vpg", "VPG (Kang et al., 2025)"),
})  # fmt: skip
