"""How a policy is let loose on a question: format, tools, budgets."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from mmalign.config import Config

__all__ = ["RolloutConfig", "RolloutFormat", "ToolConfig"]

RolloutFormat = Literal["none", "search_r1", "torl", "template"]


class ToolConfig(Config):
    """A tool that the policy may call; arguments of the function that builds it stand beside."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    path: str
    """`package.module:function` that builds a LangChain tool."""
    price: float = Field(default=0.0, ge=0)
    """Cost of a call, in the unit of the others."""
    timeout_s: float = Field(default=20.0, gt=0)
    """Of one call; a call that takes longer is told to the policy. Source: ToRL's executor."""

    @property
    def arguments(self) -> dict[str, Any]:
        """What the function that builds the tool is given."""
        return dict(self.model_extra or {})


class RolloutConfig(Config):
    """Group, format, tools and budgets of a policy's rollouts."""

    num_generations: int = Field(default=8, ge=1)
    """Rollouts of one prompt: the group."""
    format: RolloutFormat = "none"
    """none: one turn without tools; search_r1: tags named as the tool (Search-R1); torl: Python
    blocks (ToRL); template: the calls of the tokenizer's own chat template."""
    tools: tuple[ToolConfig, ...] = ()
    prompt: str | None = None
    """Instruction that holds `{question}`, or the name of a Markdown file with it; None: the
    format's own."""
    max_turns: int = Field(default=5, ge=1)
    """Turns of the policy; what it calls in the last one is refused. Source: Search-R1's loop
    executes in 4 turns and lets the policy answer in one more."""
    max_tool_calls: int | None = Field(default=None, ge=0)
    """Calls that are executed; None: as many as the turns allow."""
    max_completion_length: int = Field(default=2048, ge=1)
    """Tokens behind the prompt: the policy's, the tools' and the hints'."""
    max_turn_length: int = Field(default=500, ge=1)
    """Tokens of one turn of the policy. Source: Search-R1."""
    max_observation_length: int = Field(default=500, ge=1)
    """Tokens of what is shown of a turn's tools, without what is put around it. Source:
    Search-R1."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Of one rollout. A budget of time makes rollouts depend on the machine."""
    max_concurrent: int = Field(default=256, ge=1)
    """Rollouts under way at once."""
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _has_what_it_calls(self) -> "RolloutConfig":
        if self.format == "none" and self.tools:
            raise ValueError(
                f"format: none calls no tools, but tools names {len(self.tools)}; choose "
                f"search_r1, torl or template, or take them out"
            )
        if self.format != "none" and not self.tools:
            raise ValueError(f"format: {self.format} calls tools, but tools names none")
        if self.format == "torl" and len(self.tools) != 1:
            raise ValueError(f"format: torl runs Python alone, but tools names {len(self.tools)}")
        return self
