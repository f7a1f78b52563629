"""mmalign export: pairs in a neighbour's format, or the trained model as plain weights."""

import shutil
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from mmalign.errors import ConfigError

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


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        "export",
        epilog="Examples: mmalign export runs/quickstart pairs.jsonl --to trl; "
        "mmalign export runs/quickstart my-model --to model",
    )(export)


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    output: Annotated[Path, typer.Argument(help="A new file; for a model, a new folder.")],
    to: Annotated[
        str, typer.Option(help="A format of `mmalign list formats`, or `model`.")
    ] = "model",
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Write even what the format cannot hold whole.")
    ] = False,
) -> None:
    """Write a run's pairs for another library, or its model as plain transformers weights."""
    if to == "model":
        typer.echo(f"wrote {_export_model(run / 'train', output)}")
        return
    from mmalign.records import PreferencePair
    from mmalign.records.interop import FORMATS, export_pairs
    from mmalign.records.jsonl import read_jsonl

    if to not in FORMATS:
        near = get_close_matches(to, FORMATS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are model, {', '.join(FORMATS)}"
        raise ConfigError(f"--to {to}: there is no such format; {hint}")
    path = run / "data" / "pairs.jsonl"
    if not path.exists():
        raise ConfigError(f"{path}: no such file; build the pairs first")
    pairs = list(read_jsonl(path, PreferencePair))
    losses = export_pairs(output, pairs, to, allow_lossy=allow_lossy)
    for loss in losses:
        typer.echo(f"lost: {loss}", err=True)
    num_left_out = len({loss.row for loss in losses if loss.leaves_out})
    typer.echo(f"wrote {len(pairs) - num_left_out} pairs to {output}")


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
