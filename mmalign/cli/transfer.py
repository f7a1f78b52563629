"""mmalign export and import: pairs in a neighbour's format, decisions, the model as weights."""

import shutil
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmalign.errors import ConfigError

if TYPE_CHECKING:
    from mmalign.records import PreferencePair

__all__ = ["add_to"]

_MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "*processor*.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
    "README.md",
)


LABEL_STUDIO = "label_studio"


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command(
        "export",
        epilog="Examples: mmalign export runs/quickstart; "
        "mmalign export runs/quickstart pairs.jsonl --to trl; "
        "mmalign export runs/quickstart tasks.json --to label_studio; "
        "mmalign export runs/quickstart my-model --to model",
    )(export)
    app.command("import", epilog="Example: mmalign import runs/quickstart tasks.json")(
        import_decisions
    )


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    output: Annotated[
        Path | None,
        typer.Argument(
            help="A new file; for a model, a new folder. Without it the run's own data/ is written "
            "anew, as people have reviewed it."
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            help="A format of `mmalign list formats`, `label_studio` (tasks with what was decided) "
            "or `model`."
        ),
    ] = "model",
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Write even what the format cannot hold whole.")
    ] = False,
) -> None:
    """Write a run's pairs for another library, or its model as plain transformers weights."""
    if output is None:
        from mmalign.engine import RunStore
        from mmalign.engine import export as write_records

        with RunStore(run, read_only=True) as store:
            funnel = write_records(store)
        typer.echo(f"wrote {funnel.num_pairs} pairs to {run / 'data'}")
        return
    if to == "model":
        typer.echo(f"wrote {_export_model(run / 'train', output)}")
        return
    from mmalign.records.interop import FORMATS, export_pairs

    if to == LABEL_STUDIO:
        from mmalign.engine import RunStore
        from mmalign.engine.label_studio import export_tasks

        with RunStore(run, read_only=True) as store:
            typer.echo(f"wrote {export_tasks(store, output)} tasks to {output}")
        typer.echo(f"the labelling interface is {output.with_suffix('.xml')}", err=True)
        return
    if to not in FORMATS:
        known = ("model", LABEL_STUDIO, *FORMATS)
        near = get_close_matches(to, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise ConfigError(f"--to {to}: there is no such format; {hint}")
    pairs = _pairs(run)
    losses = export_pairs(output, pairs, to, allow_lossy=allow_lossy)
    for loss in losses:
        typer.echo(f"lost: {loss}", err=True)
    num_left_out = len({loss.row for loss in losses if loss.leaves_out})
    typer.echo(f"wrote {len(pairs) - num_left_out} pairs to {output}")


def import_decisions(
    run: Annotated[Path, typer.Argument(help="The run that the tasks were exported from.")],
    tasks: Annotated[Path, typer.Argument(help="Label Studio's export, as JSON.")],
    by: Annotated[
        str, typer.Option(help="Who decided, where an annotation does not say.")
    ] = LABEL_STUDIO,
) -> None:
    """Take decisions and edits of pairs from Label Studio into the run's store."""
    from mmalign.engine import RunStore
    from mmalign.engine.label_studio import import_decisions as read_decisions

    with RunStore(run, read_only=True) as store:
        found = read_decisions(store, tasks, by=by)
    typer.echo(f"read {found.num_tasks} tasks, {found.num_decided} pairs were decided anew")
    typer.echo(f"mmalign export {run} puts the decisions into its data", err=True)


def _pairs(run: Path) -> "list[PreferencePair]":
    """The run's exported pairs; where people have decided, as the store has them now."""
    from mmalign.engine import RunStore
    from mmalign.engine.reviews import current_reviews, reviewed_lines
    from mmalign.records import PreferencePair
    from mmalign.records.jsonl import read_jsonl

    if (run / "store.sqlite").exists():
        with RunStore(run, read_only=True) as store:
            if current_reviews(store):
                lines = reviewed_lines(store, "pairs")
                return [PreferencePair.model_validate_json(line) for line in lines]
    path = run / "data" / "pairs.jsonl"
    if not path.exists():
        raise ConfigError(f"{path}: no such file; build the pairs first")
    return list(read_jsonl(path, PreferencePair))


def _export_model(trained: Path, output: Path) -> Path:
    """The adapter merged into its base model, or a copy of the model that was trained whole."""
    if not (trained / "all_results.json").exists():
        raise ConfigError(f"{trained}: holds no finished training; run mmalign train first")
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"{output}: is not empty; give a new folder")
    if (trained / "adapter_config.json").exists():
        from mmalign.training import merge_adapter

        return merge_adapter(trained, output)
    output.mkdir(parents=True, exist_ok=True)
    for path in {found for pattern in _MODEL_FILES for found in trained.glob(pattern)}:
        shutil.copyfile(path, output / path.name)
    return output
