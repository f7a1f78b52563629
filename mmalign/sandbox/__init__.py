"""Runs generated code in isolation."""

from mmalign.sandbox.config import Limits, SandboxConfig
from mmalign.sandbox.results import RunResult
from mmalign.sandbox.sandbox import Sandbox

__all__ = ["Limits", "RunResult", "Sandbox", "SandboxConfig"]
