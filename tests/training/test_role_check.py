"""A training in which the rejected answers win is ended, if that is wished."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from transformers import TrainerControl, TrainerState, TrainingArguments

from mmalign.errors import ConfigError, RecordError
from mmalign.media import FrameSampling
from mmalign.objectives import ChosenObjective, PreferenceLoss, dpo_loss, parse_objective
from mmalign.records import PreferencePair
from mmalign.training import TrainerConfig, train
from mmalign.training.role_check import RoleCheck


def logged(check: RoleCheck, folder: Path, *accuracies: float | None) -> None:
    """Tell the check of one log line after another, 10 steps apart."""
    state = TrainerState()
    for index, accuracy in enumerate(accuracies, start=1):
        line: dict[str, Any] = {"loss": 0.5, "step": 10 * index}
        state.log_history.append(
            line if accuracy is None else {**line, "rewards/accuracies": accuracy}
        )
        state.global_step = 10 * index
        check.on_log(TrainingArguments(str(folder)), state, TrainerControl())


def test_the_mean_of_the_second_half_decides(tmp_path: Path) -> None:
    check = RoleCheck(0.5, 40)
    logged(check, tmp_path, 0.0, 0.0, 0.4, 0.6)
    with pytest.raises(RecordError, match=r"step 40: .* in 45\.0% of .* 0\.5\. Roles swapped\?"):
        logged(check, tmp_path, 1.0, 1.0, 0.4, 0.5)


def test_it_looks_once_and_not_before(tmp_path: Path) -> None:
    logged(RoleCheck(0.5, 40), tmp_path, 0.0, 0.0, 0.0)
    logged(RoleCheck(0.5, 40), tmp_path, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)
    logged(RoleCheck(None, 40), tmp_path, 0.0, 0.0, 0.0, 0.0)


def test_lines_far_apart_are_enough(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="step 10"):
        logged(RoleCheck(0.5, 3), tmp_path, 0.2)


def test_an_objective_without_pairs_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compares no chosen and rejected"):
        logged(RoleCheck(0.5, 10), tmp_path, None)


def test_a_loss_that_takes_the_rejected_answers_for_the_chosen_ones_is_caught(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    """The fault of CAT's released trainer: the first half of its batch is the rejected one."""

    def swapped(
        *,
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        ref_chosen_logps: Tensor,
        ref_rejected_logps: Tensor,
        beta: float,
    ) -> PreferenceLoss:
        wrong = dpo_loss(
            policy_rejected_logps,
            policy_chosen_logps,
            ref_rejected_logps,
            ref_chosen_logps,
            beta=beta,
        )
        return wrong._replace(
            chosen_rewards=wrong.rejected_rewards, rejected_rewards=wrong.chosen_rewards
        )

    def run(folder: Path, objective: ChosenObjective) -> Path:
        return train(
            str(model_dir),
            pairs,
            folder,
            objective=objective,
            trainer=TrainerConfig(
                learning_rate=2e-3,
                max_steps=8,
                per_device_train_batch_size=4,
                logging_steps=1,
                warmup_steps=0,
                min_reward_accuracy=0.5,
                reward_accuracy_steps=6,
            ),
            lora=None,
            media=FrameSampling(num_frames=4),
        )

    right = parse_objective({"name": "dpo", "beta": 0.5})
    assert (run(tmp_path / "right", right) / "model.safetensors").exists()
    broken = right._replace(objective=replace(right.objective, fn=swapped))
    with pytest.raises(RecordError, match=r"step 6: .* Roles swapped"):
        run(tmp_path / "swapped", broken)
