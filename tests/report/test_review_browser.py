"""`mmalign view` in a real browser: keys, clicks, playing media, both widths."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mmalign.engine import Funnel, Manifest, run_agent_blocking
from mmalign.engine.reviews import current_reviews, review_history
from mmalign.engine.store import RunStore
from mmalign.records import PreferencePair
from mmalign.testing.agents import PersonConfig, build_person_graph, numbered_samples
from mmalign.testing.browser import Page, find_browser, open_page
from mmalign.testing.demo_store import write_demo_store
from mmalign.testing.models import ScriptedModel
from mmalign.testing.view_server import serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_browser() is None, reason="Chromium is not installed"),
]

STATE = "document.querySelector('#state')?.textContent.trim()"
READY = "document.readyState === 'complete'"
PAIR = f"{READY} && document.querySelector('[data-pair]')?.dataset.pair"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_store(tmp_path_factory.mktemp("view") / "demo", num_pairs=6)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page() as page:
        yield page


@pytest.fixture
def run(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("store.sqlite", "store.lock"):
        shutil.copyfile(built / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def url(run: Path, page: Page) -> Iterator[str]:
    """The address without its token: the browser has been let in."""
    with serving(run) as whole:
        page.open(whole, width=1280)
        page.wait_for(f"{READY} && document.querySelector('.rows') !== null")
        page.errors.clear()
        page.requests.clear()
        yield whole.partition("?")[0]
        page.open("about:blank", width=1280)  # nothing is being sent when the server ends


def pairs(run: Path) -> list[PreferencePair]:
    with RunStore(run, read_only=True) as store:
        return list(store.pairs())


def decided(run: Path) -> dict[str, str | None]:
    with RunStore(run, read_only=True) as store:
        return {pair_id: row.decision for pair_id, row in current_reviews(store).items()}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_pages_fit_the_window_ask_nobody_else_and_raise_no_error(
    page: Page, url: str, run: Path, width: int, dark: bool
) -> None:
    first = pairs(run)[0].id
    for place in ("", f"?id={first}&sort=tokens", "?tab=dropped&id=7.0", "?tab=waiting"):
        page.open(url + place, width=width, dark=dark)
        page.run("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
        assert page.run("document.documentElement.scrollWidth") == width, place
    assert page.errors == []
    assert page.requests
    assert all(request.startswith(url) for request in page.requests)


def test_on_a_phone_the_list_and_the_record_take_turns(page: Page, url: str, run: Path) -> None:
    page.open(url, width=390)
    seen = "['#list', '#item'].map((one) => document.querySelector(one).offsetParent !== null)"
    page.wait_for(f"{seen}.join() === 'true,false'")
    page.click(".rows a")
    page.wait_for(f"{PAIR} === '{pairs(run)[0].id}'")
    page.wait_for(f"{seen}.join() === 'false,true'")
    sizes = page.run("[...document.querySelectorAll('.judging button')].map((b) => b.offsetHeight)")
    assert min(sizes) >= 44
    page.click(".back")
    page.wait_for(f"{READY} && {seen}.join() === 'true,false'")


def test_a_run_is_judged_by_keys_alone(page: Page, url: str, run: Path) -> None:
    first, second, third = (pair.id for pair in pairs(run)[:3])
    page.press("j")
    page.wait_for(f"{PAIR} === '{first}'")
    page.press("a")
    page.wait_for(f"{STATE} === 'accepted'")
    page.press("ArrowRight")
    page.wait_for(f"{PAIR} === '{second}'")
    page.press("r")
    page.wait_for(f"{STATE} === 'rejected'")
    page.press("j")
    page.wait_for(f"{PAIR} === '{third}'")
    page.press("r")
    page.wait_for(f"{STATE} === 'rejected'")
    page.press("u")
    page.wait_for(f"{STATE} === 'undecided'")
    page.press("k")
    page.wait_for(f"{PAIR} === '{second}'")
    assert decided(run) == {first: "accepted", second: "rejected", third: None}
    tally = page.run("document.querySelector('#tally').textContent")
    assert tally.split() == ["1", "accepted,", "1", "rejected"]
    page.press("?")
    assert page.run("document.querySelector('#help').open") is True
    page.press("a")
    page.press("Escape")
    assert decided(run)[second] == "rejected"
    assert page.errors == []


def test_texts_are_edited_in_place(page: Page, url: str, run: Path) -> None:
    first = pairs(run)[0]
    page.open(f"{url}?id={first.id}", width=1280)
    page.press("e")
    page.wait_for("document.activeElement.name === 'chosen'")
    page.press("End", ctrl=True)
    page.write(" It rolls away.")
    page.press("Escape")
    assert page.run("document.querySelector('.side textarea').hidden") is True
    page.press("e")
    page.wait_for("document.activeElement.name === 'chosen'")
    page.run("document.activeElement.select()")
    page.write("The circle is <b>crimson</b>, j k a r.")
    page.press("Enter", ctrl=True)
    page.wait_for(f"{STATE} === 'edited'")
    shown = page.run("document.querySelector('.side.chosen .text').innerText")
    assert "<b>" in shown
    assert page.run("document.querySelectorAll('.side.chosen mark').length") >= 1
    assert "spans were found anew" in page.run("document.querySelector('#item').textContent")
    with RunStore(run, read_only=True) as store:
        assert current_reviews(store)[first.id].chosen == "The circle is <b>crimson</b>, j k a r."
    page.press("u")
    page.wait_for(f"{STATE} === 'undecided'")
    assert page.run("document.querySelector('.side textarea').value") == first.chosen.text


def test_a_text_that_makes_no_pair_is_refused_in_words(page: Page, url: str, run: Path) -> None:
    first = pairs(run)[0]
    page.open(f"{url}?id={first.id}", width=1280)
    page.click("[data-edit]")
    page.run("document.querySelector('textarea[name=chosen]').value = ''")
    page.click("[data-save]")
    page.wait_for("!document.querySelector('#news').hidden")
    assert "chosen response is empty" in page.run("document.querySelector('#news').textContent")
    assert decided(run) == {}


def test_both_sides_play_together_with_sound(page: Page, url: str, run: Path) -> None:
    """The second pair shows the rejected side a masked clip, written for the page."""
    second = pairs(run)[1]
    page.open(f"{url}?id={second.id}", width=1280)
    videos = "[...document.querySelectorAll('#item video')]"
    page.wait_for(f"{videos}.length === 3 && {videos}.every((v) => v.readyState >= 3)", limit_s=60)
    page.press(" ")
    page.wait_for(f"{videos}.every((v) => !v.paused && v.currentTime > 0.2)")
    assert page.run(f"{videos}.map((v) => v.muted)") == [False, True, True]
    page.wait_for(f"{videos}.every((v) => v.webkitAudioDecodedByteCount > 0 || v.muted)")
    assert page.run(f"{videos}[0].webkitAudioDecodedByteCount") > 0
    assert page.run(f"{videos}[1].webkitVideoDecodedByteCount") > 0
    times = page.run(f"{videos}.map((v) => v.currentTime)")
    assert max(times) - min(times) < 0.5
    page.press("a")  # judging does not stop the clips
    page.wait_for(f"{STATE} === 'accepted'")
    assert page.run(f"{videos}.every((v) => !v.paused || v.ended)") is True
    page.press(" ")
    page.wait_for(f"{videos}.every((v) => v.paused)")
    page.run(f"{videos}[0].currentTime = 3.5")
    page.wait_for(f"!{videos}[0].seeking && {videos}[0].currentTime >= 3.5")


def test_filters_make_an_address_that_can_be_kept(page: Page, url: str) -> None:
    page.click(".filters summary")
    page.run(
        "const select = document.querySelector('[name=\"tag.question_type\"]');"
        "select.value = 'direction';"
        "select.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    page.wait_for(f"{READY} && location.search.includes('question_type')")
    assert page.run("location.search") == "?tab=pairs&tag.question_type=direction"
    assert page.run("document.querySelector('.filters output').innerText") == "2 of 6 pairs"
    page.press("j")
    page.wait_for(PAIR)
    assert "tag.question_type=direction" in page.run("location.search")
    assert "1 of 2" in page.run("document.querySelector('.where').textContent")


def test_the_button_writes_the_pairs(page: Page, url: str, run: Path) -> None:
    page.open(f"{url}?id={pairs(run)[0].id}", width=1280)
    page.click("[data-act=reject]")
    page.wait_for(f"{STATE} === 'rejected'")
    page.click("[data-write]")
    page.wait_for("document.querySelector('#news').textContent.startsWith('Wrote 5 pairs')")
    assert len((run / "data" / "pairs.jsonl").read_text().splitlines()) == 5


def test_two_presses_are_two_rows_and_one_state(page: Page, url: str, run: Path) -> None:
    first = pairs(run)[0].id
    page.open(f"{url}?id={first}", width=1280)
    for key, state in (("a", "accepted"), ("r", "rejected"), ("r", "rejected")):
        page.press(key)
        page.wait_for(f"{STATE} === '{state}'")
    with RunStore(run, read_only=True) as store:
        assert [row.action for row in review_history(store, first)] == ["accept", "reject"]


def build_with_a_person(folder: Path) -> Funnel:
    with RunStore(folder) as store:
        return run_agent_blocking(
            build_person_graph(),
            numbered_samples(2),
            store=store,
            manifest=Manifest(agent="mmalign.testing.agents:build_person_graph"),
            policy=ScriptedModel(),
            console=Console(quiet=True),
            config=PersonConfig(num_questions=2),
        )


def test_an_agent_asks_here_and_goes_on_with_the_answer(page: Page, tmp_path: Path) -> None:
    """Its first question offers choices, its second one takes a text."""
    assert build_with_a_person(tmp_path).num_pairs == 0
    with serving(tmp_path) as whole:
        page.open(whole, width=390)
        page.open(f"{whole.partition('?')[0]}?tab=waiting", width=390)
        assert page.run("document.querySelectorAll('.question').length") == 2
        page.click(".question .choices button")
        page.wait_for("document.querySelector('.given')?.innerText.includes('by ada: good')")
        build_with_a_person(tmp_path)
        page.open(f"{whole.partition('?')[0]}?tab=waiting", width=1280)
        assert "why good?" in page.run("document.querySelector('.question h2').textContent")
        page.click(".question .free textarea")
        page.write("It <fits>.")
        page.click(".question .free button")
        page.wait_for("document.querySelector('.given')?.innerText.includes('It <fits>.')")
        page.open("about:blank", width=1280)
        assert build_with_a_person(tmp_path).num_pairs == 1
    with RunStore(tmp_path, read_only=True) as store:
        assert next(store.pairs()).lineage.votes == {
            "person": {"verdict": "good", "reason": "It <fits>."}
        }
