"""A recipe whose models are a fake server, and a run folder with pairs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmalign.testing.demo_run import write_demo_run
from mmalign.testing.fake_server import FakeOpenAIServer, FakeRequest

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def server() -> Iterator[FakeOpenAIServer]:
    def answer(request: FakeRequest) -> str:
        return f"answer {request.index} to {request.text}"

    with FakeOpenAIServer(answer) as running:
        yield running


@pytest.fixture
def write_recipe(tmp_path: Path, server: FakeOpenAIServer) -> Write:
    """Writes a recipe that builds, scores and reports; keywords replace sections."""

    def write(**sections: Any) -> Path:
        policy = {"backend": "openai", "model": "fake", "base_url": server.base_url}
        recipe = {
            "output_dir": str(tmp_path / "run"),
            "dataset": {"path": "mmalign.testing.agents:numbered_samples", "num_samples": 8},
            "agent": {"path": "mmalign.testing.agents:build_graph", "drop_every": 3},
            "models": {"policy": {**policy, "api_key_env": None, "max_retries": 0}},
            **sections,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in recipe.items() if v is not None}))
        return path

    return write


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_run(tmp_path_factory.mktemp("demo") / "run", num_pairs=6)
