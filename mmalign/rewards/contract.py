"""What a reward function of a training run is: what it is told, declares and gives back.

Four forms are called, told apart by the names of their parameters:

- `episode`: mmalign's own, one rollout; gives a number, a `Reward` or a `NotApplicable`.
- `episodes, history`: all rollouts of a prompt, and a dictionary that is kept for this prompt for
  the whole run, checkpoints included; gives one of the above for each rollout.
- `prompts, completions`: TRL's, all rollouts of a prompt as conversations; the sample's `answer`,
  `solution` (the same) and metadata come as columns. None stands for not applicable.
- `solution_str, ground_truth`: verl's, beside `data_source` and `extra_info`; a dictionary with
  `overall` or `score` gives the reward, its other numbers are logged as parts.

Each may be asynchronous. All further parameters are settings that a recipe gives.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from mmalign.errors import ConfigError
from mmalign.records import JsonDict, Rollout, Sample
from mmalign.records.rollouts import Stop
from mmalign.rewards.question_answering import gold_answers_of

__all__ = [
    "Episode",
    "Form",
    "OnInvalid",
    "RewardFunction",
    "Sees",
    "arguments_of",
    "declare",
    "form_of",
    "reward",
    "setting_names",
]

Form = Literal["episode", "group", "trl", "verl"]
Sees = Literal["policy", "all"]
"""policy: only what the policy wrote; all: what tools and the loop wrote as well."""
OnInvalid = Literal["skip", "zero", "error"]
"""What a value that is no number does, or one that took too long: `skip` leaves the rollout out of
its group, `zero` counts it as 0, `error` ends the run."""
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_FORMS: tuple[tuple[Form, frozenset[str]], ...] = (
    ("group", frozenset({"episodes", "history"})),
    ("episode", frozenset({"episode"})),
    ("trl", frozenset({"completions"})),
    ("verl", frozenset({"solution_str"})),
)


@dataclass(frozen=True)
class Episode:
    """One rollout, as a reward is told about it."""

    sample: Sample
    text: str
    """What the policy wrote; of all segments where the reward declares that it sees `all`."""
    answer: str | None
    """The final answer, where the recipe's format of rollouts found one."""
    num_tokens: int
    """That the policy sampled."""
    num_tool_calls: int
    """That were executed."""
    tool_cost: float
    """Of these, by the recipe's prices."""
    stop: Stop
    step: int = 0
    """Optimiser steps taken."""
    num_steps: int = 1
    """Optimiser steps of the whole run."""
    observations: tuple[str, ...] = ()
    """What tools said, where the reward sees `all`."""

    @property
    def final_answer(self) -> str:
        """The answer, or all that was written where the format knows no answers."""
        return self.text if self.answer is None else self.answer

    @property
    def gold_answers(self) -> tuple[str, ...]:
        """`golden_answers` of the sample's metadata, else its answer."""
        return gold_answers_of(self.sample)

    @classmethod
    def of(
        cls, sample: Sample, rollout: Rollout, *, sees: Sees, step: int = 0, num_steps: int = 1
    ) -> "Episode":
        """What is told about a rollout."""
        observed = [s.text for s in rollout.segments if s.kind == "observation"]
        return cls(
            sample=sample,
            text=rollout.text if sees == "all" else rollout.policy_text,
            answer=rollout.answer,
            num_tokens=sum(rollout.mask),
            num_tool_calls=rollout.num_tool_calls,
            tool_cost=math.fsum(run.cost for run in rollout.tool_runs),
            stop=rollout.stop,
            step=step,
            num_steps=num_steps,
            observations=tuple(observed) if sees == "all" else (),
        )


@dataclass(frozen=True)
class RewardFunction:
    """A function and what it declares; calling it calls the function."""

    fn: Callable[..., Any]
    low: float
    """The least that it gives."""
    high: float
    """The most that it gives."""
    sees: Sees = "policy"
    time_limit_s: float = 10.0
    """For one rollout."""
    on_invalid: OnInvalid = "skip"

    def __post_init__(self) -> None:
        """Refuse a range that is none."""
        if not -math.inf < self.low < self.high < math.inf:
            raise ConfigError(
                f"{self.name}: declares a reward from {self.low} to {self.high}, expected finite "
                f"numbers, low below high"
            )
        if not 0 < self.time_limit_s < math.inf:
            raise ConfigError(f"{self.name}: time_limit_s is {self.time_limit_s}, expected > 0")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the function itself."""
        return self.fn(*args, **kwargs)

    @property
    def name(self) -> str:
        """Of the function."""
        return getattr(self.fn, "__name__", type(self.fn).__name__)


def reward(
    *,
    low: float,
    high: float,
    sees: Sees = "policy",
    time_limit_s: float = 10.0,
    on_invalid: OnInvalid = "skip",
) -> Callable[[FunctionT], RewardFunction]:
    """Declare a function as a reward.

    Args:
        low: The least that it gives; less is an error that names the sample.
        high: The most that it gives.
        sees: Whether it reads what tools said.
        time_limit_s: For one rollout.
        on_invalid: What happens where it gives no finite number, or none in time.
    """

    def wrap(function: FunctionT) -> RewardFunction:
        return RewardFunction(function, low, high, sees, time_limit_s, on_invalid)

    return wrap


def declare(function: Callable[..., Any], where: str, **declared: Any) -> RewardFunction:
    """A function with what a recipe says about it, which goes before what it says itself.

    Args:
        function: Declared by `reward` or not.
        where: Its path, for the message.
        declared: Fields of `RewardFunction`; those that are None are not said.

    Raises:
        ConfigError: Neither of them says the range.
    """
    said = {name: value for name, value in declared.items() if value is not None}
    if isinstance(function, RewardFunction):
        return replace(function, **said)
    if missing := {"low", "high"} - said.keys():
        raise ConfigError(
            f"{where}: declares no range; decorate it with mmalign.api.reward(low=..., high=...), "
            f"or write {' and '.join(sorted(missing))} beside its path in the recipe"
        )
    return RewardFunction(function, **said)


def form_of(function: RewardFunction) -> Form:
    """How a reward wants to be called.

    Raises:
        ConfigError: Its parameters are of no known form.
    """
    names = set(inspect.signature(function.fn).parameters)
    for form, wanted in _FORMS:
        if wanted <= names:
            return form
    raise ConfigError(
        f"{function.name}({', '.join(sorted(names))}): not a reward that can be called; expected "
        f"the parameters episode; episodes and history; prompts and completions (TRL); or "
        f"solution_str and ground_truth (verl)"
    )


def setting_names(function: RewardFunction) -> frozenset[str]:
    """Parameters that a recipe may give.

    Raises:
        ConfigError: As `form_of`.
    """
    own = {
        "episode": {"episode"},
        "group": {"episodes", "history"},
        "trl": {"prompts", "completions"},
        "verl": {"data_source", "solution_str", "ground_truth", "extra_info"},
    }[form_of(function)]
    parameters = inspect.signature(function.fn).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return frozenset(p.name for p in parameters if p.kind not in kinds and p.name not in own)


def arguments_of(
    function: RewardFunction, form: Form, episodes: Sequence[Episode], history: JsonDict
) -> dict[str, Any]:
    """What a reward of each form is called with, besides its settings."""
    first = episodes[0]
    match form:
        case "episode":
            return {"episode": first}
        case "group":
            return {"episodes": episodes, "history": history}
        case "verl":
            return {
                "data_source": first.sample.metadata.get("dataset", ""),
                "solution_str": first.text,
                "ground_truth": first.sample.answer,
                "extra_info": dict(first.sample.metadata),
            }
        case "trl":
            return _trl_columns(function, episodes)


def _trl_columns(function: RewardFunction, episodes: Sequence[Episode]) -> dict[str, Any]:
    sample = episodes[0].sample
    prompt = [{"role": m.role, "content": m.text} for m in sample.messages]
    columns = {**sample.metadata, "answer": sample.answer, "solution": sample.answer}
    parameters = inspect.signature(function.fn).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        columns = {name: value for name, value in columns.items() if name in parameters}
    return {
        "prompts": [prompt for _ in episodes],
        "completions": [[{"role": "assistant", "content": e.text}] for e in episodes],
        **{name: [value for _ in episodes] for name, value in columns.items()},
    }
