"""Accuracy against tool calls: which evaluated models answer best for the calls that they make."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from mmalign.errors import StoreError
from mmalign.report.run_folder import Arm, read_run

__all__ = ["FrontierPoint", "frontier_of", "frontier_picture", "frontier_uri"]

_INK, _MUTED, _LINE, _ACCENT = "#1c2126", "#5a646e", "#dfe3e6", "#0a6b61"
_SIZE_INCHES, _DPI = (5.6, 3.4), 160


@dataclass(frozen=True)
class FrontierPoint:
    """One evaluated model."""

    arm: str
    calls: float
    """Of one question."""
    accuracy: float
    """In percent."""
    on_frontier: bool
    """Whether no other model answers as well with fewer calls, or better with as many."""


def frontier_of(arms: Mapping[str, Arm]) -> tuple[FrontierPoint, ...]:
    """The arms that were scored by `tool_use`, in their order."""
    found = {
        name: (arm.metrics["calls"] / 100, arm.metrics["accuracy"])
        for name, arm in arms.items()
        if {"calls", "accuracy"} <= arm.metrics.keys()
    }
    return tuple(
        FrontierPoint(name, *place, on_frontier=not any(_beats(p, place) for p in found.values()))
        for name, place in found.items()
    )


def frontier_picture(run_folder: Path, path: Path) -> Path:
    """Draw accuracy against calls, a point for each evaluated model, the frontier as a line.

    Args:
        run_folder: A run whose evaluation has run by `tool_use`.
        path: The ending gives the format: .png, .svg, .pdf.

    Raises:
        StoreError: No arm was scored by `tool_use`.
    """
    points = frontier_of(read_run(run_folder).arms)
    if not points:
        raise StoreError(
            f"{run_folder}: no arm was scored by tool_use; run `mmalign eval` with that metric"
        )
    _drawn(points).savefig(path, dpi=_DPI)
    return path


def frontier_uri(arms: Mapping[str, Arm]) -> str:
    """The same picture for a page; empty where no arm was scored by `tool_use`."""
    points = frontier_of(arms)
    if not points:
        return ""
    buffer = io.BytesIO()
    _drawn(points).savefig(buffer, dpi=_DPI, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] >= other[1]


def _drawn(points: tuple[FrontierPoint, ...]) -> Figure:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained", facecolor="#ffffff")
    axes = figure.add_subplot()
    best = sorted((point for point in points if point.on_frontier), key=lambda one: one.calls)
    axes.plot([p.calls for p in best], [p.accuracy for p in best], color=_ACCENT, lw=1.2)
    for point in points:
        color = _ACCENT if point.on_frontier else _MUTED
        axes.plot(point.calls, point.accuracy, "o", ms=7, color=color)
        axes.annotate(
            point.arm,
            (point.calls, point.accuracy),
            textcoords="offset points",
            xytext=(6, 5),
            fontsize=8,
            color=_INK,
        )
    axes.set_xlabel("tool calls of a question", color=_MUTED)
    axes.set_ylabel("right answers, percent", color=_MUTED)
    axes.set_xlim(left=0)
    axes.margins(x=0.18, y=0.18)
    axes.grid(color=_LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=_MUTED)
    return figure
