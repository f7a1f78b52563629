"""Joins the verbs and turns errors into messages and exit codes."""

import sys

import click
import typer
from rich.console import Console

from mmalign import __version__
from mmalign.cli import caches, doctor, lists, runs, show, transfer
from mmalign.errors import ConfigError, MmalignError, PluginError

__all__ = ["app", "main"]

app = typer.Typer(
    name="mmalign",
    help="Build preference data with agents, align multimodal models on it, see what it did.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
runs.add_to(app)
transfer.add_to(app)
lists.add_to(app)
app.add_typer(show.app, name="show")
app.add_typer(caches.app, name="cache")
doctor.add_to(app)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Exit code of a command: 0 ok, 1 failed work, 2 wrong use."""
    try:
        result = app(arguments, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return 2
    except (ConfigError, PluginError) as error:
        return _say(error, 2)
    except MmalignError as error:
        return _say(error, 1)
    except (click.Abort, KeyboardInterrupt):
        typer.echo("interrupted; the same command goes on where it stopped", err=True)
        return 1
    return result if isinstance(result, int) else 0


def _say(error: MmalignError, code: int) -> int:
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]{type(error).__name__}[/bold red]", end=" ")
    console.print(str(error), markup=False)
    for note in getattr(error, "__notes__", ()):
        console.print(f"  {note}", markup=False)
    return code
