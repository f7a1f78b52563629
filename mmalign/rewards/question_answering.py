"""Is a short answer right: exact match, containment and token F1, as question answering scores.

Evaluation and rewards share these functions. `normalise_answer` deletes punctuation and puts no
space there, so 1,234.5 equals 12345; accents and curly quotes are kept.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

from mmalign.errors import RecordError
from mmalign.records import Sample

__all__ = [
    "answer_f1",
    "exact_match",
    "gold_answers_of",
    "last_answer",
    "normalise_answer",
    "require_gold_answers",
    "sub_exact_match",
]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED = frozenset({"yes", "no", "noanswer"})


def normalise_answer(text: str) -> str:
    """Lower case without ASCII punctuation and articles, one space between words.

    Source: SQuAD's evaluation, as in HotpotQA, FlashRAG and Search-R1.
    """
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, gold_answers: Sequence[str]) -> bool:
    """Whether the normalised prediction equals one of the normalised gold answers.

    Raises:
        RecordError: There is no gold answer, or one of them is empty once normalised.
    """
    return normalise_answer(prediction) in require_gold_answers(gold_answers)


def sub_exact_match(prediction: str, gold_answers: Sequence[str]) -> bool:
    """Whether the normalised prediction holds one of the normalised gold answers.

    Raises:
        RecordError: As for `exact_match`.
    """
    found = normalise_answer(prediction)
    return any(gold in found for gold in require_gold_answers(gold_answers))


def answer_f1(prediction: str, gold_answers: Sequence[str]) -> float:
    """The best harmonic mean of precision and recall of words, over the gold answers, in [0, 1].

    An answer of yes, no or noanswer is right or wrong as a whole.

    Raises:
        RecordError: As for `exact_match`.

    Source: HotpotQA (Yang et al., 2018), its evaluation; FlashRAG.
    """
    found = normalise_answer(prediction)
    return max(_f1(found, gold) for gold in require_gold_answers(gold_answers))


def last_answer(text: str) -> str | None:
    """What stands in the last <answer> tags, stripped; None without any.

    Source: Search-R1's extraction, on the completion alone, so that one pair of tags is enough.
    """
    found = _ANSWER.findall(text)
    return found[-1].strip() if found else None


def gold_answers_of(sample: Sample) -> tuple[str, ...]:
    """`golden_answers` of the sample's metadata, else its answer; empty where it has neither."""
    known = sample.metadata.get("golden_answers")
    if isinstance(known, list | tuple) and known:
        return tuple(map(str, known))
    return () if sample.answer is None else (sample.answer,)


def require_gold_answers(gold_answers: Sequence[str]) -> tuple[str, ...]:
    """The gold answers, normalised.

    Raises:
        RecordError: There is none, or one of them is empty once normalised.
    """
    golds = tuple(map(normalise_answer, gold_answers))
    if not golds:
        raise RecordError("found no gold answer, expected one or more; give the sample an answer")
    if "" in golds:
        raise RecordError(
            f"gold answer {gold_answers[golds.index('')]!r} is empty once normalised, so an empty "
            f"prediction would be right; drop it"
        )
    return golds


def _f1(found: str, gold: str) -> float:
    if found != gold and (found in _CLOSED or gold in _CLOSED):
        return 0.0
    found_words, gold_words = found.split(), gold.split()
    num_common = (Counter(found_words) & Counter(gold_words)).total()
    if not num_common:
        return 0.0
    precision, recall = num_common / len(found_words), num_common / len(gold_words)
    return 2 * precision * recall / (precision + recall)
