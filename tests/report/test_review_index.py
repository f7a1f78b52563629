"""The list of `mmalign view`: filters, order, pages, and what a growing store adds."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mmalign.engine.manifest import Manifest
from mmalign.engine.reviews import decide
from mmalign.engine.store import Outcome, RunStore
from mmalign.records import DroppedSample, Lineage, PreferencePair, Response, text_of, user
from mmalign.report.review.index import Index, Row
from mmalign.report.review.pages import view_list
from mmalign.report.review.queries import Query
from mmalign.testing.demo_store import commit_outcomes

TYPES = ("color", "order")


def pair(number: int) -> PreferencePair:
    """Scores 0.0, 0.1, ... of the chosen side; the third has none."""
    return PreferencePair(
        sample_id=f"s{number}",
        prompt=(user(f"Question {number}?"),),
        chosen=Response(
            messages=(text_of(f"Answer {number}."),), score=None if number == 2 else number / 10
        ),
        rejected=Response(messages=(text_of("No Zebra."),), score=0.0),
        metadata={"ambiguity": number % 3, "flag": True, "note": "x"},
        lineage=Lineage(
            node="rewrite" if number % 2 else "write",
            tags={"question_type": TYPES[number % 2], "only": "one"},
            num_tokens=100 - number,
            created_at=f"2026-01-05T09:30:{number:02d}Z",
        ),
    )


def kept(number: int) -> Outcome:
    return Outcome(number, f"s{number}", (pair(number),), ())


def lost(number: int, kind: str = "dropped") -> Outcome:
    drop = DroppedSample.model_validate(
        {
            "sample_id": f"s{number}",
            "reason": f"r{number % 2}",
            "node": "mark",
            "message": f"Message {number}",
            "kind": kind,
        }
    )
    return Outcome(number, f"s{number}", (), (drop,))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore(tmp_path) as store:
        store.claim(Manifest(agent="a:b"))
        asyncio.run(commit_outcomes(store, [kept(n) for n in range(6)]))
        asyncio.run(commit_outcomes(store, [lost(n) for n in range(6, 9)]))
        yield store


@pytest.fixture
def index(store: RunStore) -> Iterator[Index]:
    index = Index(store)
    index.refresh()
    yield index
    index.close()


def found(index: Index, query: Query) -> list[str]:
    return [row.sample_id for row in index.find(query)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), "s0 s1 s2 s3 s4 s5"),
        (Query(tags=(("question_type", "order"),)), "s1 s3 s5"),
        (Query(node="write"), "s0 s2 s4"),
        (Query(text="zebra QUESTION 3?"), "s3"),
        (Query(text="zebra giraffe"), ""),
        (Query(low=0.3), "s3 s4 s5"),
        (Query(high=0.3), "s0 s1 s3"),
        (Query(sort="score_difference", low=0.1, high=0.4, descending=True), "s4 s3 s1"),
        (Query(sort="metadata.ambiguity"), "s0 s3 s1 s4 s2 s5"),
        (Query(sort="metadata.ambiguity", low=2), "s2 s5"),
        (Query(sort="tokens"), "s5 s4 s3 s2 s1 s0"),
        (Query(sort="time", descending=True), "s5 s4 s3 s2 s1 s0"),
        (Query(descending=True), "s5 s4 s3 s2 s1 s0"),
        (Query(tab="dropped"), "s6 s7 s8"),
        (Query(tab="dropped", reason="r0"), "s6 s8"),
        (Query(tab="dropped", text="message 7"), "s7"),
    ],
)
def test_filters_and_orders(index: Index, query: Query, expected: str) -> None:
    assert found(index, query) == expected.split()


@pytest.mark.parametrize("descending", [False, True])
def test_rows_without_the_number_stand_last(index: Index, descending: bool) -> None:
    query = Query(sort="score_difference", descending=descending)
    assert found(index, query)[-1] == "s2"


def test_decisions_are_a_filter_that_is_always_current(index: Index, store: RunStore) -> None:
    undecided = Query(decision="undecided")
    assert len(found(index, undecided)) == 6
    decide(store, pair(1), "reject", by="ada")
    index.refresh()
    assert found(index, undecided) == ["s0", "s2", "s3", "s4", "s5"]
    assert found(index, Query(decision="rejected")) == ["s1"]
    assert index.num_decided() == {"rejected": 1}


def test_a_row_that_has_left_the_list_keeps_its_neighbours(index: Index, store: RunStore) -> None:
    rows = index.find(Query())
    assert index.neighbours(Query(), rows[1]) == (2, rows[0].id, rows[2].id)
    assert index.neighbours(Query(), rows[0])[:2] == (1, "")
    decide(store, pair(1), "reject", by="ada")
    index.refresh()
    undecided = Query(decision="undecided")
    assert index.neighbours(undecided, rows[1]) == (0, rows[0].id, rows[2].id)
    falling = replace(undecided, sort="tokens", descending=True)
    assert index.neighbours(falling, rows[1]) == (0, rows[0].id, rows[2].id)


def test_facets_are_what_tells_rows_apart(index: Index) -> None:
    facets = index.facets("pairs")
    assert facets.tags == {"question_type": ["color", "order"]}
    assert facets.nodes == ["rewrite", "write"]
    assert facets.numbers == ["metadata.ambiguity", "score_difference", "time", "tokens"]
    assert index.facets("dropped").reasons == ["r0", "r1"]


def test_a_growing_store_is_followed(index: Index, store: RunStore) -> None:
    asyncio.run(commit_outcomes(store, [kept(20), lost(21, "failed")]))
    index._read_again_at = 0.0
    index.refresh()
    assert found(index, Query())[-1] == "s20"
    assert found(index, Query(tab="dropped"))[-1] == "s21"
    store.forget_failed()
    asyncio.run(commit_outcomes(store, [kept(21)]))
    index._read_again_at = 0.0
    index.refresh()
    assert found(index, Query())[-1] == "s21"
    assert "s21" not in found(index, Query(tab="dropped"))


def test_a_folder_that_is_rebuilt_is_read_anew(index: Index, store: RunStore) -> None:
    store.claim(Manifest(agent="a:b", seed=1), rebuild=True)
    asyncio.run(commit_outcomes(store, [lost(0)]))
    index._read_again_at = 0.0
    index.refresh()
    assert found(index, Query()) == []
    assert found(index, Query(tab="dropped")) == ["s0"]


def test_a_store_that_writes_all_the_time_is_not_read_all_the_time(
    index: Index, store: RunStore
) -> None:
    index._read_again_at = float("inf")
    asyncio.run(commit_outcomes(store, [kept(20)]))
    index.refresh()
    assert index.num_rows("pairs") == 6
    index._read_again_at = 0.0
    index.refresh()
    assert index.num_rows("pairs") == 7


def test_pages_follow_the_record_that_is_shown(index: Index, store: RunStore) -> None:
    asyncio.run(commit_outcomes(store, [kept(n) for n in range(30, 59)]))
    asyncio.run(commit_outcomes(store, [kept(n) for n in range(100, 180)]))
    index._read_again_at = 0.0
    index.refresh()
    rows: list[Row] = index.find(Query())
    assert view_list(index, Query()).num_pages == 3
    assert view_list(index, Query(page=99)).page == 3
    assert view_list(index, Query(id=rows[60].id)).page == 2
    assert rows[60] in view_list(index, Query(id=rows[60].id)).rows
    assert view_list(index, Query(page=3)).rows == rows[100:]


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(tab="dropped", text="a&b=c ü", tags=(("x y", "1"), ("z", "ü&")), page=3, id="4.0"),
        Query(sort="metadata.a b", descending=True, low=-0.5, high=1e9, decision="rejected"),
    ],
)
def test_the_address_holds_the_query(query: Query) -> None:
    from urllib.parse import parse_qsl, urlsplit

    assert Query.of(dict(parse_qsl(urlsplit(query.url()).query))) == query


@pytest.mark.parametrize(
    "values",
    [
        {"tab": "secrets", "page": "-1", "low": "x", "high": "nan", "descending": "yes"},
        {"page": "999999999999", "low": "inf", "sort": ""},
        {"page": "²"},
    ],
)
def test_an_address_that_makes_no_sense_asks_for_nothing(values: dict[str, str]) -> None:
    assert Query.of(values) == Query()
