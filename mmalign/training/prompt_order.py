"""Which prompts are rolled out when: a pure function of the seed, however the work is shared."""

import random
from collections.abc import Sequence

from torch.utils.data import Dataset

from mmalign.engine import draw_seed
from mmalign.errors import ConfigError

__all__ = ["Places", "PromptOrder"]


class Places(Dataset[int]):
    """What transformers' loop counts its steps by; which prompt stands where is `PromptOrder`'s."""

    sizes = None

    def __init__(self, num_places: int) -> None:
        self._num_places = num_places

    def __len__(self) -> int:
        return self._num_places

    def __getitem__(self, index: int) -> int:
        return index


class PromptOrder:
    """The prompts of every generation; each epoch has an order of its own.

    What an epoch has left over for less than a generation is left out of it.

    Args:
        num_prompts: Of the data set.
        per_generation: Prompts that are rolled out with one state of the policy, everywhere.
        seed: Of the orders.

    Raises:
        ConfigError: A generation is larger than the data set.
    """

    def __init__(self, num_prompts: int, per_generation: int, seed: int) -> None:
        if per_generation > num_prompts:
            raise ConfigError(
                f"a generation takes {per_generation} prompts, the data set has {num_prompts}; "
                f"lower per_device_train_batch_size, gradient_accumulation_steps or "
                f"objective.num_mini_batches"
            )
        self._num_prompts = num_prompts
        self._per_generation = per_generation
        self._seed = seed
        self.per_epoch = num_prompts // per_generation
        """Generations of an epoch."""

    def epoch(self, generation: int) -> int:
        """That a generation belongs to, from 0."""
        return generation // self.per_epoch

    def prompts(self, generation: int) -> list[int]:
        """Indices of its prompts."""
        epoch, place = divmod(generation, self.per_epoch)
        order = self._shuffled(list(range(self._num_prompts)), "order", epoch)
        return order[place * self._per_generation :][: self._per_generation]

    def further(self, generation: int) -> list[int]:
        """All other prompts, in the order in which they may take the place of one of its own."""
        own = set(self.prompts(generation))
        others = [index for index in range(self._num_prompts) if index not in own]
        return self._shuffled(others, "further", generation)

    def _shuffled(self, indices: Sequence[int], what: str, number: int) -> list[int]:
        shuffled = list(indices)
        random.Random(draw_seed(self._seed, what, number, "prompts")).shuffle(shuffled)  # noqa: S311  # not for secrets
        return shuffled
