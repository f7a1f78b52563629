"""The objectives by name; adding one is a function, a settings class and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from mmalign.config import Config, validate
from mmalign.errors import ConfigError, ShapeError
from mmalign.objectives.absolute import ASFTConfig, asft_loss
from mmalign.objectives.configs import (
    BetaConfig,
    CDPOConfig,
    IPOConfig,
    ORPOConfig,
    RRPOConfig,
    SimPOConfig,
    SLiCConfig,
)
from mmalign.objectives.contrast import (
    CatADPOConfig,
    PaMiVDPOObjective,
    cat_adpo_loss,
    pami_vdpo_loss,
)
from mmalign.objectives.flex_dpo import FlexDPOConfig, flex_dpo_loss
from mmalign.objectives.listwise import ListLoss, TPOTreeConfig, tpo_tree_loss
from mmalign.objectives.nash import SPPOConfig, gpo_loss, sppo_hard_loss, sppo_loss
from mmalign.objectives.online import OfflineVPOConfig, offline_vpo_loss
from mmalign.objectives.pairwise import (
    cdpo_loss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    orpo_loss,
    simpo_loss,
    slic_loss,
)
from mmalign.objectives.policy_gradient import (
    PolicyLoss,
    dapo_loss,
    dr_grpo_loss,
    grpo_loss,
    gspo_loss,
    ppo_policy_loss,
)
from mmalign.objectives.regularised import (
    CPOConfig,
    SFTRegularisedConfig,
    cpo_loss,
    rpo_sft_regularised_loss,
)
from mmalign.objectives.robust import RobustDPOConfig, robust_dpo_loss
from mmalign.objectives.rollouts import (
    OF_GROUP_TRAINER,
    OF_PPO_TRAINER,
    DAPOConfig,
    DrGRPOConfig,
    GRPOConfig,
    GSPOConfig,
    PPOConfig,
    RLOOConfig,
    read_policy_terms,
    read_policy_terms_with_length,
    read_policy_terms_with_reference,
    rloo_loss,
)
from mmalign.objectives.rrpo import rrpo_loss
from mmalign.objectives.scaled_reference import ScaledReferenceConfig, dpo_scaled_reference_loss
from mmalign.objectives.semantic import sem_dpo_loss
from mmalign.objectives.sums import masked_mean, masked_sum
from mmalign.objectives.terms import (
    ListTerms,
    Need,
    PairTerms,
    PreferenceLoss,
    RolloutTerms,
    UnpairedTerms,
)
from mmalign.objectives.unpaired import KTOConfig, UnpairedLoss, kto_loss

__all__ = ["OBJECTIVES", "ChosenObjective", "Loss", "Objective", "Terms", "Unit", "parse_objective"]

Unit = Literal["pair", "response", "list", "rollout"]
Terms = PairTerms | UnpairedTerms | ListTerms | RolloutTerms
"""Of a pair, a response, a list, a rollout."""
Loss = PreferenceLoss | UnpairedLoss | ListLoss | PolicyLoss
"""Of a pair, a response, a list, a rollout."""
_UNITS: dict[type[Terms], Unit] = {
    PairTerms: "pair",
    UnpairedTerms: "response",
    ListTerms: "list",
    RolloutTerms: "rollout",
}


@dataclass(frozen=True)
class Objective:
    """A pure function and what a trainer must know to call it."""

    fn: Callable[..., Loss]
    """Takes the tensors that `reads` gives and the fields of `config`, all by name."""
    reads: Callable[[Any], dict[str, Any]]
    """Which tensors of a batch the function takes."""
    config: type[Config]
    needs: frozenset[Need]
    """What the trainer must compute; it computes no more."""
    family: str
    """Slug of the methods that share a golden file."""
    source: str
    status: Literal["tested", "proven"] = "tested"
    """`tested`: agrees with the golden numbers; `proven`: docs/proofs holds its table."""
    unit: Unit = "pair"
    """What the trainer averages the loss over; decides which terms `reads` is given."""
    of_trainer: frozenset[str] = frozenset()
    """Fields of `config` that the trainer reads and the function does not take."""


class ChosenObjective(NamedTuple):
    """A recipe's objective with its settings."""

    name: str
    objective: Objective
    config: Config

    @overload
    def loss(self, terms: PairTerms) -> PreferenceLoss: ...

    @overload
    def loss(self, terms: UnpairedTerms) -> UnpairedLoss: ...

    @overload
    def loss(self, terms: ListTerms) -> ListLoss: ...

    @overload
    def loss(self, terms: RolloutTerms) -> PolicyLoss: ...

    def loss(self, terms: Terms) -> Loss:
        """The loss of a batch under these settings, of the kind that its terms ask for.

        Raises:
            ShapeError: The batch lacks something that the objective needs, or is of another unit
                than the objective counts.
        """
        unit = _UNITS[type(terms)]
        if unit != self.objective.unit:
            raise ShapeError(
                f"{self.name} counts a {self.objective.unit}, the batch holds a {unit} each"
            )
        settings = self.config.model_dump(exclude=set(self.objective.of_trainer))
        return self.objective.fn(**self.objective.reads(terms), **settings)


def parse_objective(section: Mapping[str, Any], where: str = "objective") -> ChosenObjective:
    """The objective that a recipe's section `{name: rrpo, beta: 0.1}` asks for.

    Args:
        section: The name and, beside it, any of the objective's settings.
        where: Place of the section, for the message.

    Raises:
        ConfigError: No name, an unknown one, an unknown setting or a value out of range.
    """
    settings = dict(section)
    name = settings.pop("name", None)
    if name not in OBJECTIVES:
        near = get_close_matches(str(name), OBJECTIVES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known ones: {', '.join(OBJECTIVES)}"
        raise ConfigError(f"{where}.name: no objective is called {name!r}; {hint}")
    objective = OBJECTIVES[name]
    return ChosenObjective(name, objective, validate(objective.config, settings, where))


def _logps(
    terms: PairTerms, reduce: Callable[[Tensor, Tensor], Tensor], *models: str
) -> dict[str, Tensor]:
    return {
        f"{model}_{side}_logps": reduce(
            terms.get(f"{model}_{side}_token_logps"), terms.get(f"{side}_mask")
        )
        for model in models
        for side in ("chosen", "rejected")
    }


def _all_sums(terms: PairTerms) -> dict[str, Tensor]:
    return _logps(terms, masked_sum, "policy", "ref")


def _all_means(terms: PairTerms) -> dict[str, Tensor]:
    return _logps(terms, masked_mean, "policy", "ref")


def _policy_sums(terms: PairTerms) -> dict[str, Tensor]:
    return _logps(terms, masked_sum, "policy")


def _policy_means(terms: PairTerms) -> dict[str, Tensor]:
    means = _logps(terms, masked_mean, "policy")
    return {name.replace("_logps", "_mean_logps"): values for name, values in means.items()}


def _sums_without_ref(terms: PairTerms) -> dict[str, Tensor]:
    policy = _policy_sums(terms)
    zeros = torch.zeros_like(policy["policy_chosen_logps"])
    return policy | {"ref_chosen_logps": zeros, "ref_rejected_logps": zeros}


def _sums_and_scores(chosen: str, rejected: str) -> Callable[[PairTerms], dict[str, Tensor]]:
    """All sums, and the records' scores under the names that the function gives them."""
    return lambda terms: (
        _all_sums(terms)
        | {
            chosen: terms.get("chosen_scores"),
            rejected: terms.get("rejected_scores"),
        }
    )


def _whole_responses(terms: ListTerms) -> dict[str, Tensor]:
    """A list whose responses are one step each."""
    return {
        "policy_step_logps": terms.get("policy_logps").unsqueeze(-1),
        "ref_step_logps": terms.get("ref_logps").unsqueeze(-1),
        "values": terms.get("scores"),
    }


def _fields(*names: str) -> Callable[[Terms], dict[str, Tensor]]:
    """Reads these fields of the terms as they are."""
    return lambda terms: {name: terms.get(name) for name in names}


_BOTH: frozenset[Need] = frozenset({"policy_logps", "ref_logps"})
_POLICY: frozenset[Need] = frozenset({"policy_logps"})

OBJECTIVES: Mapping[str, Objective] = MappingProxyType({
    "dpo": Objective(
        dpo_loss, _all_sums, BetaConfig, _BOTH, "dpo", "DPO (Rafailov et al., 2023)", "proven"
    ),
    "dpo_reference_free": Objective(
        dpo_loss, _sums_without_ref, BetaConfig, _POLICY, "dpo", "DPO's code, reference_free"
    ),
    "cdpo": Objective(
        cdpo_loss, _all_sums, CDPOConfig, _BOTH, "dpo", "cDPO (Mitchell, 2023)"
    ),
    "ipo": Objective(ipo_loss, _all_sums, IPOConfig, _BOTH, "dpo", "IPO (Azar et al., 2023)"),
    "ipo_norm": Objective(
        ipo_loss, _all_means, IPOConfig, _BOTH | {"token_logps"}, "dpo",
        "IPO (Azar et al., 2023), per token as in its published results",
    ),
    "hinge": Objective(hinge_loss, _all_sums, BetaConfig, _BOTH, "dpo", "RSO (Liu et al., 2023)"),
    "hinge_reference_free": Objective(
        hinge_loss, _sums_without_ref, BetaConfig, _POLICY, "rso", "RSO (Liu et al., 2023)"
    ),
    "slic": Objective(
        slic_loss, _policy_sums, SLiCConfig, _POLICY, "dpo", "SLiC-HF (Zhao et al., 2023)"
    ),
    "simpo": Objective(
        simpo_loss, _policy_means, SimPOConfig, _POLICY | {"token_logps"}, "dpo",
        "SimPO (Meng et al., 2024)",
    ),
    "orpo": Objective(
        orpo_loss,
        _fields(
            "policy_chosen_token_logps", "policy_rejected_token_logps",
            "chosen_mask", "rejected_mask", "chosen_tokens_per_pair",
        ),
        ORPOConfig, _POLICY | {"token_logps", "chosen_tokens_per_pair"}, "dpo",
        "ORPO (Hong et al., 2024)",
    ),
    "rrpo": Objective(
        rrpo_loss,
        _fields(
            "policy_chosen_token_logps", "policy_rejected_token_logps",
            "ref_chosen_token_logps", "ref_rejected_token_logps",
            "chosen_mask", "rejected_mask",
            "chosen_phrase_ids", "rejected_phrase_ids", "chosen_token_kl",
        ),
        RRPOConfig, _BOTH | {"token_logps", "spans", "token_kl"}, "rrpo",
        "RRPO (Sarkar & Etemad, 2025)", "proven",
    ),
    "robust_dpo": Objective(
        robust_dpo_loss, _all_sums, RobustDPOConfig, _BOTH, "rdpo",
        "rDPO (Ray Chowdhury et al., 2024)",
    ),
    "rpo_sft_regularised": Objective(
        rpo_sft_regularised_loss,
        _fields(
            "policy_chosen_token_logps", "policy_rejected_token_logps",
            "ref_chosen_token_logps", "ref_rejected_token_logps",
            "chosen_mask", "rejected_mask", "chosen_tokens_per_pair",
        ),
        SFTRegularisedConfig, _BOTH | {"token_logps", "chosen_tokens_per_pair"}, "rpo",
        "RPO (Z. Liu et al., 2024)",
    ),
    "cpo": Objective(
        cpo_loss,
        _fields(
            "policy_chosen_token_logps", "policy_rejected_token_logps",
            "chosen_mask", "rejected_mask", "chosen_tokens_per_pair",
        ),
        CPOConfig, _POLICY | {"token_logps", "chosen_tokens_per_pair"}, "insights",
        "CPO (Xu et al., 2024)",
    ),
    "asft": Objective(
        asft_loss,
        _fields(
            "policy_chosen_token_logps", "policy_rejected_token_logps",
            "chosen_mask", "rejected_mask", "chosen_tokens_per_pair",
        ),
        ASFTConfig, _POLICY | {"token_logps", "chosen_tokens_per_pair"}, "asft",
        "ASFT (Wang et al., 2024)",
    ),
    "cat_adpo": Objective(
        cat_adpo_loss,
        _fields(
            "policy_chosen_token_logps", "policy_rejected_token_logps",
            "ref_chosen_token_logps", "ref_rejected_token_logps",
            "chosen_mask", "rejected_mask",
        ),
        CatADPOConfig, _BOTH | {"token_logps"}, "cat-adpo", "ADPO of CAT (Ye et al., 2024)",
        "proven",
    ),
    "pami_vdpo": Objective(
        pami_vdpo_loss,
        _fields(
            "policy_chosen_token_logps", "policy_rejected_token_logps",
            "ref_chosen_token_logps", "ref_rejected_token_logps",
            "chosen_mask", "rejected_mask", "weights",
        ),
        PaMiVDPOObjective, _BOTH | {"token_logps", "weights"}, "pami-vdpo",
        "PaMi-VDPO (Ding et al., 2025), mmalign's reading", "proven",
    ),
    "dpo_scaled_reference": Objective(
        dpo_scaled_reference_loss, _all_sums, ScaledReferenceConfig, _BOTH, "ranking-accuracy",
        "DPO with gamma (Chen et al., 2024)",
    ),
    "sem_dpo": Objective(
        sem_dpo_loss, lambda terms: _all_sums(terms) | {"weights": terms.get("weights")},
        BetaConfig, _BOTH | {"weights"}, "sem-dpo", "Sem-DPO (Mohamed et al., 2025)",
    ),
    "sppo_hard": Objective(
        sppo_hard_loss, _all_sums, SPPOConfig, _BOTH, "gpm", "SPPO (Wu et al., 2024), by labels"
    ),
    "sppo": Objective(
        sppo_loss, _sums_and_scores("chosen_win_rates", "rejected_win_rates"), SPPOConfig,
        _BOTH | {"scores"}, "gpm", "SPPO (Wu et al., 2024)",
    ),
    "gpo": Objective(
        gpo_loss, _sums_and_scores("chosen_targets", "rejected_targets"), SPPOConfig,
        _BOTH | {"scores"}, "gpm", "GPO (Zhang et al., 2024)",
    ),
    "vpo_offline": Objective(
        offline_vpo_loss, _all_sums, OfflineVPOConfig, _BOTH, "vpo", "VPO (Cen et al., 2024)"
    ),
    "flex_dpo": Objective(
        flex_dpo_loss, _all_sums, FlexDPOConfig, _BOTH, "three-d-properties",
        "Flex-DPO in 3D-Properties (Yan et al., 2024)",
    ),
    "kto": Objective(
        kto_loss, _fields("policy_logps", "ref_logps", "labels", "reference_point"), KTOConfig,
        _BOTH | {"reference_point"}, "kto", "KTO (Ethayarajh et al., 2024)", unit="response",
    ),
    "grpo": Objective(
        grpo_loss, read_policy_terms_with_reference, GRPOConfig, _BOTH | {"token_logps"}, "grpo",
        "GRPO in DeepSeekMath (Shao et al., 2024)", unit="rollout", of_trainer=OF_GROUP_TRAINER,
    ),
    "dr_grpo": Objective(
        dr_grpo_loss, read_policy_terms_with_length, DrGRPOConfig, _POLICY | {"token_logps"},
        "grpo", "Dr.GRPO (Liu et al., 2025)", unit="rollout", of_trainer=OF_GROUP_TRAINER,
    ),
    "dapo": Objective(
        dapo_loss, read_policy_terms, DAPOConfig, _POLICY | {"token_logps"}, "grpo",
        "DAPO (Yu et al., 2025)", unit="rollout", of_trainer=OF_GROUP_TRAINER,
    ),
    "gspo": Objective(
        gspo_loss, read_policy_terms, GSPOConfig, _POLICY | {"token_logps"}, "grpo",
        "GSPO (Zheng et al., 2025)", unit="rollout", of_trainer=OF_GROUP_TRAINER,
    ),
    "rloo": Objective(
        rloo_loss, read_policy_terms, RLOOConfig, _BOTH | {"token_logps"}, "grpo",
        "RLOO (Ahmadian et al., 2024)", unit="rollout", of_trainer=OF_GROUP_TRAINER,
    ),
    "ppo": Objective(
        ppo_policy_loss, read_policy_terms_with_length, PPOConfig, _BOTH | {"token_logps"}, "ppo",
        "PPO (Schulman et al., 2017)", unit="rollout", of_trainer=OF_PPO_TRAINER,
    ),
    "tpo_tree": Objective(
        tpo_tree_loss, _whole_responses, TPOTreeConfig, _BOTH | {"scores"}, "tpo",
        "TPO, tree (Liao et al., 2025), a response as one step", unit="list",
    ),
})  # fmt: skip
