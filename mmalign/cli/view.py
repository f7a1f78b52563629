"""mmalign view: the page of a run, written anew."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("view", epilog="Example: mmalign view runs/quickstart --open")(view)


def view(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    num_pairs: Annotated[int, typer.Option(help="Pairs that are shown with their clips.")] = 24,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the report of what a run has done so far, and say where it is."""
    from mmalign.report import write_report

    page = write_report(run, num_pairs=num_pairs)
    typer.echo(page)
    if open_page:
        typer.launch(page.resolve().as_uri())
