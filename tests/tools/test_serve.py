"""Tools over the Model Context Protocol: a real client, a real process."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign.api import ConfigError, write_video
from mmalign.errors import PluginError
from mmalign.testing.packages import require_package
from mmalign.tools.serve import main, tools_of


def test_client_lists_calls_and_is_told_what_was_wrong(tmp_path: Path) -> None:
    require_package("mcp")
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters

    frames = np.full((8, 32, 32, 3), 90, dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames, 4.0)
    (tmp_path / "docs.jsonl").write_text(json.dumps({"id": 1, "title": "T", "text": "red fox"}))
    arguments = [
        "-m",
        "mmalign.tools.serve",
        "mmalign.tools.calculator:calculator",
        "mmalign.tools.search:search",
        f"corpus={tmp_path / 'docs.jsonl'}",
        "num_documents=1",
        "mmalign.tools.video:look_at_frame",
        f"root={tmp_path}",
    ]
    env = dict(os.environ) | {"MMALIGN_CACHE_DIR": str(tmp_path / "cache")}
    server = StdioServerParameters(command=sys.executable, args=arguments, env=env)

    async def talk() -> tuple[Any, list[Any]]:
        async with Client(server) as client:
            listed = await client.list_tools()
            said = [
                await client.call_tool("calculator", {"expression": "6 * 7"}),
                await client.call_tool("calculator", {"expression": "1 / 0"}),
                await client.call_tool("calculator", {}),
                await client.call_tool("search", {"query": "fox"}),
                await client.call_tool("look_at_frame", {"video": "clip.mp4", "time_s": 1.0}),
            ]
            return listed, said

    listed, said = asyncio.run(talk())
    schemas = {item.name: item.input_schema for item in listed.tools}
    assert sorted(schemas) == ["calculator", "look_at_frame", "search"]
    assert schemas["search"]["required"] == ["query"]
    assert "a question" in schemas["search"]["properties"]["query"]["description"]
    texts = [result.content[0].text for result in said]
    assert texts[0] == "42"
    assert texts[1] == "Error: '1 / 0' has no value: division by zero"
    assert "expression: Field required" in texts[2]
    assert texts[3] == "Doc 1(Title: T) red fox"
    assert [bool(result.is_error) for result in said] == [False, True, True, False, False]
    assert [part.type for part in said[4].content] == ["text", "image"]
    assert said[4].content[1].mime_type == "image/png"


def test_command_line_names_tools_and_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    tools = tools_of(["mmalign.tools.calculator:calculator", "timeout_s=2", "price=0.5"])
    assert [(item.name, item.timeout_s, item.price) for item in tools] == [("calculator", 2, 0.5)]
    with pytest.raises(ConfigError, match="stands before the tool"):
        tools_of(["corpus=docs.jsonl"])
    with pytest.raises(ConfigError, match="name a function"):
        tools_of([])
    with pytest.raises(PluginError, match="did you mean 'calculator'"):
        tools_of(["mmalign.tools.calculator:calculater"])
    assert main([]) == 2
    assert "python -m mmalign.tools.serve" in capsys.readouterr().err
