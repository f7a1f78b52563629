"""A model's program is run for it, and its mistakes come back as text."""

import asyncio
from collections.abc import Iterator

import pytest
from langchain_core.tools import BaseTool

from mmalign.api import Limits, Sandbox, SandboxConfig
from mmalign.tools.python import python_tool

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def python() -> Iterator[BaseTool]:
    config = SandboxConfig(num_workers=1, limits=Limits(wall_s=2.0))
    with Sandbox(config) as sandbox:
        yield python_tool(sandbox)


def test_what_is_printed_comes_back(python: BaseTool) -> None:
    assert python.invoke({"code": "print(6 * 7)"}) == "42"
    assert python.invoke({"code": "6 * 7"}) == "(nothing was printed)"


def test_a_mistake_is_an_observation(python: BaseTool) -> None:
    seen = python.invoke({"code": "print('so far')\nnumber = 1 / 0"})
    assert seen.startswith("so far\nstderr:\nTraceback")
    assert seen.endswith("status: error: ZeroDivisionError: division by zero")


def test_a_program_without_end_is_an_observation(python: BaseTool) -> None:
    seen = python.invoke({"code": "while True: pass"})
    assert seen == "status: timeout: it ran longer than limits.wall_s"


def test_calls_wait_beside_each_other(python: BaseTool) -> None:
    async def both() -> list[str]:
        return list(
            await asyncio.gather(*(python.ainvoke({"code": f"print({n})"}) for n in (1, 2)))
        )

    assert asyncio.run(both()) == ["1", "2"]


def test_the_model_is_told_name_and_argument(python: BaseTool) -> None:
    assert python.name == "python"
    assert python.args == {"code": {"title": "Code", "type": "string"}}
    assert "no network" in python.description
