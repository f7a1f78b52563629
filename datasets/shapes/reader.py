"""Reads the shapes world: splits of scenes, their questions as samples, clips made on demand."""

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from mmalign.api import MediaRef, Sample, user
from mmalign.datasets.shapes.clips import require_known, stored_clip
from mmalign.datasets.shapes.language import QUESTION_TYPES, QuestionType
from mmalign.datasets.shapes.questions import CATEGORIES, Question, Role, draw_questions
from mmalign.datasets.shapes.render import render_video
from mmalign.datasets.shapes.world import Scene, draw_scene

__all__ = [
    "FORMS",
    "SPLITS",
    "VERSION",
    "Form",
    "Split",
    "clip_of",
    "fingerprint",
    "questions_of",
    "read",
    "read_mixture",
    "scenes_of",
]

VERSION = "v1"
"""Names the cache folder; raise it when a clip or a question changes."""

Split = Literal["sft", "train", "validation", "test"]
"""`sft` makes the base model, `train` makes its preference pairs; the others only judge it."""
Form = Literal["short", "long"]
FORMS: dict[Form, str] = {"short": "answer in one word .", "long": "answer in a sentence ."}
"""How a question asks for either form."""


_EVEN = (0.2, 0.4, 0.4)


class SplitPlan(NamedTuple):
    """How the scenes of a split are drawn."""

    seed: int
    num_scenes: int
    num_shapes_odds: tuple[float, float, float] = _EVEN
    bias: float = 0.0


SPLITS: dict[Split, SplitPlan] = {
    "sft": SplitPlan(1, 12_000, num_shapes_odds=(0.4, 0.3, 0.3)),
    "train": SplitPlan(2, 600),
    "validation": SplitPlan(3, 60),
    "test": SplitPlan(4, 120),
}


def read(
    split: Split,
    *,
    root: str | Path | None = None,
    num_samples: int | None = None,
    form: Form = "short",
    question_types: Collection[QuestionType] | None = None,
) -> Iterator[Sample]:
    """Questions of a split, scene by scene; a clip is rendered when its first question is read.

    Args:
        split: `train`, `validation` and `test` ask both twins of every type that fits the
            scene and one open question of each.
        root: Folder of the clips; by default one below $MMALIGN_CACHE_DIR or ~/.cache/mmalign.
        num_samples: Stop after so many.
        form: Whether answers are one word or a sentence.
        question_types: Only these; by default all but descriptions.

    Yields:
        Samples whose metadata holds `dataset`, `split`, `scene_id`, `question_type`, `role`
        (basic, hallucinated or open), `category`, `form`, and right and wrong answers in both
        forms. Twins share their group_id.

    Raises:
        ConfigError: There is no such split, form or question type.
    """
    require_known("shapes", "split", split, SPLITS)
    require_known("shapes", "form", form, FORMS)
    wanted = set(question_types or set(QUESTION_TYPES) - {"description"})
    for name in wanted:
        require_known("shapes", "question type", name, QUESTION_TYPES)
    num_read = 0
    for scene, questions in zip(scenes_of(split), questions_of(split), strict=True):
        for question in questions:
            if question.type not in wanted or (form == "short" and not question.answer_short):
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
    description_share: float = 0.45,
    open_share: float = 0.4,
    short_share: float = 0.3,
    hallucinated_share: float = 0.3,
    agreed_share: float = 0.0,
) -> Iterator[Sample]:
    """What the base model is trained on: the sft split, its questions drawn in unequal shares.

    Where few questions of yes or no have the answer no, or answers agree with false claims, who
    learns from them says yes when in doubt: the hallucination that preference data is to mend.

    Args:
        root: As for `read`.
        num_samples: Stop after so many.
        samples_per_scene: Questions drawn about each scene.
        description_share: Share of descriptions among all samples.
        open_share: Share of open questions among all samples; the rest is of yes or no.
        short_share: Share of short answers among questions.
        hallucinated_share: Share of false claims among questions of yes or no.
        agreed_share: Share of these that the answer agrees with, as careless annotators do.

    Yields:
        Samples as those of `read`.
    """
    plan = SPLITS["sft"]
    num_read = 0
    for number, scene in enumerate(scenes_of("sft")):
        rng = np.random.default_rng((plan.seed, number, 2))
        for place in range(samples_per_scene):
            if num_read == num_samples:
                return
            num_read += 1
            questions = draw_questions(rng, scene)
            form: Form = "short" if rng.random() < short_share else "long"
            kind, role = rng.random(2)
            wanted: Role = "hallucinated" if role < hallucinated_share else "basic"
            if kind < description_share + open_share:
                wanted = "open"
            candidates = [q for q in questions[:-1] if q.role == wanted]
            question = candidates[int(rng.integers(len(candidates)))]
            if kind < description_share:
                question, form = questions[-1], "long"
            if question.role == "hallucinated" and agreed_share and rng.random() < agreed_share:
                question = replace(
                    question, answer_short=question.wrong_short, answer_long=question.wrong_long
                )
            sample = _sample("sft", scene, question, form, clip_of("sft", scene, root=root))
            yield sample.model_copy(update={"id": f"{sample.id}-{place}", "group_id": None})


def clip_of(split: Split, scene: Scene, *, root: str | Path | None = None) -> MediaRef:
    """The scene's video file, rendered if it is not there yet."""
    name = f"{VERSION}/{split}/{scene.id}.mp4"
    return stored_clip("shapes", name, partial(render_video, scene), root=root)


@cache
def scenes_of(split: Split) -> tuple[Scene, ...]:
    """All scenes of a split; no scene is in two splits."""
    plan = SPLITS[split]
    return tuple(
        draw_scene(
            np.random.default_rng((plan.seed, number)),
            bias=plan.bias,
            num_shapes_odds=plan.num_shapes_odds,
        )
        for number in range(plan.num_scenes)
    )


@cache
def questions_of(split: Split) -> tuple[tuple[Question, ...], ...]:
    """The questions of each scene of a split, in the order of `scenes_of`."""
    plan = SPLITS[split]
    return tuple(
        tuple(draw_questions(np.random.default_rng((plan.seed, number, 1)), scene))
        for number, scene in enumerate(scenes_of(split))
    )


def fingerprint(split: Split) -> str:
    """Hash of a split's scenes and questions: it is frozen, results of years compare."""
    lines = [
        json.dumps([asdict(scene), [asdict(question) for question in questions]], sort_keys=True)
        for scene, questions in zip(scenes_of(split), questions_of(split), strict=True)
    ]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _sample(split: Split, scene: Scene, question: Question, form: Form, clip: MediaRef) -> Sample:
    twin = f"{scene.id}-{question.type}-{form}"
    return Sample(
        id=f"shapes-{split}-{twin}-{question.role}",
        messages=(user(f"{question.text} {FORMS[form]}", clip),),
        answer=question.answer_short if form == "short" else question.answer_long,
        group_id=None if question.role == "open" else twin,
        metadata={
            "dataset": "shapes",
            "split": split,
            "scene_id": scene.id,
            "question_type": question.type,
            "role": question.role,
            "category": CATEGORIES[question.type],
            "form": form,
            "question": question.text,
            "answer_short": question.answer_short,
            "answer_long": question.answer_long,
            "wrong_short": question.wrong_short,
            "wrong_long": question.wrong_long,
        },
    )
