"""Ends a training that makes the rejected answers likelier, as one with swapped roles does."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mmalign.errors import ConfigError, RecordError

__all__ = ["RoleCheck"]

_METRIC = "rewards/accuracies"


class RoleCheck(TrainerCallback):
    """Looks once, after some steps, at how often the chosen answer has the larger reward.

    The mean is over the log lines of the second half of these steps: at the first step policy and
    reference are equal, and no answer has the larger reward.

    Args:
        min_accuracy: Smallest mean, in [0, 1]; None never looks.
        num_steps: After how many steps it looks; a shorter training is not checked.

    Source: CAT's released trainer takes the rejected answers for the chosen ones; the check is a
    reconstruction.
    """

    def __init__(self, min_accuracy: float | None, num_steps: int) -> None:
        self._min_accuracy = min_accuracy
        self._num_steps = num_steps

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Check the lines so far, if the last one is the first to reach the step.

        Raises:
            RecordError: The mean is too small.
            ConfigError: The objective compares no answers.
        """
        if self._min_accuracy is None or not self._is_due(state.log_history):
            return
        values = [
            line[_METRIC]
            for line in state.log_history
            if _METRIC in line and line["step"] > self._num_steps / 2
        ]
        if not values:
            raise ConfigError(
                "trainer.min_reward_accuracy: this objective compares no chosen and rejected "
                "answers; leave the setting out"
            )
        mean = sum(values) / len(values)
        if mean < self._min_accuracy:
            raise RecordError(
                f"step {state.global_step}: the chosen answer has the larger reward in {mean:.1%} "
                f"of the pairs, less than trainer.min_reward_accuracy {self._min_accuracy:g}. "
                f"Roles swapped? See that chosen and rejected are what they should be; if they "
                f"are, nothing is learnt yet: raise trainer.learning_rate or "
                f"trainer.reward_accuracy_steps"
            )

    def _is_due(self, lines: Sequence[Mapping[str, Any]]) -> bool:
        reached = [line["step"] for line in lines if "loss" in line]
        return len([step for step in reached if step >= self._num_steps]) == 1
