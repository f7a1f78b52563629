"""The model that a recipe describes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializeAsAny
from pydantic_core import CoreSchema, core_schema

from mmalign.config import Config
from mmalign.errors import ConfigError
from mmalign.models.protocol import ChatModel

if TYPE_CHECKING:
    from mmalign.media import FrameSampling

__all__ = ["ModelConfig", "load_model"]


def load_model(config: "ModelConfig", sampling: "FrameSampling") -> ChatModel:
    """A client of a server, the weights in this process, or what a function builds.

    Raises:
        ConfigError: The settings belong to no backend, or do not fit.
        PluginError: The function of `backend: python` does not exist or builds no model.
    """
    backend = getattr(config, "backend", None)
    if backend == "openai":
        from mmalign.models.openai import OpenAIChatModel, OpenAIModelConfig

        assert isinstance(config, OpenAIModelConfig)
        return OpenAIChatModel(config, sampling)
    if backend == "transformers":
        from mmalign.models.local import TransformersChatModel, TransformersModelConfig

        assert isinstance(config, TransformersModelConfig)
        return TransformersChatModel.load(config, sampling)
    if backend == "python":
        from mmalign.models.python import PythonChatModel, PythonModelConfig

        assert isinstance(config, PythonModelConfig)
        return PythonChatModel.load(config)
    raise ConfigError(
        f"{type(config).__name__}: backend {backend!r} is neither openai nor transformers nor "
        f"python"
    )


def _openai_config() -> type[Config]:
    from mmalign.models.openai import OpenAIModelConfig

    return OpenAIModelConfig


def _transformers_config() -> type[Config]:
    from mmalign.models.local import TransformersModelConfig

    return TransformersModelConfig


def _python_config() -> type[Config]:
    from mmalign.models.python import PythonModelConfig

    return PythonModelConfig


_BACKENDS: dict[str, Callable[[], type[Config]]] = {
    "openai": _openai_config,
    "transformers": _transformers_config,
    "python": _python_config,
}


class _ByBackend:
    """Picks the class by `backend`, and imports only that backend."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_validated, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        classes = [config_class() for config_class in _BACKENDS.values()]
        options = [handler(cls.__pydantic_core_schema__) for cls in classes]
        return {"oneOf": options}


def _validated(value: Any) -> Any:
    if isinstance(value, Config):
        return value
    backend = value.get("backend") if isinstance(value, dict) else None
    if backend not in _BACKENDS:
        raise ValueError(
            f"a model is a mapping with backend: {' or '.join(_BACKENDS)}, found {value!r:.80}"
        )
    return _BACKENDS[backend]().model_validate(value)


ModelConfig = Annotated[SerializeAsAny[Config], _ByBackend()]
"""Settings of a model, discriminated by `backend`."""
