"""The small language of the shapes world: questions and statements, written and read."""

import re
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from mmalign.datasets.shapes.world import ACTIONS, COLOURS, DIRECTIONS, KINDS, Action

__all__ = [
    "NUMBERS",
    "QUESTION_TYPES",
    "TEMPLATES",
    "THIRD_PERSON",
    "Query",
    "QuestionType",
    "Template",
    "ask",
    "parse_question",
    "parse_statement",
    "state",
    "templates_of",
    "values_of",
]

QuestionType = Literal[
    "existence", "colour", "count", "direction", "order", "action", "sound", "description"
]
QUESTION_TYPES: tuple[QuestionType, ...] = get_args(QuestionType)

NUMBERS = ("one", "two", "three")
THIRD_PERSON: dict[Action, str] = {
    "move": "moves",
    "grow": "grows",
    "shrink": "shrinks",
    "blink": "blinks",
    "vanish": "vanishes",
    "collide": "collides",
}
_STEM = {third: stem for stem, third in THIRD_PERSON.items()}
_NAMES = tuple(f"{colour} {kind}" for colour in COLOURS for kind in KINDS)


@dataclass(frozen=True)
class Query:
    """What is asked or said, apart from its wording."""

    type: QuestionType
    subject: str = ""
    """A kind (colour), a colour (existence) or a name (direction, action, order)."""
    claim: str | None = None
    """What is said of the subject; None: it is asked for. With neither subject nor other
    shape, `order` is about which shape comes first."""
    other: str = ""
    """The shape that the subject comes before or after."""
    negated: bool = False
    """There is no such shape; only statements of existence are negated."""

    @property
    def is_open(self) -> bool:
        """Whether the answer is something else than yes or no."""
        return self.claim is None


class Template(NamedTuple):
    """One wording of a question."""

    type: QuestionType
    text: str
    """With {subject}, {claim}, {other} where the query's words go."""

    @property
    def is_open(self) -> bool:
        """Whether it asks for the claim instead of stating it."""
        return "{claim}" not in self.text


TEMPLATES: tuple[Template, ...] = (
    Template("existence", "is there a {subject} {claim} in the video ?"),
    Template("existence", "does a {subject} {claim} appear in the video ?"),
    Template("existence", "what is the {subject} shape ?"),
    Template("existence", "which shape is {subject} ?"),
    Template("colour", "is the {subject} {claim} ?"),
    Template("colour", "is the colour of the {subject} {claim} ?"),
    Template("colour", "what colour is the {subject} ?"),
    Template("colour", "which colour does the {subject} have ?"),
    Template("count", "is the number of shapes {claim} ?"),
    Template("count", "in total , is the number of shapes {claim} ?"),
    Template("count", "how many shapes are there ?"),
    Template("count", "what is the number of shapes ?"),
    Template("direction", "does the {subject} move {claim} ?"),
    Template("direction", "in the video , does the {subject} move {claim} ?"),
    Template("direction", "where does the {subject} move ?"),
    Template("direction", "which way does the {subject} move ?"),
    Template("order", "does the {subject} appear {claim} the {other} ?"),
    Template("order", "in the video , does the {subject} appear {claim} the {other} ?"),
    Template("order", "which shape appears first ?"),
    Template("order", "what appears first ?"),
    Template("action", "does the {subject} {claim} ?"),
    Template("action", "in the video , does the {subject} {claim} ?"),
    Template("action", "what does the {subject} do ?"),
    Template("action", "what happens to the {subject} ?"),
    Template("sound", "does the {claim} sing ?"),
    Template("sound", "in the video , does the {claim} sing ?"),
    Template("sound", "which shape sings ?"),
    Template("sound", "who makes the sound ?"),
    Template("description", "describe the video ."),
)

_STATEMENTS: tuple[Template, ...] = (
    Template("existence", "there is a {subject} {claim}"),
    Template("existence", "there is no {subject} {claim}"),
    Template("existence", "the {subject} shape is a {claim}"),
    Template("colour", "the {subject} is {claim}"),
    Template("count", "the number of shapes is {claim}"),
    Template("direction", "the {subject} moves {claim}"),
    Template("order", "the {subject} appears {claim} the {other}"),
    Template("order", "the {claim} appears first"),
    Template("action", "the {subject} {claim}"),
    Template("sound", "the {claim} sings"),
)

_SUBJECTS: dict[QuestionType, tuple[str, ...]] = {
    "existence": COLOURS,
    "colour": KINDS,
    "direction": _NAMES,
    "order": _NAMES,
    "action": _NAMES,
}


def values_of(query: Query) -> tuple[str, ...]:
    """All that the claim of such a query can be."""
    match query.type:
        case "existence":
            return KINDS
        case "colour":
            return COLOURS
        case "count":
            return NUMBERS
        case "direction":
            return DIRECTIONS
        case "order":
            return ("before", "after") if query.other else _NAMES
        case "action":
            return ACTIONS
        case "sound":
            return _NAMES
        case "description":
            return ()


def templates_of(query: Query) -> tuple[Template, ...]:
    """The wordings in which a query can be asked."""
    return tuple(
        template
        for template in TEMPLATES
        if template.type == query.type and template.is_open == query.is_open
    )


def ask(query: Query, template: Template) -> str:
    """A query as a question."""
    return template.text.format(subject=query.subject, claim=query.claim, other=query.other)


def state(query: Query, *, answers_open: bool = False) -> str:
    """A query that claims something as a statement, without a full stop.

    Args:
        query: It has a claim.
        answers_open: Word it as the answer to an open question, where that differs.

    Raises:
        ValueError: The query is open.
    """
    if query.claim is None:
        raise ValueError(f"{query} claims nothing; replace its claim by what is to be said")
    fitting = [form for form in _STATEMENTS if form.type == query.type]
    match query.type:
        case "existence":
            form = fitting[2 if answers_open else 1 if query.negated else 0]
        case "order":
            form = fitting[0] if query.other else fitting[1]
        case _:
            form = fitting[0]
    claim = query.claim
    if query.type == "action":
        claim = THIRD_PERSON[claim]  # type: ignore[index]  # a claim of this type is an Action
    return form.text.format(subject=query.subject, claim=claim, other=query.other)


def parse_question(text: str) -> Query | None:
    """What a question asks; None where it is not of this language."""
    for template, pattern in _QUESTION_PATTERNS:
        if found := pattern.fullmatch(_plain(text)):
            return _query(template, found)
    return None


def parse_statement(text: str) -> Query | None:
    """What a statement, with or without its full stop, says; None where it is not of this
    language.
    """
    words = _plain(text).removesuffix(" .")
    for template, pattern in _STATEMENT_PATTERNS:
        if found := pattern.fullmatch(words):
            query = _query(template, found)
            if query.type == "action":
                query = replace(query, claim=_STEM[str(query.claim)])
            return replace(query, negated=" no " in template.text)
    return None


def _query(template: Template, found: re.Match[str]) -> Query:
    words: dict[str, str | None] = {"subject": "", "claim": None, "other": ""} | found.groupdict()
    return Query(template.type, str(words["subject"]), words["claim"], str(words["other"]))


def _plain(text: str) -> str:
    """Lower case, punctuation apart from the words, single spaces."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def _pattern(template: Template, *, statement: bool) -> re.Pattern[str]:
    query = Query(template.type, other="?" if "{other}" in template.text else "")
    claims = values_of(query)
    if statement and template.type == "action":
        claims = tuple(THIRD_PERSON.values())
    text = re.escape(template.text).replace(r"\{", "{").replace(r"\}", "}").replace(r"\ ", " ")
    return re.compile(
        text.format(
            subject=f"(?P<subject>{'|'.join(_SUBJECTS.get(template.type, ()))})",
            claim=f"(?P<claim>{'|'.join(claims)})",
            other=f"(?P<other>{'|'.join(_NAMES)})",
        )
    )


_QUESTION_PATTERNS = tuple((form, _pattern(form, statement=False)) for form in TEMPLATES)
_STATEMENT_PATTERNS = tuple((form, _pattern(form, statement=True)) for form in _STATEMENTS)
