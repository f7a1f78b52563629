"""Prompts from the Markdown files beside the agents."""

from functools import cache
from pathlib import Path
from string import Template

__all__ = ["load_prompts", "prompt"]


def prompt(name: str, **values: str) -> str:
    """The text of `agents/<name>.md` with its `$names` filled in."""
    return _template(name).substitute(values)


def load_prompts(*names: str) -> None:
    """Read the files now, since nodes run in an event loop, which no file may hold up."""
    for name in names:
        _template(name)


@cache
def _template(name: str) -> Template:
    return Template(Path(__file__).with_name(f"{name}.md").read_text(encoding="utf-8").strip())
