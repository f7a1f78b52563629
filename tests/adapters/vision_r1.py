"""The golden numbers of vision-r1."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives.aggregation import batch_counts
from mmalign.objectives.groups import group_advantages
from mmalign.objectives.policy_gradient import grpo_loss
from mmalign.rewards.boxes import LabelledBox
from mmalign.rewards.vision_r1 import (
    BoxReward,
    ImageSizes,
    ReleaseProfile,
    Stage,
    vision_r1_release_reward,
    vision_r1_reward,
)
from mmalign.testing.golden import t64

PAPER: dict[str, Stage] = {"paper_beginning": "beginning", "paper_advanced": "advanced"}
RELEASE: dict[str, ReleaseProfile] = {
    "release_launched": "launched",
    "release_adaptive_early": "adaptive_early",
    "release_adaptive_late": "adaptive_late",
}
STD_EPS = 1e-4


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    gold = [LabelledBox(label, *corners) for label, corners in case["gt"]]
    sizes = ImageSizes(*(case[name] for name in ImageSizes._fields))
    completions = case["completions"]
    paper = {
        name: [vision_r1_reward(text, gold, sizes, stage=stage) for text in completions]
        for name, stage in PAPER.items()
    }
    release = {
        name: [
            vision_r1_release_reward(text, gold, sizes, case["label_ids"], profile=profile)
            for text in completions
        ]
        for name, profile in RELEASE.items()
    }
    policy = t64(case["policy_token_logps"], requires_grad=True)
    mask = torch.tensor(case["completion_mask"])
    result = grpo_loss(
        policy,
        None,
        _advantages(paper["paper_beginning"]),
        mask,
        batch_counts(mask),
        t64(case["ref_token_logps"]),
        kl_weight=case["beta"],
    )
    return {
        **{name: _told(rewards, with_matches=True) for name, rewards in paper.items()},
        **{name: _told(rewards, with_matches=False) for name, rewards in release.items()},
        "grpo_loss": result.loss.sum(),
        "mean_kl": result.metrics["kl"].mean(),
        "grad_policy_token_logps": torch.autograd.grad(result.loss.sum(), policy)[0],
    }


def _advantages(rewards: Sequence[BoxReward]) -> Tensor:
    totals = t64([reward.total for reward in rewards])
    return group_advantages(totals, torch.zeros(len(rewards)), std_eps=STD_EPS)


def _told(rewards: Sequence[BoxReward], *, with_matches: bool) -> dict[str, Any]:
    told = []
    for reward in rewards:
        parts: dict[str, Any] = {
            "format": reward.format,
            "recall": reward.recall,
            "precision": reward.precision,
        }
        if with_matches:
            parts |= {"ious": reward.overlaps, **reward.matches._asdict()}
        told.append(parts)
    return {
        "rewards": told,
        "total": [reward.total for reward in rewards],
        "advantages": _advantages(rewards),
    }
