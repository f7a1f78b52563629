"""The golden numbers of rps."""

from collections.abc import Mapping
from typing import Any

from mmalign.diagnostics.win_rate import win_rate
from mmalign.rewards.multi_objective import direction_at
from mmalign.selection.directions import choose_along, first_best, neighbours


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    near = [
        neighbours(
            angle,
            draws,
            max_angle_deg=case["theta_max_deg"],
            lowest_deg=case["clip_lo"],
            highest_deg=case["clip_hi"],
        )
        for angle, draws in zip(case["theta_deg"], case["u"], strict=True)
    ]
    wanted = [direction_at(angle) for angle in case["theta_deg"]]
    chosen, baseline = (
        [
            choose_along(rewards, direction)
            for rewards, direction in zip(case[name], wanted, strict=True)
        ]
        for name in ("rewards", "baseline_rewards")
    )
    by_own_direction = [
        first_best(
            [
                choose_along([reward], neighbour.direction).scores[0]
                for reward, neighbour in zip(rewards, row, strict=True)
            ]
        )
        for rewards, row in zip(case["rewards"], near, strict=True)
    ]
    return {
        "angles": [[n.angle_deg for n in row] for row in near],
        "directions": [[n.direction for n in row] for row in near],
        "cosines": [[n.cosine for n in row] for row in near],
        "scores": [choice.scores for choice in chosen],
        "selected": [choice.place for choice in chosen],
        "selected_by_own_direction": by_own_direction,
        "baseline_selected": [choice.place for choice in baseline],
        "win_rate": win_rate(*([c.scores[c.place] for c in side] for side in (chosen, baseline))),
    }
