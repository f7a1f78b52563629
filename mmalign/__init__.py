"""Build preference data with LangGraph agents and align multimodal models on it."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("mmalign")
