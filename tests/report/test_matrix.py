"""The matrix of programs and tests: its picture, its table, and records without one."""

import asyncio
import re
from io import StringIO
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console
from starlette.testclient import TestClient

from mmalign.engine.store import Outcome, RunStore
from mmalign.records import (
    EXECUTION_MATRIX,
    ExecutionMatrix,
    PreferencePair,
    Response,
    text_of,
    user,
)
from mmalign.report import render_pair, write_report
from mmalign.report.matrix import matrix_of, render_matrix, view_matrix
from mmalign.report.review.app import RunPages, guarded_app
from mmalign.testing.browser import find_browser, open_page
from mmalign.testing.demo_store import MANIFEST, commit_outcomes

MATRIX = ExecutionMatrix(
    codes=("def f(x):\n    return x < 1", "def f(x):\n    return True"),
    tests=("assert f(0)", "assert not f(2)", "assert f(3)"),
    statuses=(("pass", "pass", "fail"), ("pass", "flaky", "timeout")),
    chosen=(0, 1),
    rejected=(1, 1),
)
METADATA = {EXECUTION_MATRIX: MATRIX.model_dump(mode="json")}


def pair() -> PreferencePair:
    def side(cell: tuple[int, int]) -> Response:
        text = f"```python\n{MATRIX.codes[cell[0]]}\n\n{MATRIX.tests[cell[1]]}\n```"
        return Response(messages=(text_of(text),))

    return PreferencePair(
        sample_id="s",
        prompt=(user("Write f."),),
        chosen=side((0, 1)),
        rejected=side((1, 1)),
        metadata=METADATA,
    )


def test_scores_count_passes_alone() -> None:
    assert MATRIX.results == [[1, 1, 0], [1, 0, 0]]
    assert (MATRIX.code_scores, MATRIX.test_scores) == ([2, 1], [2, 1, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"statuses": (("pass",), ("pass",))}, r"rows of \[1, 1\], expected 2 rows of 3"),
        ({"chosen": (0, 3)}, r"chosen is \(0, 3\), which is no cell of 2 x 3"),
        ({"rejected": (2, 0)}, r"rejected is \(2, 0\)"),
    ],
)
def test_a_matrix_of_another_form_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ExecutionMatrix.model_validate({**MATRIX.model_dump(), **changes})


@pytest.mark.parametrize("metadata", [{}, {EXECUTION_MATRIX: 3}, {EXECUTION_MATRIX: {"codes": []}}])
def test_metadata_without_a_matrix_has_no_picture(metadata: dict[str, object]) -> None:
    assert matrix_of(metadata) is None
    assert view_matrix(metadata, id="m") is None


def test_every_cell_has_its_sign_its_words_and_links_to_both_texts() -> None:
    view = view_matrix(METADATA, id="m")
    assert view is not None
    titles = re.findall(r"<title>([^<]*)</title>", view.svg)
    assert "Program 1 with test 2: pass, chosen" in titles
    assert "Program 2 with test 2: passed once, then not, rejected" in titles
    assert "Program 2 with test 3: timeout" in titles
    assert len(titles) == 2 + 3 + 6
    assert view.svg.count('class="run pass ') == 3
    assert re.search(r'href="#m-p1" data-shows="m-p1 m-t2"[^>]*>', view.svg)
    assert (
        'role="group" aria-label="2 programs (rows) against 3 tests (columns): 3 of 6' in view.svg
    )
    assert [sign for _, sign, _ in view.legend] == ["✓", "✗", "t", "~"]
    assert [(item.id, item.title) for item in view.candidates][:3] == [
        ("m-p0", "Program 1: passes 2 of 3 tests"),
        ("m-p1", "Program 2: passes 1 of 3 tests"),
        ("m-t0", "Test 1: 2 of 2 programs pass it"),
    ]


def test_a_status_that_nobody_knows_is_shown_by_its_name() -> None:
    unknown = {**METADATA[EXECUTION_MATRIX], "statuses": [["<b>", "pass", "pass"], ["pass"] * 3]}
    view = view_matrix({EXECUTION_MATRIX: unknown}, id="m")
    assert view is not None
    assert view.legend[-1] == ("other", "·", "<b>")
    assert "<b>" not in view.svg


def test_the_terminal_brackets_both_cells() -> None:
    console = Console(file=StringIO(), width=100)
    console.print(render_matrix(MATRIX))
    assert isinstance(console.file, StringIO)
    rows = console.file.getvalue().splitlines()
    assert [row.split() for row in rows if row.startswith("P")] == [
        ["P1", "✓", "[✓]", "✗", "2"],
        ["P2", "✓", "(~)", "t", "1"],
    ]
    assert any("[ ] chosen  ( ) rejected" in row for row in rows)


def test_show_pair_prints_the_table_and_leaves_the_texts_out_of_the_facts() -> None:
    console = Console(file=StringIO(), width=120)
    console.print(render_pair(pair()))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "[✓]" in text
    assert "statuses" not in text


def test_the_page_draws_the_matrix_and_keeps_the_indentation(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.jsonl").write_text(pair().model_dump_json() + "\n")
    page = write_report(tmp_path).read_text()
    assert page.count('<figure class="matrix">') == 1
    assert "Chosen: program 1 with test 2. Rejected: program 2 with test 2." in page
    assert f'id="matrix-{pair().id}-t1"' in page
    assert "def f(x):\n    return x &lt; 1" in page
    assert "figure.matrix a[data-shows]" in page


def test_the_review_page_draws_it_instead_of_listing_it(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        store.claim(MANIFEST)
        asyncio.run(commit_outcomes(store, [Outcome(0, "s", (pair(),), ())]))
    base = "http://127.0.0.1:8765"
    with RunStore(tmp_path, read_only=True) as store:
        pages = RunPages(store, by="ada")
        pages.index.refresh()
        client = TestClient(guarded_app(pages, token="secret", port=8765), base_url=base)
        client.get("/?token=secret")
        page = client.get(f"/?id={pair().id}").text
        script = client.get("/static/matrix.js").text
        pages.index.close()
    assert page.count('<figure class="matrix">') == 1
    assert "statuses" not in page
    assert "data-shows" in script


@pytest.mark.browser
@pytest.mark.skipif(find_browser() is None, reason="Chromium is not installed")
def test_a_click_on_a_cell_shows_its_program_and_its_test(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.jsonl").write_text(pair().model_dump_json() + "\n")
    shown = "[...document.querySelectorAll('.candidate')].filter(e => e.checkVisibility())"
    with open_page() as page:
        page.open(write_report(tmp_path).as_uri(), width=1280)
        assert page.run(f"{shown}.length") == 0
        page.click('a[aria-label^="Program 2 with test 3"]')
        texts = page.run(f"{shown}.map(e => e.querySelector('code').textContent)")
        assert texts == [MATRIX.codes[1], MATRIX.tests[2]]
        page.click('a[aria-label="Test 1"]')
        assert page.run(f"{shown}.length") == 1
        assert page.errors == []
