"""The limit of what a run may spend, kept before each call and not after the bill."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from mmalign.config import Config
from mmalign.errors import BudgetReachedError, ConfigError
from mmalign.records import Message

__all__ = ["Budget", "BudgetConfig", "Price", "Spending"]

CHARACTERS_PER_TOKEN = 4  # a first guess, replaced by what the model has reported


class Price(Config):
    """What a model charges, in any one currency."""

    prompt: float = Field(default=0.0, ge=0)
    """Per million prompt tokens."""
    completion: float = Field(default=0.0, ge=0)
    """Per million completion tokens."""

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of one answer."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class BudgetConfig(Config):
    """What a run may spend in all, its earlier starts included."""

    max_tokens: int | None = Field(default=None, gt=0)
    """Prompt and completion tokens of all models together."""
    max_cost: float | None = Field(default=None, gt=0)
    """In the currency of `prices`."""
    prices: dict[str, Price] = {}
    """By the model's name as the server knows it, or by its role (policy, judge ...)."""


class Spending(NamedTuple):
    """Tokens and money."""

    num_tokens: int
    cost: float


class Budget:
    """Counts what was spent and what running calls may still spend.

    A call reserves its upper bound, so that parallel calls cannot overrun the limit together;
    near the limit calls wait for others to settle, and fewer run at once. The number of prompt
    tokens is not known before a call: it is guessed from the model's own average so far.
    """

    def __init__(self, config: BudgetConfig, spent: Spending) -> None:
        self._config = config
        self.num_tokens, self.cost = spent
        self._reserved_tokens = 0
        self._reserved_cost = 0.0
        self._num_running = 0
        self._settled = asyncio.Event()
        self._prompt_tokens: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def price(self, role: str, name: str) -> Price:
        """The price of a model.

        Raises:
            ConfigError: Money is limited and the table does not know the model.
        """
        for key in (name, name.partition("@")[0], role):
            if key in self._config.prices:
                return self._config.prices[key]
        if self._config.max_cost is not None:
            raise ConfigError(
                f"budget.max_cost is set, but budget.prices has no price for the model {name!r} "
                f"in the role {role!r}; add budget.prices.{role}: {{prompt: .., completion: ..}} "
                f"per million tokens, 0 for a model that costs nothing"
            )
        return Price()

    def estimate(
        self, name: str, price: Price, messages: Sequence[Message], *, max_completion_tokens: int
    ) -> Spending:
        """Upper bound of a call as far as it can be known before."""
        total, count = self._prompt_tokens[name]
        text_tokens = sum(len(message.text) for message in messages) // CHARACTERS_PER_TOKEN
        prompt_tokens = max(text_tokens, total // count if count else 0)
        return Spending(
            prompt_tokens + max_completion_tokens, price.of(prompt_tokens, max_completion_tokens)
        )

    async def reserve(self, call: Spending) -> None:
        """Hold back what a call may cost; waits while running calls decide whether it fits.

        Raises:
            BudgetReachedError: What was spent leaves no room for the call.
        """
        if not self._limited:
            return
        while (excess := self._excess(call)) is not None:
            if self._num_running == 0:
                raise BudgetReachedError(excess)
            self._settled.clear()
            await self._settled.wait()
        self._num_running += 1
        self._reserved_tokens += call.num_tokens
        self._reserved_cost += call.cost

    def settle(
        self, call: Spending, actual: Spending, *, name: str, prompt_tokens: Sequence[int]
    ) -> None:
        """Replace a reservation by what was charged; nothing where the call failed."""
        self.num_tokens += actual.num_tokens
        self.cost += actual.cost
        if not self._limited:
            return
        seen = self._prompt_tokens[name]
        seen[0] += sum(prompt_tokens)
        seen[1] += len(prompt_tokens)
        self._num_running -= 1
        self._reserved_tokens -= call.num_tokens
        self._reserved_cost -= call.cost
        self._settled.set()

    @property
    def _limited(self) -> bool:
        return self._config.max_tokens is not None or self._config.max_cost is not None

    def _excess(self, call: Spending) -> str | None:
        max_tokens, max_cost = self._config.max_tokens, self._config.max_cost
        tokens = self.num_tokens + self._reserved_tokens + call.num_tokens
        if max_tokens is not None and tokens > max_tokens:
            return (
                f"{self.num_tokens:,} of {max_tokens:,} tokens are spent and the next call may "
                f"take {call.num_tokens:,}; raise budget.max_tokens"
            )
        cost = self.cost + self._reserved_cost + call.cost
        if max_cost is not None and cost > max_cost * (1 + 1e-12):
            return (
                f"{self.cost:.4f} of {max_cost:g} is spent and the next call may cost "
                f"{call.cost:.4f}; raise budget.max_cost"
            )
        return None
