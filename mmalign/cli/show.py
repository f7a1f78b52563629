"""mmalign show: an agent's graph, a pair and its tokens, who waits for a person, the schema."""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmalign.cli.plugins import agents
from mmalign.errors import ConfigError

if TYPE_CHECKING:
    from mmalign.records import PreferencePair
    from mmalign.report import PairTokens

__all__ = ["app"]

app = typer.Typer(
    help="Look at a graph, a pair, questions to people or the schema of recipes.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.command(epilog="Example: mmalign show graph rrpo --output rrpo.svg")
def graph(
    name: Annotated[
        str,
        typer.Argument(
            help="An agent of `mmalign list agents`, package.module:function, or a recipe, "
            "whose stages are drawn."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Also write a picture: .svg, .png, .pdf, or .mmd (Mermaid).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the nodes and edges of an agent's graph, or the stages of a recipe."""
    from mmalign.report import graph_picture

    found = _graph(name)
    picture = graph_picture(found, title=name)
    if as_json:
        typer.echo(json.dumps(found.get_graph().to_json(), indent=2, default=str))
    else:
        Console().print(picture.tree)
    if output is not None:
        typer.echo(f"wrote {picture.save(output)}", err=True)


@app.command(epilog="Example: mmalign show pair 3f2a --run runs/quickstart")
def pair(
    pair_id: Annotated[str, typer.Argument(help="The pair's id, or its first characters.")],
    run: Annotated[
        Path | None, typer.Option(help="The run folder; by default the latest below runs/.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print both sides of a pair, its spans, and the tokens that they become."""
    from mmalign.report import render_pair

    folder = run or _latest_run()
    found = _pair(folder, pair_id)
    tokens = _tokens(folder, found)
    if as_json:
        values: dict[str, Any] = {"pair": found.model_dump(mode="json"), "tokens": None}
        if tokens is not None:
            values["tokens"] = {name: list(sides) for name, sides in vars(tokens).items()}
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        Console().print(render_pair(found, tokens))


@app.command(epilog="Example: mmalign show boxes runs/vision-r1 --output boxes.png")
def boxes(
    run: Annotated[Path, typer.Argument(help="A run folder that was scored on boxes.")],
    sample: Annotated[
        str | None, typer.Option(help="The sample's id; by default the first one.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Also draw them into the picture: .png, .svg, .pdf.")
    ] = None,
) -> None:
    """Print the boxes of a sample's answers with their IoU, and what Vision-R1 pays for them."""
    from mmalign.pipeline.evaluating import answers_to
    from mmalign.report import boxes_picture, boxes_table

    found, completions = answers_to(run, sample)
    Console().print(boxes_table(found, completions))
    if output is not None:
        typer.echo(f"wrote {boxes_picture(found, completions, output)}", err=True)


@app.command(epilog="Example: mmalign show waiting runs/mine")
def waiting(
    run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: AsJson = False
) -> None:
    """List the samples whose agent has asked a person, with what it asks."""
    from mmalign.engine import RunStore
    from mmalign.engine import waiting as find

    with RunStore(run, read_only=True) as store:
        found = find(store)
    if as_json:
        rows = [
            {**vars(one), "sample": one.sample.model_dump(mode="json")}
            | {"answer": one.answer and one.answer._asdict()}
            for one in found
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table("sample", "node", "asked at", "payload", "answer")
    for one in found:
        given = "" if one.answer is None else f"{json.dumps(one.answer.value)} by {one.answer.by}"
        payload = json.dumps(one.payload, ensure_ascii=False)
        table.add_row(*map(escape, (one.sample_id, one.node, one.asked_at, payload, given)))
    Console().print(table)


@app.command(epilog="Example: mmalign show schema > recipe.schema.json")
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from mmalign.pipeline import RunConfig

    typer.echo(json.dumps(RunConfig.model_json_schema(), indent=2))


def _graph(name: str) -> Any:  # a compiled LangGraph graph
    from mmalign.pipeline import Plugin, pipeline_graph, read_recipe
    from mmalign.pipeline.agents import load_agent

    if name.endswith((".yaml", ".yml")):
        return pipeline_graph(read_recipe(Path(name))).compile()
    if ":" in name:
        return load_agent(Plugin(path=name))
    known = {entry.name: entry.path for entry in agents()}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise ConfigError(f"mmalign show graph {name}: there is no such agent; {hint}")
    return load_agent(Plugin(path=known[name]))


def _latest_run() -> Path:
    files = sorted(Path("runs").glob("*/data/pairs.jsonl"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise ConfigError("there is no run with pairs below runs/; name one with --run")
    folder = files[-1].parents[1]
    typer.echo(f"looking into {folder}", err=True)
    return folder


def _pair(folder: Path, pair_id: str) -> "PreferencePair":
    from mmalign.records import PreferencePair
    from mmalign.records.jsonl import read_jsonl

    path = folder / "data" / "pairs.jsonl"
    if not path.exists():
        raise ConfigError(f"{path}: no such file; --run names a run folder with pairs")
    found = [pair for pair in read_jsonl(path, PreferencePair) if pair.id.startswith(pair_id)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"{path}: no pair has an id that starts with {pair_id!r}")
    shown = ", ".join(pair.id for pair in found[:5]) + (", ..." if len(found) > 5 else "")
    raise ConfigError(
        f"{path}: {len(found)} pairs have an id that starts with {pair_id!r}; give more of it: "
        f"{shown}"
    )


def _tokens(folder: Path, pair: "PreferencePair") -> "PairTokens | None":
    """By the policy's own tokenizer; None, with the reason on standard error, where it is away."""
    from mmalign.config import load_yaml, validate
    from mmalign.pipeline import RunConfig
    from mmalign.pipeline.stages import pair_tokens

    path = folder / "config.yaml"
    try:
        return pair_tokens(validate(RunConfig, load_yaml(path), str(path)), pair)
    except ConfigError as error:
        typer.echo(f"without tokens: {error}", err=True)
        return None
