"""Which model a recipe gets."""

import re

import pytest
from pydantic import TypeAdapter, ValidationError

from mmalign.config import Config, validate
from mmalign.errors import ConfigError
from mmalign.media import FrameSampling
from mmalign.models import ModelConfig, load_model
from mmalign.models.openai import OpenAIChatModel, OpenAIModelConfig


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
