"""Draw a compiled graph without network: SVG or PNG for files, a tree for the terminal, mermaid."""

import html
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve
from rich.text import Text
from rich.tree import Tree

from mmalign.errors import ConfigError
from mmalign.report.graph_layout import GraphLayout, lay_out

__all__ = ["GraphPicture", "graph_picture"]

_STYLE = """
.box{fill:#ffffff;stroke:#5a646e;stroke-width:1.25}.start,.end{fill:#0a6b61;stroke:#0a6b61}
text{font:14px -apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif;
fill:#1c2126;text-anchor:middle;dominant-baseline:central}.start+text,.end+text{fill:#ffffff}
.wire{fill:none;stroke:#5a646e;stroke-width:1.5}.maybe{stroke-dasharray:5 4}.arrow{fill:#5a646e}
.label{font-size:12px;fill:#5a646e;paint-order:stroke;stroke:#fcfcfb;stroke-width:5px}
@media(prefers-color-scheme:dark){.box{fill:#1a1e22;stroke:#9ca6af}text{fill:#e7e9eb}
.start,.end{fill:#55c4b4;stroke:#55c4b4}.start+text,.end+text{fill:#131619}
.wire{stroke:#9ca6af}.arrow{fill:#9ca6af}.label{fill:#9ca6af;stroke:#131619}}
"""
_INK, _MUTED, _ACCENT, _PAPER = "#1c2126", "#5a646e", "#0a6b61", "#fcfcfb"
_DPI = 144


@dataclass(frozen=True)
class GraphPicture:
    """One graph in every form in which it is shown."""

    layout: GraphLayout
    mermaid: str
    svg: str
    """A whole file; its colours follow the reader's theme."""
    tree: Tree
    """For a terminal, by rich."""

    def save(self, path: Path) -> Path:
        """Write the picture in the form that the file's ending names.

        Args:
            path: Ends in .svg, .png, .pdf or .mmd (mermaid).

        Raises:
            ConfigError: The ending is another one.
        """
        if path.suffix == ".svg":
            path.write_text(self.svg, encoding="utf-8")
        elif path.suffix == ".mmd":
            path.write_text(self.mermaid, encoding="utf-8")
        elif path.suffix in (".png", ".pdf"):
            _figure(self.layout).savefig(path, dpi=_DPI)
        else:
            raise ConfigError(
                f"{path}: a graph is not drawn as {path.suffix or 'a file without an ending'}; "
                f"end the name in .svg, .png, .pdf or .mmd"
            )
        return path


def graph_picture(graph: Any, *, title: str = "graph") -> GraphPicture:
    """The graph laid out top to bottom; dashed edges depend on a condition.

    Args:
        graph: A compiled LangGraph graph.
        title: What the picture is called by screen readers and at the root of the tree.
    """
    layout = lay_out(graph)
    return GraphPicture(
        layout=layout,
        mermaid=graph.get_graph().draw_mermaid(),
        svg=_svg(layout, title),
        tree=_tree(layout, title),
    )


def _label(name: str) -> str:
    return name.strip("_").replace("_", " ") if name in ("__start__", "__end__") else name


def _svg(layout: GraphLayout, title: str) -> str:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {layout.width:.0f} '
        f'{layout.height:.0f}" width="{layout.width:.0f}" height="{layout.height:.0f}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}"><style>{_STYLE}</style>'
    ]
    for wire in layout.wires:
        first, *rest = (f"{point.x:.1f} {point.y:.1f}" for point in wire.points)
        if wire.dot is not None:
            parts.append(f'<circle class="arrow" cx="{wire.dot.x}" cy="{wire.dot.y}" r="4.5"/>')
        arrow = " ".join(f"{point.x:.1f},{point.y:.1f}" for point in wire.arrow)
        maybe = " maybe" if wire.conditional else ""
        parts.append(f'<path class="wire{maybe}" d="M{first} C{" ".join(rest)}"/>')
        parts.append(f'<polygon class="arrow" points="{arrow}"/>')
    for box in layout.boxes:
        x, y = box.center
        radius = box.height / 2 if box.kind != "node" else 7
        parts.append(
            f'<rect class="box {box.kind}" x="{x - box.width / 2:.1f}" '
            f'y="{y - box.height / 2:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
            f'rx="{radius}"/><text x="{x:.1f}" y="{y:.1f}">{html.escape(_label(box.name))}</text>'
        )
    for wire in layout.wires:
        if wire.label:
            x, y = wire.label_at
            parts.append(
                f'<text class="label" x="{x:.1f}" y="{y:.1f}">{html.escape(wire.label)}</text>'
            )
    return "\n".join([*parts, "</svg>\n"])


def _figure(layout: GraphLayout) -> Figure:
    figure = Figure(figsize=(layout.width / 96, layout.height / 96), facecolor=_PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, layout.width)
    axes.set_ylim(layout.height, 0)
    axes.set_axis_off()
    for wire in layout.wires:
        codes = [Curve.MOVETO] + [Curve.CURVE4] * (len(wire.points) - 1)
        axes.add_patch(
            PathPatch(
                Curve(wire.points, codes),
                fill=False,
                edgecolor=_MUTED,
                linewidth=1.1,
                linestyle=(0, (4, 3)) if wire.conditional else "solid",
            )
        )
        if wire.dot is not None:
            axes.add_patch(Circle(wire.dot, 4.5, facecolor=_MUTED, linewidth=0))
        axes.add_patch(Polygon(wire.arrow, closed=True, facecolor=_MUTED, linewidth=0))
    for box in layout.boxes:
        node = box.kind == "node"
        axes.add_patch(
            FancyBboxPatch(
                (box.center.x - box.width / 2, box.center.y - box.height / 2),
                box.width,
                box.height,
                boxstyle=f"round,pad=0,rounding_size={7 if node else box.height / 2}",
                facecolor="white" if node else _ACCENT,
                edgecolor=_MUTED if node else _ACCENT,
                linewidth=1,
            )
        )
        axes.text(
            *box.center,
            _label(box.name),
            ha="center",
            va="center",
            fontsize=9.5,
            color=_INK if node else "white",
        )
    for wire in layout.wires:
        if wire.label:
            background = {"facecolor": _PAPER, "edgecolor": "none", "pad": 1.5}
            axes.text(
                *wire.label_at,
                wire.label,
                ha="center",
                va="center",
                fontsize=8.5,
                color=_MUTED,
                bbox=background,
            )
    return figure


def _tree(layout: GraphLayout, title: str) -> Tree:
    leaving = defaultdict(list)
    for wire in layout.wires:
        leaving[wire.source].append(wire)
    root = Tree(Text(title, style="bold"), guide_style="dim")
    seen: set[str] = set()

    def grow(branch: Tree, name: str) -> None:
        seen.add(name)
        for wire in leaving[name]:
            text = Text.assemble(("? " if wire.conditional else "", "yellow"))
            if wire.label:
                text.append(f"{wire.label}: ", style="dim")
            again = wire.target in seen and wire.target != "__end__"
            style = "dim" if again else "green" if wire.target == "__end__" else "cyan"
            text.append(_label(wire.target) + (" ↑" if again else ""), style=style)
            below = branch.add(text)
            if not again:
                grow(below, wire.target)

    grow(root.add(Text("start", style="green")), "__start__")
    return root
