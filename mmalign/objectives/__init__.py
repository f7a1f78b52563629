"""Pure functions over tensors: the losses that a trainer may minimise."""

from mmalign.objectives.aggregation import BatchCounts
from mmalign.objectives.kl import forward_kl
from mmalign.objectives.listwise import ListLoss
from mmalign.objectives.losses import LOSSES
from mmalign.objectives.pairwise import (
    cdpo_loss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    orpo_loss,
    simpo_loss,
    slic_loss,
)
from mmalign.objectives.rollouts import RolloutSettings
from mmalign.objectives.rrpo import rrpo_loss
from mmalign.objectives.sums import masked_mean, masked_sum, phrase_sums
from mmalign.objectives.table import OBJECTIVES, ChosenObjective, Objective, Unit, parse_objective
from mmalign.objectives.terms import (
    ListTerms,
    Need,
    PairTerms,
    PreferenceLoss,
    RolloutTerms,
    UnpairedTerms,
    check_terms,
)
from mmalign.objectives.unpaired import UnpairedLoss

__all__ = [
    "LOSSES",
    "OBJECTIVES",
    "BatchCounts",
    "ChosenObjective",
    "ListLoss",
    "ListTerms",
    "Need",
    "Objective",
    "PairTerms",
    "PreferenceLoss",
    "RolloutSettings",
    "RolloutTerms",
    "Unit",
    "UnpairedLoss",
    "UnpairedTerms",
    "cdpo_loss",
    "check_terms",
    "dpo_loss",
    "forward_kl",
    "hinge_loss",
    "ipo_loss",
    "masked_mean",
    "masked_sum",
    "orpo_loss",
    "parse_objective",
    "phrase_sums",
    "rrpo_loss",
    "simpo_loss",
    "slic_loss",
]
