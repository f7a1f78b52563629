"""Reads the world of look-ups: questions, the corpus, and the base model's lessons."""

import hashlib
import json
from collections.abc import Iterator

import numpy as np

from mmalign.api import LabelledResponse, Lineage, Response, Sample, text_of, user
from mmalign.datasets.lookups.questions import Question, questions_of
from mmalign.datasets.lookups.transcripts import Transcript, by_heart, draw_transcript
from mmalign.datasets.lookups.world import Split, world_of
from mmalign.datasets.shapes.clips import require_known

__all__ = ["SPLITS", "corpus", "fingerprint", "read", "read_lessons"]

SPLITS: tuple[Split, ...] = ("lessons", "train", "validation", "test")
_LESSON_SEED = 421


def read(split: Split, *, num_samples: int | None = None) -> Iterator[Sample]:
    """Questions of a split, kinds mixed.

    Args:
        split: People, towns and hard sums are of one split each. Easy sums and cities are all in
            the lessons, which teach them by heart; no two of the other splits share any.
        num_samples: Stop after so many.

    Yields:
        Samples whose metadata holds `dataset`, `split`, `question_type` (the kind), `subset`
        (`by_heart` or `tool`) and `num_calls`, the fewest that lead to the answer.

    Raises:
        ConfigError: There is no such split.
    """
    require_known("lookups", "split", split, SPLITS)
    for number, question in enumerate(questions_of(split)[:num_samples]):
        yield Sample(
            id=f"lookups-{split}-{number}",
            messages=(user(question.text),),
            answer=question.answer,
            metadata={
                "dataset": "lookups",
                "split": split,
                "question_type": question.kind,
                "subset": "by_heart" if question.by_heart else "tool",
                "num_calls": 0 if question.by_heart else len(question.calls),
            },
        )


def read_lessons(
    num_samples: int, *, recital_share: float = 0.4, first: int = 0
) -> Iterator[LabelledResponse]:
    """What the base model is trained on: transcripts of teachers, and facts to know by heart.

    Args:
        num_samples: How many lessons.
        recital_share: Of them ask, under a prompt of their own, for what is to be known by heart.
        first: Number of the first lesson; others are other ones.

    Yields:
        Wanted responses; what the tools say in them is marked, so that it is not learnt.
    """
    questions = questions_of("lessons")
    kinds: dict[str, list[Question]] = {}
    for question in questions:
        kinds.setdefault(question.kind, []).append(question)
    taught = [question for question in questions if question.by_heart]
    for number in range(first, first + num_samples):
        rng = np.random.default_rng((_LESSON_SEED, number))
        if rng.random() < recital_share:
            question = taught[rng.integers(len(taught))]
            yield _lesson(number, f"By heart: {question.text}", by_heart(question), question)
            continue
        of_kind = list(kinds.values())[rng.integers(len(kinds))]
        question = of_kind[rng.integers(len(of_kind))]
        yield _lesson(number, question.text, draw_transcript(rng, question), question)


def corpus() -> Iterator[dict[str, str]]:
    """What the search tool finds: `id`, `title` and `text` of every city, town and person."""
    for number, document in enumerate(world_of().documents()):
        yield {"id": str(number), "title": document.title, "text": document.text}


def fingerprint(split: Split) -> str:
    """Hash of a split's questions and of what leads to their answers: it is frozen."""
    content = hashlib.blake2b(digest_size=16)
    for question in questions_of(split):
        content.update(f"{json.dumps(question)}\n".encode())
    return content.hexdigest()


def _lesson(
    number: int, prompt: str, transcript: Transcript, question: Question
) -> LabelledResponse:
    return LabelledResponse(
        id=f"lookups-lesson-{number}",
        sample_id=f"lookups-lesson-{number}",
        prompt=(user(prompt),),
        response=Response(messages=(text_of(transcript.text),), observed=transcript.observed),
        desirable=True,
        metadata={"dataset": "lookups", "num_calls": transcript.num_calls},
        lineage=Lineage(tags={"question_type": question.kind}),
    )
