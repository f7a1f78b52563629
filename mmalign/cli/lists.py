"""mmalign list: what can be named in a recipe, with its source and status."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mmalign.errors import ConfigError

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("list", epilog="Example: mmalign list objectives")(list_kind)


def list_kind(
    kind: Annotated[
        str, typer.Argument(help="objectives, metrics, operators, formats, families or recipes.")
    ] = "objectives",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List what a recipe can name."""
    if kind not in _KINDS:
        raise ConfigError(f"mmalign list {kind}: there are {', '.join(_KINDS)}")
    rows = _KINDS[kind]()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(title=kind)
    for column in rows[0] if rows else ():
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


def _objectives() -> list[dict[str, Any]]:
    from mmalign.objectives import OBJECTIVES

    return [
        {
            "name": name,
            "family": entry.family,
            "needs": ", ".join(sorted(entry.needs)),
            "source": entry.source,
            "status": entry.status,
        }
        for name, entry in OBJECTIVES.items()
    ]


def _metrics() -> list[dict[str, Any]]:
    from mmalign.evaluation import METRICS

    return [{"name": name, "about": _first_line(entry)} for name, entry in METRICS.items()]


def _operators() -> list[dict[str, Any]]:
    from mmalign.media import OPERATORS

    return [
        {"name": name, "stage": entry.stage, "about": _first_line(entry.fn)}
        for name, entry in OPERATORS.items()
    ]


def _formats() -> list[dict[str, Any]]:
    from mmalign.records.interop import FORMATS

    return [{"name": name, "about": _first_line(entry)} for name, entry in FORMATS.items()]


def _families() -> list[dict[str, Any]]:
    from mmalign.models.families import FAMILIES

    return [
        {
            "name": name,
            "model types": ", ".join(sorted(family.model_types)[:6]),
            "about": _first_line(family),
        }
        for name, family in FAMILIES.items()
    ]


def _recipes() -> list[dict[str, Any]]:
    found = sorted(Path("configs").glob("*.yaml"))
    return [
        {
            "recipe": str(path),
            "about": path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "),
        }
        for path in found
    ]


def _first_line(thing: object) -> str:
    return (getattr(thing, "about", None) or thing.__doc__ or "").strip().partition("\n")[0]


_KINDS = {
    "objectives": _objectives,
    "metrics": _metrics,
    "operators": _operators,
    "formats": _formats,
    "families": _families,
    "recipes": _recipes,
}
