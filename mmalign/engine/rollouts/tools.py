"""Tools of a rollout: how a recipe names them, how a policy's call is run."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    "expanded",
    "load_tools",
    "only_argument",
    "output_text",
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


def load_tools(configs: Sequence[ToolConfig]) -> tuple[RolloutTool, ...]:
    """The tools that a recipe names.

    Raises:
        PluginError: A path leads to no tool and to no function that builds one.
        ConfigError: Two tools of one name, or arguments that the function does not take.
    """
    tools = tuple(RolloutTool(_load(item), item.price, item.timeout_s) for item in configs)
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


async def run_call(tools: Mapping[str, RolloutTool], call: Call) -> ToolRun:
    """The outcome of one call: what the policy did wrong is told to the policy.

    Raises:
        Exception: The machine failed, or the tool; nothing that the policy could mend.
    """
    tool = tools.get(call.tool)
    if tool is None:
        known = ", ".join(sorted(tools))
        return _unrun(call, "unknown_tool", f"There is no tool {call.tool!r}; there are: {known}.")
    arguments, problem = _read_arguments(call)
    if problem:
        return _unrun(call, "invalid_arguments", problem)
    started_s = time.monotonic()
    outcome: ToolOutcome = "ok"
    try:
        async with asyncio.timeout(tool.timeout_s):
            output = output_text(await tool.tool.ainvoke(arguments))
    except ValidationError as error:
        if error.title != _schema_title(tool.tool):
            raise
        return _unrun(call, "invalid_arguments", _explained(error))
    except TimeoutError:
        outcome, output = "timeout", f"The call took longer than {tool.timeout_s:g} s."
    except (ToolError, ToolException) as error:
        outcome, output = "error", str(error)
    seconds = time.monotonic() - started_s
    return ToolRun(
        tool=call.tool,
        arguments=call.arguments,
        outcome=outcome,
        output=output,
        seconds=seconds,
        cost=tool.price,
    )


def output_text(result: Any) -> str:
    """What of a tool's result can be read: media are named by their kind only."""
    if isinstance(result, str):
        return result
    if isinstance(result, list) and all(
        isinstance(part, dict) and "type" in part for part in result
    ):
        return "\n".join(part.get("text", f"[{part['type']}]") for part in result)
    return json.dumps(result, ensure_ascii=False, default=str)


def _load(config: ToolConfig) -> BaseTool:
    found = import_plugin(config.path)
    if isinstance(found, BaseTool) and not config.arguments:
        return found
    if isinstance(found, BaseTool):
        raise ConfigError(f"{config.path} is a tool, it takes none of {sorted(config.arguments)}")
    try:
        built = found(**config.arguments)
    except TypeError as error:
        raise ConfigError(f"{config.path} cannot be built: {error}") from error
    if not isinstance(built, BaseTool):
        raise PluginError(
            f"{config.path} gave a {type(built).__name__}; it must be a LangChain tool or a "
            f"function that builds one"
        )
    return built


def _read_arguments(call: Call) -> tuple[dict[str, Any], str]:
    if call.problem:
        return {}, call.problem
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError) as error:
        return {}, f"The arguments are no JSON: {error}."
    if not isinstance(arguments, dict):
        return {}, f"The arguments are a {type(arguments).__name__}, expected an object."
    return arguments, ""


def _unrun(call: Call, outcome: ToolOutcome, output: str) -> ToolRun:
    return ToolRun(tool=call.tool, arguments=call.arguments, outcome=outcome, output=output)


def _schema_title(tool: BaseTool) -> str:
    schema = tool.get_input_schema()
    return str(schema.model_config.get("title") or schema.__name__)


def _explained(error: ValidationError) -> str:
    parts = [
        f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}"
        for item in error.errors(include_url=False, include_context=False)
    ]
    return f"The arguments do not fit: {'; '.join(parts)}."
