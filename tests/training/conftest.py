"""A tiny random model in a folder, real clips, and pairs about them."""

from pathlib import Path

import numpy as np
import pytest

from mmalign.media import FrameSampling, write_video
from mmalign.records import (
    Lineage,
    MediaRef,
    PreferencePair,
    Response,
    text_of,
    user,
)
from mmalign.records.spans import differing_spans
from mmalign.testing.tiny_models import tiny_llava_onevision

SAMPLING = FrameSampling(num_frames=4)
ANSWERS = (
    ("it is red.", "it is blue."),
    ("the circle moves to the left.", "the square moves to the left."),
    ("two shapes collide.", "four shapes collide."),
    ("no, the star vanishes first.", "no, the circle vanishes first."),
)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_llava_onevision")
    tiny = tiny_llava_onevision()
    tiny.model.save_pretrained(folder)
    tiny.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[PreferencePair]:
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for index in range(8):
        rng = np.random.default_rng(index)
        clip = folder / f"{index}.mp4"
        write_video(clip, rng.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8), 8.0)
        chosen, rejected = ANSWERS[index % len(ANSWERS)]
        spans = differing_spans(chosen, rejected)
        found.append(
            PreferencePair(
                sample_id=f"clip-{index}",
                prompt=(user("describe the video.", MediaRef(kind="video", uri=str(clip))),),
                chosen=Response(messages=(text_of(chosen),), spans=spans.chosen),
                rejected=Response(messages=(text_of(rejected),), spans=spans.rejected),
                lineage=Lineage(
                    graph="mmalign.agents.rrpo:build_graph",
                    tags={"question_type": ("colour", "action")[index % 2]},
                ),
            )
        )
    return found
