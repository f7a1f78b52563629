"""Pictures of a run as image files, for documents and slides."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmalign.errors import StoreError
from mmalign.report.arms import axis_of, compare
from mmalign.report.funnel import view_funnel
from mmalign.report.run_folder import read_run

__all__ = ["before_after_picture", "funnel_picture"]

_INK, _MUTED, _LINE, _PAPER = "#1c2126", "#5a646e", "#dfe3e6", "#ffffff"
_ACCENT, _ACCENT_SOFT = "#0a6b61", "#cfe5e1"
_BEFORE, _BEFORE_SOFT, _FAILED = "#7f8890", "#dde0e3", "#8d2f5f"
_DPI = 160


def funnel_picture(run_folder: Path, path: Path) -> Path:
    """Draw how samples became pairs: in, each reason to drop, kept.

    Args:
        run_folder: A run whose build stage has run.
        path: The ending gives the format: .png, .svg, .pdf.

    Raises:
        StoreError: The run has not built anything.
    """
    run = read_run(run_folder)
    if run.pairs is None:
        raise StoreError(f"{run_folder}: holds no data/pairs.jsonl; run `mmalign build` first")
    funnel = view_funnel(run.funnel, run.pairs, run.dropped)
    rows = [("samples in", 0.0, float(funnel.num_in), _BEFORE)]
    left = float(funnel.num_in)
    for drop in funnel.drops:
        left -= drop.count
        color = _FAILED if drop.kind == "failed" else _BEFORE
        rows.append((f"{drop.reason.replace('_', ' ')}  ({drop.node})", left, drop.count, color))
    if funnel.num_pending:
        rows.append(("not reached yet", left - funnel.num_pending, funnel.num_pending, _LINE))
    rows.append(("kept", 0.0, float(funnel.num_kept), _ACCENT))
    figure, axes = _canvas(height=0.5 + 0.36 * len(rows))
    for number, (_, start, width, color) in enumerate(rows):
        strong = number in (0, len(rows) - 1)
        axes.barh(number, width, left=start, height=0.62 if strong else 0.42, color=color)
        sign = "" if strong else "−"
        axes.text(
            start + width + 0.01 * funnel.num_in,
            number,
            f"{sign}{width:,.0f}",
            va="center",
            color=_ACCENT if number == len(rows) - 1 else _MUTED,
            fontweight="bold" if strong else "normal",
        )
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_xlim(0, 1.1 * max(1, funnel.num_in))
    axes.set_xticks([])
    axes.invert_yaxis()
    figure.savefig(path, dpi=_DPI)
    return path


def before_after_picture(run_folder: Path, path: Path) -> Path:
    """Draw every metric's percentage and interval in each arm.

    Args:
        run_folder: A run whose evaluation has run, with one arm or more.
        path: The ending gives the format: .png, .svg, .pdf.

    Raises:
        StoreError: The run has not been evaluated.
    """
    comparison = compare(read_run(run_folder).arms)
    if comparison is None:
        raise StoreError(f"{run_folder}: holds no eval/*.json; run `mmalign eval` first")
    scale = axis_of(comparison.shares)
    figure, axes = _canvas(
        height=0.7 + 0.34 * sum(len(r.estimates) + 0.6 for r in comparison.shares)
    )
    place, ticks, labels = 0.0, [], []
    for row in comparison.shares:
        axes.text(
            scale.low,
            place - 0.15,
            row.name.replace("_", " "),
            fontweight="bold" if row.name == comparison.metric else "normal",
            color=_INK,
            va="center",
        )
        for number, item in enumerate(row.estimates):
            place += 1
            last = number == len(row.estimates) - 1 and number > 0
            if item.low is not None and item.high is not None:
                soft = _ACCENT_SOFT if last else _BEFORE_SOFT
                axes.plot(
                    [item.low, item.high], [place] * 2, lw=6, color=soft, solid_capstyle="round"
                )
            axes.plot(item.value, place, "o", ms=8, color=_ACCENT if last else _BEFORE)
            axes.text(
                scale.high,
                place,
                f"{item.value:.1f}",
                ha="right",
                va="center",
                color=_ACCENT if last else _MUTED,
                fontweight="bold" if last else "normal",
            )
            ticks.append(place)
            labels.append(item.arm)
        place += 1.2
    axes.set_yticks(ticks, labels)
    axes.set_xlim(scale.low, scale.high)
    axes.set_xticks(scale.ticks, [f"{tick:.0f}%" for tick in scale.ticks])
    axes.grid(axis="x", color=_LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.set_ylim(place - 0.4, -0.7)
    figure.savefig(path, dpi=_DPI)
    return path


def _canvas(*, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, height), layout="constrained", facecolor=_PAPER)
    axes = figure.add_subplot()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=_MUTED)
    return figure, axes
