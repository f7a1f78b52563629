"""What a reward may look like, give and take, and what happens when it breaks its word."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mmalign.errors import ConfigError, ModelCallError, RecordError, RewardError
from mmalign.records import Lineage, Rollout, Sample, Segment, ToolRun, user
from mmalign.rewards.config import RewardConfig, load_reward, load_rewards
from mmalign.rewards.contract import Episode, RewardFunction, declare, form_of, reward
from mmalign.rewards.reward import NotApplicable, Reward
from mmalign.rewards.scoring import RewardRunner, Scored, WeightedReward, call_within

SAMPLE = Sample(id="s1", messages=(user("2 + 3?"),), answer="5", metadata={"dataset": "sums"})


def rollout(text: str = "5", *, observed: str | None = None, stop: Any = "end") -> Rollout:
    segments = [Segment(kind="policy", token_ids=(1, 2), logps=(-1.0, -1.0), text=text)]
    runs: tuple[ToolRun, ...] = ()
    if observed is not None:
        segments.append(Segment(kind="observation", token_ids=(3,), text=observed))
        runs = (ToolRun(tool="search", arguments="{}", outcome="ok", output=observed, cost=0.5),)
    return Rollout(
        sample_id="s1",
        draw_index=0,
        num_prompt_tokens=4,
        segments=tuple(segments),
        tool_runs=runs,
        stop=stop,
        answer=text,
        lineage=Lineage(),
    )


def weighted(function: Any, weight: float = 1.0, **settings: Any) -> WeightedReward:
    found = declare(function, "test", low=-10.0, high=10.0) if callable(function) else function
    if isinstance(function, RewardFunction):
        found = function
    return WeightedReward(found.name, found, weight, settings)


def score(
    *functions: Any, rollouts: Sequence[Rollout] = (rollout(),), sample: Sample = SAMPLE
) -> list[Scored]:
    runner = RewardRunner([f if isinstance(f, WeightedReward) else weighted(f) for f in functions])
    return runner.score([(sample, rollouts)])[0]


@reward(low=0.0, high=1.0)
def length(episode: Episode, *, most: int = 10) -> float:
    """How long the text is."""
    return len(episode.text) / most


def test_a_reward_gives_a_number_a_note_and_parts() -> None:
    def noted(episode: Episode) -> Reward:
        return Reward(0.5, "half", {"form": 0.25})

    (found,) = score(noted)
    assert found == Scored(0.5, {"noted": 0.5}, {"noted/form": 0.25}, {"noted": "half"})


def test_settings_and_weights_reach_the_sum() -> None:
    (found,) = score(weighted(length, 2.0, most=4), weighted(lambda episode: 1.0, -1.0))
    assert found.total == pytest.approx(2.0 * 0.25 - 1.0)


def test_only_what_the_policy_wrote_is_seen_unless_declared() -> None:
    seen: list[tuple[str, tuple[str, ...], int, float]] = []

    def look(episode: Episode) -> float:
        seen.append((episode.text, episode.observations, episode.num_tool_calls, episode.tool_cost))
        return 0.0

    for sees in ("policy", "all"):
        function = declare(look, "look", low=0.0, high=1.0, sees=sees)
        score(weighted(function), rollouts=[rollout("ask", observed="Paris")])
    assert seen == [("ask", (), 1, 0.5), ("askParis", ("Paris",), 1, 0.5)]


def test_what_does_not_apply_leaves_the_rest() -> None:
    def nothing(episode: Episode) -> NotApplicable:
        return NotApplicable("no boxes")

    both, alone = score(nothing, length), score(nothing)
    assert both[0].total == pytest.approx(0.1)
    assert both[0].values["nothing"] is None
    assert alone[0].total is None
    assert alone[0].notes == {"nothing": "no boxes"}


@pytest.mark.parametrize("broken", [math.nan, math.inf, None, "good", {"form": 1.0}])
def test_what_is_no_number_makes_the_sum_unknown(broken: Any) -> None:
    def bad(episode: Episode) -> Any:
        return broken

    (found,) = score(length, bad)
    assert found.total is None
    assert found.values == {"length": pytest.approx(0.1), "bad": None}
    assert "bad" in found.notes


def test_what_is_no_number_may_count_as_nothing_or_end_the_run() -> None:
    def bad(episode: Episode) -> float:
        return math.nan

    as_zero = declare(bad, "bad", low=0.0, high=1.0, on_invalid="zero")
    (found,) = score(length, weighted(as_zero))
    assert found.total == pytest.approx(0.1)
    as_error = declare(bad, "bad", low=0.0, high=1.0, on_invalid="error")
    with pytest.raises(RewardError, match=r"reward 'bad': sample 's1', rollout 0 gave .*nan"):
        score(weighted(as_error))


def test_too_many_values_that_are_no_numbers_end_the_run() -> None:
    def often_bad(episode: Episode) -> float:
        return math.nan if episode.text == "x" else 1.0

    runner = RewardRunner([weighted(often_bad)])
    runner.score([(SAMPLE, [rollout("x")] * 2 + [rollout()] * 38)])  # 5 %
    with pytest.raises(RewardError, match=r"3 of 41 values were no numbers, more than 5%"):
        runner.score([(SAMPLE, [rollout("x")])])


def test_a_value_out_of_range_names_the_sample() -> None:
    with pytest.raises(
        RewardError, match=r"'length': sample 's1', rollout 1 gave 1\.2, it declares 0\.0 to 1\.0"
    ):
        score(length, rollouts=[rollout("short"), rollout("a dozen char")])


def test_an_exception_names_the_sample() -> None:
    def breaks(episode: Episode) -> float:
        raise KeyError("boxes")

    with pytest.raises(RewardError, match=r"sample 's1', rollout 0 raised KeyError: 'boxes'"):
        score(breaks)


def test_bad_gold_data_ends_the_run() -> None:
    def no_gold(episode: Episode) -> float:
        raise RecordError("no gold answer")

    with pytest.raises(RewardError, match=r"sample 's1', rollout 0: no gold answer"):
        score(no_gold)


def test_a_server_that_is_gone_leaves_the_reward_unknown() -> None:
    def judge(episode: Episode) -> float:
        raise ModelCallError("no answer after 3 retries")

    (found,) = score(judge)
    assert found.total is None
    assert "no answer after 3 retries" in found.notes["judge"]


def test_a_rollout_that_the_machine_failed_is_shown_to_nobody() -> None:
    shown: list[str] = []

    def look(episode: Episode) -> float:
        shown.append(episode.text)
        return 1.0

    found = score(look, rollouts=[rollout("a"), rollout("b", stop="error")])
    assert shown == ["a"]
    assert [item.total for item in found] == [1.0, None]


def test_a_slow_reward_is_stopped() -> None:
    stopped = threading.Event()

    def endless(episode: Episode) -> float:
        try:
            while True:
                time.sleep(0.001)
        finally:
            stopped.set()

    slow = declare(endless, "endless", low=0.0, high=1.0, time_limit_s=0.1)
    started = time.monotonic()
    (found,) = score(weighted(slow))
    assert found.total is None
    assert "took longer than 0.1 s" in found.notes["endless"]
    assert time.monotonic() - started < 5.0
    assert stopped.wait(5.0)  # its thread ended, it does not run on


def test_asynchronous_rewards_wait_together() -> None:
    async def judge(episode: Episode) -> float:
        await asyncio.sleep(0.2)
        return float(episode.text)

    started = time.monotonic()
    found = score(judge, rollouts=[rollout(str(n)) for n in range(8)])
    assert [item.total for item in found] == [float(n) for n in range(8)]
    assert time.monotonic() - started < 1.2


def test_an_asynchronous_reward_has_a_time_limit() -> None:
    async def never(episode: Episode) -> float:
        await asyncio.sleep(60)
        return 1.0

    slow = declare(never, "never", low=0.0, high=1.0, time_limit_s=0.1)
    (found,) = score(weighted(slow))
    assert "took longer than 0.1 s" in found.notes["never"]


def test_trls_form_is_called_with_conversations_and_columns() -> None:
    def correct(
        prompts: list[Any], completions: list[Any], answer: list[str], **columns: Any
    ) -> list[float | None]:
        assert prompts[0] == [{"role": "user", "content": "2 + 3?"}]
        assert columns["dataset"] == ["sums", "sums"]
        said = [completion[0]["content"] for completion in completions]
        return [float(s == a) if s else None for s, a in zip(said, answer, strict=True)]

    found = score(correct, rollouts=[rollout("5"), rollout("")])
    assert [item.total for item in found] == [1.0, None]


def test_verls_form_is_called_with_its_four_arguments() -> None:
    def compute_score(
        data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None
    ) -> dict[str, float]:
        assert (data_source, extra_info) == ("sums", {"dataset": "sums"})
        return {"score": float(solution_str == ground_truth), "form": 0.5}

    (found,) = score(compute_score)
    assert found.total == 1.0
    assert found.parts == {"compute_score/form": 0.5}


def test_a_reward_of_groups_remembers_each_prompt() -> None:
    def best_so_far(episodes: Sequence[Episode], history: dict[str, Any]) -> list[float]:
        history["best"] = max(history.get("best", 0), *(len(e.text) for e in episodes))
        return [float(history["best"])] * len(episodes)

    runner = RewardRunner([weighted(best_so_far)])
    other = SAMPLE.model_copy(update={"id": "s2"})
    runner.score([(SAMPLE, [rollout("long text"[:5])])])
    runner.score([(other, [rollout("12")])])
    fresh = RewardRunner([weighted(best_so_far)])
    fresh.load_state(runner.state())
    found = fresh.score([(SAMPLE, [rollout("1")]), (other, [rollout("1")])])
    assert [group[0].total for group in found] == [5.0, 2.0]


def test_the_wrong_number_of_values_is_an_error() -> None:
    def short(prompts: list[Any], completions: list[Any]) -> list[float]:
        return [1.0]

    with pytest.raises(RewardError, match="gave 1 values for 2 rollouts"):
        score(short, rollouts=[rollout(), rollout()])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: form_of(declare(lambda text: 1.0, "f", low=0.0, high=1.0)), "parameters episode"),
        (lambda: declare(lambda episode: 1.0, "m:f"), "m:f: declares no range.*high and low"),
        (lambda: reward(low=1.0, high=0.0)(lambda episode: 1.0), "from 1.0 to 0.0"),
        (lambda: load_reward(RewardConfig(name="exact_mach")), "did you mean 'exact_match'"),
        (
            lambda: load_reward(RewardConfig.model_validate({"name": "otc_ppo", "smoothin": 4})),
            "no setting 'smoothin'; did you mean 'smoothing'",
        ),
        (
            lambda: load_rewards([RewardConfig(name="f1"), RewardConfig(name="f1")]),
            "two are called f1",
        ),
    ],
)
def test_what_is_no_reward_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_recipe_names_settings_and_weight() -> None:
    found = load_reward(
        RewardConfig.model_validate({"name": "otc_ppo", "weight": 0.5, "smoothing": 4})
    )
    assert found.weight == 0.5
    assert found.settings == {"smoothing": 4}
    assert (found.function.low, found.function.high) == (0.0, 1.0)


def test_work_within_its_time_gives_its_result_or_its_error() -> None:
    assert call_within(lambda: 3, 5.0) == 3
    with pytest.raises(ZeroDivisionError):
        call_within(lambda: 1 / 0, 5.0)
