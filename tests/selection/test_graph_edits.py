"""Wrong programs by edits of the right graph, and the examples that a prompt shows."""

import math
import random
from collections.abc import Sequence

import pytest

from mmalign.errors import RecordError, ShapeError
from mmalign.selection.graph_edits import (
    DeleteEdge,
    DeleteNode,
    Edge,
    Edit,
    Graph,
    RedirectEdge,
    RelabelEdge,
    RelabelNode,
    apply_edits,
    canonical_text,
    edit_distance,
    nearest,
    random_edits,
    require_graph,
)

GOLD = Graph(
    {"a": "start", "b": "add", "c": "end"},
    (Edge("a", "b", "in"), Edge("b", "c"), Edge("a", "c")),
)


def draw(seed: int, graph: Graph = GOLD, labels: Sequence[str] = ("add", "mul")) -> Graph:
    found = random_edits(graph, rng=random.Random(seed), node_labels=labels, edge_labels=("in",))
    assert found is not None
    assert apply_edits(graph, found.edits) == found.graph
    return found.graph


def test_canonical_text_worked_by_hand() -> None:
    assert canonical_text(GOLD) == "a=start;b=add;c=end|a->b:in;a->c:;b->c:"
    assert canonical_text(Graph({}, ())) == "|"


def test_canonical_text_does_not_depend_on_any_order() -> None:
    shuffled = Graph(dict(reversed(list(GOLD.nodes.items()))), GOLD.edges[::-1])
    assert canonical_text(shuffled) == canonical_text(GOLD)
    assert edit_distance(shuffled, GOLD) == 0


@pytest.mark.parametrize(
    ("edit", "distance"),
    [
        (DeleteEdge(1), 1),
        (RedirectEdge(0, "c"), 1),
        (RelabelEdge(0, "out"), 1),
        (RelabelNode("b", "mul"), 1),
        (DeleteNode("a"), 1 + 2),
    ],
)
def test_one_edit_changes_the_text_by_a_known_distance(edit: Edit, distance: int) -> None:
    before = canonical_text(GOLD)
    edited = apply_edits(GOLD, [edit])
    assert edit_distance(GOLD, edited) == edit_distance(edited, GOLD) == distance
    assert canonical_text(edited) != before
    assert canonical_text(GOLD) == before


def test_an_index_counts_the_edges_left_by_the_edits_before() -> None:
    edited = apply_edits(GOLD, [DeleteEdge(0), RelabelEdge(0, "x"), DeleteNode("a")])
    assert edited == Graph({"b": "add", "c": "end"}, (Edge("b", "c", "x"),))


def test_equal_edges_count_as_often_as_they_occur() -> None:
    doubled = Graph(GOLD.nodes, (*GOLD.edges, GOLD.edges[0]))
    assert edit_distance(doubled, GOLD) == 1
    assert canonical_text(doubled) != canonical_text(GOLD)


def test_distance_is_that_of_the_graphs_and_not_the_number_of_edits() -> None:
    there_and_back = [RelabelNode("b", "mul"), RelabelNode("b", "add")]
    assert edit_distance(GOLD, apply_edits(GOLD, there_and_back)) == 0


@pytest.mark.parametrize("seed", range(30))
def test_a_random_wrong_program_is_another_one_and_holds_together(seed: int) -> None:
    edited = draw(seed)
    require_graph(edited)
    assert canonical_text(edited) != canonical_text(GOLD)
    assert edit_distance(GOLD, edited) >= 1


def test_a_seed_repeats_the_edits_and_all_kinds_occur() -> None:
    assert draw(3) == draw(3)
    kinds: set[type[Edit]] = set()
    for seed in range(60):
        found = random_edits(
            GOLD,
            rng=random.Random(seed),
            node_labels=["add", "mul"],
            edge_labels=["in", "out"],
            max_edits=1,
        )
        assert found is not None
        assert len(found.edits) == 1
        kinds |= {type(edit) for edit in found.edits}
    assert kinds == {DeleteEdge, DeleteNode, RedirectEdge, RelabelEdge, RelabelNode}


def test_a_label_without_another_of_its_type_is_not_replaced() -> None:
    for seed in range(20):
        edited = draw(seed, labels=())
        assert set(edited.nodes.items()) <= set(GOLD.nodes.items())


def test_a_sample_whose_edits_are_never_accepted_is_given_up() -> None:
    tried: list[Graph] = []

    def accepts(graph: Graph) -> bool:
        tried.append(graph)
        return False

    found = random_edits(
        GOLD, rng=random.Random(0), node_labels=(), edge_labels=(), max_tries=5, accepts=accepts
    )
    assert found is None
    assert 1 <= len(tried) <= 5


@pytest.mark.parametrize("graph", [Graph({"a": "start"}, ()), Graph({"a": "x", "b": "y"}, ())])
def test_a_graph_too_small_to_edit_is_given_up(graph: Graph) -> None:
    found = random_edits(graph, rng=random.Random(0), node_labels=["z"], edge_labels=["z"])
    assert found is None


def test_nearest_worked_by_hand() -> None:
    """Cosines with (1, 0): of (3, 4) 3/5, of (2, 0) 1, of (0, 1) 0, of (6, 8) 3/5."""
    found = nearest([1.0, 0.0], [[3, 4], [2, 0], [0, 1], [6, 8]], num_nearest=3)
    assert found.similarities == pytest.approx([0.6, 1.0, 0.0, 0.6], rel=1e-12)
    assert found.nearest == [1, 0, 3]


def test_the_sample_itself_can_be_excluded_and_fewer_examples_than_asked_are_all() -> None:
    found = nearest([1.0, 0.0], [[1, 0], [0, 1], [1, 1]], num_nearest=5, exclude={0})
    assert found.nearest == [2, 1]


def test_refused_inputs_say_what_is_expected() -> None:
    with pytest.raises(RecordError, match="item 3, edge 0 'a' -> 'z': no node 'z'; known ones: a"):
        require_graph(Graph({"a": "x"}, (Edge("a", "z"),)), where="item 3")
    with pytest.raises(RecordError, match=r"edit 1 DeleteEdge\(index=2\): there are 2 edges"):
        apply_edits(GOLD, [DeleteEdge(0), DeleteEdge(2)])
    with pytest.raises(RecordError, match=r"edit 0 RelabelNode\(node='z'.*no such node"):
        apply_edits(GOLD, [RelabelNode("z", "x")])
    with pytest.raises(ShapeError, match=r"found \[2\] and \[1, 3\]"):
        nearest([1.0, 0.0], [[1.0, 0.0, 0.0]], num_nearest=1)
    with pytest.raises(ShapeError, match="an embedding is 0 or not finite"):
        nearest([1.0, 0.0], [[0.0, 0.0]], num_nearest=1)
    with pytest.raises(ShapeError, match="an embedding is 0 or not finite"):
        nearest([1.0, math.nan], [[1.0, 0.0]], num_nearest=1)
