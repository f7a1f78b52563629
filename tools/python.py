"""Run Python in the sandbox; what happens there is an observation, never an exception."""

import asyncio

from langchain_core.tools import BaseTool, StructuredTool

from mmalign.api import RunResult, Sandbox

__all__ = ["observation", "python_tool"]

DESCRIPTION = """Run a Python program and see what it prints.

The program starts afresh on every call: variables, files and imports of earlier calls are gone.
There is no network. Print what you want to see."""


def python_tool(sandbox: Sandbox) -> BaseTool:
    """A LangChain tool `python(code)`.

    Args:
        sandbox: Where the program runs; its limits bind, whoever opened it closes it.
    """

    def run(code: str) -> str:
        return observation(sandbox.run(code))

    async def arun(code: str) -> str:
        return await asyncio.to_thread(run, code)

    return StructuredTool.from_function(
        run, arun, name="python", description=DESCRIPTION, parse_docstring=False
    )


def observation(result: RunResult) -> str:
    """What a model is told of a run: output, errors, and how it ended if not well."""
    parts = [result.stdout.rstrip()] if result.stdout.strip() else []
    if result.stderr.strip():
        parts.append(f"stderr:\n{result.stderr.rstrip()}")
    if result.status != "pass":
        parts.append(f"status: {result.status}: {result.message}")
    return "\n".join(parts) or "(nothing was printed)"
