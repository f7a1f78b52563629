"""The objectives by name; adding one is a function, a settings class and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mmalign.config import Config, validate
from mmalign.errors import ConfigError
from mmalign.objectives.configs import (
    BetaConfig,
    CDPOConfig,
    IPOConfig,
    ORPOConfig,
    RRPOConfig,
    SimPOConfig,
    SLiCConfig,
)
from mmalign.objectives.pairwise import (
    cdpo_loss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    orpo_loss,
    simpo_loss,
    slic_loss,
)
from mmalign.objectives.rrpo import rrpo_loss
from mmalign.objectives.sums import masked_mean, masked_sum
from mmalign.objectives.terms import Need, PairTerms, PreferenceLoss

__all__ = ["OBJECTIVES", "ChosenObjective", "Objective", "parse_objective"]


@dataclass(frozen=True)
class Objective:
    """A pure function and what a trainer must know to call it."""

    fn: Callable[..., PreferenceLoss]
    """Takes the tensors that `reads` gives and the fields of `config`, all by name."""
    reads: Callable[[PairTerms], dict[str, Tensor]]
    """Which tensors of a batch the function takes."""
    config: type[Config]
    needs: frozenset[Need]
    """What the trainer must compute; it computes no more."""
    family: str
    """Slug of the methods that share a golden file."""
    source: str
    status: Literal["tested", "proven"] = "tested"
    """`tested`: agrees with the golden numbers; `proven`: docs/proofs holds its table."""
    unit: Literal["pair", "response", "token", "group"] = "pair"
    """What the trainer averages the loss over."""

    def loss(self, terms: PairTerms, config: Config) -> PreferenceLoss:
        """The loss of a batch.

        Raises:
            ShapeError: The batch lacks something that the objective needs.
        """
        return self.fn(**self.reads(terms), **config.model_dump())


class ChosenObjective(NamedTuple):
    """A recipe's objective with its settings."""

    name: str
    objective: Objective
    config: Config

    def loss(self, terms: PairTerms) -> PreferenceLoss:
        """The loss of a batch under these settings."""
        return self.objective.loss(terms, self.config)


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


def _fields(*names: str) -> Callable[[PairTerms], dict[str, Tensor]]:
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
})  # fmt: skip
