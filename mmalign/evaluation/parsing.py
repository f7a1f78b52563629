"""Read answers out of what a model wrote: strictly, or as the official scorers do."""

import re
from collections.abc import Sequence
from typing import Literal, get_args

from mmalign.errors import ConfigError

__all__ = [
    "Profile",
    "check_profile",
    "is_yes_no_hit",
    "normalise",
    "parse_letter",
    "parse_yes_no",
]

Profile = Literal["strict", "official"]
"""`strict` is ours; `official` repeats the published scorers, faults included."""

_WORD = re.compile(r"\w+")
_CUE = re.compile(r"(?:answer is|option is|answer:)", re.IGNORECASE)
_LETTER = re.compile(r"\(([A-Z])\)|(?<!\w)([A-Z])(?=[.):]|\s*\Z)")
_OFFICIAL_LETTER = re.compile(r"\(?\[?([A-Z])\]?\)?\.?", re.IGNORECASE)


def check_profile(profile: str) -> Profile:
    """The profile, if it is one.

    Raises:
        ConfigError: There is none of this name.
    """
    if profile not in get_args(Profile):
        raise ConfigError(
            f"there is no parse profile {profile!r}; choose {' or '.join(get_args(Profile))}"
        )
    return profile  # type: ignore[return-value]  # mypy does not narrow by get_args


def parse_yes_no(text: str) -> Literal["yes", "no"] | None:
    """The first word if it is yes or no, else the only one of the two that occurs."""
    words = _WORD.findall(text.lower())
    found = {word for word in words if word in ("yes", "no")}
    if words and words[0] in found:
        found = {words[0]}
    if len(found) != 1:
        return None
    return "yes" if "yes" in found else "no"


def is_yes_no_hit(text: str, gold: str, profile: Profile) -> bool:
    """Whether the prediction counts as the gold word.

    Under `official` the gold word anywhere is enough, so that "yes or no" hits both.

    Source: VideoHallucer (Wang et al., 2024), its evaluation code.
    """
    if profile == "official":
        return re.search(rf"\b({re.escape(gold)})\b", text, re.IGNORECASE) is not None
    return parse_yes_no(text) == gold


def parse_letter(text: str, options: Sequence[str], profile: Profile = "strict") -> str | None:
    """The letter of the option that was chosen, or None.

    Strict: the text behind the last answer cue, else all of it; the first letter of an option
    in parentheses, before `.`, `)` or `:`, or at the end; else the option whose text it is, or
    the only one whose text occurs. Official: the first letter of any word, in either case.

    Args:
        text: What the model wrote.
        options: Texts of the options; the first is A.
        profile: How to read it.

    Source: RRPO's evaluator of TVBench, for the official way.
    """
    if profile == "official":
        match = _OFFICIAL_LETTER.search(text)
        return match.group(1).upper() if match else None
    letters = [chr(ord("A") + place) for place in range(len(options))]
    behind = _CUE.split(text)[-1]
    for match in _LETTER.finditer(behind.strip()):
        letter = match.group(1) or match.group(2)
        if letter in letters:
            return letter
    texts = [normalise(option) for option in options]
    if normalise(text) in texts:
        return letters[texts.index(normalise(text))]
    named = [
        letter
        for letter, option in zip(letters, options, strict=True)
        if re.search(rf"(?<!\w){re.escape(option.casefold())}(?!\w)", text.casefold())
    ]
    return named[0] if len(named) == 1 else None


def normalise(text: str) -> str:
    """Lower case, without punctuation at the ends of words, one space between them."""
    words = (word.strip(".,;:!?\"'()[]") for word in text.casefold().split())
    return " ".join(word for word in words if word)
