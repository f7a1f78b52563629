"""The golden numbers of mapl."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmalign.objectives.prompt_pairs import mapl_loss
from mmalign.selection.instructions import (
    Instruction,
    PromptContrast,
    contrast_prompts,
    distinguishing_instructions,
)
from mmalign.testing.golden import t64

RHO = ("rho_w", "rho_l", "rho_xw", "rho_xl", "rho_w_prime", "rho_l_prime")


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    contrasts = [_contrast(candidate) for candidate in case["intra_candidates"]]
    rho = {name: t64(case["rho"][name], requires_grad=True) for name in RHO}
    result = mapl_loss(
        *rho.values(),
        beta=case["beta"],
        intra_weight=case["lambda1"],
        inter_weight=case["lambda2"],
    )
    grads = torch.autograd.grad(result.loss.mean(), list(rho.values()))
    return {
        "rule_a": [contrast.rule_a for contrast in contrasts],
        "rule_b": [contrast.rule_b for contrast in contrasts],
        "intra_kept": [i for i, contrast in enumerate(contrasts) if contrast.usable],
        "inter_instructions": [_distinguishing(pair) for pair in case["inter_candidates"]],
        "pref_losses": result.metrics["pref_loss"],
        "intra_losses": result.metrics["intra_loss"],
        "inter_losses": result.metrics["inter_loss"],
        "loss": result.loss.mean(),
        "grads": dict(zip(RHO, grads, strict=True)),
    }


def _properties(flags: Sequence[int]) -> dict[str, bool]:
    return {str(number): bool(flag) for number, flag in enumerate(flags)}


def _contrast(candidate: Mapping[str, Any]) -> PromptContrast:
    preferred, other = (
        [Instruction(str(number), bool(polarity)) for number, polarity in candidate[side]]
        for side in ("x_w", "x_l")
    )
    return contrast_prompts(_properties(candidate["has"]), preferred, other)


def _distinguishing(pair: Mapping[str, Any]) -> list[list[int]]:
    found = distinguishing_instructions(_properties(pair["has_w"]), _properties(pair["has_l"]))
    return [[int(instruction.property_id), int(instruction.demanded)] for instruction in found]
