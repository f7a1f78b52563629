"""Joins the verbs and turns errors into messages and exit codes."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mmalign import __version__
from mmalign.cli import answer, caches, doctor, lists, rewards, runs, show, transfer, view
from mmalign.errors import ConfigError, MmalignError, PluginError

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="mmalign",
    help="Build preference data with agents, align multimodal models on it, see what it did.",
    epilog="Example: mmalign run configs/quickstart.yaml trainer.max_steps=20",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
runs.add_to(app)
transfer.add_to(app)
view.add_to(app)
answer.add_to(app)
lists.add_to(app)
app.add_typer(show.app, name="show")
app.add_typer(rewards.app, name="reward")
app.add_typer(caches.app, name="cache")
doctor.add_to(app)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line and leave with its exit code."""
    logging.basicConfig(
        level=os.environ.get("MMALIGN_LOG_LEVEL", "WARNING").upper(),
        format="%(levelname)s %(name)s: %(message)s",
    )
    sys.path.append(str(Path.cwd()))  # a recipe may name your own module beside it
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Exit code of a command: 0 ok, 1 failed work, 2 wrong use."""
    try:
        app(arguments, prog_name="mmalign")
    except SystemExit as leaving:
        return leaving.code if leaving.code in (0, 2) else 1  # 130 on Ctrl-C in some versions
    except (ConfigError, PluginError) as error:
        return _say(error, 2)
    except MmalignError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return 1
    return 0


def _say(error: MmalignError, code: int) -> int:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]{type(error).__name__}[/bold red]", end=" ")
    console.print(str(error), markup=False)
    for note in getattr(error, "__notes__", ()):
        console.print(f"  {note}", markup=False)
    return code
