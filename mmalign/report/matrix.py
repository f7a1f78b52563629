"""Programs against tests as a picture and as a table: a sign and a colour for each run."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmalign.records import EXECUTION_MATRIX, ExecutionMatrix

__all__ = ["Candidate", "MatrixView", "matrix_of", "render_matrix", "view_matrix"]

_CELL, _LEFT, _TOP, _MARGIN = 26, 40, 26, 40


class _Look(NamedTuple):
    sign: str
    words: str
    color: str
    """In the terminal."""


_LOOKS = {
    "pass": _Look("✓", "pass", "green"),
    "fail": _Look("✗", "fail", "red"),
    "error": _Look("!", "error", "magenta"),
    "timeout": _Look("t", "timeout", "yellow"),
    "oom": _Look("m", "out of memory", "yellow"),
    "output_limit": _Look("o", "too much output", "yellow"),
    "no_verdict": _Look("?", "ended before the verdict", "magenta"),
    "flaky": _Look("~", "passed once, then not", "cyan"),
}


class Candidate(NamedTuple):
    """A program or a test below the picture."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class MatrixView:
    """A matrix ready for a page."""

    svg: str
    """Cells and labels are links to the candidates."""
    caption: str
    legend: tuple[tuple[str, str, str], ...]
    """Class, sign and words of each status that occurs."""
    candidates: tuple[Candidate, ...]


def matrix_of(metadata: Mapping[str, Any]) -> ExecutionMatrix | None:
    """The matrix in a record's metadata; None where there is none that can be read."""
    try:
        return ExecutionMatrix.model_validate(metadata.get(EXECUTION_MATRIX))
    except ValidationError:
        return None


def view_matrix(metadata: Mapping[str, Any], *, id: str) -> MatrixView | None:
    """The picture of a record's matrix.

    Args:
        metadata: Of the record; None comes back where it holds no matrix.
        id: Different for each picture of a page.
    """
    matrix = matrix_of(metadata)
    if matrix is None:
        return None
    num_codes, num_tests = len(matrix.codes), len(matrix.tests)
    codes = (
        Candidate(f"{id}-p{j}", f"Program {j + 1}: passes {score} of {num_tests} tests", text)
        for j, (text, score) in enumerate(zip(matrix.codes, matrix.code_scores, strict=True))
    )
    tests = (
        Candidate(f"{id}-t{k}", f"Test {k + 1}: {score} of {num_codes} programs pass it", text)
        for k, (text, score) in enumerate(zip(matrix.tests, matrix.test_scores, strict=True))
    )
    return MatrixView(
        svg=_draw(matrix, id),
        caption=_caption(matrix),
        legend=tuple((_css(status), *_look(status)[:2]) for status in _statuses(matrix)),
        candidates=(*codes, *tests),
    )


def render_matrix(matrix: ExecutionMatrix) -> RenderableType:
    """The matrix for a terminal: brackets around the chosen cell, parentheses around the other."""
    table = Table(box=None, padding=0)
    table.add_column("", style="dim")
    for k in range(len(matrix.tests)):
        table.add_column(f" T{k + 1}", justify="center")
    table.add_column("  passes", justify="right", style="dim")
    for j, (row, score) in enumerate(zip(matrix.statuses, matrix.code_scores, strict=True)):
        cells = [_cell_text(matrix, (j, k), status) for k, status in enumerate(row)]
        table.add_row(f"P{j + 1} ", *cells, str(score))
    table.add_row("", *(f" {score} " for score in matrix.test_scores), "", style="dim")
    key = [f"{_look(status).sign} {_look(status).words}" for status in _statuses(matrix)]
    if matrix.chosen is not None:
        key.append("[ ] chosen")
    if matrix.rejected is not None:
        key.append("( ) rejected")
    return Group(Text(_caption(matrix)), table, Text("  ".join(key), style="dim"))


def _cell_text(matrix: ExecutionMatrix, cell: tuple[int, int], status: str) -> Text:
    look = _look(status)
    if cell == matrix.chosen:
        return Text(f"[{look.sign}]", style="bold blue")
    if cell == matrix.rejected:
        return Text(f"({look.sign})", style="bold dark_orange3")
    return Text(f" {look.sign} ", style=look.color)


def _draw(matrix: ExecutionMatrix, id: str) -> str:
    num_codes, num_tests = len(matrix.codes), len(matrix.tests)
    width = _LEFT + _CELL * num_tests + _MARGIN
    height = _TOP + _CELL * num_codes + _MARGIN // 2
    parts = [
        _link(
            f"Program {j + 1}", [f"{id}-p{j}"], _text(_LEFT - 8, _middle(_TOP, j), f"P{j + 1}", "l")
        )
        + _text(width - _MARGIN + 8, _middle(_TOP, j), str(score), "score")
        for j, score in enumerate(matrix.code_scores)
    ]
    parts += [
        _link(f"Test {k + 1}", [f"{id}-t{k}"], _text(_middle(_LEFT, k), _TOP - 10, f"T{k + 1}"))
        + _text(_middle(_LEFT, k), height - 6, str(score))
        for k, score in enumerate(matrix.test_scores)
    ]
    parts += [_draw_cell(matrix, (j, k), id) for j in range(num_codes) for k in range(num_tests)]
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" '
        f'aria-label="{html.escape(_caption(matrix))}">{"".join(parts)}</svg>'
    )


def _draw_cell(matrix: ExecutionMatrix, cell: tuple[int, int], id: str) -> str:
    (code, test), status = cell, matrix.statuses[cell[0]][cell[1]]
    look = _look(status)
    sides = {"chosen": matrix.chosen, "rejected": matrix.rejected}
    side = next((name for name, place in sides.items() if place == cell), "")
    words = f"Program {code + 1} with test {test + 1}: {look.words}{side and f', {side}'}"
    x, y = _LEFT + _CELL * test, _TOP + _CELL * code
    drawn = (
        f'<rect class="run {_css(status)} {side}" x="{x + 2}" y="{y + 2}" width="{_CELL - 4}" '
        f'height="{_CELL - 4}" rx="3"/>'
        + _text(x + _CELL / 2, y + _CELL / 2 + 4, html.escape(look.sign))
    )
    return _link(words, [f"{id}-p{code}", f"{id}-t{test}"], drawn)


def _link(words: str, ids: Sequence[str], drawn: str) -> str:
    words = html.escape(words)
    return (
        f'<a href="#{ids[0]}" data-shows="{" ".join(ids)}" aria-label="{words}">'
        f"<title>{words}</title>{drawn}</a>"
    )


def _text(x: float, y: float, text: str, css: str = "") -> str:
    return f'<text class="{css}" x="{x:g}" y="{y:g}">{text}</text>'


def _middle(start: int, number: int) -> float:
    return start + _CELL * (number + 0.5) + (4 if start == _TOP else 0)


def _caption(matrix: ExecutionMatrix) -> str:
    num_passes = sum(matrix.code_scores)
    text = (
        f"{len(matrix.codes)} programs (rows) against {len(matrix.tests)} tests (columns): "
        f"{num_passes} of {len(matrix.codes) * len(matrix.tests)} runs pass."
    )
    for name, cell in (("Chosen", matrix.chosen), ("Rejected", matrix.rejected)):
        if cell is not None:
            text += f" {name}: program {cell[0] + 1} with test {cell[1] + 1}."
    return text


def _statuses(matrix: ExecutionMatrix) -> list[str]:
    """Those that occur, the known ones first."""
    found = {status for row in matrix.statuses for status in row}
    return [status for status in _LOOKS if status in found] + sorted(found - _LOOKS.keys())


def _look(status: str) -> _Look:
    return _LOOKS.get(status, _Look("·", status.replace("_", " "), "white"))


def _css(status: str) -> str:
    return status if status in _LOOKS else "other"
