"""mmalign show: an agent's graph, or a pair with the tokens that carry reward."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mmalign.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(help="Look at a graph or at a pair.", no_args_is_help=True)


@app.command(epilog="Example: mmalign show graph rrpo --output rrpo.svg")
def graph(
    name: Annotated[str, typer.Argument(help="A module of mmalign.agents, or package.module:fn.")],
    output: Annotated[
        Path | None, typer.Option(help="Also write a picture (.svg) or Mermaid text (.mmd).")
    ] = None,
) -> None:
    """Draw the nodes and edges of an agent's graph."""
    from mmalign.pipeline.config import Plugin
    from mmalign.pipeline.stages import load_agent
    from mmalign.report.graph import graph_mermaid, graph_svg, graph_tree

    path = name if ":" in name else f"mmalign.agents.{name}:build_graph"
    agent = load_agent(Plugin(path=path))
    Console().print(graph_tree(agent))
    if output is not None:
        text = graph_mermaid(agent) if output.suffix == ".mmd" else graph_svg(agent)
        output.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {output}")


@app.command(epilog="Example: mmalign show pair 3f2a --run runs/quickstart")
def pair(
    pair_id: Annotated[str, typer.Argument(help="The pair's id, or its first characters.")],
    run: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/quickstart"),
) -> None:
    """Print both sides of a pair, its spans, and the tokens that they become."""
    import yaml

    from mmalign.config import validate
    from mmalign.pipeline import RunConfig
    from mmalign.pipeline.stages import pair_tokens
    from mmalign.records import PreferencePair
    from mmalign.records.jsonl import read_jsonl
    from mmalign.report.pair import render_pair

    path = run / "data" / "pairs.jsonl"
    if not path.exists():
        raise ConfigError(f"{path}: no such file; --run names a run folder with pairs")
    found = [p for p in read_jsonl(path, PreferencePair) if p.id.startswith(pair_id)]
    if len(found) != 1:
        raise ConfigError(f"{path}: {len(found)} pairs have an id that starts with {pair_id!r}")
    values = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config = validate(RunConfig, values, str(run / "config.yaml"))
    Console().print(render_pair(found[0], tokens=pair_tokens(config, found[0])))
