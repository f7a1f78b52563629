"""mmalign report and mmalign view: what a run has done, as a file and as a page to work on."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]

Run = Annotated[Path, typer.Argument(help="A run folder.")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("report", epilog="Example: mmalign report runs/quickstart --open")(report)
    app.command("view", epilog="Example: mmalign view runs/quickstart --open")(view)


def report(
    run: Run,
    num_pairs: Annotated[int, typer.Option(help="Pairs that are shown with their clips.")] = 24,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the report of what a run has done so far, and say where it is."""
    from mmalign.report import write_report

    page = write_report(run, num_pairs=num_pairs)
    typer.echo(page)
    if open_page:
        typer.launch(page.resolve().as_uri())


def view(
    run: Run,
    port: Annotated[int, typer.Option(help="Of this machine; 0 takes a free one.")] = 0,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Take no decisions.")] = False,
) -> None:
    """Browse, judge and edit the pairs of a run in the browser, while it is built or later."""
    from mmalign.report.review import serve

    def started(url: str) -> None:
        typer.echo(url)
        typer.echo("Ctrl-C ends it; the address works on this machine only.", err=True)
        if open_page:
            typer.launch(url)

    serve(run, port=port, read_only=read_only, started=started)
