"""Training curves as small SVG charts; their colours come from the page and follow its theme."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Chart", "sparkline", "view_curves"]

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 12, 26
_MAX_POINTS = 400
_MIN_SMOOTHED = 20


@dataclass(frozen=True)
class _Plan:
    title: str
    note: str
    series: tuple[tuple[str, str, str], ...]
    """Name in the log, label, class of the line."""
    percent: bool = False
    zero: bool = False
    noisy: bool = True
    """Long curves are drawn faintly, with their moving mean over them."""


_PLANS = (
    _Plan("Loss", "per pair, lower is better", (("loss", "loss", "main"),)),
    _Plan(
        "Reward margin",
        "chosen minus rejected",
        (("rewards/margins", "margin", "main"),),
        zero=True,
    ),
    _Plan(
        "Rewards",
        "beta × log-ratio",
        (("rewards/chosen", "chosen", "chosen"), ("rewards/rejected", "rejected", "rejected")),
        zero=True,
    ),
    _Plan(
        "Accuracy",
        "pairs with the chosen side ahead",
        (("rewards/accuracies", "accuracy", "main"),),
        percent=True,
    ),
    _Plan("KL to the reference", "nats", (("kl", "KL", "main"),), zero=True),
    _Plan(
        "Log-probabilities",
        "nats",
        (("logps/chosen", "chosen", "chosen"), ("logps/rejected", "rejected", "rejected")),
    ),
    _Plan("Gradient norm", "before clipping", (("grad_norm", "norm", "main"),), zero=True),
    _Plan("Learning rate", "", (("learning_rate", "rate", "main"),), zero=True, noisy=False),
)


@dataclass(frozen=True)
class Chart:
    """One drawn chart."""

    title: str
    note: str
    svg: str
    last: tuple[tuple[str, str, str], ...]
    """Label, last value and class of each line."""


def view_curves(log: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    """A chart for each group of metrics that the log holds at least two values of."""
    charts = []
    for plan in _PLANS:
        lines = [
            (label, css, _points(log, name))
            for name, label, css in plan.series
            if len(_points(log, name)) >= 2
        ]
        if lines:
            charts.append(
                Chart(
                    title=plan.title,
                    note=plan.note,
                    svg=_draw(plan, lines),
                    last=tuple(
                        (label, _label(points[-1][1], percent=plan.percent), css)
                        for label, css, points in lines
                    ),
                )
            )
    return tuple(charts)


def sparkline(values: Sequence[float], *, width: int = 96, height: int = 22) -> str:
    """A line without axes, or an empty string where there is nothing to draw."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    scale = (height - 4) / (high - low) if high > low else 0.0
    path = " ".join(
        f"{2 + (width - 4) * i / (len(finite) - 1):.1f},{height - 2 - (value - low) * scale:.1f}"
        for i, value in enumerate(finite)
    )
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'aria-hidden="true"><polyline points="{path}"/></svg>'
    )


def _points(log: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    points = [
        (float(row.get("step") or number), float(row[name]))
        for number, row in enumerate(log, start=1)
        if isinstance(row.get(name), int | float) and math.isfinite(row[name])
    ]
    stride = max(1, math.ceil(len(points) / _MAX_POINTS))
    return (
        points[::stride]
        if stride == 1 or points[-1:] == points[::stride][-1:]
        else [
            *points[::stride],
            points[-1],
        ]
    )


def _draw(plan: _Plan, lines: Sequence[tuple[str, str, list[tuple[float, float]]]]) -> str:
    steps = [step for _, _, points in lines for step, _ in points]
    values = [value for _, _, points in lines for _, value in points]
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if plan.percent else _ticks(values, zero=plan.zero)
    low, high = ticks[0], ticks[-1]
    first, last = min(steps), max(steps)

    def x_of(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - first) / ((last - first) or 1.0)

    def y_of(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    parts = [
        f'<line class="grid{" axis" if tick == 0 else ""}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
        f'y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y_of(tick) + 4:.1f}" text-anchor="end">'
        f"{_label(tick, percent=plan.percent)}</text>"
        for tick in ticks
    ]
    for step, anchor in ((first, "start"), ((first + last) / 2, "middle"), (last, "end")):
        name = f"step {step:.0f}" if anchor == "start" else f"{step:.0f}"
        parts.append(
            f'<text class="tick" x="{x_of(step):.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">'
            f"{name}</text>"
        )
    for label, css, points in lines:
        smoothed = plan.noisy and len(points) > _MIN_SMOOTHED
        smooth = _smoothed([value for _, value in points])
        raw = " ".join(f"{x_of(step):.1f},{y_of(value):.1f}" for step, value in points)
        path = " ".join(
            f"{x_of(step):.1f},{y_of(value):.1f}"
            for (step, _), value in zip(points, smooth, strict=True)
        )
        if smoothed:
            parts.append(f'<polyline class="raw {css}" points="{raw}"/>')
        parts.append(
            f'<polyline class="line {css}" points="{path if smoothed else raw}">'
            f"<title>{html.escape(label)}</title></polyline>"
        )
    summary = html.escape(
        f"{plan.title}: "
        + "; ".join(
            f"{label} from {_label(points[0][1], percent=plan.percent)} "
            f"to {_label(points[-1][1], percent=plan.percent)}"
            for label, _, points in lines
        ),
        quote=True,
    )
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{summary}">'
        f"{''.join(parts)}</svg>"
    )


def _smoothed(values: Sequence[float]) -> list[float]:
    """Centred mean over about a fifteenth of the curve, so that the trend can be seen."""
    half = max(1, len(values) // 30)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _ticks(values: Sequence[float], *, zero: bool) -> list[float]:
    """Four to six round numbers that enclose all values."""
    low = min([*values, 0.0] if zero else values)
    high = max([*values, 0.0] if zero else values)
    if high - low < 1e-12 * max(1e-3, abs(high)):
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _label(value: float, *, percent: bool) -> str:
    if percent:
        return f"{100 * value:.0f}%"
    if value == 0:
        return "0"
    text = f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}".replace("e-0", "e-")
    return text.replace("-", "−", 1) if value < 0 else text
