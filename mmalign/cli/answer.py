"""mmalign answer: what an agent has asked a person."""

import getpass
import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("answer", epilog="Example: mmalign answer runs/mine sample-7 good --by ann")(answer)


def answer(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    sample: Annotated[str, typer.Argument(help="Id of a sample; see `mmalign show waiting`.")],
    value: Annotated[str, typer.Argument(help="A JSON value; what is none is taken as text.")],
    by: Annotated[
        str | None, typer.Option(help="Who answers; by default the name of your account.")
    ] = None,
) -> None:
    """Answer a question of an agent that waits for a person; the next build goes on with it."""
    from mmalign.engine import RunStore
    from mmalign.engine import answer as record

    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        parsed = value
    with RunStore(run, read_only=True) as store:
        record(store, sample, parsed, by=getpass.getuser() if by is None else by)
    typer.echo(f"{sample}: answered; mmalign build with the recipe of {run} goes on with it")
