"""A chat model that a function of the user's builds."""

import hashlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict

from mmalign.config import Config, import_plugin
from mmalign.errors import ConfigError, PluginError
from mmalign.models.protocol import Capability, ChatModel, Completion, Sampling, TokenLogprobs
from mmalign.records import Message

__all__ = ["PythonChatModel", "PythonModelConfig"]

_MEMBERS = ("name", "capabilities", "identity", "generate", "score", "close")


class PythonModelConfig(Config):
    """A function that builds the model; its arguments stand beside the path."""

    model_config = ConfigDict(frozen=True, extra="allow")

    backend: Literal["python"] = "python"
    path: str
    """`package.module:function`."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything but backend and path."""
        return dict(self.model_extra or {})


class PythonChatModel:
    """The user's model; its identity also says what built it, from which source, with what."""

    def __init__(self, model: ChatModel, identity: Mapping[str, Any]) -> None:
        self._model = model
        self._identity = dict(identity)

    @classmethod
    def load(cls, config: PythonModelConfig) -> "PythonChatModel":
        """Call the function.

        Raises:
            PluginError: It does not exist, or what it builds is no `ChatModel`.
            ConfigError: Its arguments are others.
        """
        factory = import_plugin(config.path)
        try:
            inspect.signature(factory).bind(**config.arguments)
        except TypeError as error:
            raise ConfigError(
                f"{config.path} takes {inspect.signature(factory)}: {error}. Give what it takes "
                f"beside path"
            ) from error
        model = factory(**config.arguments)
        if missing := [name for name in _MEMBERS if not hasattr(model, name)]:
            raise PluginError(
                f"{config.path} built a {type(model).__name__} without {', '.join(missing)}; it "
                f"must return a ChatModel, which has {', '.join(_MEMBERS)}"
            )
        identity = {
            "backend": "python",
            "path": config.path,
            "arguments": config.arguments,
            "version": _source_hash(config.path),
        }
        return cls(model, identity)

    @property
    def name(self) -> str:
        """As the model says."""
        return self._model.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """As the model says."""
        return self._model.capabilities

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the model says, and path, arguments and source of its function."""
        return {**self._model.identity, **self._identity}

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        sampling: Sampling = Sampling(),
        tools: Sequence[str] = (),
        response_schema: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> tuple[Completion, ...]:
        """The model's answers."""
        return await self._model.generate(
            messages,
            n=n,
            sampling=sampling,
            tools=tools,
            response_schema=response_schema,
            seed=seed,
        )

    async def score(self, messages: Sequence[Message], completion: str) -> TokenLogprobs:
        """The model's log-probabilities."""
        return await self._model.score(messages, completion)

    async def close(self) -> None:
        """Close the model."""
        await self._model.close()


def _source_hash(path: str) -> str:
    """Of the module's text, so that a model that was rewritten is asked anew."""
    module = sys.modules[path.partition(":")[0]]
    return hashlib.blake2b(inspect.getsource(module).encode(), digest_size=16).hexdigest()
