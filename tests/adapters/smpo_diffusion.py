"""The golden numbers of smpo-diffusion."""

from collections.abc import Mapping
from typing import Any

import torch
from adapters.ddim_inpo import Side, inverted_outputs

from mmalign.objectives.diffusion.margin import (
    ScoreRange,
    smoothed_diffusion_dpo_loss,
    smoothed_preference,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    preferences = [
        smoothed_preference(
            *scores,
            scores=ScoreRange(case["score_min"], case["score_max"]),
            gamma=case["gamma"],
        )
        for scores in zip(case["score_0"], case["score_1"], strict=True)
    ]
    images = torch.tensor([preference.chosen for preference in preferences])
    rows = torch.arange(len(images))
    clean = t64([case["x0_0"], case["x0_1"]])
    step_noise = t64([case["inj_0"], case["inj_1"]])
    sides = {
        side: Side(clean[of, rows], step_noise[of, :, rows].transpose(0, 1))
        for side, of in (("chosen", images), ("rejected", 1 - images))
    }
    weights = t64([preference.weight for preference in preferences])
    return {
        "winner": [preference.chosen for preference in preferences],
        "p_winner": [preference.probability for preference in preferences],
        "alpha": [preference.alpha for preference in preferences],
        "weight": [preference.weight for preference in preferences],
        **inverted_outputs(
            case,
            sides,
            lambda errors: smoothed_diffusion_dpo_loss(*[*errors, weights], beta=case["beta"]),
            renoise=case["renoise"],
        ),
    }
