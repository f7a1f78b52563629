"""Recipes: YAML, overrides, unknown keys."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from mmalign.config import Config, apply_overrides, import_plugin, load_yaml, validate
from mmalign.errors import ConfigError, PluginError


class Optimiser(Config):
    learning_rate: Annotated[float, Field(gt=0)] = 1.0


class Recipe(Config):
    trainer: Optimiser = Optimiser()
    names: tuple[str, ...] = ()


def test_overrides_replace_values_at_any_depth_and_leave_the_recipe_alone() -> None:
    recipe = {"trainer": {"learning_rate": 1.0}, "dataset": [{"split": "train"}, {"path": "b"}]}
    merged = apply_overrides(
        recipe, ["trainer.learning_rate=2e-4", "dataset.0.split=test", "seed=3", "lora.lora_r=8"]
    )
    assert merged == {
        "trainer": {"learning_rate": "2e-4"},  # YAML 1.1 wants 2.0e-4; pydantic reads both
        "dataset": [{"split": "test"}, {"path": "b"}],
        "seed": 3,
        "lora": {"lora_r": 8},
    }
    assert recipe["dataset"] == [{"split": "train"}, {"path": "b"}]
    assert validate(Recipe, {"trainer": merged["trainer"]}, "here").trainer.learning_rate == 2e-4


@pytest.mark.parametrize("override", ["seed.deep=1", "dataset.split=test", "dataset.7.split=test"])
def test_an_override_of_a_place_that_is_not_there_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="the recipe has no such place"):
        apply_overrides({"seed": 1, "dataset": [{"split": "train"}]}, [override])


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="write key=value"):
        apply_overrides({}, ["trainer.max_steps"])


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"here: trainer.learning_rat: unknown key; did you mean"):
        validate(Recipe, {"trainer": {"learning_rat": 1}}, "here")


def test_a_value_out_of_range_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"trainer.learning_rate: .*greater than 0.*found -1"):
        validate(Recipe, {"trainer": {"learning_rate": -1}}, "here")


def test_files_that_are_no_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such recipe"):
        load_yaml(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds a list, expected a mapping"):
        load_yaml(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(tmp_path / "broken.yaml")


def test_plugins_that_are_not_there_are_named() -> None:
    with pytest.raises(PluginError, match=r"cannot import mmalign\.agents\.rrpoo"):
        import_plugin("mmalign.agents.rrpoo:build_graph")
    with pytest.raises(PluginError, match=r"no function 'build_grph'; did you mean 'build_graph'"):
        import_plugin("mmalign.agents.rrpo:build_grph")
    with pytest.raises(PluginError, match=r"write package\.module:function"):
        import_plugin("rrpo")
