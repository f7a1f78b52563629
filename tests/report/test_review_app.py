"""The server of `mmalign view` as a client sees it: who is let in, what is served, what is kept."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mmalign.engine.reviews import current_reviews, review_history
from mmalign.engine.store import Outcome, RunStore
from mmalign.media import load_video, probe
from mmalign.records import DroppedSample, PreferencePair
from mmalign.records.jsonl import read_jsonl
from mmalign.report.review.app import RunPages, guarded_app
from mmalign.report.review.queries import Query
from mmalign.testing.demo_store import commit_outcomes, demo_outcomes, write_demo_store

BASE = "http://127.0.0.1:8765"
SAME_ORIGIN = {"origin": BASE}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_store(tmp_path_factory.mktemp("view") / "demo")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "view-cache"))


@pytest.fixture
def run(built: Path, tmp_path: Path) -> Path:
    """A store of its own beside the clips of all."""
    for name in ("store.sqlite", "store.lock"):
        shutil.copyfile(built / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def pages(run: Path) -> Iterator[RunPages]:
    with RunStore(run, read_only=True) as store:
        pages = RunPages(store, by="ada")
        pages.index.refresh()
        yield pages
        pages.index.close()


@pytest.fixture
def stranger(pages: RunPages) -> TestClient:
    return TestClient(guarded_app(pages, token="secret", port=8765), base_url=BASE)


@pytest.fixture
def client(stranger: TestClient) -> TestClient:
    assert stranger.get("/?token=secret").status_code == 200
    return stranger


def pairs_of(pages: RunPages) -> list[str]:
    return [row.id for row in pages.index.find(Query())]


def post(client: TestClient, path: str, **body: Any) -> Any:
    return client.post(path, json=body, headers=SAME_ORIGIN)


def media_of(page: str) -> list[str]:
    return re.findall(r'src="(/media/[^"#]+)', page)


# Who is let in ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/status", "/static/view.js", "/media/x", "/?token=wrong"])
def test_without_the_token_nothing_is_answered(stranger: TestClient, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 403
    assert "token included" in answer.text
    stranger.cookies.set("mmalign_view_8765", "guessed")
    assert stranger.get(path).status_code == 403


def test_the_token_becomes_a_cookie_that_no_script_and_no_other_site_can_use(
    stranger: TestClient,
) -> None:
    answer = stranger.get("/?token=secret&tab=dropped")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(
        answer.headers["set-cookie"].split("; ")
    )
    assert 'content="0;url=/?tab=dropped"' in answer.text
    assert "secret" not in answer.text
    assert stranger.get("/?tab=dropped").status_code == 200


def test_the_way_in_leads_nowhere_else(stranger: TestClient) -> None:
    answer = stranger.get("/%2Felsewhere.example/?token=secret")
    assert "url=/elsewhere.example/" in answer.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1:1", ""])
def test_a_foreign_host_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("path", ["/decide", "/answer", "/export"])
@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:1"])
def test_changes_come_from_our_own_pages_only(
    client: TestClient, pages: RunPages, path: str, origin: str | None
) -> None:
    body = {"id": pairs_of(pages)[0], "action": "accept"}
    headers = {} if origin is None else {"origin": origin}
    assert client.post(path, json=body, headers=headers).status_code == 403
    assert current_reviews(pages.store) == {}


def test_every_answer_keeps_other_sites_out(client: TestClient) -> None:
    headers = client.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


# Media --------------------------------------------------------------------------------------


def test_the_source_clip_is_the_file_itself_and_is_sent_in_ranges(
    client: TestClient, pages: RunPages, built: Path
) -> None:
    pair_id = pairs_of(pages)[0]
    url = media_of(client.get(f"/?id={pair_id}").text)[0]
    source = Path(pages._pair(pair_id).media[0].uri)  # type: ignore[union-attr]  # it is there
    whole = client.get(url)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert whole.content == source.read_bytes()
    part = client.get(url, headers={"range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.headers["content-range"] == f"bytes 100-199/{source.stat().st_size}"
    assert part.content == source.read_bytes()[100:200]
    assert client.get(url, headers={"range": "bytes=99999999-"}).status_code == 416


def test_a_side_with_operations_is_the_frames_that_the_model_saw_with_their_sound(
    client: TestClient, pages: RunPages, tmp_path: Path
) -> None:
    pair_id = pairs_of(pages)[1]
    _chosen, rejected, _perturbed = media_of(client.get(f"/?id={pair_id}").text)
    answer = client.get(rejected)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    (tmp_path / "seen.mp4").write_bytes(answer.content)
    info = probe(str(tmp_path / "seen.mp4"))
    assert (info.codec, info.num_frames, info.has_audio) == ("h264", 8, True)
    assert info.duration_s == pytest.approx(4.0, abs=0.3)
    pair = pages._pair(pair_id)
    assert pair is not None
    assert pair.rejected.media is not None
    seen = load_video(pair.rejected.media[0], pages.shelf.sampling).frames
    shown = load_video(
        pair.media[0].model_copy(update={"uri": str(tmp_path / "seen.mp4"), "content_hash": None}),
        pages.shelf.sampling,
    ).frames
    assert abs(seen.astype(int) - shown.astype(int)).mean() < 3  # of 255, by the encoding


@pytest.mark.parametrize(
    "key", ["x", "..%2F..%2Fstore.sqlite", "%2Fetc%2Fpasswd", "../store.sqlite", "%00"]
)
def test_a_path_in_the_address_opens_nothing(client: TestClient, key: str) -> None:
    for prefix in ("/media/", "/static/"):
        answer = client.get(prefix + key)
        assert answer.status_code == 404
        assert b"SQLite" not in answer.content


def test_a_file_that_no_shown_record_names_is_not_served(
    client: TestClient, pages: RunPages
) -> None:
    url = media_of(client.get(f"/?id={pairs_of(pages)[0]}").text)[0]
    pages.shelf._refs.clear()
    answer = client.get(url)
    assert answer.status_code == 404
    assert "no record that was shown names this file" in answer.text


def test_media_that_cannot_be_read_is_said_on_the_page(run: Path) -> None:
    with RunStore(run) as store:
        outcome = demo_outcomes_of(run)[0]
        pair = outcome.pairs[0]
        gone = pair.media[0].model_copy(update={"uri": "gone.mp4", "content_hash": None})
        values = pair.model_dump(exclude={"id"})
        values["prompt"][0]["content"][0]["media"] = gone.model_dump()
        lost = PreferencePair.model_validate({**values, "sample_id": "lost"})
        asyncio.run(commit_outcomes(store, [Outcome(500, "lost", (lost,), ())]))
    with RunStore(run, read_only=True) as store:
        pages = RunPages(store, by="ada")
        pages.index.refresh()
        client = TestClient(guarded_app(pages, token="secret", port=8765), base_url=BASE)
        client.get("/?token=secret")
        assert "gone.mp4: there is no such file" in client.get(f"/?id={lost.id}").text
        pages.index.close()


def demo_outcomes_of(run: Path) -> list[Outcome]:
    with RunStore(run, read_only=True) as store:
        return [Outcome(at, pair.sample_id, (pair,), ()) for at, pair in enumerate(store.pairs())]


# Decisions ----------------------------------------------------------------------------------


def test_decisions_are_stored_at_once_and_shown_after_a_restart(
    client: TestClient, pages: RunPages, run: Path
) -> None:
    first, second, third, *_ = pairs_of(pages)
    assert post(client, "/decide", id=first, action="accept").json()["decision"] == "accepted"
    assert post(client, "/decide", id=second, action="reject").status_code == 200
    edit = post(client, "/decide", id=third, action="edit", chosen="It is <b>new</b>.")
    assert edit.json() == {"decision": "edited", "is_edited": True}
    assert "It is &lt;b&gt;" in client.get(f"/?id={third}").text
    assert post(client, "/decide", id=second, action="undo").json()["decision"] is None
    assert post(client, "/decide", id=second, action="undo").status_code == 409
    with RunStore(run, read_only=True) as store:
        later = RunPages(store, by="ben")
        later.index.refresh()
        assert [later.index.decision(pair) for pair in (first, second, third)] == [
            "accepted",
            "undecided",
            "edited",
        ]
        assert [row.action for row in review_history(store, second)] == ["reject", "undo"]
        later.index.close()


def test_the_button_writes_the_records_as_reviewed(
    client: TestClient, pages: RunPages, run: Path
) -> None:
    first, second, *_ = pairs_of(pages)
    post(client, "/decide", id=first, action="reject")
    post(client, "/decide", id=second, action="accept")
    assert post(client, "/export").json()["num_pairs"] == 11
    kept = list(read_jsonl(run / "data" / "pairs.jsonl", PreferencePair))
    dropped = list(read_jsonl(run / "data" / "dropped.jsonl", DroppedSample))
    assert first not in {pair.id for pair in kept}
    assert kept[0].lineage.tags["review"] == "accepted"
    assert dropped[0].reason == "review_rejected"


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ({"id": "none", "action": "accept"}, 404, "there is no pair 'none'"),
        ({"action": "accept"}, 404, "there is no pair None"),
        ({"id": "FIRST", "action": "burn"}, 400, "known: accept, reject, edit, undo"),
        ({"id": "FIRST", "action": "edit", "chosen": 3}, 400, "must be texts"),
        ({"id": "FIRST", "action": "edit", "chosen": " "}, 422, "chosen response is empty"),
    ],
)
def test_bad_decisions_are_refused_and_leave_no_trace(
    client: TestClient, pages: RunPages, body: dict[str, Any], status: int, problem: str
) -> None:
    if body.get("id") == "FIRST":
        body = {**body, "id": pairs_of(pages)[0]}
    answer = post(client, "/decide", **body)
    assert answer.status_code == status
    assert problem in answer.text
    assert current_reviews(pages.store) == {}


def test_what_is_no_small_json_object_is_refused(client: TestClient) -> None:
    headers = {**SAME_ORIGIN, "content-type": "application/json"}
    for content, status in ((b"{", 400), (b"[]", 400), (b" " * (1 << 20) + b"{}", 413)):
        assert client.post("/decide", content=content, headers=headers).status_code == status
    assert client.post("/decide", data={"a": "b"}, headers=SAME_ORIGIN).status_code == 415


def test_read_only_shows_and_takes_nothing(run: Path) -> None:
    with RunStore(run, read_only=True) as store:
        pages = RunPages(store, by="ada", read_only=True)
        pages.index.refresh()
        client = TestClient(guarded_app(pages, token="secret", port=8765), base_url=BASE)
        client.get("/?token=secret")
        pair_id = pairs_of(pages)[0]
        page = client.get(f"/?id={pair_id}").text
        assert "read only" in page
        assert "data-act" not in page
        answer = post(client, "/decide", id=pair_id, action="accept")
        assert (answer.status_code, current_reviews(store)) == (403, {})
        assert post(client, "/export").status_code == 403
        pages.index.close()


# While a build runs -------------------------------------------------------------------------


def test_the_page_follows_a_build_and_does_not_hold_it_up(
    client: TestClient, pages: RunPages, run: Path, built: Path
) -> None:
    outcomes = demo_outcomes(built)
    before = client.get("/status").json()
    assert before == {"pairs": 12, "dropped": 78, "waiting": 0}
    with RunStore(run) as building:
        for number in range(20):
            drop = outcomes[-1].dropped[0].model_copy(update={"sample_id": f"new-{number}"})
            new = Outcome(1000 + number, drop.sample_id, (), (drop,))
            asyncio.run(commit_outcomes(building, [new]))
            assert client.get("/?tab=dropped&text=new-").status_code == 200
            post(client, "/decide", id=pairs_of(pages)[number % 3], action="accept")
        pages.index._read_again_at = 0.0  # the page may be some milliseconds late
        assert client.get("/status").json()["dropped"] == 98
    with RunStore(run, read_only=True) as store:
        assert store.num_committed == 110


def test_lists_say_when_they_are_empty(tmp_path: Path) -> None:
    RunStore(tmp_path).close()
    with RunStore(tmp_path, read_only=True) as store:
        pages = RunPages(store, by="ada")
        client = TestClient(guarded_app(pages, token="secret", port=8765), base_url=BASE)
        client.get("/?token=secret")
        assert "No pair is kept yet" in client.get("/").text
        assert "No sample was dropped" in client.get("/?tab=dropped&id=3.0").text
        assert "No agent waits" in client.get("/?tab=waiting").text
        pages.index.close()


def test_texts_of_records_are_never_markup(run: Path) -> None:
    with RunStore(run) as store:
        drop = DroppedSample(
            sample_id="<script>alert(1)</script>", reason="<i>r", node="<i>n", message="<img src=x>"
        )
        asyncio.run(commit_outcomes(store, [Outcome(900, "x", (), (drop,))]))
    with RunStore(run, read_only=True) as store:
        pages = RunPages(store, by="ada")
        client = TestClient(guarded_app(pages, token="secret", port=8765), base_url=BASE)
        client.get("/?token=secret")
        page = client.get("/?tab=dropped&id=900.0").text
        assert "&lt;img src=x&gt;" in page
        for markup in ("<script>alert", "<img src=x", "<i>r", "<i>n"):
            assert markup not in page
        pages.index.close()
