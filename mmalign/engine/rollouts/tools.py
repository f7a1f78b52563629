"""Tools of a rollout: how a recipe names them, how a policy's call is run."""

import asyncio
import inspect
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_core.tools import BaseTool, ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ValidationError

from mmalign.config import import_plugin
from mmalign.engine.rollouts.config import RolloutConfig, ToolConfig
from mmalign.errors import ConfigError, PluginError, ToolError
from mmalign.records import ToolRun
from mmalign.records.rollouts import ToolOutcome

__all__ = [
    "Call",
    "RolloutTool",
    "ToolResult",
    "expanded",
    "invoke_tool",
    "load_tools",
    "only_argument",
    "run_call",
    "tool_schemas",
]


@dataclass(frozen=True)
class RolloutTool:
    """A LangChain tool with what a call costs."""

    tool: BaseTool
    price: float = 0.0
    timeout_s: float = 20.0

    @property
    def name(self) -> str:
        """By which the policy calls it."""
        return self.tool.name


@dataclass(frozen=True)
class Call:
    """What a policy asks for."""

    tool: str
    arguments: str
    """JSON text."""
    problem: str = ""
    """Why it cannot be run, where the format already knows."""


def load_tools(configs: Sequence[ToolConfig], **given: Any) -> tuple[RolloutTool, ...]:
    """The tools that a recipe names.

    Args:
        configs: The functions that build them.
        given: What the run has at hand (`sandbox`), for those functions that ask for it by name.

    Raises:
        PluginError: A path leads to no function that builds a tool.
        ConfigError: Two tools of one name, or arguments that the function does not take.
    """
    tools = tuple(RolloutTool(_load(item, given), item.price, item.timeout_s) for item in configs)
    names = [tool.name for tool in tools]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"tools: two are named {', '.join(sorted(doubled))}; name them apart")
    return tools


def tool_schemas(tools: Sequence[RolloutTool], config: RolloutConfig) -> tuple[str, ...]:
    """What the chat template is told of the tools, as JSON text; nothing by other formats."""
    if config.format != "template":
        return ()
    return tuple(json.dumps(convert_to_openai_tool(item.tool)) for item in tools)


def only_argument(tool: BaseTool) -> str:
    """The name of the one argument that a tool wants.

    Raises:
        ConfigError: It wants none, or several.
    """
    schema = convert_to_openai_tool(tool)["function"]["parameters"]
    names = list(schema["properties"])
    required = schema.get("required", [])
    if len(required) == 1 or len(names) == 1:
        return str((required or names)[0])
    raise ConfigError(
        f"tool {tool.name!r} wants {', '.join(names) or 'no arguments'}; between two tags stands "
        f"one argument. Use format: template, or a tool that wants one"
    )


def expanded(call: Call) -> list[Call]:
    """One call for each item of a list, where that is all that the call gives.

    Several queries in one call would otherwise count as one.
    """
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return [call]
    lists = (
        [key for key, value in arguments.items() if isinstance(value, list)]
        if isinstance(arguments, dict) and len(arguments) == 1
        else []
    )
    if not lists or len(arguments[lists[0]]) < 2:
        return [call]
    return [
        Call(call.tool, json.dumps({lists[0]: [item]}), call.problem)
        for item in arguments[lists[0]]
    ]


class ToolResult(NamedTuple):
    """What became of a call."""

    outcome: ToolOutcome
    parts: Sequence[Mapping[str, Any]]
    """LangChain's content blocks."""
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """What of it can be read: media are named by their kind only."""
        return "\n".join(str(part.get("text", f"[{part['type']}]")) for part in self.parts)


async def run_call(tools: Mapping[str, RolloutTool], call: Call) -> ToolRun:
    """The outcome of one call: what the policy did wrong is told to the policy.

    Raises:
        Exception: The machine failed, or the tool; nothing that the policy could mend.
    """
    arguments, problem = _read_arguments(call)
    if problem:
        result = _told("invalid_arguments", problem)
    else:
        result = await invoke_tool(tools, call.tool, arguments)
    run = ToolRun(
        tool=call.tool,
        arguments=call.arguments,
        outcome=result.outcome,
        output=result.text,
        seconds=result.seconds,
    )
    return run.model_copy(update={"cost": tools[call.tool].price}) if run.is_executed else run


async def invoke_tool(
    tools: Mapping[str, RolloutTool], name: str, arguments: Mapping[str, Any]
) -> ToolResult:
    """What a tool says, or what was wrong with the call.

    Raises:
        Exception: As `run_call`.
    """
    if name not in tools:
        known = ", ".join(sorted(tools))
        return _told("unknown_tool", f"there is no tool {name!r}; there are: {known}")
    tool = tools[name]
    started_s = time.monotonic()
    try:
        async with asyncio.timeout(tool.timeout_s):
            said = await tool.tool.ainvoke(dict(arguments))
        result = ToolResult("ok", _parts(said))
    except ValidationError as error:
        if error.title != _schema_title(tool.tool):
            raise
        result = _told("invalid_arguments", _explained(error))
    except TimeoutError:
        result = _told("timeout", f"the call took longer than {tool.timeout_s:g} s")
    except (ToolError, ToolException) as error:
        result = _told("error", str(error))
    return result._replace(seconds=time.monotonic() - started_s)


def _load(config: ToolConfig, given: Mapping[str, Any]) -> BaseTool:
    build = import_plugin(config.path)
    try:
        wanted = inspect.signature(build).parameters
        built = build(**config.arguments, **{k: v for k, v in given.items() if k in wanted})
    except TypeError as error:
        raise ConfigError(f"{config.path} cannot be built: {error}") from error
    if not isinstance(built, BaseTool):
        raise PluginError(
            f"{config.path} gave a {type(built).__name__}; it must be a function that builds a "
            f"LangChain tool"
        )
    return built


def _read_arguments(call: Call) -> tuple[dict[str, Any], str]:
    if call.problem:
        return {}, call.problem
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError) as error:
        return {}, f"the arguments are no JSON: {error}"
    if not isinstance(arguments, dict):
        return {}, f"the arguments are a {type(arguments).__name__}, expected an object"
    return arguments, ""


def _told(outcome: ToolOutcome, problem: str) -> ToolResult:
    return ToolResult(outcome, [{"type": "text", "text": f"Error: {problem}"}])


def _parts(said: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(said, list) and all(isinstance(part, dict) and "type" in part for part in said):
        return said
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, default=str)
    return [{"type": "text", "text": text}]


def _schema_title(tool: BaseTool) -> str:
    schema = tool.get_input_schema()
    return str(getattr(schema, "model_config", {}).get("title") or schema.__name__)


def _explained(error: ValidationError) -> str:
    parts = [
        f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}"
        for item in error.errors(include_url=False, include_context=False)
    ]
    return f"the arguments do not fit: {'; '.join(parts)}"
