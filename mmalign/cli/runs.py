"""The verbs that work through a recipe: run, build, train, eval, plan."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mmalign.pipeline import RunConfig

__all__ = ["add_to"]

Recipe = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="A recipe; see configs/.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[key=value]...", help="Replace values of the recipe.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the recipe, print it whole, and do nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command(epilog="Example: mmalign run configs/quickstart.yaml trainer.max_steps=20")(run)
    app.command(epilog="Example: mmalign build configs/rrpo.yaml dataset.num_samples=50")(build)
    app.command(epilog="Example: mmalign train configs/rrpo.yaml trainer.learning_rate=1e-4")(train)
    app.command("eval", epilog="Example: mmalign eval configs/rrpo.yaml --arm after")(evaluate)
    app.command(epilog="Example: mmalign plan configs/rrpo.yaml trainer.max_length=2048")(plan)


def run(
    config: Recipe, overrides: Overrides = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Build, evaluate, train, evaluate again and report; goes on where it was stopped."""

    def work(recipe: "RunConfig", console: Console) -> Any:
        from mmalign.pipeline import run_pipeline

        return run_pipeline(recipe, console)

    _carry_out(config, overrides, dry_run, as_json, work)


def build(
    config: Recipe, overrides: Overrides = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Run the recipe's agent over its data set and write the pairs."""

    def work(recipe: "RunConfig", console: Console) -> Any:
        from mmalign.pipeline.stages import build_pairs, claim_folder

        claim_folder(recipe)
        return dict(build_pairs(recipe, console).to_json())

    _carry_out(config, overrides, dry_run, as_json, work)


def train(
    config: Recipe, overrides: Overrides = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Train the policy on the pairs of the run, or on the samples' answers."""

    def work(recipe: "RunConfig", console: Console) -> Any:
        from mmalign.pipeline.stages import claim_folder, train_policy

        claim_folder(recipe)
        folder = train_policy(recipe, console)
        console.print(f"the model is in {folder}")
        return {"trained": str(folder)}

    _carry_out(config, overrides, dry_run, as_json, work)


def evaluate(
    config: Recipe,
    overrides: Overrides = None,
    arm: Annotated[str, typer.Option(help="before: the policy as it is; after: as trained.")] = (
        "before"
    ),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Score the policy on the recipe's evaluation set."""

    def work(recipe: "RunConfig", console: Console) -> Any:
        from mmalign.errors import ConfigError
        from mmalign.pipeline.stages import claim_folder, evaluate_arm

        if arm not in ("before", "after"):
            raise ConfigError(f"--arm {arm}: there are before and after")
        claim_folder(recipe)
        report = evaluate_arm(recipe, arm, console)
        return {"arm": arm, "metrics": dict(report.metrics)}

    _carry_out(config, overrides, dry_run, as_json, work)


def plan(
    config: Recipe, overrides: Overrides = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Count the tokens of every record and predict the memory, before anything is trained."""

    def work(recipe: "RunConfig", console: Console) -> Any:
        from mmalign.pipeline.stages import plan_training

        return plan_training(recipe, console)

    _carry_out(config, overrides, dry_run, as_json, work)


def _carry_out(
    path: Path,
    overrides: list[str] | None,
    dry_run: bool,
    as_json: bool,
    work: "Callable[[RunConfig, Console], Any]",
) -> None:
    from mmalign.pipeline import read_recipe

    recipe = read_recipe(path, overrides)
    if dry_run:
        typer.echo(recipe.model_dump_json(indent=2))
        return
    result = work(recipe, Console(stderr=as_json))
    if as_json:
        typer.echo(json.dumps(result, indent=2, default=str))
