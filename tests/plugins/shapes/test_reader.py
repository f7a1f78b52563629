"""Splits are disjoint, balanced, frozen; clips are real files, made once, safe to race for."""

import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import av
import numpy as np
import pytest

from mmalign.api import ConfigError, FrameSampling, Sample, load_video
from mmalign.datasets.shapes import reader
from mmalign.datasets.shapes.oracle import judge
from mmalign.datasets.shapes.reader import (
    SPLITS,
    VERSION,
    Split,
    clip_of,
    fingerprint,
    read,
    read_mixture,
    scenes_of,
)
from mmalign.datasets.shapes.render import render_frames

FROZEN = json.loads((Path(reader.__file__).parent / "frozen.json").read_text())
EVALUATED: tuple[Split, ...] = ("train", "validation", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture(scope="module")
def validation(root: Path) -> list[Sample]:
    return list(read("validation", root=root))


@pytest.mark.parametrize("split", EVALUATED)
def test_scenes_and_questions_are_frozen(split: Split) -> None:
    assert fingerprint(split) == FROZEN["questions"][split]


def test_no_scene_is_in_two_splits() -> None:
    ids = [scene.id for split in SPLITS for scene in scenes_of(split)]
    assert len(ids) == len(set(ids)) == sum(plan.num_scenes for plan in SPLITS.values())


def test_every_pair_is_complete_and_answers_tell_nothing(validation: list[Sample]) -> None:
    roles = defaultdict(set)
    for sample in validation:
        if sample.group_id:
            roles[sample.group_id].add((sample.metadata["role"], sample.answer))
    assert all(pair == {("basic", "yes"), ("hallucinated", "no")} for pair in roles.values())
    kinds = Counter((s.metadata["question_type"], s.answer) for s in validation if s.group_id)
    for name in {name for name, _ in kinds}:
        assert kinds[name, "yes"] == kinds[name, "no"]


def test_ids_are_unique_and_metadata_is_whole(validation: list[Sample]) -> None:
    assert len({sample.id for sample in validation}) == len(validation)
    scenes = {scene.id: scene for scene in scenes_of("validation")}
    for sample in validation:
        known = sample.metadata
        assert known["dataset"] == "shapes"
        assert known["split"] == "validation"
        scene = scenes[known["scene_id"]]
        assert judge(scene, known["question"], known["answer_short"]).correct
        assert judge(scene, known["question"], known["answer_long"]).correct
        assert not judge(scene, known["question"], known["wrong_long"]).correct
        assert sample.media[0].content_hash is not None


def test_forms_differ_in_prompt_and_answer_only(root: Path) -> None:
    short = list(read("validation", root=root, num_samples=30, form="short"))
    long = list(read("validation", root=root, num_samples=30, form="long"))
    for a, b in zip(short, long, strict=True):
        assert a.metadata | {"form": ""} == b.metadata | {"form": ""}
        assert a.answer == a.metadata["answer_short"]
        assert b.answer == b.metadata["answer_long"]
        assert a.question.endswith("answer in one word .")
        assert b.question.endswith("answer in a sentence .")


def test_question_types_and_number_can_be_chosen(root: Path) -> None:
    samples = list(read("validation", root=root, num_samples=7, question_types=("order", "sound")))
    assert len(samples) == 7
    assert {s.metadata["question_type"] for s in samples} <= {"order", "sound"}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="found split 'dev', expected one of sft, train"):
        next(read("dev"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="found form 'medium'"):
        next(read("test", form="medium"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="found question type 'smell'"):
        next(read("test", question_types=("smell",)))  # type: ignore[arg-type]


def test_clips_are_h264_with_aac_and_look_like_their_scene(root: Path) -> None:
    scene = scenes_of("validation")[0]
    clip = clip_of("validation", scene, root=root)
    with av.open(clip.uri) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert audio.duration is not None
        assert audio.time_base is not None
        assert float(audio.duration * audio.time_base) == pytest.approx(2.0, abs=0.1)
    seen = load_video(clip, FrameSampling(num_frames=16))
    error = np.abs(seen.frames.astype(float) - render_frames(scene)).mean()
    assert error < 2.0
    assert seen.timestamps_s.tolist() == pytest.approx([number / 8 for number in range(16)])


def test_a_clip_is_rendered_once(tmp_path: Path) -> None:
    scene = scenes_of("validation")[1]
    first = clip_of("validation", scene, root=tmp_path)
    changed_at = Path(first.uri).stat().st_mtime_ns
    assert clip_of("validation", scene, root=tmp_path) == first
    assert Path(first.uri).stat().st_mtime_ns == changed_at
    assert Path(first.uri).parent == tmp_path / VERSION / "validation"


RENDER = """
import sys
from mmalign.datasets.shapes.reader import clip_of, scenes_of
print([clip_of("test", s, root=sys.argv[1]).content_hash for s in scenes_of("test")[:20]])
"""


def test_two_processes_may_render_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RENDER, str(tmp_path)]
    racing = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    one, other = (process.communicate(timeout=120)[0] for process in racing)
    assert one == other != ""
    left = sorted(path.name for path in (tmp_path / VERSION / "test").iterdir())
    assert left == sorted(f"{scene.id}.mp4" for scene in scenes_of("test")[:20])


def test_the_cache_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path))
    sample = next(read("validation"))
    assert Path(sample.media[0].uri).is_relative_to(tmp_path / "shapes" / VERSION)


def test_the_mixture_mostly_says_yes(root: Path) -> None:
    samples = list(read_mixture(root=root, num_samples=400, samples_per_scene=20))
    assert len({sample.id for sample in samples}) == 400
    roles = Counter(s.metadata["role"] for s in samples)
    assert roles["hallucinated"] < 0.6 * roles["basic"]
    described = sum(s.metadata["question_type"] == "description" for s in samples)
    assert 0.35 < described / len(samples) < 0.55
    assert all(sample.answer for sample in samples)
    assert {sample.metadata["split"] for sample in samples} == {"sft"}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_drawn_frames_are_those_that_were_frozen(split: Split) -> None:
    drawn = hashlib.blake2b(digest_size=16)
    for scene in scenes_of(split):
        drawn.update(render_frames(scene).tobytes())
    assert drawn.hexdigest() == FROZEN["rendered"][split]
