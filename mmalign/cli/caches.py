"""mmalign cache: what is kept on disk, why it is there, and how to be rid of it."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["app"]

app = typer.Typer(help="Look into the frame cache and clear it.", no_args_is_help=True)


@app.command("ls", epilog="Example: mmalign cache ls")
def list_entries() -> None:
    """List the cached clips, the one used longest ago first."""
    from mmalign.media import default_cache

    cache = default_cache()
    table = Table(title=f"{cache.folder}")
    for column in ("key", "MB", "last used"):
        table.add_column(column)
    total = 0
    for entry in cache.entries():
        total += entry.num_bytes
        table.add_row(entry.key, f"{entry.num_bytes / 1e6:.2f}", f"{entry.used_at:%Y-%m-%d %H:%M}")
    table.caption = f"{total / 1e6:.1f} MB"
    Console().print(table)


@app.command("why", epilog="Example: mmalign cache why 3f2a...")
def explain(
    key: Annotated[str, typer.Argument(help="A key that `mmalign cache ls` shows.")],
) -> None:
    """Say what an entry was made of."""
    from mmalign.media import default_cache

    Console().print(default_cache().explain(key))


@app.command("rm", epilog="Example: mmalign cache rm --all")
def remove(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys to remove.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all entries.")] = False,
) -> None:
    """Remove entries; they are decoded again when they are needed."""
    from mmalign.media import default_cache

    cache = default_cache()
    doomed = [entry.key for entry in cache.entries()] if everything else list(keys or ())
    for key in doomed:
        cache.remove(key)
    typer.echo(f"removed {len(doomed)}")
