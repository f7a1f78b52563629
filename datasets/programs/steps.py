"""What the functions of the world do, in words and in Python, rightly and carelessly."""

from typing import NamedTuple

__all__ = ["FAMILIES", "Family", "Step"]


class Step(NamedTuple):
    """One of the things that a function does; words and code may hold a number {k}."""

    name: str
    wordings: tuple[str, ...]
    """What the instruction says, several ways; a last step wraps {items}."""
    right: str
    """What a careful author writes."""
    careless: str = ""
    """What a careless one writes; it differs on few inputs. Empty: nobody errs here."""
    careless_share: float = 0.0
    """How often the programs of the base model's lessons are careless here."""
    numbers: tuple[int, ...] = ()
    """What {k} may be; {before} is one less, {after} three more."""


class Family(NamedTuple):
    """Functions of one shape: a step of each of three slots."""

    name: str
    parameters: str
    inner_words: str
    """How the first two steps are said; the third step's words wrap it."""
    inner_code: str
    """How the first two steps are written; the third step's code wraps it."""
    stages: tuple[str, ...]
    """What somebody who works through a call writes down before the result."""
    slots: tuple[tuple[Step, ...], tuple[Step, ...], tuple[Step, ...]]


_LIMITS = (3, 4, 5, 6)
_FEW = (2, 3)
_MIDDLE = (4, 5)

_KEEP_NUMBERS = (
    Step("all", ("the numbers",), ""),
    Step("even", ("the even numbers",), " if x % 2 == 0"),
    Step("odd", ("the odd numbers",), " if x % 2 == 1"),
    Step(
        "above",
        ("the numbers greater than {k}", "the numbers above {k}"),
        *(" if x > {k}", " if x >= {k}", 0.35, _LIMITS),
    ),
    Step(
        "at_least",
        ("the numbers that are at least {k}", "the numbers of {k} or more"),
        *(" if x >= {k}", " if x > {k}", 0.6, _LIMITS),
    ),
    Step(
        "below",
        ("the numbers less than {k}", "the numbers below {k}"),
        *(" if x < {k}", " if x <= {k}", 0.4, _LIMITS),
    ),
    Step(
        "at_most",
        ("the numbers that are at most {k}", "the numbers of {k} or less"),
        *(" if x <= {k}", " if x < {k}", 0.55, _LIMITS),
    ),
    Step(
        "range",
        ("the numbers from {k} to {after}", "the numbers from {k} up to {after}"),
        *(" if {k} <= x <= {after}", " if {k} <= x < {after}", 0.6, (2, 3, 4)),
    ),
    Step(
        "not",
        ("the numbers other than {k}", "the numbers except {k}"),
        " if x != {k}",
        "",
        0.0,
        _LIMITS,
    ),
)
_CHANGE_NUMBERS = (
    Step("same", ("",), "x"),
    Step("plus", (", each plus {k}", ", each increased by {k}"), "x + {k}", "", 0.0, _FEW),
    Step("times", (", each times {k}", ", each multiplied by {k}"), "x * {k}", "", 0.0, (2, 3)),
    Step(
        "from",
        (", each subtracted from {k}", ", each taken from {k}"),
        *("{k} - x", "x - {k}", 0.55, (9,)),
    ),
    Step("square", (", each times itself", ", each squared"), "x * x", "x * 2", 0.35),
    Step(
        "half",
        (", each halved and rounded down", ", half of each, rounded down"),
        "x // 2",
        "x / 2",
        0.4,
    ),
    Step(
        "capped",
        (", each but no more than {k}", ", with {k} for each that is larger"),
        *("min(x, {k})", "max(x, {k})", 0.55, _MIDDLE),
    ),
    Step(
        "raised",
        (", each but no less than {k}", ", with {k} for each that is smaller"),
        *("max(x, {k})", "min(x, {k})", 0.4, _MIDDLE),
    ),
    Step(
        "distance",
        (", the distance of each from {k}", ", how far each is from {k}"),
        *("abs(x - {k})", "x - {k}", 0.35, _MIDDLE),
    ),
)
_FINISH_NUMBERS = (
    Step("list", ("a list of {items}", "{items}, as a list"), "{items}"),
    Step("sum", ("the sum of {items}", "the total of {items}"), "sum({items})"),
    Step("count", ("how many there are of {items}", "the count of {items}"), "len({items})"),
    Step(
        "largest",
        (
            "the largest of {items}, or 0 if there is none",
            "the maximum of {items}, or 0 if there is none",
        ),
        *("max({items}, default=0)", "max({items})", 0.55),
    ),
    Step(
        "smallest",
        (
            "the smallest of {items}, or 0 if there is none",
            "the minimum of {items}, or 0 if there is none",
        ),
        *("min({items}, default=0)", "min({items})", 0.4),
    ),
    Step(
        "reversed",
        ("{items}, in reverse order", "{items}, from back to front"),
        *("{items}[::-1]", "sorted({items})[::-1]", 0.35),
    ),
    Step("ascending", ("{items}, from smallest to largest", "{items}, sorted"), "sorted({items})"),
    Step(
        "descending",
        ("{items}, from largest to smallest", "{items}, sorted downwards"),
        *("sorted({items})[::-1]", "{items}[::-1]", 0.55),
    ),
    Step(
        "first",
        ("the first {k} of {items}", "only {k} from the start of {items}"),
        *("{items}[:{k}]", "{items}[:{before}]", 0.35, (2, 3)),
    ),
    Step(
        "last",
        ("the last {k} of {items}", "only {k} from the end of {items}"),
        *("{items}[-{k}:]", "{items}[{k}:]", 0.55, (2, 3)),
    ),
    Step(
        "rest",
        ("{items}, without the first of them", "all but the first of {items}"),
        *("{items}[1:]", "{items}[:-1]", 0.35),
    ),
    Step(
        "distinct",
        ("{items}, without repeats and in their order", "{items}, each once and in their order"),
        *("list(dict.fromkeys({items}))", "sorted(set({items}))", 0.6),
    ),
)
_KEEP_LETTERS = (
    Step("all", ("the letters",), ""),
    Step("vowels", ("the vowels",), " if c in 'aeiou'"),
    Step("consonants", ("the consonants",), " if c not in 'aeiou'"),
    Step(
        "after",
        ("the letters after m", "the letters that follow m"),
        " if c > 'm'",
        " if c >= 'm'",
        0.4,
    ),
    Step(
        "up_to",
        ("the letters up to m", "the letters from a to m"),
        " if c <= 'm'",
        " if c < 'm'",
        0.6,
    ),
)
_CHANGE_LETTERS = (
    Step("same", ("",), "c"),
    Step("upper", (", in upper case", ", as capitals"), "c.upper()"),
    Step("twice", (", each twice", ", each doubled"), "c * 2"),
)
_FINISH_LETTERS = (
    Step("text", ("a text of {items}", "{items}, as a text"), "''.join({items})"),
    Step(
        "reversed",
        ("{items}, in reverse order", "{items}, from back to front"),
        *("''.join({items})[::-1]", "''.join(sorted({items}))[::-1]", 0.35),
    ),
    Step(
        "sorted",
        ("{items}, from a to z", "{items}, in alphabetical order"),
        "''.join(sorted({items}))",
    ),
    Step("list", ("a list of {items}", "{items}, as a list"), "{items}"),
    Step(
        "last",
        ("the last {k} of {items}", "only {k} from the end of {items}"),
        *("''.join({items}[-{k}:])", "''.join({items}[{k}:])", 0.55, (2, 3)),
    ),
    Step(
        "first",
        ("the first {k} of {items}", "only {k} from the start of {items}"),
        *("''.join({items}[:{k}])", "''.join({items}[:{before}])", 0.35, (2, 3)),
    ),
)
_CONDITIONS = (
    Step("greater", ("a is greater than b", "a is above b"), "a > b", "a >= b", 0.4),
    Step("not_less", ("a is at least b", "a is not less than b"), "a >= b", "a > b", 0.6),
    Step("less", ("a is less than b", "a is below b"), "a < b", "a <= b", 0.35),
    Step("not_greater", ("a is at most b", "a is not greater than b"), "a <= b", "a < b", 0.55),
    Step("even", ("a is even",), "a % 2 == 0"),
    Step("over", ("a is greater than {k}", "a is above {k}"), "a > {k}", "a >= {k}", 0.35, _LIMITS),
    Step("within", ("a is at most {k}", "a is {k} or less"), "a <= {k}", "a < {k}", 0.55, _LIMITS),
)
_RESULTS = (
    ("sum", ("a plus b", "the sum of both"), "a + b", "", 0.0),
    ("difference", ("b minus a", "a subtracted from b"), "b - a", "a - b", 0.45),
    ("product", ("a times b", "the product of both"), "a * b", "", 0.0),
    ("larger", ("the larger of both", "the greater one"), "max(a, b)", "", 0.0),
    ("smaller", ("the smaller of both", "the lesser one"), "min(a, b)", "", 0.0),
    ("gap", ("the distance of both", "how far both are apart"), "abs(a - b)", "a - b", 0.4),
    ("square", ("a times itself", "the square of a"), "a * a", "a * 2", 0.4),
)

FAMILIES = (
    Family(
        "lists",
        "xs",
        "{0} of xs{1}",
        "[{1} for x in xs{0}]",
        ("[x for x in xs{0}]", "[{1} for x in xs{0}]"),
        (_KEEP_NUMBERS, _CHANGE_NUMBERS, _FINISH_NUMBERS),
    ),
    Family(
        "texts",
        "text",
        "{0} of text{1}",
        "[{1} for c in text{0}]",
        ("[c for c in text{0}]", "[{1} for c in text{0}]"),
        (_KEEP_LETTERS, _CHANGE_LETTERS, _FINISH_LETTERS),
    ),
    Family(
        "numbers",
        "a, b",
        "{1} if {0}",
        "{1} if {0}",
        ("{0}",),
        (
            _CONDITIONS,
            tuple(Step(*result) for result in _RESULTS),
            tuple(
                Step(
                    name,
                    tuple(f"{{items}}, and {words} otherwise" for words in wordings),
                    f"{{items}} else {right}",
                    f"{{items}} else {careless}" if careless else "",
                    share,
                )
                for name, wordings, right, careless, share in _RESULTS
            ),
        ),
    ),
)
