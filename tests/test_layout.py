"""The links, and what must not stand in the folders beside the package."""

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["agents", "tools", "datasets"])
def test_plug_in_folders_are_linked_into_the_package(name: str) -> None:
    link = ROOT / "mmalign" / name
    assert link.is_symlink(), f"{link} is no link; run make links"
    assert os.readlink(link) == f"../{name}", "run make links"  # noqa: PTH115  # the text of the link
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", ["agents", "tools"])
def test_folders_with_code_only_are_packages(name: str) -> None:
    assert (ROOT / name / "__init__.py").exists()


def test_nothing_hides_the_library_datasets() -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists()
    assert not (ROOT / "tests" / "datasets" / "__init__.py").exists()
    spec = importlib.util.find_spec("datasets")
    assert spec is not None
    assert spec.origin is not None, "import datasets finds a folder, not the library"
    assert ROOT not in Path(spec.origin).parents or ".venv" in spec.origin


def test_no_test_folder_is_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
