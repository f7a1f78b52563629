"""Prompts from the Markdown files beside the agents."""

import asyncio
from functools import cache
from pathlib import Path
from string import Template

from mmalign.api import ConfigError

__all__ = ["load_prompts", "own_prompt", "prompt"]


def prompt(name: str, **values: str) -> str:
    """The text of `agents/<name>.md` with its `$names` filled in."""
    return _template(name).substitute(values)


async def own_prompt(path: Path | None, name: str, **values: str) -> str:
    """The text of a user's own file with its `$names` filled in; of `agents/<name>.md` if None.

    Raises:
        ConfigError: The file cannot be read, or asks for a name that is not given.
    """
    if path is None:
        return prompt(name, **values)
    try:
        return (await asyncio.to_thread(_file_template, path)).substitute(values)
    except OSError as error:
        raise ConfigError(f"{path}: the prompt cannot be read: {error.strerror}") from error
    except (KeyError, ValueError) as error:
        known = ", ".join(f"${value}" for value in values)
        raise ConfigError(
            f"{path}: the prompt cannot be filled in: {error}; it may hold {known}, and $$ for a "
            f"dollar sign"
        ) from error


def load_prompts(*names: str) -> None:
    """Read the files now, since nodes run in an event loop, which no file may hold up."""
    for name in names:
        _template(name)


def _template(name: str) -> Template:
    return _file_template(Path(__file__).with_name(f"{name}.md"))


@cache
def _file_template(path: Path) -> Template:
    return Template(path.read_text(encoding="utf-8").strip())
