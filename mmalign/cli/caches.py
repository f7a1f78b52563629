"""mmalign cache: what is kept on disk, why it is there, and how to be rid of it."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mmalign.errors import ConfigError

if TYPE_CHECKING:
    from mmalign.media import FrameCache

__all__ = ["app"]

app = typer.Typer(help="Look into the frame cache and clear it.", no_args_is_help=True)


@app.command("ls", epilog="Example: mmalign cache ls")
def list_entries(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the cached clips, the most recently used first."""
    from mmalign.media import default_cache

    cache = default_cache()
    entries = cache.entries()
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    table = Table(title=f"{cache.folder}")
    table.add_column("key", no_wrap=True)
    table.add_column("clip", overflow="fold")
    for column in ("frames", "MB", "last used"):
        table.add_column(column, justify="right")
    for entry in entries:
        used = f"{datetime.fromtimestamp(entry.last_used):%Y-%m-%d %H:%M}"  # local, as ls does
        size = f"{entry.num_bytes / 1e6:.2f}"
        table.add_row(entry.key[:12], entry.uri, str(entry.num_frames), size, used)
    table.caption = f"{sum(entry.num_bytes for entry in entries) / 1e6:.1f} MB"
    Console().print(table)


@app.command("why", epilog="Example: mmalign cache why 3f2a90c1b7de")
def explain(
    key: Annotated[
        str, typer.Argument(help="A key that `mmalign cache ls` shows, or its first characters.")
    ],
) -> None:
    """Say what an entry was made of."""
    from mmalign.media import default_cache

    cache = default_cache()
    typer.echo(cache.explain(_whole_keys(cache, [key])[0]))


@app.command("rm", epilog="Examples: mmalign cache rm 3f2a90c1b7de; mmalign cache rm --all")
def remove(
    keys: Annotated[
        list[str] | None, typer.Argument(help="Keys to remove, or their first characters.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all entries.")] = False,
) -> None:
    """Remove entries; they are decoded again when they are needed."""
    from mmalign.media import default_cache

    if not keys and not everything:
        raise ConfigError("mmalign cache rm: name keys of `mmalign cache ls`, or give --all")
    cache = default_cache()
    num_removed = cache.remove(*(() if everything else _whole_keys(cache, keys or [])))
    typer.echo(f"removed {num_removed}")


def _whole_keys(cache: "FrameCache", beginnings: list[str]) -> list[str]:
    known = [entry.key for entry in cache.entries()]
    whole = []
    for beginning in beginnings:
        found = [key for key in known if key.startswith(beginning)]
        if len(found) != 1:
            raise ConfigError(
                f"{cache.folder}: {len(found) or 'no'} keys start with {beginning!r}; give one of "
                f"`mmalign cache ls`"
            )
        whole += found
    return whole
