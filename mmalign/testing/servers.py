"""A client of the fake server, as tests want it: patient enough, and quick."""

from typing import Any

from mmalign.media import FrameSampling
from mmalign.models.openai import OpenAIChatModel, OpenAIModelConfig
from mmalign.testing.fake_server import FakeOpenAIServer

__all__ = ["client_of"]


def client_of(server: FakeOpenAIServer, **settings: Any) -> OpenAIChatModel:
    """A model of the fake server that wants no key and retries after milliseconds."""
    values: dict[str, Any] = {
        "model": "fake",
        "base_url": server.base_url,
        "api_key_env": None,
        "first_wait_s": 0.005,
        "max_retries": 3,
        "timeout_s": 10.0,
        **settings,
    }
    return OpenAIChatModel(OpenAIModelConfig(**values), FrameSampling(num_frames=4))
