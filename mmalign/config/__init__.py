"""Validated configuration: the base class of every component's settings, YAML and overrides."""

from mmalign.config.base import Config
from mmalign.config.load import apply_overrides, import_plugin, load_yaml, validate

__all__ = ["Config", "apply_overrides", "import_plugin", "load_yaml", "validate"]
