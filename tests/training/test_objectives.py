"""Every objective of the table on one fixed batch: what its paper says must move does."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from mmalign.media import FrameSampling
from mmalign.objectives import OBJECTIVES, parse_objective
from mmalign.pipeline.config import read_recipe
from mmalign.records import PreferencePair
from mmalign.training import TrainerConfig, train

RECIPES = Path(__file__).parents[2] / "configs" / "objectives"


class Moves(NamedTuple):
    """What training on one batch must do to a metric."""

    metric: str
    rises: bool = True


MARGIN = (Moves("rewards/margins"), Moves("rewards/accuracies"))
CHOSEN_RISES = Moves("logps/chosen")
REJECTED_FALLS = Moves("logps/rejected", rises=False)
MOVES: dict[str, tuple[Moves, ...]] = {
    "dpo": (*MARGIN, REJECTED_FALLS),
    "dpo_reference_free": (*MARGIN, REJECTED_FALLS),
    "cdpo": MARGIN,
    "ipo": MARGIN,
    "ipo_norm": MARGIN,
    "hinge": MARGIN,
    "hinge_reference_free": MARGIN,
    "slic": (*MARGIN, CHOSEN_RISES),
    "simpo": MARGIN,
    "orpo": (*MARGIN, CHOSEN_RISES, Moves("nll", rises=False)),
    "rrpo": (*MARGIN, Moves("rank_loss", rises=False), Moves("kl")),
    "robust_dpo": (*MARGIN, Moves("gradient_weight", rises=False)),
    "rpo_sft_regularised": (*MARGIN, CHOSEN_RISES),
    "cpo": (*MARGIN, CHOSEN_RISES, Moves("nll", rises=False)),
    "asft": (*MARGIN, CHOSEN_RISES),
    "cat_adpo": (*MARGIN, CHOSEN_RISES),
    "pami_vdpo": (*MARGIN, REJECTED_FALLS),
    "dpo_scaled_reference": MARGIN,
    "sem_dpo": (*MARGIN, REJECTED_FALLS),
    "sppo_hard": (Moves("rewards/chosen"), Moves("rewards/rejected", rises=False)),
    "sppo": (Moves("rewards/chosen"), Moves("rewards/rejected", rises=False)),
    "gpo": (Moves("rewards/chosen"),),
    "vpo_offline": (*MARGIN, CHOSEN_RISES),
    "flex_dpo": MARGIN,
    "kto": (Moves("rewards/chosen"), Moves("rewards/rejected", rises=False)),
    "tpo_tree": MARGIN,
}


def settings_of(name: str) -> dict[str, object]:
    """The objective as its recipe sets it, pulling hard enough for a few steps."""
    section = dict(read_recipe(RECIPES / f"{name}.yaml").objective)
    if name in ("rpo_sft_regularised", "cat_adpo"):
        section |= {"rpo_sft_regularised": {"sft_weight": 1.0}, "cat_adpo": {"lm_coef": 1.0}}[name]
    return section


OVER_ROLLOUTS = {name for name, entry in OBJECTIVES.items() if entry.unit == "rollout"}
"""What they must do is in test_group.py and test_actor_critic.py."""


def test_every_objective_has_a_recipe_and_a_claim() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} == set(OBJECTIVES)
    assert set(MOVES) == set(OBJECTIVES) - OVER_ROLLOUTS


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_recipe_is_complete(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.yaml")
    assert parse_objective(recipe.objective).name == name
    assert recipe.trainer is not None
    assert recipe.evaluation is not None
    assert (recipe.rollouts is not None) == bool(recipe.rewards) == (name in OVER_ROLLOUTS)


@pytest.mark.parametrize("name", MOVES)
def test_one_batch_moves_what_must_move(
    name: str, model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    scored = [
        pair.model_copy(
            update={
                "chosen": pair.chosen.model_copy(update={"score": 1.0}),
                "rejected": pair.rejected.model_copy(update={"score": 0.0}),
            }
        )
        for pair in pairs
    ]
    train(
        str(model_dir),
        scored,
        tmp_path,
        objective=parse_objective(settings_of(name)),
        trainer=TrainerConfig(
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            warmup_steps=0,
            max_steps=12,
            per_device_train_batch_size=16 if OBJECTIVES[name].unit == "response" else 8,
            logging_steps=1,
        ),
        lora=None,
        media=FrameSampling(num_frames=4),
    )
    lines = (tmp_path / "trainer_log.jsonl").read_text().splitlines()
    log = [entry for entry in map(json.loads, lines) if "loss" in entry]
    assert log[-1]["loss"] < log[0]["loss"]
    for moves in MOVES[name]:
        change = log[-1][moves.metric] - log[0][moves.metric]
        assert (change > 0) == moves.rises, (moves.metric, change)
