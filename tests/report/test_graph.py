import struct
from itertools import combinations
from pathlib import Path
from typing import Any, TypedDict
from xml.etree import ElementTree

import pytest
from langgraph.graph import END, START, StateGraph
from rich.console import Console

from mmalign.errors import ConfigError
from mmalign.report import graph_picture
from mmalign.report.graph_layout import lay_out


class State(TypedDict):
    x: int


def keep(state: State) -> State:
    return state


def choose(state: State) -> str:
    return "right"


@pytest.fixture(scope="module")
def graph() -> Any:
    builder = StateGraph(State)
    for name in ("ask", "check", "rewrite", "wrap", "mark"):
        builder.add_node(name, keep)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "check")
    builder.add_conditional_edges(
        "check", choose, {"right": END, "long": "rewrite", "short": "wrap", "again": "ask"}
    )
    builder.add_edge("rewrite", "mark")
    builder.add_edge("wrap", "mark")
    builder.add_edge("mark", END)
    return builder.compile()


def test_nodes_do_not_touch_and_forward_edges_lead_down(graph: Any) -> None:
    layout = lay_out(graph)
    for a, b in combinations(layout.boxes, 2):
        apart_x = abs(a.center.x - b.center.x) >= (a.width + b.width) / 2
        apart_y = abs(a.center.y - b.center.y) >= (a.height + b.height) / 2
        assert apart_x or apart_y
    y = {box.name: box.center.y for box in layout.boxes}
    upwards = {
        (wire.source, wire.target) for wire in layout.wires if y[wire.source] > y[wire.target]
    }
    assert upwards == {("check", "ask")}


def test_an_early_exit_ends_at_a_dot_beside_its_node(graph: Any) -> None:
    layout = lay_out(graph)
    exits = [wire for wire in layout.wires if wire.dot is not None]
    assert [(wire.source, wire.target, wire.label) for wire in exits] == [
        ("check", "__end__", "right")
    ]


def test_everything_lies_inside_the_picture(graph: Any) -> None:
    layout = lay_out(graph)
    points = [point for wire in layout.wires for point in (*wire.points, wire.label_at)]
    assert all(0 <= p.x <= layout.width and 0 <= p.y <= layout.height for p in points)
    assert all(box.center.x - box.width / 2 >= 0 for box in layout.boxes)


def test_the_svg_holds_every_node_and_label(graph: Any) -> None:
    root = ElementTree.fromstring(graph_picture(graph, title="a < b").svg)
    texts = [item.text for item in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(texts) == {"start", "end", "ask", "check", "rewrite", "wrap", "mark"} | {
        "right",
        "long",
        "short",
        "again",
    }
    assert root.attrib["aria-label"] == "a < b"


def test_the_png_has_the_size_of_the_layout(graph: Any, tmp_path: Path) -> None:
    picture = graph_picture(graph)
    content = picture.save(tmp_path / "graph.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert width / height == pytest.approx(picture.layout.width / picture.layout.height, rel=0.01)
    assert len(content) > 5_000


def test_the_tree_names_each_way_once(graph: Any) -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(graph_picture(graph, title="demo").tree)
    text = capture.get()
    assert text.startswith("demo")
    assert "? again: ask ↑" in text
    assert text.count("mark ↑") == 1


def test_mermaid_needs_no_network(graph: Any, tmp_path: Path) -> None:
    path = graph_picture(graph).save(tmp_path / "graph.mmd")
    assert "check -. &nbsp;long&nbsp; .-> rewrite;" in path.read_text()


def test_an_unknown_ending_is_refused(graph: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not drawn as \.jpg; end the name in \.svg"):
        graph_picture(graph).save(tmp_path / "graph.jpg")
