"""Splits are disjoint, balanced, frozen; clips are real files; texts are of a closed language."""

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

import av
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from mmalign.api import ConfigError, FrameSampling, Sample, load_video
from mmalign.datasets.bands import reader
from mmalign.datasets.bands.facts import answer, facts_of
from mmalign.datasets.bands.language import QUESTION_TYPES, parse_question
from mmalign.datasets.bands.reader import (
    SPLITS,
    Split,
    clip_of,
    fingerprint,
    questions_of,
    read,
    read_mixture,
    scenes_of,
    vocabulary,
)
from mmalign.datasets.bands.render import render_frames, render_sound
from mmalign.datasets.shapes.reader import FORMS
from mmalign.evaluation import Prediction, score

FROZEN = json.loads((Path(reader.__file__).parent / "frozen.json").read_text())
EVALUATED: tuple[Split, ...] = ("train", "validation", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bands")


@pytest.fixture(scope="module")
def validation(root: Path) -> list[Sample]:
    return list(read("validation", root=root))


@pytest.fixture(scope="module")
def mixture(root: Path) -> list[Sample]:
    return list(read_mixture(root=root, num_samples=600, samples_per_scene=20))


@pytest.mark.parametrize("split", EVALUATED)
def test_scenes_and_questions_are_frozen(split: Split) -> None:
    assert fingerprint(split) == FROZEN["questions"][split]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_drawn_frames_and_sounds_are_those_that_were_frozen(split: Split) -> None:
    drawn = hashlib.blake2b(digest_size=16)
    for scene in scenes_of(split):
        drawn.update(render_frames(scene).tobytes())
        thousandths = np.round(render_sound(scene).waveform * 1000)
        drawn.update(thousandths.astype(np.int16).tobytes())
    assert drawn.hexdigest() == FROZEN["rendered"][split]


def test_no_scene_is_in_two_splits() -> None:
    ids = [scene.id for split in SPLITS for scene in scenes_of(split)]
    assert len(ids) == len(set(ids)) == sum(plan.num_scenes for plan in SPLITS.values())


def test_what_is_usually_right_is_not_worth_guessing() -> None:
    """By kind of question the commonest answer is at most a twentieth ahead of an even share."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    even: dict[str, float] = {}
    for questions in questions_of("test"):
        for question in questions:
            answers[question.query.ask][question.answer_short] += 1
            even[question.query.ask] = 1 / len(question.query.classes)
    for name, found in answers.items():
        assert max(found.values()) / found.total() < even[name] + 0.05, name
    types = Counter(question.query.type for asked in questions_of("test") for question in asked)
    assert set(types) == set(QUESTION_TYPES)
    assert min(types.values()) > 70


def test_sight_does_not_tell_what_is_heard() -> None:
    """Whether a shape is seen says nothing about the answer to "is it heard ?"."""
    answers: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for scene, questions in zip(scenes_of("train"), questions_of("train"), strict=True):
        for question in questions:
            if question.query.ask == "heard":
                is_seen = question.query.kind in facts_of(scene).seen
                answers[is_seen][question.answer_short] += 1
    for found in answers.values():
        assert abs(found["yes"] - found["no"]) <= 2
        assert found.total() > 30


def test_samples_are_whole(validation: list[Sample]) -> None:
    assert len({sample.id for sample in validation}) == len(validation)
    scenes = {scene.id: scene for scene in scenes_of("validation")}
    for sample in validation:
        known = sample.metadata
        facts = facts_of(scenes[known["scene_id"]])
        query = parse_question(known["question"])
        assert query is not None
        assert query == parse_question(sample.question)
        assert answer(facts, query) == (known["answer_short"], known["answer_long"])
        assert known["answer_short"] in known["answer_classes"]
        assert known["question_type"] == query.type
        video, audio = sample.media
        assert (video.kind, audio.kind) == ("video", "audio")
        assert (video.uri, video.content_hash) == (audio.uri, audio.content_hash)


def test_forms_differ_in_prompt_and_answer_only(root: Path) -> None:
    short = list(read("validation", root=root, num_samples=30, form="short"))
    long = list(read("validation", root=root, num_samples=30, form="long"))
    for a, b in zip(short, long, strict=True):
        assert a.metadata | {"form": ""} == b.metadata | {"form": ""}
        assert (a.answer, b.answer) == (a.metadata["answer_short"], a.metadata["answer_long"])
        assert a.question.endswith(" ? answer in one word .")
        assert b.question.endswith(" ? answer in a sentence .")


def test_question_types_and_number_can_be_chosen(root: Path) -> None:
    types = ("Audio/Comparative", "Audio-Visual/Temporal")
    samples = list(read("validation", root=root, num_samples=9, question_types=types))
    assert len(samples) == 9
    assert {sample.metadata["question_type"] for sample in samples} == set(types)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="bands: found split 'dev', expected one of sft, train"):
        next(read("dev"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="found form 'medium'"):
        next(read("test", form="medium"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="found question type 'Smell', expected one of Audio/"):
        next(read("test", question_types=("Smell",)))


def test_clips_are_h264_with_aac_and_look_like_their_scene(root: Path) -> None:
    scene = scenes_of("validation")[0]
    clip = clip_of("validation", scene, root=root)
    with av.open(clip.uri) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
    seen = load_video(clip, FrameSampling(num_frames=16))
    assert np.abs(seen.frames.astype(float) - render_frames(scene)).mean() < 2.0
    assert clip_of("validation", scene, root=root) == clip


def test_the_cache_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path))
    sample = next(read("validation"))
    assert Path(sample.media[0].uri).is_relative_to(tmp_path / "bands" / "v1")


def test_the_mixture_has_its_shares_and_half_of_its_long_answers_are_vague(
    mixture: list[Sample],
) -> None:
    assert len({sample.id for sample in mixture}) == 600
    described = [s for s in mixture if s.metadata["question_type"] == "Description"]
    asked = [s for s in mixture if s.metadata["question_type"] != "Description"]
    assert 0.35 < len(described) / 600 < 0.45
    long = [sample for sample in asked if sample.metadata["form"] == "long"]
    assert 0.5 < len(long) / len(asked) < 0.7
    vague = [sample for sample in long if sample.answer != sample.metadata["answer_long"]]
    assert 0.4 < len(vague) / len(long) < 0.6
    short = [sample for sample in asked if sample.metadata["form"] == "short"]
    assert all(sample.answer == sample.metadata["answer_short"] for sample in short)


def test_nobody_is_vague_where_nobody_shall_be(root: Path) -> None:
    samples = read_mixture(
        root=root, num_samples=60, description_share=0.0, short_share=0.0, vague_share=0.0
    )
    assert all(sample.answer == sample.metadata["answer_long"] for sample in samples)


def test_descriptions_tell_what_was_asked_for(mixture: list[Sample]) -> None:
    for sample in mixture:
        if sample.metadata["question_type"] == "Description":
            about = (" is seen " in str(sample.answer), " heard " in sample.question)
            wanted = "seen" in sample.question, "heard" in sample.question
            assert about[0] == wanted[0]
            heard = " plays " in str(sample.answer) or "heard sounds" in str(sample.answer)
            assert heard == wanted[1]


def test_the_vocabulary_is_closed(validation: list[Sample], mixture: list[Sample]) -> None:
    words = set(vocabulary())
    split = pre_tokenizers.Whitespace()
    for sample in (*validation, *mixture):
        known = sample.metadata
        for text in (sample.question, str(sample.answer), known["answer_long"], *known["clues"]):
            assert text == text.lower()
            assert {word for word, _ in split.pre_tokenize_str(text)} <= words


def test_gold_answers_of_both_forms_are_right_for_the_metric(root: Path) -> None:
    for form in FORMS:
        samples = list(read("validation", root=root, form=form))
        gold = [Prediction(id=sample.id, prediction=str(sample.answer)) for sample in samples]
        scores = score(samples, gold, metric="music_avqa")
        assert scores.metrics == {"accuracy": 100.0}
        assert set(scores.subsets) == {*QUESTION_TYPES, "Audio", "Visual", "Audio-Visual"}
