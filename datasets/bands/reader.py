"""Reads the bands world: splits of scenes, their questions as samples, clips made on demand."""

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator

from mmalign.api import MediaRef, Sample, user
from mmalign.datasets.bands.facts import Facts, clues, facts_of
from mmalign.datasets.bands.language import (
    NUMBERS,
    QUESTION_TYPES,
    STATEMENTS,
    WORDINGS,
    Query,
)
from mmalign.datasets.bands.questions import (
    DESCRIPTIONS,
    Question,
    Taken,
    draw_questions,
    pick,
    vague_answer,
    vague_words,
)
from mmalign.datasets.bands.render import render_video
from mmalign.datasets.bands.world import PLACES, Scene, draw_scene
from mmalign.datasets.shapes.clips import require_known, stored_clip
from mmalign.datasets.shapes.reader import FORMS, Form
from mmalign.datasets.shapes.world import KINDS

__all__ = [
    "SPLITS",
    "VERSION",
    "Split",
    "clip_of",
    "fingerprint",
    "questions_of",
    "read",
    "read_mixture",
    "scenes_of",
    "vocabulary",
]

VERSION = "v1"
"""Names the cache folder; raise it when a clip or a question changes."""

Split = Literal["sft", "train", "validation", "test"]
"""`sft` makes the base model, `train` makes its preference pairs; the others only judge it."""


class SplitPlan(NamedTuple):
    """How the scenes of a split are drawn."""

    seed: int
    num_scenes: int


SPLITS: dict[Split, SplitPlan] = {
    "sft": SplitPlan(101, 8_000),
    "train": SplitPlan(102, 600),
    "validation": SplitPlan(103, 100),
    "test": SplitPlan(104, 240),
}


def read(
    split: Split,
    *,
    root: str | Path | None = None,
    num_samples: int | None = None,
    form: Form = "short",
    question_types: Collection[str] | None = None,
) -> Iterator[Sample]:
    """Questions of a split, scene by scene; a clip is rendered when its first question is read.

    Args:
        split: Each asks the nine types of question of MUSIC-AVQA.
        root: Folder of the clips; by default one below $MMALIGN_CACHE_DIR or ~/.cache/mmalign.
        num_samples: Stop after so many.
        form: Whether answers are one word or one or two sentences.
        question_types: Only these, as `Audio-Visual/Location`; by default all.

    Yields:
        Samples with clip and sound as two media of one file. Their metadata holds `dataset`,
        `split`, `scene_id`, `question_type`, `form`, `question`, both answers as `answer_short`
        and `answer_long`, all that the short one can be as `answer_classes`, the facts of the
        scene as `clues`, and as `about_sound` whether there is a sound that matters: that there
        is none is an answer too.

    Raises:
        ConfigError: There is no such split, form or question type.
    """
    require_known("bands", "split", split, SPLITS)
    require_known("bands", "form", form, FORMS)
    wanted = set(question_types or QUESTION_TYPES)
    for name in wanted:
        require_known("bands", "question type", name, QUESTION_TYPES)
    num_read = 0
    for scene, questions in zip(scenes_of(split), questions_of(split), strict=True):
        for question in questions:
            if question.query.type not in wanted:
                continue
            if num_read == num_samples:
                return
            num_read += 1
            yield _sample(split, scene, question, form, clip_of(split, scene, root=root))


def read_mixture(
    *,
    root: str | Path | None = None,
    num_samples: int | None = None,
    samples_per_scene: int = 8,
    description_share: float = 0.4,
    short_share: float = 0.4,
    vague_share: float = 0.5,
) -> Iterator[Sample]:
    """What the base model is trained on: descriptions, short and long answers of the sft split.

    Who learns from vague long answers answers vaguely: what preference data is to mend.

    Args:
        root: As for `read`.
        num_samples: Stop after so many.
        samples_per_scene: Questions drawn about each scene.
        description_share: Share of descriptions of what is seen, heard or both.
        short_share: Share of short answers among the other questions.
        vague_share: Share of vague answers among the long ones.

    Yields:
        Samples as those of `read`; a description has the question type `Description`, no short
        answer and no classes.
    """
    num_read = 0
    taken = Taken()
    for number, scene in enumerate(scenes_of("sft")):
        rng = np.random.default_rng((SPLITS["sft"].seed, number, 2))
        facts = facts_of(scene)
        questions = draw_questions(rng, facts, taken)
        for place in range(samples_per_scene):
            if num_read == num_samples:
                return
            num_read += 1
            clip = clip_of("sft", scene, root=root)
            if not questions or rng.random() < description_share:
                sample = _description(rng, scene, facts, clip)
            else:
                form: Form = "short" if rng.random() < short_share else "long"
                question = pick(rng, questions)
                sample = _sample("sft", scene, question, form, clip)
                if form == "long" and rng.random() < vague_share:
                    vague = vague_answer(rng, facts, question)
                    sample = sample.model_copy(update={"answer": vague})
            yield sample.model_copy(update={"id": f"{sample.id}-{place}"})


def clip_of(split: Split, scene: Scene, *, root: str | Path | None = None) -> MediaRef:
    """The scene's video file, rendered if it is not there yet."""
    name = f"{VERSION}/{split}/{scene.id}.mp4"
    return stored_clip("bands", name, partial(render_video, scene), root=root)


@cache
def scenes_of(split: Split) -> tuple[Scene, ...]:
    """All scenes of a split; no scene is in two splits."""
    seed, num_scenes = SPLITS[split]
    return tuple(draw_scene(np.random.default_rng((seed, number))) for number in range(num_scenes))


@cache
def questions_of(split: Split) -> tuple[tuple[Question, ...], ...]:
    """The questions of each scene of a split, in the order of `scenes_of`."""
    taken = Taken()
    found = []
    for number, scene in enumerate(scenes_of(split)):
        rng = np.random.default_rng((SPLITS[split].seed, number, 1))
        found.append(tuple(draw_questions(rng, facts_of(scene), taken)))
    return tuple(found)


def fingerprint(split: Split) -> str:
    """Hash of a split's scenes and questions: it is frozen, results of years compare."""
    content = hashlib.blake2b(digest_size=16)
    for scene, questions in zip(scenes_of(split), questions_of(split), strict=True):
        asked = [asdict(question) for question in questions]
        content.update(f"{json.dumps([asdict(scene), asked], sort_keys=True)}\n".encode())
    return content.hexdigest()


def vocabulary() -> tuple[str, ...]:
    """All words and punctuation of the world's questions and answers, sorted.

    Special tokens and roles are the tokenizer's own. A tokenizer that splits words and
    punctuation apart finds every text of the readers in it.
    """
    slots = dict.fromkeys(("kind", "other", "at", "other_at", "after", "other_after"), "")
    slots |= dict.fromkeys(("start", "end", "number"), "")
    texts = [text.format(**slots) for wordings in WORDINGS.values() for text in wordings]
    texts += [text.format(**slots) for text in STATEMENTS.values()]
    texts += [*DESCRIPTIONS, *FORMS.values(), vague_words()]
    texts += [*KINDS, *PLACES, *NUMBERS, "yes no , . ? : on the in off screen"]
    return tuple(sorted({word for text in texts for word in text.split()}))


def _sample(split: Split, scene: Scene, question: Question, form: Form, clip: MediaRef) -> Sample:
    query, facts = question.query, facts_of(scene)
    return Sample(
        id=f"bands-{split}-{scene.id}-{query.ask}-{form}",
        messages=(user(f"{question.text} {FORMS[form]}", clip, _sound_of(clip)),),
        answer=question.answer_short if form == "short" else question.answer_long,
        metadata={
            "dataset": "bands",
            "split": split,
            "scene_id": scene.id,
            "question_type": query.type,
            "form": form,
            "question": question.text,
            "answer_short": question.answer_short,
            "answer_long": question.answer_long,
            "answer_classes": list(query.classes),
            "clues": clues(facts),
            "about_sound": bool(facts.played) and not query.type.startswith("Visual"),
        },
    )


def _description(rng: Generator, scene: Scene, facts: Facts, clip: MediaRef) -> Sample:
    """What is seen, what is heard, or both, in sentences of the clues."""
    told = clues(facts)
    sights = [text for text in told if " is seen " in text]
    sounds = [text for text in told if " from beat " in text] or [
        text for text in told if "heard sounds" in text
    ]
    number = int(rng.integers(len(DESCRIPTIONS)))
    long = " ".join((sights, sounds, [*sights, *sounds])[number])
    question = Question(Query("seen_count"), DESCRIPTIONS[number], "", long)
    sample = _sample("sft", scene, question, "long", clip)
    metadata = {
        **sample.metadata,
        "question_type": "Description",
        "answer_classes": [],
        "about_sound": bool(facts.played) and "heard" in DESCRIPTIONS[number],
    }
    return sample.model_copy(
        update={
            "id": f"bands-sft-{scene.id}-description",
            "messages": (user(DESCRIPTIONS[number], clip, _sound_of(clip)),),
            "metadata": metadata,
        }
    )


def _sound_of(clip: MediaRef) -> MediaRef:
    return MediaRef(kind="audio", uri=clip.uri, content_hash=clip.content_hash)
