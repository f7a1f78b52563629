from collections.abc import Iterator
from pathlib import Path

import pytest

from mmalign.report import write_report
from mmalign.testing.browser import Page, find_browser, open_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_browser() is None, reason="Chromium is not installed"),
]

PLAY = """
(async () => {
  const video = document.querySelector("video");
  const loaded = new Promise((done, fail) => {
    video.addEventListener("loadeddata", done);
    video.addEventListener("error", () => fail(video.error.message));
  });
  video.load();
  await loaded;
  return [video.videoWidth, video.videoHeight, video.duration];
})()
"""


@pytest.fixture(scope="module")
def url(demo_run: Path) -> str:
    return write_report(demo_run).as_uri()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page() as page:
        yield page


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_window_and_nothing_fails(
    page: Page, url: str, width: int, dark: bool
) -> None:
    page.errors.clear()
    page.requests.clear()
    page.open(url, width=width, dark=dark)
    page.run("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.errors == []
    assert page.requests == [url]


def test_the_clip_can_be_loaded(page: Page, url: str) -> None:
    page.open(url, width=1280)
    width, height, duration_s = page.run(PLAY)
    assert (width, height) == (64, 64)
    assert duration_s == pytest.approx(4.0, abs=0.3)


def test_filters_hide_what_does_not_fit(page: Page, url: str) -> None:
    page.open(url, width=1280)
    count = "[...document.querySelectorAll('.card')].filter((c) => c.offsetParent).length"
    assert page.run(count) == 8
    page.run("document.querySelector('.more button').click()")
    assert page.run(count) == 10
    page.run(
        "const select = document.querySelector('select[name=question_type]');"
        "select.value = 'direction'; select.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert page.run(count) == 3
    assert page.run("document.querySelector('output').textContent") == "3 of 10 shown pairs fit"


def test_a_clip_is_played_by_its_button(page: Page, url: str) -> None:
    page.open(url, width=390)
    page.run(
        "new Promise((done) => {"
        " document.querySelector('video').addEventListener('playing', done);"
        " document.querySelector('button.play').click(); }).then(() => true)"
    )
    assert page.run("document.querySelector('video').paused") is False
    assert page.run("document.querySelector('button.play').getAttribute('aria-label')").startswith(
        "Pause Both sides"
    )
