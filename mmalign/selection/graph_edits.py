"""Rejected programs by small edits of the right one's graph, and the examples a prompt shows."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmalign.errors import RecordError, ShapeError

__all__ = [
    "DeleteEdge",
    "DeleteNode",
    "Edge",
    "Edit",
    "EditedGraph",
    "Graph",
    "Neighbours",
    "RedirectEdge",
    "RelabelEdge",
    "RelabelNode",
    "apply_edits",
    "canonical_text",
    "edit_distance",
    "nearest",
    "random_edits",
    "require_graph",
]


class Edge(NamedTuple):
    """A connection from one node to another."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class Graph:
    """A program: labelled nodes and the connections between them."""

    nodes: Mapping[str, str]
    """Label of each node id."""
    edges: tuple[Edge, ...]
    """In any order; two may be equal."""


@dataclass(frozen=True)
class DeleteNode:
    """Take a node out, with all edges at it."""

    node: str


@dataclass(frozen=True)
class DeleteEdge:
    """Take an edge out; those after it move down by one."""

    index: int


@dataclass(frozen=True)
class RelabelNode:
    """Give a node another label."""

    node: str
    label: str


@dataclass(frozen=True)
class RelabelEdge:
    """Give an edge another label."""

    index: int
    label: str


@dataclass(frozen=True)
class RedirectEdge:
    """Let an edge end in another node."""

    index: int
    target: str


Edit = DeleteNode | DeleteEdge | RelabelNode | RelabelEdge | RedirectEdge


class EditedGraph(NamedTuple):
    """A graph near another one, and how it came about."""

    graph: Graph
    edits: tuple[Edit, ...]


class Neighbours(NamedTuple):
    """How near the examples are to a request."""

    similarities: NDArray[np.float64]
    """[M], cosines, in the order of the examples."""
    nearest: list[int]
    """Positions of the examples to show, nearest first."""


def require_graph(graph: Graph, *, where: str = "graph") -> None:
    """Refuse a graph with an edge from or to a node that is not there.

    Raises:
        RecordError: With the place of the edge.
    """
    for index, edge in enumerate(graph.edges):
        for end in (edge.source, edge.target):
            if end not in graph.nodes:
                raise RecordError(
                    f"{where}, edge {index} {edge.source!r} -> {edge.target!r}: no node {end!r}; "
                    f"known ones: {', '.join(graph.nodes)}"
                )


def apply_edits(graph: Graph, edits: Sequence[Edit]) -> Graph:
    """The graph after the edits, one after the other.

    An index counts the edges as they stand at that moment. Whether the result is a program is not
    looked at: loops, doubled edges and edges to nodes that are not there stay.

    Args:
        graph: The right one; it is not changed.
        edits: In order.

    Raises:
        RecordError: An edit names a node or an edge that is not there.

    Source: VPG (Kang et al., 2025).
    """
    for number, edit in enumerate(edits):
        match edit:
            case DeleteNode(node) | RelabelNode(node, _) if node not in graph.nodes:
                raise RecordError(f"edit {number} {edit}: no such node")
            case DeleteEdge(index) | RelabelEdge(index, _) | RedirectEdge(index, _) if not (
                0 <= index < len(graph.edges)
            ):
                raise RecordError(f"edit {number} {edit}: there are {len(graph.edges)} edges")
        graph = _edited(graph, edit)
    return graph


def canonical_text(graph: Graph) -> str:
    """The graph as one line that does not depend on the order of its nodes and edges.

    `n0=TON;n1=XIC|n0->n1:;n0->n1:in`: nodes sorted by id, edges by source, target and label.
    Names of nodes count: two graphs are the same program where the texts are equal.

    Source: VPG (Kang et al., 2025); the format is a reconstruction.
    """
    nodes = ";".join(f"{name}={label}" for name, label in sorted(graph.nodes.items()))
    edges = ";".join(f"{source}->{target}:{label}" for source, target, label in sorted(graph.edges))
    return f"{nodes}|{edges}"


def edit_distance(graph: Graph, other: Graph) -> int:
    """How many nodes and edges differ between two graphs whose nodes are named alike.

        nodes only in one + nodes only in the other + nodes of both with different labels
        + max(edges only in one, edges only in the other)

    Equal edges count as often as they occur. A redirected or relabelled edge counts 1, a deleted
    node 1 and its edges.

    Returns:
        >= 0, and 0 only where `canonical_text` is equal.

    Source: VPG (Kang et al., 2025); the costs are a reconstruction.
    """
    shared = graph.nodes.keys() & other.nodes.keys()
    alone = len(graph.nodes) + len(other.nodes) - 2 * len(shared)
    relabelled = sum(graph.nodes[name] != other.nodes[name] for name in shared)
    edges, other_edges = Counter(graph.edges), Counter(other.edges)
    only_one, only_other = edges - other_edges, other_edges - edges
    return alone + relabelled + max(only_one.total(), only_other.total())


def random_edits(
    graph: Graph,
    *,
    rng: random.Random,
    node_labels: Collection[str],
    edge_labels: Collection[str],
    max_edits: int = 3,
    max_tries: int = 20,
    accepts: Callable[[Graph], bool] | None = None,
) -> EditedGraph | None:
    """A wrong program near the right one: the rejected response of a pair.

    One to max_edits edits, evenly; of each the kind is drawn first, then one of that kind. A try
    that ends in the same `canonical_text` or is not accepted is drawn anew.

    Args:
        graph: The right one.
        rng: Draws.
        node_labels: Labels that a node may get, all of one type.
        edge_labels: Labels that an edge may get.
        max_edits: Largest number of edits; the fewer, the harder to tell apart.
        max_tries: After which the sample is given up.
        accepts: Whether a result is a program and not equal in function; None takes all.

    Returns:
        The edited graph; None where none was found, or the graph has fewer than two nodes or
        no edge.

    Raises:
        RecordError: The graph has an edge at a node that is not there.

    Source: VPG (Kang et al., 2025); how edits are drawn is a reconstruction.
    """
    require_graph(graph)
    if len(graph.nodes) < 2 or not graph.edges:
        return None
    for _ in range(max_tries):
        edited, edits = graph, list[Edit]()
        for _ in range(rng.randint(1, max_edits)):
            kinds = [kind for kind in _possible_edits(edited, node_labels, edge_labels) if kind]
            if not kinds:
                break
            edits.append(rng.choice(rng.choice(kinds)))
            edited = apply_edits(edited, edits[-1:])
        differs = canonical_text(edited) != canonical_text(graph)
        if differs and (accepts is None or accepts(edited)):
            return EditedGraph(edited, tuple(edits))
    return None


def nearest(
    request: ArrayLike,
    examples: ArrayLike,
    *,
    num_nearest: int,
    exclude: Collection[int] = (),
) -> Neighbours:
    """The examples whose requests are most like this one, by the cosine of their embeddings.

    Args:
        request: [d].
        examples: [M, d].
        num_nearest: k; fewer come where fewer are left.
        exclude: Positions that may not be shown: in training the sample itself and its copies,
            from which the policy would learn to copy.

    Returns:
        All similarities, and the positions by falling similarity, of equal ones the first before.

    Raises:
        ShapeError: Shapes do not fit, or an embedding is 0 or not finite.

    Source: VPG (Kang et al., 2025); the cosine is a reconstruction.
    """
    vector, matrix = np.asarray(request, np.float64), np.asarray(examples, np.float64)
    if vector.ndim != 1 or matrix.ndim != 2 or matrix.shape[1] != len(vector):
        raise ShapeError(
            f"expected a request [d] and examples [M, d], found {list(vector.shape)} and "
            f"{list(matrix.shape)}"
        )
    lengths = np.linalg.norm(vector) * np.linalg.norm(matrix, axis=1)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ShapeError("an embedding is 0 or not finite, so it has no direction")
    similarities = matrix @ vector / lengths
    order = [int(place) for place in np.argsort(-similarities, kind="stable")]
    shown = [place for place in order if place not in exclude][:num_nearest]
    return Neighbours(similarities, shown)


def _edited(graph: Graph, edit: Edit) -> Graph:
    nodes, edges = dict(graph.nodes), list(graph.edges)
    match edit:
        case DeleteNode(node):
            del nodes[node]
            edges = [edge for edge in edges if node not in (edge.source, edge.target)]
        case DeleteEdge(index):
            del edges[index]
        case RelabelNode(node, label):
            nodes[node] = label
        case RelabelEdge(index, label):
            edges[index] = edges[index]._replace(label=label)
        case RedirectEdge(index, target):
            edges[index] = edges[index]._replace(target=target)
    return replace(graph, nodes=nodes, edges=tuple(edges))


def _possible_edits(
    graph: Graph, node_labels: Collection[str], edge_labels: Collection[str]
) -> tuple[list[Edit], ...]:
    """Every edit that changes something, kind by kind."""
    nodes, edges = graph.nodes, list(enumerate(graph.edges))
    return (
        [DeleteNode(node) for node in nodes],
        [DeleteEdge(index) for index, _ in edges],
        [RelabelNode(node, new) for node in nodes for new in node_labels if new != nodes[node]],
        [
            RelabelEdge(index, new)
            for index, old in edges
            for new in edge_labels
            if new != old.label
        ],
        [RedirectEdge(index, new) for index, old in edges for new in nodes if new != old.target],
    )
