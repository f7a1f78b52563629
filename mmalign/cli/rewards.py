"""mmalign reward: is a reward what it says it is, and can it be had for nothing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from mmalign.errors import ConfigError

if TYPE_CHECKING:
    from mmalign.records import Sample
    from mmalign.rewards.probes import Check

__all__ = ["app"]

app = typer.Typer(help="Try rewards before a policy does.", no_args_is_help=True)

_COLOURS = {"pass": "green", "fail": "bold red", "note": "yellow"}


@app.command("test", epilog="Example: mmalign reward test my_rewards:accuracy low=0 high=1")
def try_reward(
    reward: Annotated[
        str, typer.Argument(help="module:function, or a name of `mmalign list rollout-rewards`.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value]...", help="low=0, high=1, time_limit_s, its settings."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Take the samples of this recipe's data set.")
    ] = None,
    num_samples: Annotated[int, typer.Option(min=1, help="How many of them.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check range, determinism, speed and broken values, and try to hack the reward."""
    from mmalign.rewards.config import RewardConfig, load_reward
    from mmalign.rewards.probes import built_in_samples, check_reward

    given = {"path" if ":" in reward else "name": reward, **_settings(settings or [])}
    found = load_reward(RewardConfig.model_validate(given))
    samples = built_in_samples() if recipe is None else _samples(recipe, num_samples)
    checks = check_reward(found, samples)
    if as_json:
        rows = {"reward": found.name, "checks": [check._asdict() for check in checks]}
        typer.echo(json.dumps(rows, indent=2))
    else:
        Console().print(_table(found.name, checks))
    if any(check.outcome == "fail" for check in checks):
        raise typer.Exit(1)


def _table(name: str, checks: "list[Check]") -> Table:
    table = Table(title=f"reward {name}")
    for column in ("check", "", "found", "expected"):
        table.add_column(column)
    for check in checks:
        colour = _COLOURS[check.outcome]
        outcome = f"[{colour}]{check.outcome}[/{colour}]"
        table.add_row(check.name, outcome, check.found.replace("[", "\\["), check.expected)
    return table


def _settings(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"setting {pair!r}: write key=value, as in smoothing=4")
        found[name] = yaml.safe_load(value)
    return found


def _samples(recipe: Path, num_samples: int) -> "list[Sample]":
    from itertools import islice

    from mmalign.pipeline.config import read_recipe
    from mmalign.pipeline.stages import read_samples

    return list(islice(read_samples(read_recipe(recipe).datasets), num_samples))
