"""Validated configuration: the base class of every component's settings, YAML and overrides."""

from mmalign.config.base import Config
from mmalign.config.load import apply_overrides, import_plugin, load_yaml, validate
from mmalign.config.method import Method

__all__ = ["Config", "Method", "apply_overrides", "import_plugin", "load_yaml", "validate"]
