"""What a policy did with its tools on one question, token by token."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mmalign.records.base import JsonDict, Record
from mmalign.records.lineage import Lineage

__all__ = ["Rollout", "Segment", "Stop", "ToolOutcome", "ToolRun"]

SegmentKind = Literal["policy", "observation", "hint"]

Stop = Literal["answer", "end", "max_turns", "max_tool_calls", "length", "time", "error"]
"""`answer`: in the form that was asked for; `end`: the turn was ended without one; `length`: the
token budget; `error`: the machine's fault, so the rollout says nothing about the policy."""

ToolOutcome = Literal["ok", "error", "timeout", "unknown_tool", "invalid_arguments", "refused"]
"""`refused`: over the budget of calls, so the tool was never asked."""


class Segment(Record):
    """Tokens in a row that one author wrote."""

    kind: SegmentKind
    """policy: sampled; observation: a tool's; hint: the loop's own words to the policy."""
    token_ids: tuple[int, ...]
    """As they were sampled or spliced in; never tokenised again."""
    logps: tuple[float, ...] | None = None
    """Nats of the sampled tokens in the policy's own distribution; None where nobody sampled."""
    text: str
    """What the tokens say, for people."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.logps is not None) != (self.kind == "policy"):
            raise ValueError(f"a {self.kind} segment has logps: {self.logps is not None}")
        if self.logps is not None and len(self.logps) != len(self.token_ids):
            raise ValueError(f"{len(self.token_ids)} token_ids, {len(self.logps)} logps")
        return self


class ToolRun(Record):
    """One call that the policy wrote."""

    tool: str
    arguments: str
    """JSON text, or what was written where it is none."""
    outcome: ToolOutcome
    output: str = ""
    """What the policy was shown of it."""
    seconds: float = Field(default=0.0, ge=0)
    cost: float = Field(default=0.0, ge=0)
    """By the recipe's price of the tool."""

    @property
    def is_executed(self) -> bool:
        """Whether the tool was really asked."""
        return self.outcome in ("ok", "error", "timeout")


class Rollout(Record):
    """One way through a question: prompt, then segments."""

    sample_id: str = Field(min_length=1)
    draw_index: int = Field(ge=0)
    """Which of the sample's rollouts of this step."""
    num_prompt_tokens: int = Field(ge=0)
    segments: tuple[Segment, ...]
    tool_runs: tuple[ToolRun, ...] = ()
    stop: Stop
    answer: str | None = None
    """The final answer, where the format found one."""
    rewards: dict[str, float | None] = {}
    """By the reward's name; None where it does not apply or failed."""
    reward: float | None = None
    """Their weighted sum; None leaves the rollout out of its group."""
    advantage: float | None = None
    metadata: JsonDict = {}
    lineage: Lineage

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Everything behind the prompt."""
        return tuple(token for segment in self.segments for token in segment.token_ids)

    @property
    def mask(self) -> tuple[bool, ...]:
        """Of `token_ids`: whether the policy sampled it, and so whether it may carry loss."""
        return tuple(
            segment.kind == "policy" for segment in self.segments for _ in segment.token_ids
        )

    @property
    def text(self) -> str:
        """All segments."""
        return "".join(segment.text for segment in self.segments)

    @property
    def policy_text(self) -> str:
        """What the policy wrote, and nothing that a tool did."""
        return "".join(segment.text for segment in self.segments if segment.kind == "policy")

    @property
    def num_tool_calls(self) -> int:
        """Calls that were executed."""
        return sum(run.is_executed for run in self.tool_runs)
