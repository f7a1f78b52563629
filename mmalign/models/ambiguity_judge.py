"""Has a model say of each sentence of an answer whether it is grounded, wrong or useless.

How CAT's paper collects ambiguous answers could not be read. The three labels are those of the
figure in its repository; the prompt, the form of the reply and the rules are a reconstruction.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mmalign.models.asking import Reply, ask_until_valid
from mmalign.models.protocol import ChatModel, Sampling
from mmalign.records import content_id, user
from mmalign.selection.ambiguity import JudgedAnswer
from mmalign.selection.sentences import sentences_of

__all__ = [
    "JUDGE_SAMPLING",
    "Judgement",
    "LabelledSentence",
    "SentenceLabel",
    "answer_blocks",
    "judge_answer",
    "read_judgement",
]

SentenceLabel = Literal["grounded", "wrong", "useless"]

JUDGE_SAMPLING = Sampling(max_completion_length=1024)
"""How a judge's reply is drawn unless said otherwise: greedily."""


class LabelledSentence(BaseModel):
    """What the judge says of one sentence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    i: int
    """Its number, from 0."""
    label: SentenceLabel
    reason: str


class Judgement(BaseModel):
    """What the judge replies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sentences: tuple[LabelledSentence, ...]
    answered: bool
    """Whether the answer commits itself."""

    @property
    def labels(self) -> tuple[SentenceLabel, ...]:
        """Of the sentences, in order."""
        return tuple(sentence.label for sentence in self.sentences)

    @property
    def counts(self) -> JudgedAnswer:
        """How many sentences have each label."""
        labels = self.labels
        return JudgedAnswer(
            grounded=labels.count("grounded"),
            wrong=labels.count("wrong"),
            useless=labels.count("useless"),
            answered=self.answered,
        )


async def judge_answer(
    judge: ChatModel,
    answer: str,
    *,
    question: str,
    gold: str,
    clues: Sequence[str],
    draw_seed: Callable[[str], int],
    num_attempts: int = 2,
    sampling: Sampling = JUDGE_SAMPLING,
) -> Reply[Judgement]:
    """The judge's labels of an answer's sentences; an answer without any is not sent.

    Args:
        judge: Who labels; it is shown text alone.
        answer: As the model gave it.
        question: What was asked.
        gold: The reference answer.
        clues: What is known besides, `clues_of`.
        draw_seed: Gives the seed of a named draw; the name depends on the answer's text alone.
        num_attempts: Replies that are paid before the answer counts as not judged. Source: one
            retry, a reconstruction.
        sampling: How each reply is drawn.

    Returns:
        The labels, sorted by sentence; no value where no reply could be read.
    """
    sentences = sentences_of(answer)
    if not sentences:
        return Reply(Judgement(sentences=(), answered=False), ())
    blocks = answer_blocks(question, gold, clues, sentences)
    return await ask_until_valid(
        judge,
        [user(_template().substitute(blocks=blocks))],
        lambda text: read_judgement(text, len(sentences)),
        draw_seed=draw_seed,
        draw=f"judge/{content_id([answer])}",
        num_attempts=num_attempts,
        sampling=sampling,
        response_schema=Judgement.model_json_schema(),
    )


def answer_blocks(question: str, gold: str, clues: Sequence[str], sentences: Sequence[str]) -> str:
    """Question, reference answer, facts and numbered sentences, each on a line of its own."""
    return "\n".join(
        [
            f"Question: {_one_line(question)}",
            f"Reference answer: {_one_line(gold)}",
            "Facts:",
            *(f"- {_one_line(clue)}" for clue in clues),
            "Answer, sentence by sentence:",
            *(f"{i}: {_one_line(sentence)}" for i, sentence in enumerate(sentences)),
        ]
    )


def read_judgement(text: str, num_sentences: int | None = None) -> Judgement:
    """The one JSON object of a reply, whatever stands around it.

    Args:
        text: The reply.
        num_sentences: Of the answer; None where they are as many as there are labels.

    Raises:
        ValueError: It is none, or does not label every sentence once.
    """
    try:
        found = Judgement.model_validate_json(text[text.find("{") : text.rfind("}") + 1])
    except ValidationError as error:
        raise ValueError(
            f"expected one JSON object with sentences (i, label, reason) and answered; found "
            f"{text[:80]!r}"
        ) from error
    sentences = sorted(found.sentences, key=lambda sentence: sentence.i)
    expected = len(sentences) if num_sentences is None else num_sentences
    if [sentence.i for sentence in sentences] != list(range(expected)):
        raise ValueError(
            f"expected one label for each sentence from 0 to {expected - 1}, found labels "
            f"for {[sentence.i for sentence in found.sentences]}"
        )
    return found.model_copy(update={"sentences": tuple(sentences)})


def _one_line(text: str) -> str:
    return " ".join(text.split())


@cache
def _template() -> Template:
    path = Path(__file__).with_name("ambiguity_judge.md")
    return Template(path.read_text(encoding="utf-8").strip())
