"""Which model a recipe gets."""

import asyncio
import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from mmalign.config import Config, validate
from mmalign.errors import ConfigError, PluginError
from mmalign.media import FrameSampling
from mmalign.models import ModelConfig, load_model
from mmalign.models.openai import OpenAIChatModel, OpenAIModelConfig
from mmalign.models.protocol import ChatModel
from mmalign.records import user


class Recipe(Config):
    models: dict[str, ModelConfig]


OPENAI = {"backend": "openai", "model": "m", "max_retries": 2}


def test_backend_picks_the_class() -> None:
    recipe = validate(Recipe, {"models": {"policy": OPENAI}}, "recipe.yaml")
    policy = recipe.models["policy"]
    assert isinstance(policy, OpenAIModelConfig)
    assert policy.max_retries == 2
    assert recipe.model_dump()["models"]["policy"]["max_retries"] == 2
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_an_unknown_backend_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="openai or transformers"):
        validate(Recipe, {"models": {"policy": {"backend": "carrier pigeon"}}}, "recipe.yaml")


def test_an_unknown_key_is_refused_with_its_place() -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"models": {"policy": {**OPENAI, "max_retrys": 2}}})
    assert "max_retrys" in str(caught.value)


def test_openai_settings_load_a_client() -> None:
    config = TypeAdapter(ModelConfig).validate_python(OPENAI)
    model = load_model(config, FrameSampling())
    assert isinstance(model, OpenAIChatModel)
    assert model.name == "m"


def test_other_settings_are_no_model() -> None:
    with pytest.raises(ConfigError, match="neither openai nor transformers"):
        load_model(Config(), FrameSampling())


def test_the_json_schema_shows_every_backend() -> None:
    shown = Recipe.model_json_schema()
    text = str(shown)
    assert "breaker_failures" in text
    assert "'const': 'openai'" in text
    assert "'const': 'transformers'" in text
    for ref in re.findall(r"'\$ref': '#/\$defs/(\w+)'", text):
        assert ref in shown["$defs"]


FACTORIES = """
from types import SimpleNamespace

from mmalign.testing.models import ScriptedModel


def shouting(text: str, *, times: int = 1) -> ScriptedModel:
    return ScriptedModel(script=lambda call, draw: text.upper() * times, identity={"own": 1})


def half() -> object:
    return SimpleNamespace(name="half", generate=None)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "factories_of_a_user"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def python_model(path: str, **arguments: Any) -> ChatModel:
    config = TypeAdapter(ModelConfig).validate_python(
        {"backend": "python", "path": path, **arguments}
    )
    return load_model(config, FrameSampling())


def test_a_function_builds_any_model(factories: str) -> None:
    model = python_model(f"{factories}:shouting", text="hm", times=2)
    assert isinstance(model, ChatModel)
    (completion,) = asyncio.run(model.generate([user("?")]))
    assert completion.text == "HMHM"
    assert asyncio.run(model.score([user("?")], "a b")).tokens == ("a", "b")
    assert (model.name, "schema" in model.capabilities) == ("scripted@1", True)
    asyncio.run(model.close())


def test_the_ledger_can_tell_models_of_python_apart(factories: str) -> None:
    model = python_model(f"{factories}:shouting", text="hm")
    assert model.identity == {
        "own": 1,
        "backend": "python",
        "path": f"{factories}:shouting",
        "arguments": {"text": "hm"},
        "version": hashlib.blake2b(FACTORIES.encode(), digest_size=16).hexdigest(),
    }


@pytest.mark.parametrize(
    ("function", "arguments", "error", "said"),
    [
        ("nobody", {}, PluginError, "has no function 'nobody'"),
        ("shouting", {}, ConfigError, r"takes \(text: str, .*missing a required argument: 'text'"),
        ("shouting", {"text": "x", "loud": 1}, ConfigError, "unexpected keyword argument 'loud'"),
        ("half", {}, PluginError, "without capabilities, identity, score, close"),
    ],
)
def test_what_is_no_model_is_refused(
    function: str, arguments: dict[str, Any], error: type[Exception], said: str, factories: str
) -> None:
    with pytest.raises(error, match=said):
        python_model(f"{factories}:{function}", **arguments)
