"""Read a YAML recipe, apply `key=value` overrides, import what it names."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mmalign.config.base import Config
from mmalign.errors import ConfigError, PluginError

__all__ = ["apply_overrides", "import_plugin", "load_yaml", "validate"]

ConfigT = TypeVar("ConfigT", bound=Config)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a recipe holds.

    Raises:
        ConfigError: The file is missing, is not YAML, or does not hold a mapping.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such recipe; configs/ holds one per method") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: holds a {type(value).__name__}, expected a mapping of keys")
    return value


def apply_overrides(recipe: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The recipe with `a.b=value` overrides; values are read as YAML.

    Raises:
        ConfigError: An override has no `=`, or its path runs through a value.
    """
    merged: dict[str, Any] = _copy(recipe)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"override {override!r}: write key=value, as in trainer.max_steps=20")
        try:
            _put(merged, path.split("."), yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ConfigError(f"override {override!r}: {text!r} is not YAML: {error}") from error
        except (LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"override {override!r}: the recipe has no such place; a section is entered by "
                f"name, a list by number, as in dataset.0.num_samples=50"
            ) from error
    return merged


def validate(config_class: type[ConfigT], values: Mapping[str, Any], where: str) -> ConfigT:
    """The settings as an object of their class.

    Raises:
        ConfigError: A key is unknown (with the nearest known one) or a value does not fit.
    """
    try:
        return config_class.model_validate(values)
    except ValidationError as error:
        lines = [_explain(config_class, item) for item in error.errors(include_url=False)]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error


def import_plugin(path: str) -> Callable[..., Any]:
    """The function that `package.module:name` names.

    Raises:
        PluginError: The module or the name in it does not exist, or it is not callable.
    """
    module_name, colon, name = path.partition(":")
    if not colon:
        raise PluginError(
            f"{path!r}: write package.module:function, as in mmalign.agents.rrpo:build_graph"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise PluginError(f"{path!r}: cannot import {module_name}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        near = get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PluginError(f"{path!r}: {module_name} has no function {name!r}{hint}")
    return found  # type: ignore[no-any-return]  # callable() narrows an attribute to object


def _put(place: Any, path: Sequence[str], value: Any) -> None:
    """Set the value at a path of keys and list positions; missing sections are made."""
    first, *rest = path
    if isinstance(place, list):
        if rest:
            _put(place[int(first)], rest, value)
        else:
            place[int(first)] = value
    elif not rest:
        place[first] = value
    else:
        _put(place.setdefault(first, {}), rest, value)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _explain(config_class: type[BaseModel], item: Mapping[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    path = ".".join(location)
    if item["type"] != "extra_forbidden":
        return f"{path or 'recipe'}: {item['msg']} (found {item['input']!r})"
    owner = _class_at(config_class, location[:-1])
    known = sorted(owner.model_fields) if owner else []
    near = get_close_matches(location[-1], known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return f"{path}: unknown key; {hint}"


def _class_at(config_class: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = config_class
    for name in location:
        field = current.model_fields.get(name) if current else None
        candidates = [] if field is None else [field.annotation, *get_args(field.annotation)]
        current = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None
        )
    return current
