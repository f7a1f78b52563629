import csv
import json
import re
from pathlib import Path

import pytest

from mmalign.errors import StoreError
from mmalign.records import PreferencePair, Response, text_of, user
from mmalign.report import write_report


@pytest.fixture(scope="module")
def page(demo_run: Path) -> str:
    return write_report(demo_run).read_text()


def test_the_page_asks_for_nothing_outside(page: str) -> None:
    addresses = re.findall(r'(?:src|href|poster)="([^"]{1,40})', page)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(" not in page
    assert "@import" not in page


def test_before_and_after_are_the_first_thing_seen(page: str) -> None:
    top = page.partition('<section id="funnel"')[0]
    assert "+15.8 points" in top
    assert 'lie between <span class="nobr">+9.1</span> and' in top
    assert "RRPO" in top.partition("</h1>")[0]


def test_differing_phrases_are_marked_with_their_number(page: str) -> None:
    assert re.search(
        r'<mark class="p1">left to right<sup aria-label="phrase 1">1</sup></mark>', page
    )
    assert re.search(
        r'<mark class="p1">right to left<sup aria-label="phrase 1">1</sup></mark>', page
    )


def test_drops_are_shown_with_reason_node_and_message(page: str) -> None:
    assert "Answer correct</b> <small>dropped at check</small>" in page
    assert "Media truncated</b> <small>failed at ask</small>" in page
    assert "the policy answered right on the perturbed clip" in page


def test_stages_that_did_not_run_are_shown_as_not_run(tmp_path: Path) -> None:
    text = write_report(tmp_path).read_text()
    assert text.count("<b>Not run.</b>") == 7
    assert "no such" not in text


def test_a_run_without_evaluation_claims_nothing(demo_run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("pairs.jsonl", "dropped.jsonl"):
        (tmp_path / "data" / name).write_text((demo_run / "data" / name).read_text())
    text = write_report(tmp_path, num_pairs=1, title="Only pairs").read_text()
    assert "<h1>Only pairs</h1>" in text
    assert "points</b>" not in text
    assert text.count("<b>Not run.</b>") == 4
    assert text.count("<article") == 1


def test_text_of_models_cannot_write_into_the_page(tmp_path: Path) -> None:
    nasty = '</script><script>alert(1)</script> "quoted" <MASK>'
    pair = PreferencePair(
        sample_id="s",
        prompt=(user(nasty),),
        chosen=Response(messages=(text_of(nasty + " yes"),)),
        rejected=Response(messages=(text_of("no"),)),
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.jsonl").write_text(pair.model_dump_json() + "\n")
    (tmp_path / "config.yaml").write_text(f"note: '{nasty}'\n")
    text = write_report(tmp_path).read_text()
    assert "<script>alert" not in text
    assert text.count("</script>") == 1


def test_the_numbers_lie_beside_the_page(page: str, demo_run: Path) -> None:
    data = demo_run / "report" / "data"
    funnel = json.loads((data / "funnel.json").read_text())
    assert (funnel["num_in"], funnel["num_kept"]) == (88, 10)
    assert sum(drop["count"] for drop in funnel["drops"]) == 78
    with (data / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"subset": "all", "metric": "overall", "arm": "after", "value": "49.6"}.items() <= rows[
        1
    ].items()
    assert len(json.loads((data / "curves.json").read_text())) == 120
    ids = {item["id"] for item in json.loads((data / "pairs.json").read_text())}
    assert all(f"<dd>{name}</dd>" in page for name in ids)


def test_clips_beyond_the_limit_are_linked_and_old_ones_removed(demo_run: Path) -> None:
    text = write_report(demo_run, num_pairs=2, max_inline_bytes=0).read_text()
    linked = set(re.findall(r'src="(media/[^"]+)"', text))
    assert linked == {f"media/{path.name}" for path in (demo_run / "report" / "media").iterdir()}
    assert len(linked) == 4
    write_report(demo_run, num_pairs=2)
    assert not (demo_run / "report" / "media").exists()


def test_a_report_that_cannot_be_written_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(StoreError, match=r"report: the report cannot be written: .*mmalign report"):
        write_report(tmp_path)
