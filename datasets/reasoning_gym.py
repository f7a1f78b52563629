"""Tasks that the package reasoning-gym generates, with answers that are known to be right.

Source: Reasoning Gym (Stojanovski et al., 2025). Tasks whose answer is one text, as chain_sum,
basic_arithmetic and letter_counting, are scored by `exact_match` and the reward of that name.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmalign.api import ConfigError, Sample, user

__all__ = ["read"]


def read(
    task: str, *, num_samples: int, seed: int = 0, settings: Mapping[str, Any] | None = None
) -> Iterator[Sample]:
    """Questions of one task.

    Args:
        task: Its name in the package, as `chain_sum`.
        num_samples: How many.
        seed: Other seeds give other questions.
        settings: Of the task, as `min_terms: 2`.

    Raises:
        ConfigError: The package is not installed, or has no such task or setting.
    """
    if find_spec("reasoning_gym") is None:
        raise ConfigError("reasoning_gym: the package reasoning-gym is not installed; install it")
    try:
        library = import_module("reasoning_gym")
    except ImportError as error:
        raise ConfigError(
            f"reasoning_gym: the package reasoning-gym cannot be imported: {error}; install it "
            f"with what it depends on"
        ) from error
    try:
        entries = library.create_dataset(task, size=num_samples, seed=seed, **(settings or {}))
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigError(
            f"reasoning_gym: task {task!r} with {dict(settings or {})}: {error}"
        ) from error
    for number in range(num_samples):
        entry = entries[number]
        yield Sample(
            id=f"reasoning-gym-{task}-{seed}-{number}",
            messages=(user(entry["question"]),),
            answer=str(entry["answer"]),
            metadata={"dataset": "reasoning_gym", "question_type": task},
        )
