"""One self-contained HTML page that shows a run, and the data behind it as files."""

import csv
import io
import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2

from mmalign.errors import StoreError
from mmalign.report.arms import Comparison, axis_of, compare
from mmalign.report.boxes import read_box_views
from mmalign.report.cards import Card, choose_pairs, view_card
from mmalign.report.clips import ClipWriter
from mmalign.report.crossed import view_crossings
from mmalign.report.curves import sparkline, view_curves
from mmalign.report.frontier import frontier_uri
from mmalign.report.funnel import FunnelView, view_funnel
from mmalign.report.lineage import LineageRow, view_lineage
from mmalign.report.rollouts import GroupView, read_rollouts, steps_of, token_texts, view_rollouts
from mmalign.report.run_folder import RunData, read_run, sampling_of
from mmalign.report.tokens import view_tokens

__all__ = ["write_report"]

_PACKAGES = ("mmalign", "torch", "transformers", "peft", "accelerate", "langgraph", "decord", "av")
_MAX_FILTER_VALUES = 20
_MAX_GROUPS = 6


@dataclass(frozen=True)
class _Headline:
    title: str
    model: str
    method: str
    data: str
    agent: str


def write_report(
    run_folder: Path,
    *,
    title: str | None = None,
    num_pairs: int = 24,
    max_inline_bytes: int = 12_000_000,
) -> Path:
    """Write `report/index.html` and `report/data/` into a run folder.

    Args:
        run_folder: What `mmalign run` wrote; stages that did not run are shown as not run.
        title: Heading of the page; by default model, method and data set.
        num_pairs: Pairs that are shown with their clips.
        max_inline_bytes: Clips beyond this many bytes are files in `report/media/`.

    Returns:
        Path of the page.

    Raises:
        StoreError: The run folder does not exist, or the report cannot be written.
    """
    run = read_run(run_folder)
    report_folder = run_folder / "report"
    try:
        shutil.rmtree(report_folder / "media", ignore_errors=True)
        (report_folder / "data").mkdir(parents=True, exist_ok=True)
        content, tables = _render(run, report_folder, title, num_pairs, max_inline_bytes)
        for name, text in tables.items():
            (report_folder / "data" / name).write_text(text, encoding="utf-8")
        page = report_folder / "index.html"
        unfinished = page.with_suffix(".html.part")
        unfinished.write_text(content, encoding="utf-8")
        unfinished.replace(page)
    except OSError as error:
        raise StoreError(
            f"{report_folder}: the report cannot be written: {error.strerror or error}. "
            f"Free space or make the folder writable, then run `mmalign report` again"
        ) from error
    return page


def _render(
    run: RunData, report_folder: Path, title: str | None, num_pairs: int, max_inline_bytes: int
) -> tuple[str, dict[str, str]]:
    pairs, log = run.pairs or (), run.log or ()
    funnel = view_funnel(run.funnel, pairs, run.dropped)
    comparison = compare(run.arms)
    lineage = view_lineage(pairs, log)
    clips = ClipWriter(
        report_folder=report_folder,
        base_folder=run.folder / "data",
        sampling=sampling_of(run.config),
        max_inline_bytes=max_inline_bytes,
    )
    cards = [view_card(pair, clips) for pair in choose_pairs(pairs, num_pairs=num_pairs)]
    headline = _headline(run, title)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmalign.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["spark"] = sparkline
    folder = Path(__file__).parent
    content = environment.get_template("page.html.jinja").render(
        run=run,
        headline=headline,
        funnel=funnel,
        comparison=comparison,
        axis=axis_of(comparison.shares) if comparison else None,
        cards=cards,
        frontier=frontier_uri(run.arms),
        boxes=read_box_views(run.folder / "eval", list(run.arms)),
        filters=_filters(cards),
        charts=view_curves(log),
        lineage=lineage,
        weighted=any(row.weight is not None for row in lineage),
        crossings=view_crossings(pairs),
        tokens=view_tokens(run.plan),
        groups=_rollout_groups(run.folder / "train"),
        facts=_facts(run, funnel),
        versions=run.versions or _installed(),
        versions_are_here=not run.versions,
        command=f"mmalign run {shlex.quote(str(run.folder / 'config.yaml'))}",
        written_at=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        num_linked=clips.num_linked,
        css=(folder / "page.css").read_text(encoding="utf-8"),
        js="\n".join(
            (folder / name).read_text(encoding="utf-8") for name in ("page.js", "matrix.js")
        ),
    )
    return content, _tables(headline, run, funnel, comparison, lineage, cards)


def _rollout_groups(train_folder: Path) -> list[GroupView]:
    """Of the last step."""
    steps = steps_of(train_folder)
    if not steps:
        return []
    rollouts = read_rollouts(train_folder, steps[-1], [])
    return view_rollouts(rollouts, steps[-1], token_texts(train_folder))[:_MAX_GROUPS]


def _headline(run: RunData, title: str | None) -> _Headline:
    config = run.config
    policies = (pair.lineage.policy for pair in run.pairs or ())
    path = _first(config, "models.policy.model_name_or_path", "model.model_name_or_path")
    model = str(path or next((name for name in policies if name), "") or "a model")
    model = "/".join(model.rstrip("/").split("/")[-2:])
    method = str(_first(config, "objective.name") or "").upper()
    data = _data_names(config.get("dataset"))
    made = f"{model} aligned with {method}" if method else f"{model}: preference data"
    return _Headline(
        title=title or (f"{made} on {data}" if data else made),
        model=model,
        method=method,
        data=data,
        agent=str(_first(config, "agent.path") or ""),
    )


def _data_names(readers: Any) -> str:
    """`shapes and film` for the readers `mmalign.datasets.shapes:read` and its like."""
    found = readers if isinstance(readers, list) else [readers]
    paths = [item.get("path") for item in found if isinstance(item, Mapping)]
    names = [str(path).partition(":")[0].rpartition(".")[2] for path in paths if path]
    return " and ".join(dict.fromkeys(names))


def _first(config: Mapping[str, Any], *paths: str) -> Any:
    """The first of the dotted paths that leads to a text or a number."""
    for path in paths:
        value: Any = config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str | int | float):
            return value
    return None


def _facts(run: RunData, funnel: FunnelView) -> list[tuple[str, str, str]]:
    """Stage, what it gave, and whether it ran (`done` or `absent`)."""
    steps = max((int(row["step"]) for row in run.log or () if row.get("step")), default=0)
    cost = f", cost {funnel.cost:.4g}" if funnel.cost else ""
    return [
        ("Build", f"{funnel.num_pairs:,} pairs from {funnel.num_in:,} samples{cost}", "done")
        if run.pairs is not None
        else ("Build", "not run", "absent"),
        ("Train", f"{steps:,} steps", "done") if run.log else ("Train", "not run", "absent"),
        ("Evaluate", ", ".join(run.arms), "done")
        if run.arms
        else ("Evaluate", "not run", "absent"),
    ]


def _filters(cards: Sequence[Card]) -> list[tuple[str, list[str]]]:
    """Tags that tell the shown pairs apart, with their values."""
    keys = dict.fromkeys(key for card in cards for key in card.tags)
    values = {key: sorted({card.tags[key] for card in cards if key in card.tags}) for key in keys}
    return [(key, found) for key, found in values.items() if 2 <= len(found) <= _MAX_FILTER_VALUES]


def _installed() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _tables(
    headline: _Headline,
    run: RunData,
    funnel: FunnelView,
    comparison: Comparison | None,
    lineage: Sequence[LineageRow],
    cards: Sequence[Card],
) -> dict[str, str]:
    """File name -> content of everything in `report/data/`."""
    drops = [
        {"node": d.node, "reason": d.reason, "kind": d.kind, "count": d.count, "percent": d.percent}
        for d in funnel.drops
    ]
    measured = (
        [
            {
                "subset": subset,
                "metric": row.name,
                "arm": item.arm,
                "value": item.value,
                "low": item.low,
                "high": item.high,
            }
            for subset, rows in (
                ("all", comparison.overall),
                *comparison.subsets.items(),
            )
            for row in rows
            for item in row.estimates
        ]
        if comparison
        else []
    )
    keyed = [
        {
            "key": row.key,
            "value": row.value,
            "num_pairs": row.num_pairs,
            "loss": row.loss,
            "rewards/accuracies": row.accuracy,
            "rewards/margins": row.margin,
        }
        for row in lineage
    ]
    counts = {name: value for name, value in asdict(funnel).items() if name != "drops"}
    return {
        "headline.json": _json(asdict(headline)),
        "funnel.json": _json({**counts, "drops": drops}),
        "funnel.csv": _csv(drops),
        "pairs.json": _json([pair.model_dump(mode="json") for pair in _shown(run, cards)]),
        "curves.json": _json(list(run.log or ())),
        "curves.csv": _csv(list(run.log or ())),
        "lineage.json": _json(keyed),
        "lineage.csv": _csv(keyed),
        "evaluation.json": _json(measured),
        "evaluation.csv": _csv(measured),
        "versions.json": _json(run.versions or _installed()),
    }


def _shown(run: RunData, cards: Sequence[Card]) -> list[Any]:
    shown = {card.id for card in cards}
    return [pair for pair in run.pairs or () if pair.id in shown]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(buffer, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
