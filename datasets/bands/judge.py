"""The exact judge and rewriter of the bands world, which read no more than any judge's prompt.

A prompt holds these blocks, each line as it stands here:

    Question: TEXT
    Reference answer: TEXT
    Facts:
    - SENTENCE
    Answer, sentence by sentence:
    0: SENTENCE

The facts are the whole truth about the clip: what they do not say is not so.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from mmalign.api import (
    CapabilityError,
    Completion,
    ConfigError,
    Message,
    Sampling,
    TokenLogprobs,
    Usage,
)
from mmalign.datasets.bands.facts import (
    Facts,
    answer,
    holds,
    implied_answer,
    read_facts,
    response_to,
    truth,
)
from mmalign.datasets.bands.language import Query, parse_question, parse_statement, words_of
from mmalign.datasets.shapes.world import KINDS

__all__ = [
    "HEDGES",
    "Judged",
    "RuleModel",
    "judge",
    "judge_sentence",
    "rewriter",
]

Label = Literal["grounded", "wrong", "useless"]

HEDGES = ("might", "may", "possibly", "maybe", "perhaps", "some kind of")
"""Who says one of these does not commit to what the sentence says."""

_HEDGED = re.compile(rf"\b(?:{'|'.join(HEDGES)})\b")
_VERDICT = re.compile(r"(yes|no)(?: ,)?(?: (.*))?")
_MIN_RATIO, _MAX_RATIO = 0.5, 1.5
"""Bounds of the words of a rewritten answer over those of the rejected one."""


class Judged(NamedTuple):
    """What a sentence is worth."""

    label: Label
    reason: str
    commits: bool
    """It gives an answer to the question, right or wrong."""


class _Case(NamedTuple):
    """What a prompt holds."""

    query: Query | None
    """None where the question is not of this language."""
    reference: str
    clues: list[str]
    facts: Facts
    sentences: list[str]


def judge() -> "RuleModel":
    """A judge that labels every sentence grounded, wrong or useless, as JSON.

    Its answer is {"sentences": [{"i", "label", "reason"}], "answered"}. A sentence of the world's
    language is grounded or wrong; hedged, unreadable ones and the question over again are
    useless. `answered`: a sentence that is not useless gives an answer to the question.
    """
    return RuleModel("bands-judge@1", _verdict)


def rewriter() -> "RuleModel":
    """A rewriter that makes an answer specific and true and keeps its length where it can.

    The answer comes first, then the grounded sentences that were there; further facts follow
    while they bring the length nearer to that of the rejected answer. No fact is added that
    names what could be taken for another answer.
    """
    return RuleModel("bands-rewriter@1", _rewritten)


def judge_sentence(facts: Facts, query: Query | None, sentence: str) -> Judged:
    """What one sentence of an answer is worth.

    Args:
        facts: The whole truth about the clip.
        query: The question; None where it is not of the world's language.
        sentence: Anything a model may write.
    """
    words = words_of(sentence)
    if found := _HEDGED.search(words):
        return Judged("useless", f"hedged: {found.group()}", False)
    claim = parse_statement(words)
    implied = claim and query and implied_answer(query, claim)
    if claim is None and query is not None:
        verdict = _VERDICT.fullmatch(words)
        if verdict and "yes" in query.classes:
            implied, rest = verdict.group(1), verdict.group(2)
            claim = parse_statement(rest) if rest else None
            if rest and claim is None:
                return Judged("useless", "nothing that can be checked", False)
        elif words in query.classes:
            implied = words
    if claim is None and implied is None:
        return Judged("useless", "nothing that can be checked", False)
    right = claim is None or holds(facts, claim)
    if implied is not None and query is not None:
        right = right and implied == truth(facts, query)
    if right:
        return Judged("grounded", "the facts say so", implied is not None)
    return Judged("wrong", "the facts say otherwise", implied is not None)


@dataclass(frozen=True)
class RuleModel:
    """A chat model that answers by rules, from the text of the prompt alone."""

    name: str
    reply: Callable[[str], str]
    """The answer to the prompt's text."""
    capabilities: frozenset[Literal["text", "schema"]] = frozenset({"text", "schema"})
    identity: Mapping[str, Any] = field(default_factory=dict)

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        sampling: Sampling = Sampling(),
        tools: Sequence[str] = (),
        response_schema: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> tuple[Completion, ...]:
        """n times the one answer.

        Raises:
            CapabilityError: Tools or log-probabilities are asked for.
            ConfigError: The prompt lacks a block or facts of this world.
        """
        if tools or sampling.logprobs:
            raise CapabilityError(
                f"{self.name} answers by rules and has no tools and no log-probabilities; ask "
                f"without"
            )
        prompt = "\n".join(message.text for message in messages)
        text = self.reply(prompt)
        usage = Usage(prompt_tokens=len(prompt.split()), completion_tokens=len(text.split()))
        return (Completion(text=text, usage=usage, model=self.name),) * n

    async def score(self, messages: Sequence[Message], completion: str) -> TokenLogprobs:
        """Nothing: rules give no log-probabilities.

        Raises:
            CapabilityError: Always.
        """
        raise CapabilityError(
            f"{self.name} answers by rules and has no log-probabilities; score with a language "
            f"model"
        )

    async def close(self) -> None:
        """Nothing to free."""


def _verdict(prompt: str) -> str:
    case = _read(prompt)
    judged = [judge_sentence(case.facts, case.query, sentence) for sentence in case.sentences]
    sentences = [
        {"i": place, "label": one.label, "reason": one.reason} for place, one in enumerate(judged)
    ]
    return json.dumps({"sentences": sentences, "answered": any(one.commits for one in judged)})


def _rewritten(prompt: str) -> str:
    case = _read(prompt)
    query, facts = case.query, case.facts
    if query is None or truth(facts, query) is None:
        return case.reference
    kept = list(dict.fromkeys(_closed(sentence) for sentence in case.sentences))
    judged = {text: judge_sentence(facts, query, text) for text in kept}
    grounded = [text for text in kept if judged[text].label == "grounded"]
    answers = [text for text in grounded if judged[text].commits]
    gold = answer(facts, query)
    first = answers[0] if answers else response_to(facts, query, gold.short)
    chosen = [first, *(text for text in grounded if text != first)]
    target = sum(len(text.split()) for text in case.sentences)
    mine = set(gold.long.split())
    for clue in _supporting(case, mine):
        length = sum(len(text.split()) for text in chosen)
        longer = length + len(clue.split())
        is_nearer = abs(longer - target) < abs(length - target) and longer <= _MAX_RATIO * target
        is_wanted = _names_one_of(mine, clue) or length < _MIN_RATIO * target
        if clue not in chosen and is_nearer and is_wanted:
            chosen.append(clue)
    return " ".join(chosen)


def _supporting(case: _Case, mine: set[str]) -> list[str]:
    """Clues that name no other possible answer, those about the gold answer's shapes first."""
    assert case.query is not None
    rivals = set(case.query.classes) - mine
    fitting = [clue for clue in case.clues if not rivals & set(clue.split())]
    readable = [clue for clue in fitting if parse_statement(clue)]
    return sorted(readable, key=lambda clue: not _names_one_of(mine, clue))


def _names_one_of(mine: set[str], clue: str) -> bool:
    """Whether a clue is about a shape of the gold answer."""
    return bool(mine & set(KINDS) & set(clue.split()))


def _closed(sentence: str) -> str:
    """A sentence with its full stop."""
    return f"{words_of(sentence)} ."


def _read(prompt: str) -> _Case:
    lines = prompt.splitlines()
    question, reference = _text(lines, "Question: "), _text(lines, "Reference answer: ")
    clues = _listed(lines, "Facts:", re.compile(r"- (.*)"))
    sentences = _listed(lines, "Answer, sentence by sentence:", re.compile(r"\d+: ?(.*)"))
    facts = read_facts([*clues, *re.split(r"(?<= \.) ", reference)])
    if not facts.seen and not facts.played:
        raise ConfigError(
            "the prompt's facts hold no sentence of the bands world, expected the reader's clues; "
            "this judge knows no other data set"
        )
    return _Case(parse_question(question), reference, clues, facts, sentences)


def _text(lines: Sequence[str], label: str) -> str:
    """What stands behind a label; the last one counts, examples come before."""
    for line in reversed(lines):
        if line.startswith(label):
            return line.removeprefix(label).strip()
    raise _missing(label)


def _listed(lines: Sequence[str], label: str, item: re.Pattern[str]) -> list[str]:
    """The lines of a list behind its last label."""
    places = [place for place, line in enumerate(lines) if line.strip() == label]
    if not places:
        raise _missing(label)
    found = []
    for line in lines[places[-1] + 1 :]:
        match = item.fullmatch(line.strip())
        if match is None:
            break
        found.append(match.group(1))
    return found


def _missing(label: str) -> ConfigError:
    return ConfigError(
        f"the prompt has no line {label.strip()!r}; the judge of the bands world reads the blocks "
        f"that its module names"
    )
