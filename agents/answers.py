"""Reading a model's answer against the gold one: is it right, and which words make it wrong.

Pure functions that agents share; none of them asks a model.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmalign.api import Sample, Span, differing_spans, gold_answer

__all__ = [
    "AnswerForm",
    "ErrorCategory",
    "answer_form",
    "coverage",
    "error_category",
    "gold_answer",
    "in_gold_form",
    "is_right",
    "like_gold",
    "normalise",
    "option_of",
    "same_skeleton",
    "yes_or_no",
]

AnswerForm = Literal["multiple_choice", "yes_no", "short", "long"]
ErrorCategory = Literal["spatio-temporal", "co-occurrence", "language prior"]

_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W_]+(?:['’\-][^\W_]+)*")
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_LEAD = re.compile(
    r"\s*(?:(?:the|my|final|correct|best|right)\s+)*"
    r"(?:answer(?:\s+is)?\s*:?|it\s+is|it['’]s|option\s+is)\s+",
    re.IGNORECASE,
)
_LETTER_FIRST = re.compile(r"\s*\(?([A-Za-z])(?:\s*$|[).:])")
_LETTER_NAMED = re.compile(
    r"\b(?i:answer|option|choice)(?i:\s+is)?\s*:?\s*\(?([B-Z]\b|A\b(?!\s+[a-z]))(?!['’])"
)  # "the answer is A man" is no letter
_LABEL = re.compile(r"^\s*\(?[A-Za-z][).:]\s+")
_ARTICLE_FIRST = re.compile(r"(?:an?|the)\s+", re.IGNORECASE)

_TIME_AND_PLACE = re.compile(
    r"\b(?:before|after|first|last|then|next|while|during|until|order|sequence|when|how long"
    r"|how many|how often|count|number|times|direction|left|right|up|down|upwards?|downwards?"
    r"|towards?|away|above|below|under|over|behind|in front|between|where|near|beside|move[sd]?"
    r"|moving|faster|slower|speed|collides?|action)\b",
    re.IGNORECASE,
)
_PRESENCE = re.compile(
    r"\b(?:is there|are there|was there|were there|does any|appears?|present|visible|exist\w*"
    r"|which objects?|what objects?|sounds?|hear[sd]?|what (?:is|are) in)\b",
    re.IGNORECASE,
)
_TIME_AND_PLACE_TYPES = frozenset(
    {
        "action",
        "count",
        "counting",
        "direction",
        "location",
        "motion",
        "order",
        "position",
        "spatial",
        "speed",
        "temporal",
    }
)
_PRESENCE_TYPES = frozenset({"audio", "existence", "object", "presence", "scene", "sound"})


def answer_form(sample: Sample, gold: str, *, short_answer_words: int) -> AnswerForm:
    """What kind of answer the gold one is.

    Args:
        sample: The question.
        gold: Its gold answer.
        short_answer_words: A longer one, not counting articles, is `long`.
    """
    if sample.choices:
        return "multiple_choice"
    words = normalise(gold).split()
    if words in (["yes"], ["no"]):
        return "yes_no"
    return "short" if len(words) <= short_answer_words else "long"


def normalise(text: str) -> str:
    """The words alone: no case, punctuation or articles, small numbers as digits."""
    words = _WORD.findall(text.casefold())
    kept = [word for word in words if word not in _ARTICLES] or words
    return " ".join(_NUMBERS.get(word, word) for word in kept)


def yes_or_no(text: str) -> Literal["yes", "no"] | None:
    """What the text says first, or anywhere if it says only one of the two."""
    words = normalise(text).split()
    said = set(words[:1]) & {"yes", "no"} or set(words) & {"yes", "no"}
    return None if len(said) != 1 else "yes" if "yes" in said else "no"


def option_of(text: str, choices: Sequence[str]) -> int | None:
    """Place of the choice that the text names by letter or words; None where that is unclear."""
    words, options = normalise(text), [normalise(_without_label(choice)) for choice in choices]
    if words in options:
        return options.index(words)
    letter = _LETTER_FIRST.match(text) or _LETTER_NAMED.search(text)
    if letter and (index := ord(letter.group(1).upper()) - ord("A")) < len(choices):
        return index
    named = [index for index, option in enumerate(options) if f" {option} " in f" {words} "]
    return named[0] if len(named) == 1 else None


def is_right(sample: Sample, gold: str, response: str, form: AnswerForm) -> bool:
    """Whether a response gives the gold answer, by exact match after normalisation."""
    if form == "multiple_choice":
        assert sample.choices is not None  # else the form would be another
        gold_index = sample.answer_index
        if gold_index is None:
            gold_index = option_of(gold, sample.choices)
        return gold_index is not None and option_of(response, sample.choices) == gold_index
    if form == "yes_no":
        return yes_or_no(response) == yes_or_no(gold)
    return normalise(_without_lead(response)) == normalise(_without_lead(gold))


def in_gold_form(
    sample: Sample, gold: str, response: str, form: AnswerForm, *, short_answer_words: int
) -> str | None:
    """A wrong response put into the gold answer's wording.

    Only the words that bear the answer change: `It is red.` and `Blue` give `It is blue.`

    Returns:
        The answer, or None where the response cannot be read as a wrong one of this form: it
        names no choice, says neither yes nor no, is a sentence, or contains the gold answer.
    """
    if form == "multiple_choice":
        assert sample.choices is not None  # else the form would be another
        return _other_option(gold, response, sample.choices)
    if form == "yes_no":
        said = yes_or_no(response)
        return said and re.sub(
            r"\b(?:yes|no)\b", lambda match: _cased(said, match.group()), gold, flags=re.IGNORECASE
        )
    core, gold_core = _without_lead(response), _without_lead(gold)
    words, gold_words = normalise(core), normalise(gold_core)
    is_sentence = len(words.split()) > 2 * short_answer_words
    if not words or is_sentence or f" {gold_words} " in f" {words} ":
        return None
    core = _with_article_of(gold_core, core)
    start = gold.rfind(gold_core)
    return gold[:start] + _cased(core, gold_core) + gold[start + len(gold_core) :]


def like_gold(gold: str, response: str) -> str:
    """The response with the gold answer's end mark and first letter's case."""
    end = gold[len(gold.rstrip(".!?")) :]
    return _cased(response.strip().rstrip(".!?") + end, gold)


def same_skeleton(gold: str, wrong: str, *, max_coverage: float) -> bool:
    """Whether two answers are the same sentence with other words in some places.

    Args:
        gold: The gold answer.
        wrong: The other.
        max_coverage: Share of either text that may differ.
    """
    spans = differing_spans(gold, wrong, include_indels=True)
    ids = {span.phrase_id for span in spans.chosen}
    return (
        bool(ids)
        and ids == {span.phrase_id for span in spans.rejected}
        and max(coverage(gold, spans.chosen), coverage(wrong, spans.rejected)) <= max_coverage
    )


def coverage(text: str, spans: Sequence[Span]) -> float:
    """Share of the text's characters that lie in spans, in [0, 1]."""
    return sum(span.end - span.start for span in spans) / max(len(text.strip()), 1)


def error_category(question: str, wrong: str, metadata: Mapping[str, Any]) -> ErrorCategory:
    """What kind of weakness a wrong answer shows, by rule.

    In this order: what `metadata["error_category"]` says; `spatio-temporal` where the type of
    question or its words are about time, place, motion or number; `co-occurrence` where they are
    about what is there or sounds and the answer does not deny it; else `language prior`.
    """
    known: tuple[ErrorCategory, ...] = ("spatio-temporal", "co-occurrence", "language prior")
    for category in known:
        if metadata.get("error_category") == category:
            return category
    types = set(re.split(r"[\W_]+", str(metadata.get("question_type", "")).casefold()))
    if types & _TIME_AND_PLACE_TYPES:
        return "spatio-temporal"
    if not types & _PRESENCE_TYPES and _TIME_AND_PLACE.search(question):
        return "spatio-temporal"
    if (types & _PRESENCE_TYPES or _PRESENCE.search(question)) and yes_or_no(wrong) != "no":
        return "co-occurrence"
    return "language prior"


def _other_option(gold: str, response: str, choices: Sequence[str]) -> str | None:
    said, right = option_of(response, choices), option_of(gold, choices)
    if said is None or right is None or said == right:
        return None
    wrong_text, right_text = _without_label(choices[said]), _without_label(choices[right])
    letter = _LETTER_FIRST.match(gold) or _LETTER_NAMED.search(gold)
    if letter and normalise(gold) != normalise(right_text):
        start, end = letter.span(1)
        other = chr(ord(letter.group(1)) + said - right)
        gold = gold[:start] + other + gold[end:]
    return re.sub(
        re.escape(right_text), lambda m: _cased(wrong_text, m.group()), gold, flags=re.IGNORECASE
    )


def _without_label(choice: str) -> str:
    """The choice without a letter before it and an end mark behind it."""
    return _LABEL.sub("", choice).strip().rstrip(".")


def _without_lead(text: str) -> str:
    """The text without `The answer is` before it and an end mark behind it."""
    lead = _LEAD.match(text)
    return text[lead.end() if lead else 0 :].strip().rstrip(".!?").strip()


def _with_article_of(gold: str, text: str) -> str:
    gold_article, article = _ARTICLE_FIRST.match(gold), _ARTICLE_FIRST.match(text)
    if gold_article and not article:
        return gold_article.group() + text
    return text[article.end() :] if article and not gold_article else text


def _cased(text: str, like: str) -> str:
    """The text, its first letter in the case of the other's; a word in capitals keeps them."""
    first_word = text.partition(" ")[0]
    if not text or not like or (len(first_word) > 1 and first_word.isupper()):
        return text
    return (text[0].upper() if like[0].isupper() else text[0].lower()) + text[1:]
