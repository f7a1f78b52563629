"""Readers of data sets about what is seen and heard, on made-up files of the published form."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign.api import (
    AudioClip,
    MediaError,
    MediaPart,
    MediaRef,
    load_audio,
    write_video,
)
from mmalign.datasets import avinstruct, avqa, music_avqa
from mmalign.errors import ConfigError, RecordError
from mmalign.evaluation import Prediction, score
from mmalign.testing.clips import numbered_frames

Clip = Callable[..., Path]


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    """Writes a video of so many seconds, with a tone of so many, or none."""

    def write(name: str, *, seen_s: float = 1.0, heard_s: float | None = 1.0) -> Path:
        path = tmp_path / "videos" / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        audio = None
        if heard_s is not None:
            tone = np.sin(np.arange(int(16_000 * heard_s)) / 6)
            audio = AudioClip(0.3 * tone[None].astype(np.float32), 16_000)
        write_video(path, numbered_frames(int(8 * seen_s)), 8.0, audio=audio)
        return path

    return write


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def kinds(media: tuple[MediaRef, ...]) -> list[str]:
    return [ref.kind for ref in media]


# MUSIC-AVQA ---------------------------------------------------------------------------------


def music(**changes: Any) -> dict[str, Any]:
    return {
        "video_id": "0001",
        "question_id": 7,
        "type": '["Audio-Visual", "Location"]',
        "question_content": "Where is the <FL> sounding instrument?",
        "templ_values": '["first"]',
        "question_deleted": 0,
        "anser": "left",
        **changes,
    }


def write_music(root: Path, *records: dict[str, Any], folder: str = "json") -> Path:
    return write(root / "data" / folder / "avqa-test.json", list(records))


def test_music_avqa_fills_placeholders_in_order(tmp_path: Path) -> None:
    four = music(
        question_id=8,
        question_content="Is the <Object> on the <LR> louder than the <Object> on the <RL>?",
        templ_values='["violin", "left", "cello", "right"]',
        type='["Audio-Visual", "Comparative"]',
        anser="yes",
    )
    plain = music(question_id=9, question_content="How many sound?", templ_values="[]", anser="two")
    write_music(tmp_path, music(), four, plain)
    samples = list(music_avqa.read(tmp_path))
    assert [sample.id for sample in samples] == ["test/7", "test/8", "test/9"]
    assert samples[0].metadata["question"] == "Where is the first sounding instrument?"
    assert (
        samples[1].metadata["question"]
        == "Is the violin on the left louder than the cello on the right?"
    )
    assert samples[1].question.startswith(samples[1].metadata["question"] + "\nAnswer with")
    assert samples[1].metadata["question_type"] == "Audio-Visual/Comparative"
    assert samples[2].answer == "two"
    assert samples[0].media[0].uri == str(tmp_path / "videos" / "0001.mp4")


def test_music_avqa_reads_either_version_and_chosen_types(tmp_path: Path) -> None:
    write_music(tmp_path, music(anser="right"), folder="json_update")
    write_music(tmp_path, music(), music(question_id=8, type='["Visual", "Location"]'))
    (corrected,) = music_avqa.read(tmp_path, version="corrected")
    assert (corrected.answer, corrected.metadata["version"]) == ("right", "corrected")
    (visual,) = music_avqa.read(tmp_path, question_types=["Visual/Location"])
    assert (visual.id, visual.metadata["about_sound"]) == ("test/8", False)
    assert len(list(music_avqa.read(tmp_path, num_samples=1))) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templ_values": "[]"}, "has 1 placeholders and 0 values"),
        ({"templ_values": ["first"]}, r"field 'templ_values' is \['first'\], expected a list"),
        ({"templ_values": "[first"}, r"field 'templ_values' is '\[first', expected a list"),
        ({"type": '["Smell", "Location"]'}, "expected a modality"),
        ({"type": '["Audio"]'}, "expected a modality"),
        ({"anser": None}, "field 'anser' is None"),
    ],
)
def test_bad_music_question_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_music(tmp_path, music(), music(**changes))
    with pytest.raises(RecordError, match=rf"avqa-test\.json: index 1: .*{message}"):
        list(music_avqa.read(tmp_path))


def test_unknown_split_and_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found split 'dev' and version 'original'"):
        next(music_avqa.read(tmp_path, "dev"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="avqa: found split 'test', expected one of train, val"):
        next(avqa.read(tmp_path, "test"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"avqa-val\.json: no such file"):
        next(music_avqa.read(tmp_path, "val"))


def test_music_avqa_is_scored_from_its_reader(tmp_path: Path) -> None:
    write_music(tmp_path, music(), music(question_id=8, anser="acoustic_guitar"))
    samples = list(music_avqa.read(tmp_path))
    texts = ["It is on the left.", "The acoustic guitar sounds first."]
    predictions = [
        Prediction(id=sample.id, prediction=text)
        for sample, text in zip(samples, texts, strict=True)
    ]
    assert score(samples, predictions, metric="music_avqa").metrics["accuracy"] == 100.0


# Clip and sound -----------------------------------------------------------------------------


def test_clip_and_sound_are_two_media_of_one_file(tmp_path: Path, clip: Clip) -> None:
    path = clip("0001")
    write_music(tmp_path, music())
    (sample,) = music_avqa.read(tmp_path)
    assert kinds(sample.media) == ["video", "audio"]
    assert {ref.uri for ref in sample.media} == {str(path)}
    assert all(ref.end_s is None for ref in sample.media)


def test_without_sound_a_question_about_what_is_seen_keeps_the_clip(
    tmp_path: Path, clip: Clip, caplog: pytest.LogCaptureFixture
) -> None:
    """The question about what is heard keeps the sound that is not there: it fails on record."""
    clip("0001", heard_s=None)
    write_music(tmp_path, music(), music(question_id=8, type='["Visual", "Location"]'))
    with caplog.at_level(logging.WARNING):
        heard, seen = music_avqa.read(tmp_path)
    assert kinds(seen.media) == ["video"]
    assert kinds(heard.media) == ["video", "audio"]
    assert heard.metadata["about_sound"]
    with pytest.raises(MediaError) as caught:
        load_audio(heard.media[1])
    assert caught.value.reason == "media_missing_stream"
    assert "0001.mp4: has no sound" in caplog.text


@pytest.mark.parametrize(("seen_s", "heard_s"), [(3.0, 1.5), (1.5, 3.0)])
def test_lengths_that_differ_are_trimmed_to_the_shorter(
    tmp_path: Path,
    clip: Clip,
    caplog: pytest.LogCaptureFixture,
    seen_s: float,
    heard_s: float,
) -> None:
    clip("0001", seen_s=seen_s, heard_s=heard_s)
    write_music(tmp_path, music())
    with caplog.at_level(logging.WARNING):
        (sample,) = music_avqa.read(tmp_path)
    for ref in sample.media:
        assert ref.start_s == 0.0
        assert ref.end_s == pytest.approx(1.5, abs=0.1)
    assert "both are trimmed to the shorter" in caplog.text


def test_lengths_that_differ_by_less_than_a_second_are_left(tmp_path: Path, clip: Clip) -> None:
    clip("0001", seen_s=2.0, heard_s=1.25)
    write_music(tmp_path, music())
    (sample,) = music_avqa.read(tmp_path)
    assert all(ref.end_s is None for ref in sample.media)


# AVQA ---------------------------------------------------------------------------------------


def everyday(**changes: Any) -> dict[str, Any]:
    return {
        "id": 3,
        "video_name": "abc_30",
        "video_id": 11,
        "question_text": "What barks?",
        "multi_choice": ["a dog", "a cat", "a car"],
        "answer": 0,
        "question_relation": "Both",
        "question_type": "Which",
        **changes,
    }


def write_avqa(root: Path, *records: dict[str, Any]) -> Path:
    return write(root / "data" / "annotation" / "val_qa.json", list(records))


def test_avqa_yields_four_lettered_options(tmp_path: Path) -> None:
    write_avqa(tmp_path, everyday(), everyday(id=4, question_relation="View", answer=2))
    first, second = avqa.read(tmp_path)
    assert first.id == "val/3"
    assert first.question == (
        "What barks?\n(A) a dog\n(B) a cat\n(C) a car\n(D) (no option)\n"
        "Answer with the letter of the option only."
    )
    assert (first.answer, first.answer_index) == ("a dog", 0)
    assert (first.metadata["about_sound"], second.metadata["about_sound"]) == (True, False)
    assert first.media[0].uri == str(tmp_path / "videos" / "abc_30.mp4")
    assert len(list(avqa.read(tmp_path, num_samples=1))) == 1


def test_avqa_is_scored_by_letter_or_by_text(tmp_path: Path) -> None:
    """Exact text counts even where it holds another option's text."""
    choices = ["a dog", "a dog barks", "a car"]
    records = [everyday(id=number, multi_choice=choices, answer=1) for number in range(4)]
    records[3]["question_type"] = "Why"
    write_avqa(tmp_path, *records)
    samples = list(avqa.read(tmp_path))
    texts = ("(B)", "A dog barks.", "a dog", "perhaps (B) a dog barks")
    predictions = [
        Prediction(id=sample.id, prediction=text)
        for sample, text in zip(samples, texts, strict=True)
    ]
    scores = score(samples, predictions, metric="avqa")
    assert scores.metrics["accuracy"] == 75.0
    assert scores.subsets["Which"]["accuracy"] == pytest.approx(200 / 3)
    assert scores.subsets["Why"]["accuracy"] == 100.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multi_choice": ["a"]}, "expected a list of 2 to 4 texts"),
        ({"multi_choice": "a, b"}, "expected a list of 2 to 4 texts"),
        ({"multi_choice": ["a", "b", "c", "d", "e"]}, "expected a list of 2 to 4 texts"),
        ({"answer": 3}, "the answer is 3, expected the place"),
        ({"answer": "a dog"}, "the answer is 'a dog', expected the place"),
        ({"multi_choice": ["a", ""], "answer": 1}, "the answer is 1, expected the place"),
        ({"video_name": ""}, "field 'video_name' is ''"),
    ],
)
def test_bad_everyday_question_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_avqa(tmp_path, everyday(), everyday(**changes))
    with pytest.raises(RecordError, match=rf"val_qa\.json: index 1: .*{message}"):
        list(avqa.read(tmp_path))


# AVinstruct ---------------------------------------------------------------------------------


def instruct(asked: str = "Look. <Q>Which instrument sounds?<Q> <video>", **changes: Any) -> Any:
    return {
        "video_id": "0001",
        "multi_choice": ["violin", "cello"],
        "correct_answer": "cello",
        "video": "video/0001.npy",
        "audio": "audio/0001.npy",
        "conversations": [
            {"from": "human", "value": asked},
            {"from": "gpt", "value": "The cello on the right sounds."},
        ],
        **changes,
    }


def read_instruct(root: Path, *records: Any, **settings: Any) -> list[Any]:
    write(root / "data.json", list(records))
    settings = {"media_root": root / "videos"} | settings
    return list(avinstruct.read(root, files=["data.json"], **settings))


def test_avinstruct_puts_clip_and_sound_where_the_placeholder_was(
    tmp_path: Path, clip: Clip
) -> None:
    path = clip("0001")
    asked = "Look at <video> and say: <Q>Which instrument sounds?<Q>"
    (sample,) = read_instruct(tmp_path, instruct(asked))
    before, video, audio, after = sample.messages[0].content
    assert (before.text, after.text) == ("Look at", "and say: Which instrument sounds?")
    assert isinstance(video, MediaPart)
    assert (video.media.kind, audio.media.kind) == ("video", "audio")
    assert video.media.uri == audio.media.uri == str(path)
    assert sample.answer == "The cello on the right sounds."
    assert (sample.choices, sample.answer_index) == (("violin", "cello"), 1)
    assert sample.metadata["question"] == "Which instrument sounds?"
    assert sample.metadata["correct_answer"] == "cello"
    assert sample.metadata["about_sound"]


def test_avinstruct_fields_may_be_empty(tmp_path: Path) -> None:
    record = instruct("<video><Q>Where does she stand?<Q>", multi_choice="", correct_answer="")
    (sample,) = read_instruct(tmp_path, record)
    assert sample.question == "Where does she stand?"
    assert (sample.choices, sample.answer_index) == (None, None)
    assert sample.metadata["correct_answer"] is None
    assert not sample.metadata["about_sound"]


def test_avinstruct_reads_both_files_by_default(tmp_path: Path) -> None:
    for name in avinstruct.FILES:
        write(tmp_path / name, [instruct(), instruct()])
    samples = list(avinstruct.read(tmp_path, media_root=tmp_path, num_samples=1))
    assert [sample.id for sample in samples] == ["avqa_data1/000000", "avqa_data2/000000"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("Which sounds? <video>", 'video "0001": found 0 markers <Q>'),
        ("<Q>Which sounds? <video>", "found 1 markers <Q>"),
        ("<Q>a<Q> <Q>b<Q> <video>", "found 4 markers <Q>"),
        ("<Q> <Q> <video>", "found 2 markers <Q>"),
        ("<Q>Which?<Q>", "found 0 placeholders <video>"),
        ("<video> <Q>Which?<Q> <video>", "found 2 placeholders <video>"),
        ("<Q>Which <video>?<Q>", "found 1 placeholders <video>"),
    ],
)
def test_markers_and_placeholder_are_demanded(tmp_path: Path, asked: str, message: str) -> None:
    with pytest.raises(RecordError, match=rf"data\.json: index 1.*{message}"):
        read_instruct(tmp_path, instruct(), instruct(asked))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conversations": []}, r"conversations are \[\], expected two turns"),
        (
            {"conversations": [{"from": "gpt", "value": "x"}] * 2},
            "a turn is from 'gpt', expected 'human'",
        ),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": ""}]},
            "turn of gpt: field 'value' is ''",
        ),
        ({"video_id": None}, "field 'video_id' is None"),
    ],
)
def test_bad_instruction_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=rf"data\.json: index 0.*{message}"):
        read_instruct(tmp_path, instruct(**changes))


def save(path: Path, *shape: int) -> None:
    path.parent.mkdir(exist_ok=True)
    np.save(path, np.zeros(shape, dtype=np.float32))


def test_features_are_checked_and_kept(tmp_path: Path) -> None:
    save(tmp_path / "video/0001.npy", 12, 1024)
    save(tmp_path / "audio/0001.npy", 1, 1024)
    (sample,) = read_instruct(tmp_path, instruct(), media_root=None, features_root=tmp_path)
    assert sample.media == ()
    assert sample.question == "Look. Which instrument sounds?"
    assert sample.metadata["features"] == {
        "video": {"path": str(tmp_path / "video/0001.npy"), "shape": [12, 1024]},
        "audio": {"path": str(tmp_path / "audio/0001.npy"), "shape": [1, 1024]},
    }


@pytest.mark.parametrize("shape", [(1024,), (12, 512), (0, 1024), (1, 12, 1024)])
def test_features_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    save(tmp_path / "video/0001.npy", *shape)
    with pytest.raises(RecordError, match=r"0001\.npy: features have the shape \[.*expected \[\*,"):
        read_instruct(tmp_path, instruct(), features_root=tmp_path)


def test_features_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"video/0001\.npy: no such file"):
        read_instruct(tmp_path, instruct(), features_root=tmp_path)
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "0001.npy").write_bytes(b"pickle")
    with pytest.raises(RecordError, match=r"0001\.npy: cannot be read as \.npy"):
        read_instruct(tmp_path, instruct(), features_root=tmp_path)


def test_clips_or_features_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found neither media_root nor features_root"):
        next(avinstruct.read(tmp_path))
