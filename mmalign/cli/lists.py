"""mmalign list: what can be named in a recipe, with its source and status."""

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mmalign.cli import plugins
from mmalign.config import Method
from mmalign.errors import ConfigError

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("list", epilog="Example: mmalign list objectives")(list_kind)


def list_kind(
    kind: Annotated[
        str,
        typer.Argument(
            help="agents, datasets, diagnostics, families, formats, losses (for trainers of one's "
            "own), metrics, objectives, operators, recipes, rewards, rollout-rewards, selection or "
            "tools."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List what a recipe can name."""
    if kind not in _KINDS:
        near = get_close_matches(kind, _KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_KINDS)}"
        raise ConfigError(f"mmalign list {kind}: there is no such list; {hint}")
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
            "unit": entry.unit,
            "needs": ", ".join(sorted(entry.needs)),
            "source": entry.source,
            "status": entry.status,
        }
        for name, entry in OBJECTIVES.items()
    ]


def _losses() -> list[dict[str, Any]]:
    from mmalign.objectives import LOSSES

    return [
        {
            "name": name,
            "family": entry.family,
            "needs": entry.needs,
            "source": entry.source,
            "status": entry.status,
        }
        for name, entry in LOSSES.items()
    ]


def _rewards() -> list[dict[str, Any]]:
    from mmalign.rewards import REWARDS

    return _methods(REWARDS)


def _rollout_rewards() -> list[dict[str, Any]]:
    from mmalign.rewards.episodes import ROLLOUT_REWARDS

    return [
        {
            "name": name,
            "from": entry.low,
            "to": entry.high,
            "sees": entry.sees,
            "about": _first_line(entry.fn),
        }
        for name, entry in ROLLOUT_REWARDS.items()
    ]


def _selection_rules() -> list[dict[str, Any]]:
    from mmalign.selection.table import SELECTION_RULES

    return _methods(SELECTION_RULES)


def _diagnostics() -> list[dict[str, Any]]:
    from mmalign.diagnostics import DIAGNOSTICS

    return _methods(DIAGNOSTICS)


def _methods(table: Mapping[str, Method]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "family": entry.family,
            "about": entry.about,
            "source": entry.source,
            "status": entry.status,
        }
        for name, entry in table.items()
    ]


def _metrics() -> list[dict[str, Any]]:
    from mmalign.evaluation import METRICS

    return [{"name": name, "about": _first_line(entry)} for name, entry in METRICS.items()]


def _operators() -> list[dict[str, Any]]:
    from mmalign.media import OPERATORS

    return [
        {
            "name": name,
            "stages": ", ".join(sorted(entry.stages)),
            "about": f"breaks {entry.breaks}",
            "source": entry.source,
        }
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


def _plugins(find: Callable[[], list[plugins.FoundPlugin]]) -> list[dict[str, Any]]:
    return [entry._asdict() for entry in find()]


def _first_line(thing: object) -> str:
    return (getattr(thing, "about", None) or thing.__doc__ or "").strip().partition("\n")[0]


_KINDS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "agents": lambda: _plugins(plugins.agents),
    "datasets": lambda: _plugins(plugins.readers),
    "diagnostics": _diagnostics,
    "families": _families,
    "formats": _formats,
    "losses": _losses,
    "metrics": _metrics,
    "objectives": _objectives,
    "operators": _operators,
    "recipes": _recipes,
    "rewards": _rewards,
    "rollout-rewards": _rollout_rewards,
    "selection": _selection_rules,
    "tools": lambda: _plugins(plugins.tools),
}
