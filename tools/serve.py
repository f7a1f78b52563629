"""Serve tools over the Model Context Protocol, on standard input and output.

    python -m mmalign.tools.serve mmalign.tools.calculator:calculator
    python -m mmalign.tools.serve mmalign.tools.search:search corpus=docs.jsonl num_documents=1

Each function that builds a tool is followed by its settings. Needs the package `mcp`.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from mmalign.api import ConfigError, MmalignError, RolloutTool, ToolConfig, invoke_tool, load_tools

__all__ = ["main", "serve", "tools_of"]


def tools_of(arguments: Sequence[str]) -> tuple[RolloutTool, ...]:
    """The tools that a command line names.

    Raises:
        ConfigError: It names none, or a setting before the first.
        PluginError: A path leads nowhere.
    """
    configs: list[dict[str, Any]] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            configs.append({"path": argument})
        elif configs:
            configs[-1][key] = yaml.safe_load(value)
        else:
            raise ConfigError(f"{argument!r} stands before the tool that it is a setting of")
    if not configs:
        raise ConfigError("name a function that builds a tool, as in module:function")
    return load_tools([ToolConfig.model_validate(config) for config in configs])


async def serve(tools: Sequence[RolloutTool]) -> None:
    """Answer until the client goes.

    What a call did wrong, a time limit and a tool's own refusal are told to the client as results
    that are errors; a tool that breaks fails its request alone.
    """
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server

    known = {tool.name: tool for tool in tools}

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool(**_described(item.tool)) for item in tools])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        done = await invoke_tool(known, params.name, params.arguments or {})
        parts: list[types.ContentBlock] = [
            types.ImageContent(data=part["base64"], mime_type=part["mime_type"])
            if part["type"] == "image"
            else types.TextContent(text=part["text"])
            for part in done.parts
        ]
        return types.CallToolResult(content=parts, is_error=done.outcome != "ok")

    server = Server("mmalign", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 served, 2 wrong use."""
    try:
        tools = tools_of(arguments)
    except MmalignError as error:
        sys.stderr.write(f"{error}\n{__doc__}")
        return 2
    asyncio.run(serve(tools))
    return 0


def _described(tool: BaseTool) -> dict[str, Any]:
    function = convert_to_openai_tool(tool)["function"]
    return {
        "name": function["name"],
        "description": function["description"],
        "input_schema": function["parameters"],
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
