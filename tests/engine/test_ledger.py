import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from mmalign.engine.budget import Budget, BudgetConfig, Price, Spending
from mmalign.engine.ledger import Ledger, SamplePass
from mmalign.engine.ledgered_model import LedgeredModel
from mmalign.engine.store import RunStore
from mmalign.errors import CapabilityError, MediaMissingError, ModelResponseError, ModelTimeoutError
from mmalign.models.protocol import ChatModel, SampledTokens, SamplesTokens, Sampling
from mmalign.records import MediaOperation, MediaRef, user
from mmalign.testing.models import FailingModel, ScriptedModel, SlowModel
from mmalign.testing.policies import ScriptedPolicy

T = TypeVar("T")
PROMPT = [user("say something nice")]


@dataclass
class NamedPolicy(ScriptedPolicy):
    """A policy that the ledger can name."""

    name: str = "scripted"
    identity: dict[str, str] = field(default_factory=dict)


class Desk:
    """A store with a ledger, and models that speak through it."""

    def __init__(self, folder: Path, budget: BudgetConfig = BudgetConfig()) -> None:  # noqa: B008  # frozen
        self.store = RunStore(folder)
        self.ledger = Ledger(self.store, Budget(budget, Spending(0, 0.0)))

    def model(self, model: ChatModel, sample_pass: SamplePass | None = None) -> LedgeredModel:
        return LedgeredModel(
            model,
            ledger=self.ledger,
            price=Price(prompt=1e6, completion=2e6),
            sample_pass=sample_pass or SamplePass("s0"),
        )


def at_a_desk(folder: Path, use: Callable[[Desk], Awaitable[T]]) -> T:
    async def run() -> T:
        desk = Desk(folder)
        try:
            return await use(desk)
        finally:
            desk.store.close()

    return asyncio.run(run())


def test_it_is_a_chat_model(tmp_path: Path) -> None:
    async def use(desk: Desk) -> bool:
        return isinstance(desk.model(ScriptedModel()), ChatModel)

    assert at_a_desk(tmp_path, use)


def test_an_answer_is_asked_once_and_replayed_in_the_next_pass(tmp_path: Path) -> None:
    model = ScriptedModel()

    async def use(desk: Desk) -> tuple[object, SamplePass]:
        sample_pass = SamplePass("s0")
        return await desk.model(model, sample_pass).generate(PROMPT, seed=1), sample_pass

    first, paid = at_a_desk(tmp_path, use)
    second, replayed = at_a_desk(tmp_path, use)
    assert first == second
    assert len(model.calls) == 1
    assert (paid.cost, paid.num_tokens) == (replayed.cost, replayed.num_tokens) == (17.0, 10)


def test_a_loops_second_try_is_asked_anew_and_replayed_as_the_second(tmp_path: Path) -> None:
    model = ScriptedModel(script=lambda call, draw: f"try {len(model.calls)}")

    async def use(desk: Desk) -> list[str]:
        ledgered = desk.model(model)
        return [(await ledgered.generate(PROMPT))[0].text for _ in range(3)]

    assert at_a_desk(tmp_path, use) == ["try 1", "try 2", "try 3"]
    assert at_a_desk(tmp_path, use) == ["try 1", "try 2", "try 3"]
    assert len(model.calls) == 3


def test_more_draws_ask_only_for_the_missing_ones_with_another_seed(tmp_path: Path) -> None:
    model = ScriptedModel()

    async def two(desk: Desk) -> tuple[str, ...]:
        return tuple(c.text for c in await desk.model(model).generate(PROMPT, n=2, seed=5))

    async def four(desk: Desk) -> tuple[str, ...]:
        return tuple(c.text for c in await desk.model(model).generate(PROMPT, n=4, seed=5))

    few, many = at_a_desk(tmp_path, two), at_a_desk(tmp_path, four)
    assert many[:2] == few
    assert len(set(many)) == 4
    assert [(call.n, call.seed == 5) for call in model.calls] == [(2, True), (2, False)]


def test_a_model_that_gives_too_few_answers_is_asked_for_the_rest(tmp_path: Path) -> None:
    class Stingy(ScriptedModel):
        async def generate(self, messages, *, n=1, **settings):  # type: ignore[no-untyped-def]  # passes on
            return await super().generate(messages, n=1, seed=settings["seed"])

    model = Stingy()

    async def use(desk: Desk) -> int:
        return len(await desk.model(model).generate(PROMPT, n=2, seed=5))

    with pytest.raises(ModelResponseError, match="gave 1 of 2 answers"):
        at_a_desk(tmp_path, use)
    assert at_a_desk(tmp_path, use) == 2
    assert len(model.calls) == 2


def test_a_failure_is_not_stored(tmp_path: Path) -> None:
    model = FailingModel(errors=[ModelTimeoutError("late")])

    async def use(desk: Desk) -> int:
        with pytest.raises(ModelTimeoutError):
            await desk.model(model).generate(PROMPT)
        num_stored = desk.store.totals().num_calls
        await desk.model(model).generate(PROMPT)
        assert desk.store.totals().num_calls == 1
        return num_stored

    assert at_a_desk(tmp_path, use) == 0


def test_equal_requests_under_way_share_one_call(tmp_path: Path) -> None:
    model = SlowModel(wait_s=0.02)

    async def use(desk: Desk) -> list[object]:
        return await asyncio.gather(
            *(desk.model(model, SamplePass(f"s{i}")).generate(PROMPT) for i in range(5))
        )

    answers = at_a_desk(tmp_path, use)
    assert len(model.calls) == 1
    assert all(answer == answers[0] for answer in answers)


def test_what_changes_the_answer_changes_the_key(tmp_path: Path) -> None:
    model = ScriptedModel()
    clip = MediaRef(kind="video", uri="nowhere.mp4", content_hash="ab")
    moved = clip.model_copy(update={"uri": "elsewhere.mp4"})
    changed = clip.then(MediaOperation(name="shuffle", seed=1))

    async def use(desk: Desk) -> list[int]:
        async def asked(**request: object) -> int:
            given = {"messages": PROMPT, **request}
            await desk.model(given.pop("model", model)).generate(given.pop("messages"), **given)  # type: ignore[arg-type]
            return len(model.calls)

        return [
            await asked(),
            await asked(),
            await asked(seed=1),
            await asked(sampling=Sampling(temperature=0.5)),
            await asked(tools=["{}"]),
            await asked(response_schema={"type": "object"}),
            await asked(messages=[user("other")]),
            await asked(messages=[user("look", clip)]),
            await asked(messages=[user("look", moved)]),
            await asked(messages=[user("look", changed)]),
            await asked(model=ScriptedModel(name="scripted@2", calls=model.calls)),
            await asked(model=ScriptedModel(identity={"num_frames": 4}, calls=model.calls)),
        ]

    assert at_a_desk(tmp_path, use) == [1, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10]


def test_a_clip_without_a_hash_is_hashed_and_a_missing_one_is_named(tmp_path: Path) -> None:
    model = ScriptedModel()
    file = tmp_path / "clip.mp4"

    async def use(desk: Desk) -> None:
        ref = MediaRef(kind="video", uri=str(file))
        file.write_bytes(b"one")
        await desk.model(model).generate([user("look", ref)])
        file.write_bytes(b"other")
        await desk.model(model).generate([user("look", ref)])
        await desk.model(model).generate([user("look", ref)])
        file.unlink()
        with pytest.raises(MediaMissingError, match=r"clip\.mp4: No such file"):
            await desk.model(model).generate([user("look", ref)])

    at_a_desk(tmp_path / "run", use)
    assert len(model.calls) == 2


def test_scores_are_ledgered(tmp_path: Path) -> None:
    model = ScriptedModel()

    async def use(desk: Desk) -> list[object]:
        scores = [await desk.model(model).score(PROMPT, "a b") for _ in range(2)]
        return [*scores, await desk.model(model).score(PROMPT, "a")]

    first, second, other = at_a_desk(tmp_path, use)
    assert first == second != other
    assert len(model.calls) == 2


def test_drawn_tokens_are_asked_once_and_replayed(tmp_path: Path) -> None:
    policy = NamedPolicy(lambda said, seed: f"go on{said}¶")

    async def use(desk: Desk) -> tuple[SampledTokens, SamplePass]:
        sample_pass = SamplePass("s0")
        model = desk.model(policy, sample_pass)  # type: ignore[arg-type]  # rolls out only
        assert isinstance(model, SamplesTokens)
        ids = await model.tokenize("!")
        return await model.sample_tokens(PROMPT, ids, sampling=Sampling(), seed=3), sample_pass

    first, paid = at_a_desk(tmp_path, use)
    second, replayed = at_a_desk(tmp_path, use)
    assert first == second
    assert first.text == "go on!"
    assert policy.asked == ["!"]
    assert paid.num_tokens == replayed.num_tokens == 1 + len("go on!¶")


def test_another_seed_or_other_tokens_are_another_request(tmp_path: Path) -> None:
    policy = NamedPolicy(lambda said, seed: f"{seed}¶")

    async def use(desk: Desk) -> list[str]:
        model = desk.model(policy)  # type: ignore[arg-type]  # rolls out only
        asked = [((), 1), ((), 2), ((65,), 1)]
        return [
            (await model.sample_tokens(PROMPT, ids, sampling=Sampling(), seed=seed)).text
            for ids, seed in asked
        ]

    assert at_a_desk(tmp_path, use) == ["1", "2", "1"]
    assert policy.asked == ["", "", "A"]


def test_a_server_cannot_be_rolled_out(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        await desk.model(ScriptedModel()).tokenize("a")

    with pytest.raises(CapabilityError, match="does not tell which tokens it draws"):
        at_a_desk(tmp_path, use)
