"""langgraph.json names factories that LangGraph's tools can load and run."""

import asyncio
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from langgraph.graph.state import CompiledStateGraph

from mmalign.errors import ConfigError
from mmalign.testing.fake_server import FakeOpenAIServer
from mmalign.testing.packages import require_package

ROOT = Path(__file__).parents[2]
GRAPHS: dict[str, str] = json.loads((ROOT / "langgraph.json").read_text())["graphs"]


@pytest.fixture
def server() -> Iterator[FakeOpenAIServer]:
    with FakeOpenAIServer(["one", "two", "three", "four", "five", "six"]) as running:
        yield running


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, server: FakeOpenAIServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    policy = {"backend": "openai", "model": "fake", "base_url": server.base_url}
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "output_dir": str(tmp_path / "run"),
                "dataset": {"path": "mmalign.testing.recipes:arithmetic", "num_samples": 2},
                "agent": {"path": "mmalign.testing.agents:build_graph", "drop_every": 0},
                "models": {"policy": {**policy, "api_key_env": None}},
            }
        )
    )
    monkeypatch.setenv("MMALIGN_CONFIG", str(path))
    return path


def open_graph(name: str) -> CompiledStateGraph[Any, Any, Any, Any]:
    """As LangGraph's server does: import, call, await."""
    module, _, factory = GRAPHS[name].partition(":")
    graph = asyncio.run(getattr(importlib.import_module(module), factory)())
    assert isinstance(graph, CompiledStateGraph)
    return graph


def test_the_file_is_valid() -> None:
    require_package("langgraph_cli")
    from langgraph_cli.config import validate_config_file

    assert validate_config_file(ROOT / "langgraph.json")["graphs"] == GRAPHS


def test_the_agent_runs_on_a_sample_of_the_recipe_and_writes_json() -> None:
    written = asyncio.run(open_graph("agent").ainvoke({"number": 1}))
    (pair,) = written["records"]
    assert pair["sample_id"] == "sum-1"
    assert pair["chosen"]["messages"][0]["content"][0]["text"] == "two"
    json.dumps(written)


def test_the_agent_runs_on_a_sample_that_is_given() -> None:
    sample = {
        "id": "mine",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}]}],
        "metadata": {"number": 1},
    }
    written = asyncio.run(open_graph("agent").ainvoke({"sample": sample}))
    assert written["records"][0]["sample_id"] == "mine"


@pytest.mark.parametrize("name", GRAPHS)
def test_studio_can_ask_for_the_form_of_the_input(name: str) -> None:
    form = open_graph(name).get_input_jsonschema()
    assert set(form["properties"]) == ({"number", "sample"} if name == "agent" else {"result"})


def test_the_agents_own_nodes_are_drawn() -> None:
    drawn = open_graph("agent").get_graph(xray=True).draw_mermaid()
    assert "caption" in drawn
    assert "judge" in drawn


def test_opening_a_graph_asks_no_model(server: FakeOpenAIServer, tmp_path: Path) -> None:
    open_graph("agent")
    open_graph("run")
    assert server.requests == []
    assert not (tmp_path / "run").exists()


def test_the_run_graph_works_through_the_stages(tmp_path: Path) -> None:
    written = asyncio.run(open_graph("run").ainvoke({}))
    assert written["result"]["num_pairs"] == 2
    assert (tmp_path / "run" / "report" / "index.html").exists()


def test_a_number_outside_the_data_set_is_named() -> None:
    with pytest.raises(ConfigError, match="has no sample 5"):
        asyncio.run(open_graph("agent").ainvoke({"number": 5}))


def test_a_recipe_without_an_agent_is_refused(recipe: Path) -> None:
    values = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({k: v for k, v in values.items() if k != "agent"}))
    with pytest.raises(ConfigError, match="names no agent"):
        open_graph("agent")
