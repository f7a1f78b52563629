"""Place the nodes of a compiled graph in layers and lead its edges around them.

Leaves out what small agent graphs do not need: minimal crossings and minimal width. Nodes stand
in the layer of their longest way from the start; edges back up run along the right side; an edge
that leaves for the end from further up stops at a dot beside its node.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

__all__ = ["Box", "GraphLayout", "Point", "Wire", "lay_out"]

_LAYER_GAP, _BOX_HEIGHT, _BOX_GAP, _MARGIN = 56.0, 36.0, 36.0, 24.0
_CHARACTER, _LANE, _EXIT = 8.2, 34.0, 26.0
_SWEEPS = 8


class Point(NamedTuple):
    """Place in the picture; y grows downwards."""

    x: float
    y: float


@dataclass(frozen=True)
class Box:
    """A node, given by its centre and size."""

    name: str
    kind: Literal["start", "node", "end"]
    center: Point
    width: float
    height: float


@dataclass(frozen=True)
class Wire:
    """An edge as cubic curves: a first point, then three points for each curve."""

    source: str
    target: str
    points: tuple[Point, ...]
    arrow: tuple[Point, Point, Point]
    label: str
    label_at: Point
    conditional: bool
    dot: Point | None = None
    """Where an early exit ends; drawn instead of the arrow."""


@dataclass(frozen=True)
class GraphLayout:
    """Everything that a drawing needs."""

    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    width: float
    height: float


class _Edge(NamedTuple):
    source: str
    target: str
    label: str
    conditional: bool


def lay_out(graph: Any) -> GraphLayout:
    """The graph's nodes from start to end, top to bottom.

    Args:
        graph: A compiled LangGraph graph.
    """
    drawable = graph.get_graph()
    edges = [_Edge(e.source, e.target, str(e.data or ""), e.conditional) for e in drawable.edges]
    back = _back_edges(list(drawable.nodes), edges)
    forward = [edge for edge in edges if edge not in back]
    layer_of = _layers(list(drawable.nodes), forward)
    exits = [edge for edge in forward if _is_exit(edge, layer_of)]
    chains = _chains([edge for edge in forward if edge not in exits], layer_of)
    rows = _ordered_rows(layer_of, chains)
    label_width = max((len(edge.label) for edge in edges), default=0) * _CHARACTER * 0.8
    room = {edge.source: 2 * _exit_width(edge) for edge in exits}
    places = _places(rows, drawable.nodes, chains, label_width, room)
    boxes = {
        name: Box(name, _kind(name), places[name], _box_width(name), _BOX_HEIGHT)
        for name in drawable.nodes
    }
    right = max(box.center.x + box.width / 2 for box in boxes.values())
    right = max(right, *(place.x + _BOX_GAP / 2 for place in places.values()))
    right = max([right, *(places[n].x + (_box_width(n) + room[n]) / 2 for n in room)])
    wires = [_down(edge, chain, places, boxes) for edge, chain in chains.items()]
    wires += [_out(edge, boxes[edge.source]) for edge in exits]
    wires += [
        _up(edge, boxes, right + _LANE * (number + 1)) for number, edge in enumerate(sorted(back))
    ]
    lanes = _LANE * len(back) + (max((len(e.label) for e in back), default=0) * _CHARACTER)
    return GraphLayout(
        boxes=tuple(boxes.values()),
        wires=tuple(wires),
        width=right + lanes + _MARGIN,
        height=max(place.y for place in places.values()) + _BOX_HEIGHT / 2 + _MARGIN,
    )


def _kind(name: str) -> Literal["start", "node", "end"]:
    return "start" if name == "__start__" else "end" if name == "__end__" else "node"


def _box_width(name: str) -> float:
    return 68.0 if _kind(name) != "node" else _CHARACTER * len(name) + 32.0


def _back_edges(names: Sequence[str], edges: Sequence[_Edge]) -> set[_Edge]:
    """Edges that lead to a node on the way that led here; without them there is no circle."""
    leaving: dict[str, list[_Edge]] = defaultdict(list)
    for edge in edges:
        leaving[edge.source].append(edge)
    back: set[_Edge] = set()
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        for edge in leaving[name]:
            if edge.target in (*way, name):
                back.add(edge)
            elif edge.target not in done:
                visit(edge.target, (*way, name))
        done.add(name)

    for name in names:
        if name not in done:
            visit(name, ())
    return back


def _layers(names: Sequence[str], forward: Sequence[_Edge]) -> dict[str, int]:
    layer_of = dict.fromkeys(names, 0)
    for _ in names:
        for edge in forward:
            layer_of[edge.target] = max(layer_of[edge.target], layer_of[edge.source] + 1)
    return layer_of


def _is_exit(edge: _Edge, layer_of: Mapping[str, int]) -> bool:
    skips = layer_of[edge.target] - layer_of[edge.source] > 1
    return edge.conditional and skips and _kind(edge.target) == "end"


def _exit_width(edge: _Edge) -> float:
    return _EXIT + 10.0 + _CHARACTER * 0.85 * len(edge.label)


def _chains(forward: Sequence[_Edge], layer_of: Mapping[str, int]) -> dict[_Edge, tuple[str, ...]]:
    """Each edge as names, one per layer; those between its ends are bends."""
    return {
        edge: (
            edge.source,
            *(
                f"{number}:{edge.source}>{edge.target}@{layer}"
                for layer in range(layer_of[edge.source] + 1, layer_of[edge.target])
            ),
            edge.target,
        )
        for number, edge in enumerate(forward)
    }


def _ordered_rows(
    layer_of: Mapping[str, int], chains: Mapping[_Edge, tuple[str, ...]]
) -> list[list[str]]:
    """Names per layer, each near the middle of its neighbours; the order with fewest crossings."""
    rows: list[list[str]] = [[] for _ in range(max(layer_of.values()) + 1)]
    for name, layer in layer_of.items():
        rows[layer].append(name)
    for edge, chain in chains.items():
        for offset, name in enumerate(chain[1:-1], start=1):
            rows[layer_of[edge.source] + offset].append(name)
    above, below = _neighbours(chains)
    best, fewest = [list(row) for row in rows], _num_crossings(rows, below)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        fixed = rows[0] if down else rows[-1]
        for row in rows[1:] if down else reversed(rows[:-1]):
            place = {name: index for index, name in enumerate(fixed)}
            beside = above if down else below
            own = {name: index for index, name in enumerate(row)}
            row.sort(key=lambda name: _mean([place[n] for n in beside[name]], own[name]))
            fixed = row
        if (num_crossings := _num_crossings(rows, below)) < fewest:
            best, fewest = [list(row) for row in rows], num_crossings
    return best


def _neighbours(
    chains: Mapping[_Edge, tuple[str, ...]],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = defaultdict(list)
    below: dict[str, list[str]] = defaultdict(list)
    for chain in chains.values():
        for upper, lower in pairwise(chain):
            above[lower].append(upper)
            below[upper].append(lower)
    return above, below


def _num_crossings(rows: Sequence[Sequence[str]], below: Mapping[str, Sequence[str]]) -> int:
    num_crossings = 0
    for upper_row, lower_row in pairwise(rows):
        place = {name: index for index, name in enumerate(lower_row)}
        ends = [[place[n] for n in below.get(name, ())] for name in upper_row]
        num_crossings += sum(
            left > right
            for i, lefts in enumerate(ends)
            for rights in ends[i + 1 :]
            for left in lefts
            for right in rights
        )
    return num_crossings


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _places(
    rows: Sequence[Sequence[str]],
    nodes: Mapping[str, Any],
    chains: Mapping[_Edge, tuple[str, ...]],
    label_width: float,
    room: Mapping[str, float],
) -> dict[str, Point]:
    """Each name drawn towards its neighbours, so that long edges run straight."""
    width = {
        name: _box_width(name) + room.get(name, 0.0) if name in nodes else max(16.0, label_width)
        for row in rows
        for name in row
    }
    x: dict[str, float] = {}
    for row in rows:
        x |= _spaced(row, dict.fromkeys(row, 0.0), width)
    above, below = _neighbours(chains)
    for sweep in range(10 * _SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wish = {
                name: _mean([x[other] for other in (*above[name], *below[name])], x[name])
                for name in row
            }
            x |= _spaced(row, wish, width)
    left = min(x[name] - width[name] / 2 for name in x)
    return {
        name: Point(
            x[name] - left + _MARGIN,
            _MARGIN + _BOX_HEIGHT / 2 + layer * (_BOX_HEIGHT + _LAYER_GAP),
        )
        for layer, row in enumerate(rows)
        for name in row
    }


def _spaced(
    row: Sequence[str], wish: Mapping[str, float], width: Mapping[str, float]
) -> dict[str, float]:
    """Wished places, in the row's order, moved apart where they would touch.

    Half-way between pushing all to the right and pushing all to the left.
    """
    rightwards, leftwards = dict(wish), dict(wish)
    for left, right in pairwise(row):
        gap = (width[left] + width[right]) / 2 + _BOX_GAP
        rightwards[right] = max(rightwards[right], rightwards[left] + gap)
    for right, left in pairwise(reversed(row)):
        gap = (width[left] + width[right]) / 2 + _BOX_GAP
        leftwards[left] = min(leftwards[left], leftwards[right] - gap)
    return {name: (rightwards[name] + leftwards[name]) / 2 for name in row}


def _down(
    edge: _Edge, chain: Sequence[str], places: Mapping[str, Point], boxes: Mapping[str, Box]
) -> Wire:
    x, y = places[edge.source]
    stops = [Point(x, y + boxes[edge.source].height / 2), *(places[n] for n in chain[1:-1])]
    x, y = places[edge.target]
    stops.append(Point(x, y - boxes[edge.target].height / 2))
    points = [stops[0]]
    for upper, lower in pairwise(stops):
        middle = (upper.y + lower.y) / 2
        points += [Point(upper.x, middle), Point(lower.x, middle), lower]
    tip = stops[-1]
    half_way = Point((stops[0].x + stops[1].x) / 2, (stops[0].y + stops[1].y) / 2)
    return Wire(
        source=edge.source,
        target=edge.target,
        points=tuple(points),
        arrow=(tip, Point(tip.x - 4.5, tip.y - 9), Point(tip.x + 4.5, tip.y - 9)),
        label=edge.label,
        label_at=stops[1] if len(stops) > 2 else half_way,
        conditional=edge.conditional,
    )


def _out(edge: _Edge, box: Box) -> Wire:
    start = Point(box.center.x + box.width / 2, box.center.y - 6)
    dot = Point(start.x + _EXIT, start.y)
    return Wire(
        source=edge.source,
        target=edge.target,
        points=(start, start, dot, dot),
        arrow=(dot, dot, dot),
        label=edge.label,
        label_at=Point(dot.x + 6 + _CHARACTER * 0.425 * len(edge.label), dot.y),
        conditional=True,
        dot=dot,
    )


def _up(edge: _Edge, boxes: Mapping[str, Box], lane: float) -> Wire:
    source, target = boxes[edge.source], boxes[edge.target]
    start = Point(source.center.x + source.width / 2, source.center.y + 9)
    below = -11 if source == target else 9
    tip = Point(target.center.x + target.width / 2, target.center.y + below)
    middle = Point(lane, (start.y + tip.y) / 2)
    return Wire(
        source=edge.source,
        target=edge.target,
        points=(
            start,
            Point(lane, start.y),
            Point(lane, start.y),
            middle,
            Point(lane, tip.y),
            Point(lane, tip.y),
            tip,
        ),
        arrow=(tip, Point(tip.x + 9, tip.y - 4.5), Point(tip.x + 9, tip.y + 4.5)),
        label=edge.label,
        label_at=middle,
        conditional=edge.conditional,
    )
