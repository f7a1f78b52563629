from pathlib import Path

from mmalign.media import FrameSampling
from mmalign.records import PreferencePair, Span
from mmalign.report.cards import Piece, choose_pairs, cut_at_spans, lineage_facts, view_card
from mmalign.report.clips import ClipWriter
from mmalign.report.run_folder import read_run


def pairs_of(run: Path) -> tuple[PreferencePair, ...]:
    pairs = read_run(run).pairs
    assert pairs
    return pairs


def writer(run: Path, folder: Path, *, max_inline_bytes: int = 10**7) -> ClipWriter:
    return ClipWriter(
        report_folder=folder,
        base_folder=run / "data",
        sampling=FrameSampling(num_frames=4),
        max_inline_bytes=max_inline_bytes,
    )


def test_pieces_joined_are_the_text() -> None:
    text = "a red ball and a box"
    spans = (Span(start=15, end=20, phrase_id=2), Span(start=2, end=5, phrase_id=1))
    pieces = cut_at_spans(text, spans)
    assert pieces[1] == Piece("red", 1)
    assert pieces[3] == Piece("a box", 2)
    assert "".join(piece.text for piece in pieces) == text


def test_overlapping_spans_lose_no_text() -> None:
    spans = (Span(start=0, end=4, phrase_id=1), Span(start=2, end=6, phrase_id=2))
    assert cut_at_spans("abcdefgh", spans) == (Piece("abcd", 1), Piece("ef", 2), Piece("gh", 0))


def test_the_first_pairs_shown_are_of_different_kinds(demo_run: Path) -> None:
    chosen = choose_pairs(pairs_of(demo_run), num_pairs=4)
    assert len({pair.lineage.tags["question_type"] for pair in chosen}) == 4


def test_the_perturbed_clip_stands_beside_the_original(demo_run: Path, tmp_path: Path) -> None:
    card = view_card(pairs_of(demo_run)[0], writer(demo_run, tmp_path))
    assert [item.role for item in card.clips] == ["shared", "perturbed"]
    original, perturbed = (item.clip for item in card.clips)
    assert (original.num_frames, perturbed.num_frames) == (32, 4)
    assert original.has_sound
    assert original.pixelated
    assert perturbed.operations == ("mask", "local shuffle")
    assert original.src != perturbed.src


def test_sides_that_differ_in_media_have_a_clip_each(demo_run: Path, tmp_path: Path) -> None:
    pair = pairs_of(demo_run)[0]
    rejected = pair.rejected.model_copy(
        update={"media": tuple(ref.then(*pair.lineage.operations) for ref in pair.media)}
    )
    card = view_card(pair.model_copy(update={"rejected": rejected}), writer(demo_run, tmp_path))
    assert [item.role for item in card.clips] == ["chosen", "rejected"]


def test_pairs_without_spans_are_compared(demo_run: Path, tmp_path: Path) -> None:
    pair = pairs_of(demo_run)[0]
    bare = pair.model_copy(
        update={
            "chosen": pair.chosen.model_copy(update={"spans": ()}),
            "rejected": pair.rejected.model_copy(update={"spans": ()}),
        }
    )
    card = view_card(bare, writer(demo_run, tmp_path))
    assert card.spans_from_diff
    assert [piece.phrase_id for piece in card.chosen.pieces] == [0, 1, 0]


def test_clips_that_do_not_fit_are_files_and_equal_ones_are_one(
    demo_run: Path, tmp_path: Path
) -> None:
    clips = writer(demo_run, tmp_path, max_inline_bytes=0)
    ref = pairs_of(demo_run)[0].media[0]
    first = clips.clip(ref)
    assert first is clips.clip(ref)
    assert first.src.startswith("media/")
    assert (tmp_path / first.src).read_bytes()[4:8] == b"ftyp"
    assert (clips.num_linked, clips.num_inline_bytes) == (1, 0)


def test_a_missing_clip_is_a_clip_with_a_problem(demo_run: Path, tmp_path: Path) -> None:
    ref = pairs_of(demo_run)[0].media[0].model_copy(update={"uri": "gone.mp4"})
    clip = writer(demo_run, tmp_path).clip(ref)
    assert clip.src == ""
    assert "gone.mp4" in clip.problem


def test_a_relative_reference_is_found_beside_the_records(demo_run: Path, tmp_path: Path) -> None:
    ref = pairs_of(demo_run)[0].media[0]
    relative = ref.model_copy(update={"uri": f"../clips/{Path(ref.uri).name}"})
    assert writer(demo_run, tmp_path).clip(relative).problem == ""


def test_lineage_names_what_made_the_pair(demo_run: Path) -> None:
    facts = dict(lineage_facts(pairs_of(demo_run)[0]))
    assert facts["Graph"] == "mmalign.agents.rrpo:build_graph"
    assert facts["Judge votes"] == "wrong 3, right 0"
    assert "local shuffle (num_windows 4), seed 0" in facts["Operations"]
