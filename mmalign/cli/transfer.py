"""mmalign export: pairs in a neighbour's format, or an adapter merged into plain weights."""

from pathlib import Path
from typing import Annotated

import typer

from mmalign.errors import ConfigError

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("export", epilog="Example: mmalign export runs/quickstart --to trl out.jsonl")(
        export
    )


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    output: Annotated[Path, typer.Argument(help="File, or folder for a model.")],
    to: Annotated[
        str, typer.Option(help="A format of `mmalign list formats`, or `model`.")
    ] = "model",
    allow_lossy: Annotated[
        bool, typer.Option(help="Write even what the format cannot hold whole.")
    ] = False,
) -> None:
    """Write a run's pairs for another framework, or its model as plain transformers weights."""
    if to == "model":
        from mmalign.training import merge_adapter

        typer.echo(f"wrote {merge_adapter(run / 'train', output)}")
        return
    from mmalign.records import PreferencePair
    from mmalign.records.interop import FORMATS, export_pairs
    from mmalign.records.jsonl import read_jsonl

    if to not in FORMATS:
        raise ConfigError(f"--to {to}: there are model, {', '.join(FORMATS)}")
    pairs = read_jsonl(run / "data" / "pairs.jsonl", PreferencePair)
    for loss in export_pairs(pairs, output, to, allow_lossy=allow_lossy):
        typer.echo(f"lost: {loss}", err=True)
    typer.echo(f"wrote {output}")
