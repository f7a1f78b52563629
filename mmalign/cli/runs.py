"""The verbs that work through a recipe: run, build, train, eval, plan."""

import json
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
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
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON; all else goes to standard error.")
]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command(epilog="Example: mmalign run configs/quickstart.yaml trainer.max_steps=20")(run)
    app.command(epilog="Example: mmalign build configs/quickstart.yaml output_dir=runs/mine")(build)
    app.command(epilog="Example: mmalign train configs/quickstart.yaml")(train)
    app.command("eval", epilog="Example: mmalign eval configs/quickstart.yaml --arm after --json")(
        evaluate
    )
    app.command(epilog="Example: mmalign plan configs/quickstart.yaml trainer.max_length=2048")(
        plan
    )


def run(
    config: Recipe, overrides: Overrides = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Build, evaluate, train, evaluate again and report; goes on where it was stopped."""

    def work(recipe: "RunConfig", console: Console) -> Any:
        from mmalign.pipeline import run_pipeline

        state = run_pipeline(recipe, console)
        if "report" in state:
            console.print(f"the report is {state['report']}", soft_wrap=True)
        return state

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
        console.print(f"the model is in {folder}", soft_wrap=True)
        return {"trained": str(folder)}

    _carry_out(config, overrides, dry_run, as_json, work)


def evaluate(
    config: Recipe,
    overrides: Overrides = None,
    arm: Annotated[
        str,
        typer.Option(
            help="before: the policy as it is; after: as trained; checkpoint-N: as it was then."
        ),
    ] = "before",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Score the policy on the recipe's evaluation set."""
    if re.fullmatch(r"before|after|checkpoint-\d+", arm) is None:
        raise typer.BadParameter(f"found --arm {arm}, expected before, after or checkpoint-N")

    def work(recipe: "RunConfig", console: Console) -> Any:
        from mmalign.pipeline.evaluating import evaluate_arm
        from mmalign.pipeline.stages import claim_folder

        claim_folder(recipe)
        report = evaluate_arm(recipe, arm, console)
        low, high = report.intervals[report.metric]
        console.print(f"{report.metric} {report.value:.1f} % [{low:.1f}, {high:.1f}]", markup=False)
        return {"arm": arm, "metrics": dict(report.metrics)}

    _carry_out(config, overrides, dry_run, as_json, work)


def plan(
    config: Recipe, overrides: Overrides = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Count the tokens of every record and predict the memory, before anything is trained."""

    def work(recipe: "RunConfig", console: Console) -> Any:
        from mmalign.pipeline.stages import plan_policy

        return plan_policy(recipe, console)

    _carry_out(config, overrides, dry_run, as_json, work)


def _carry_out(
    path: Path,
    overrides: list[str] | None,
    dry_run: bool,
    as_json: bool,
    work: "Callable[[RunConfig, Console], Any]",
) -> None:
    from mmalign.cli.check import check_recipe, recipe_text
    from mmalign.pipeline import read_recipe

    recipe = read_recipe(path, overrides)
    check_recipe(recipe)
    if dry_run:
        typer.echo(recipe_text(recipe, as_json=as_json), nl=False)
        return
    result = _work(recipe, as_json, work)
    if as_json:
        typer.echo(json.dumps(result, indent=2, default=str))


def _work(
    recipe: "RunConfig", as_json: bool, work: "Callable[[RunConfig, Console], Any]"
) -> Any:  # what the verb prints as JSON
    try:
        if not as_json:
            return work(recipe, Console())
        with redirect_stdout(sys.stderr):  # libraries print, too
            return work(recipe, Console(stderr=True))
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted; run the same command again to go on in {recipe.output_dir}", err=True
        )
        raise typer.Exit(1) from None
