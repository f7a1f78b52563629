import asyncio

import pytest

from mmalign.engine.budget import Budget, BudgetConfig, Price, Spending
from mmalign.errors import BudgetReachedError, ConfigError
from mmalign.records import user

NOTHING = Spending(0, 0.0)


def test_a_price_is_per_million_tokens() -> None:
    """1,000 at 2 and 500 at 6 per million: 0.002 + 0.003."""
    assert Price(prompt=2, completion=6).of(1000, 500) == pytest.approx(0.005, rel=1e-12)


def test_reservations_of_parallel_calls_cannot_overrun_the_limit() -> None:
    """Of ten calls that reserve 40 of 100 tokens and take 30, three fit: the fourth needs 130."""
    budget = Budget(BudgetConfig(max_tokens=100), NOTHING)
    running, most, done = 0, 0, 0

    async def call() -> None:
        nonlocal running, most, done
        await budget.reserve(Spending(40, 0.0))
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        done += 1
        budget.settle(Spending(40, 0.0), Spending(30, 0.0), name="m", prompt_tokens=[10])

    async def run() -> list[BaseException | None]:
        return await asyncio.gather(*(call() for _ in range(10)), return_exceptions=True)

    results = asyncio.run(run())
    assert (done, most, budget.num_tokens) == (3, 2, 90)
    assert sum(isinstance(result, BudgetReachedError) for result in results) == 7


def test_a_failed_call_gives_its_reservation_back() -> None:
    budget = Budget(BudgetConfig(max_cost=1.0), NOTHING)

    async def run() -> None:
        for _ in range(5):
            await budget.reserve(Spending(10, 1.0))
            budget.settle(Spending(10, 1.0), NOTHING, name="m", prompt_tokens=[])

    asyncio.run(run())
    assert budget.cost == 0


def test_the_message_says_what_is_spent_and_which_key_to_raise() -> None:
    budget = Budget(BudgetConfig(max_cost=2.0), Spending(500, 1.9))
    with pytest.raises(BudgetReachedError, match=r"1\.9000 of 2 .* 0\.2000; raise budget.max_cost"):
        asyncio.run(budget.reserve(Spending(10, 0.2)))


def test_prompt_tokens_are_guessed_from_the_models_own_average() -> None:
    budget = Budget(BudgetConfig(max_tokens=10**6), NOTHING)
    prompt = [user("x" * 40)]
    before = budget.estimate("m", Price(), prompt, max_completion_tokens=5)
    asyncio.run(budget.reserve(before))
    budget.settle(before, Spending(805, 0.0), name="m", prompt_tokens=[800])
    after = budget.estimate("m", Price(), prompt, max_completion_tokens=5)
    assert (before.num_tokens, after.num_tokens) == (15, 805)


def test_money_cannot_be_limited_without_a_price() -> None:
    prices = {"m": Price(prompt=1), "judge": Price(prompt=2)}
    budget = Budget(BudgetConfig(max_cost=1, prices=prices), NOTHING)
    assert budget.price("policy", "m@main").prompt == 1
    assert budget.price("judge", "big").prompt == 2
    with pytest.raises(ConfigError, match=r"add budget\.prices\.policy"):
        budget.price("policy", "big")
    assert Budget(BudgetConfig(), NOTHING).price("policy", "big") == Price()
