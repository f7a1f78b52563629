"""Losses that want more than pairs, labels or rankings give: for trainers that have it."""

from collections.abc import Mapping
from types import MappingProxyType

from mmalign.config import Method
from mmalign.objectives.actor_critic import clipped_value_loss
from mmalign.objectives.bandit import best_of_n_loss, reinforce_loss, reward_pairs_loss, rwr_loss
from mmalign.objectives.degree import spo_degree_loss
from mmalign.objectives.diffusion.margin import smoothed_diffusion_dpo_loss
from mmalign.objectives.diffusion.negative import self_npo_loss
from mmalign.objectives.diffusion.pairs import diffusion_dpo_loss
from mmalign.objectives.divergences import demonstration_sequence_loss, demonstration_token_loss
from mmalign.objectives.extrapolation import reward_margin_ipo_loss
from mmalign.objectives.nash import inpo_loss, online_ipo_loss, self_play_loss
from mmalign.objectives.online import online_kl_loss, vpo_calibration_loss
from mmalign.objectives.policy_gradient import (
    dapo_loss,
    dr_grpo_loss,
    grpo_loss,
    gspo_loss,
    ppo_policy_loss,
)
from mmalign.objectives.preference_model import preference_model_loss
from mmalign.objectives.prompt_pairs import mapl_loss
from mmalign.objectives.regularised import rdpo_rationale_loss, rorpo_rationale_loss
from mmalign.objectives.reward_models import (
    attribute_regression_loss,
    context_pair_loss,
    prompt_weight_loss,
)
from mmalign.objectives.simulpl import simulpl_loss, write_policy_loss
from mmalign.objectives.sparse import sparsepo_loss
from mmalign.objectives.stepwise import full_step_dpo_loss, process_reward_loss
from mmalign.objectives.themis import themis_loss, themis_pooled_loss
from mmalign.objectives.upo import upo_loss

__all__ = ["LOSSES"]

LOSSES: Mapping[str, Method] = MappingProxyType({
    # in the order of the alphabet
    "bandit_best_of_n": Method(
        best_of_n_loss, "on-policy-data", "Tajwar et al. (2024)",
        needs="scored answers of one prompt",
    ),
    "bandit_pairs": Method(
        reward_pairs_loss, "on-policy-data", "Tajwar et al. (2024)",
        needs="scored answers of one prompt, reference",
    ),
    "bandit_reinforce": Method(
        reinforce_loss, "on-policy-data", "Tajwar et al. (2024)",
        needs="scored answers of the policy, a baseline",
    ),
    "bandit_rwr": Method(
        rwr_loss, "on-policy-data", "Tajwar et al. (2024)",
        needs="scored answers of one prompt",
    ),
    "context_pairs": Method(
        context_pair_loss, "context-aware", "Pitis et al. (2024)",
        needs="rewards of both answers under both contexts",
    ),
    "dapo": Method(
        dapo_loss, "grpo", "DAPO (Yu et al., 2025), eq. 8",
        needs="groups of rollouts with rewards",
    ),
    "diffusion_dpo": Method(
        diffusion_dpo_loss, "diffusion-dpo", "Diffusion-DPO (Wallace et al., 2024)",
        needs="denoising errors of policy and reference",
    ),
    "dpa_attributes": Method(
        attribute_regression_loss, "dpa", "DPA (Wang et al., 2024)",
        needs="attribute heads and labels",
    ),
    "dr_grpo": Method(
        dr_grpo_loss, "grpo", "Dr.GRPO (Liu et al., 2025), sec. 3.2",
        needs="groups of rollouts with rewards",
    ),
    "egpo": Method(
        online_ipo_loss, "egpo", "EGPO (Zhou et al., 2025)",
        needs="two samples, win rates against an opponent",
    ),
    "full_step_dpo": Method(
        full_step_dpo_loss, "full-step-dpo", "Full-Step-DPO (Xu et al., 2025), sec. 4",
        needs="step ids and step rewards",
    ),
    "full_step_reward_model": Method(
        process_reward_loss, "full-step-dpo", "Full-Step-DPO (Xu et al., 2025)",
        needs="logits of a process reward model",
    ),
    "gpm": Method(
        preference_model_loss, "gpm", "GPM (Zhang et al., 2024)",
        needs="embeddings of both responses",
    ),
    "grpo": Method(
        grpo_loss, "grpo", "GRPO in DeepSeekMath (Shao et al., 2024), eq. 3",
        needs="groups of rollouts with rewards, reference",
    ),
    "gspo": Method(
        gspo_loss, "grpo", "GSPO (Zheng et al., 2025), eq. 5 to 7",
        needs="groups of rollouts with rewards",
    ),
    "hypo_online_kl": Method(
        online_kl_loss, "hypo", "HyPO (Song et al., 2024)",
        needs="fresh samples under policy and reference",
    ),
    "implicit_reward_sft": Method(
        demonstration_sequence_loss, "implicit-reward-sft",
        "Implicit-reward SFT (Wang et al., 2025)",
        needs="demonstrations under policy and base",
    ),
    "implicit_reward_sft_tokens": Method(
        demonstration_token_loss, "implicit-reward-sft", "Implicit-reward SFT (Wang et al., 2025)",
        needs="demonstrations under policy and base",
    ),
    "inpo": Method(
        inpo_loss, "inpo", "INPO (Zhang et al., 2024)",
        needs="log-probabilities of the iteration's first policy",
    ),
    "mapl": Method(
        mapl_loss, "mapl", "MAPL (Sun et al., 2025)",
        needs="one response under several prompts",
    ),
    "orchestrator": Method(
        prompt_weight_loss, "pro", "Preference Orchestrator (Liu et al., 2025)",
        needs="adapter logits and target weights",
    ),
    "ppo_policy": Method(
        ppo_policy_loss, "ppo", "PPO (Schulman et al., 2017), eq. 7",
        needs="rollouts with token advantages",
    ),
    "ppo_value": Method(
        clipped_value_loss, "ppo", "PPO's code (Dhariwal et al., 2017)",
        needs="values of a critic",
    ),
    "rdpo_rationale": Method(
        rdpo_rationale_loss, "rationales", "RDPO (Just et al., 2024)",
        needs="log-probabilities of a rationale",
    ),
    "reward_margin_ipo": Method(
        reward_margin_ipo_loss, "apo-accelerated", "APO (He et al., 2024)",
        needs="a reference of this iteration",
    ),
    "rorpo_rationale": Method(
        rorpo_rationale_loss, "rationales", "RORPO (Just et al., 2024)",
        needs="log-probabilities of a rationale",
    ),
    "self_npo": Method(
        self_npo_loss, "self-npo", "Self-NPO (Wang et al., 2026)",
        needs="noise predictions on truncated rollouts",
    ),
    "simulpl": Method(
        simulpl_loss, "simulpl", "SimulPL (Yu et al., 2025), stage 2",
        needs="log-probabilities prefix to prefix, latencies",
    ),
    "simulpl_write_policy": Method(
        write_policy_loss, "simulpl", "SimulPL (Yu et al., 2025)",
        needs="logits of reading and writing",
    ),
    "smpo_diffusion": Method(
        smoothed_diffusion_dpo_loss, "smpo-diffusion", "SmPO-Diffusion (Lu et al., 2025)",
        needs="denoising errors and soft labels",
    ),
    "sparsepo": Method(
        sparsepo_loss, "sparsepo", "SparsePO (Christopoulou et al., 2024)",
        needs="token masks, KL of both sides",
    ),
    "spo_degree": Method(
        spo_degree_loss, "spo-degree", "SPO, degrees (Li et al., 2024)",
        needs="features of graded copies, a head",
    ),
    "spo_selfplay": Method(
        self_play_loss, "spo-selfplay", "SPO (Swamy et al., 2024)",
        needs="samples of one prompt with win rates",
    ),
    "themis": Method(
        themis_loss, "themis", "Themis (Li et al., 2023), sec. 3.2",
        needs="rewards and token segments of both traces",
    ),
    "themis_pooled": Method(
        themis_pooled_loss, "themis", "Themis's code",
        needs="rewards and token segments of both traces",
    ),
    "upo": Method(
        upo_loss, "upo", "UPO (Wang et al., 2024)",
        needs="label smoothing of each pair",
    ),
    "vpo_calibration": Method(
        vpo_calibration_loss, "vpo", "VPO (Cen et al., 2024)",
        needs="calibration answers under policy and reference",
    ),
})  # fmt: skip
