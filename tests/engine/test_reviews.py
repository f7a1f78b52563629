"""Decisions are added to the store, survive, and reach the exported records."""

import asyncio
import json
from pathlib import Path

import pytest

from mmalign.engine.edits import edited_pair
from mmalign.engine.export import export
from mmalign.engine.manifest import Manifest
from mmalign.engine.reviews import current_reviews, decide, review_history, undo
from mmalign.engine.store import Outcome, RunStore
from mmalign.errors import RecordError, StoreError
from mmalign.records import DroppedSample, PreferencePair, Response, Span, text_of, user
from mmalign.records.jsonl import read_jsonl


def pair(sample_id: str, chosen: str = "A red ball.", *, spans: bool = False) -> PreferencePair:
    marked = (Span(start=2, end=5, phrase_id=1),) if spans else ()
    return PreferencePair(
        sample_id=sample_id,
        prompt=(user("What rolls?"),),
        chosen=Response(messages=(text_of(chosen),), spans=marked),
        rejected=Response(messages=(text_of("A mat rolls."),), spans=marked),
    )


ONE, TWO, THREE = pair("s0", spans=True), pair("s1"), pair("s1", "A green ball.")
DROPPED = DroppedSample(sample_id="s2", reason="no_span", node="mark", message="nothing differs")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    async def write() -> None:
        with RunStore(tmp_path) as store:
            store.claim(Manifest(agent="a:b"))
            await store.commit_outcome(Outcome(2, "s2", (), (DROPPED,)))
            await store.commit_outcome(Outcome(0, "s0", (ONE,), ()))
            await store.commit_outcome(Outcome(1, "s1", (TWO, THREE), ()))

    asyncio.run(write())
    return tmp_path


def looking(run: Path) -> RunStore:
    return RunStore(run, read_only=True)


def exported(run: Path) -> tuple[list[PreferencePair], list[DroppedSample]]:
    data = run / "data"
    return (
        list(read_jsonl(data / "pairs.jsonl", PreferencePair)),
        list(read_jsonl(data / "dropped.jsonl", DroppedSample)),
    )


def test_nothing_decided_changes_nothing(run: Path) -> None:
    with looking(run) as store:
        assert current_reviews(store) == {}
        funnel = export(store)
    assert (funnel.num_kept, funnel.num_pairs, funnel.num_dropped) == (2, 3, 1)
    assert exported(run) == ([ONE, TWO, THREE], [DROPPED])


def test_decisions_reach_the_exported_records_in_the_order_of_the_data_set(run: Path) -> None:
    with looking(run) as store:
        decide(store, ONE, "reject", by="ada")
        decide(store, TWO, "accept", by="ada")
        decide(store, THREE, "edit", by="ada", rejected="A green mat.")
        funnel = export(store)
    (accepted, edited), (lost, dropped) = exported(run)
    assert accepted == TWO.model_copy(update={"lineage": accepted.lineage})
    assert accepted.lineage.tags == {"review": "accepted"}
    assert accepted.lineage.votes["review"]["by"] == "ada"
    assert edited.rejected.text == "A green mat."
    assert edited.id not in (THREE.id, "")
    assert edited.lineage.tags == {"review": "edited"}
    assert edited.lineage.votes["review"]["original_id"] == THREE.id
    assert (lost.sample_id, lost.reason, lost.node) == ("s0", "review_rejected", "review")
    assert dropped == DROPPED
    assert (funnel.num_in, funnel.num_kept, funnel.num_pairs, funnel.num_dropped) == (3, 1, 2, 2)


def test_a_sample_with_another_pair_is_still_kept(run: Path) -> None:
    with looking(run) as store:
        decide(store, TWO, "reject", by="ada")
        funnel = export(store)
        assert (funnel.num_kept, funnel.num_pairs, funnel.num_dropped) == (2, 2, 1)
        decide(store, THREE, "reject", by="ada")
        funnel = export(store)
    assert (funnel.num_kept, funnel.num_pairs, funnel.num_dropped) == (1, 1, 2)
    assert [row.reason for row in funnel.dropped] == ["no_span", "review_rejected"]


def test_every_step_stays_on_record_with_the_value_before_it(run: Path) -> None:
    with looking(run) as store:
        decide(store, TWO, "accept", by="ada")
        decide(store, TWO, "edit", by="ben", chosen="A blue ball.")
        decide(store, TWO, "reject", by="ada")
        assert undo(store, TWO.id, by="ada") is not None
    with looking(run) as store:  # another process later
        state = current_reviews(store)[TWO.id]
        assert (state.action, state.decision, state.chosen) == ("undo", "edited", "A blue ball.")
        history = review_history(store, TWO.id)
        assert [row.action for row in history] == ["accept", "edit", "reject", "undo"]
        assert [row.by for row in history] == ["ada", "ben", "ada", "ada"]
        assert json.loads(history[1].old) == {
            "decision": "accepted",
            "chosen": "A red ball.",
            "rejected": "A mat rolls.",
        }
        for decision in ("accepted", None):
            undone = undo(store, TWO.id, by="ada")
            assert undone is not None
            assert undone.decision == decision
        assert undo(store, TWO.id, by="ada") is None
        assert len(review_history(store, TWO.id)) == 6


def test_accepting_an_edited_pair_keeps_the_edit(run: Path) -> None:
    with looking(run) as store:
        decide(store, TWO, "edit", by="ada", chosen="A blue ball.")
        decide(store, TWO, "accept", by="ada")
        export(store)
    assert exported(run)[0][1].chosen.text == "A blue ball."


def test_the_same_decision_twice_is_one_row(run: Path) -> None:
    with looking(run) as store:
        first = decide(store, TWO, "accept", by="ada")
        assert decide(store, TWO, "accept", by="ben") == first
        assert len(review_history(store, TWO.id)) == 1


def test_spans_of_an_edited_pair_are_those_of_its_new_texts() -> None:
    edited = edited_pair(ONE, "A red ball rolls.", None)
    spans = [edited.rejected.text[s.start : s.end] for s in edited.rejected.spans]
    assert [edited.chosen.text[s.start : s.end] for s in edited.chosen.spans] == ["red ball"]
    assert spans == ["mat"]
    assert edited_pair(TWO, "A red ball rolls.", None).chosen.spans == ()


@pytest.mark.parametrize(
    ("text", "problem"), [("A mat rolls.", "are the same"), ("  ", "chosen response is empty")]
)
def test_texts_that_make_no_pair_are_refused(run: Path, text: str, problem: str) -> None:
    with looking(run) as store:
        with pytest.raises(RecordError, match=problem):
            decide(store, TWO, "edit", by="ada", chosen=text)
        assert current_reviews(store) == {}


def test_decisions_are_taken_while_a_build_writes(run: Path) -> None:
    """Sixty outcomes and thirty decisions, each durable, none waits for the other's end."""

    async def build_and_decide() -> None:
        with RunStore(run) as building, looking(run) as store:

            def judge() -> None:
                for number in range(30):
                    decide(store, TWO, "accept" if number % 2 else "reject", by="ada")

            judging = asyncio.create_task(asyncio.to_thread(judge))
            for position in range(10, 70):
                sample_id = f"n{position}"
                drop = DROPPED.model_copy(update={"sample_id": sample_id})
                await building.commit_outcome(Outcome(position, sample_id, (), (drop,)))
            await judging

    asyncio.run(build_and_decide())
    with looking(run) as store:
        assert store.num_committed == 63
        assert len(review_history(store, TWO.id)) == 30
        assert current_reviews(store)[TWO.id].decision == "accepted"


def test_a_store_that_cannot_be_written_says_so(run: Path) -> None:
    with looking(run) as store:
        (run / "store.sqlite").unlink()
        (run / "store.sqlite").mkdir()
        with pytest.raises(StoreError, match=r"store\.sqlite"):
            decide(store, TWO, "accept", by="ada")
