"""What is known about a question's answer, for a judge that does not see the media."""

from mmalign.errors import RecordError
from mmalign.records import Sample

__all__ = ["clues_of", "gold_answer"]


def gold_answer(sample: Sample) -> str | None:
    """The sample's gold answer, or the text of its right choice; None where it has neither."""
    if sample.answer is not None and sample.answer.strip():
        return sample.answer.strip()
    if sample.choices and sample.answer_index is not None:
        return sample.choices[sample.answer_index].strip() or None
    return None


def clues_of(sample: Sample) -> tuple[str, ...]:
    """Facts that an answer may state: who, what, where, which sound, how many.

    The gold answer, the right choice, the data set's own answer (`metadata["correct_answer"]`),
    labels of objects and instruments (`metadata["labels"]`), and what the reader states as facts
    (`metadata["clues"]`), each text once, in this order.

    Raises:
        RecordError: Labels or clues are no list of texts.

    Source: CAT's code for the gold and the data set's answer; the list is a reconstruction.
    """
    found = [gold_answer(sample) or ""]
    if sample.choices and sample.answer_index is not None:
        found.append(sample.choices[sample.answer_index])
    found.append(str(sample.metadata.get("correct_answer") or ""))
    for key in ("labels", "clues"):
        listed = sample.metadata.get(key) or []
        if not isinstance(listed, list | tuple) or not all(isinstance(x, str) for x in listed):
            raise RecordError(
                f"sample {sample.id!r}: metadata.{key} is {listed!r:.80}, expected a list of texts"
            )
        found += listed
    return tuple(dict.fromkeys(" ".join(text.split()) for text in found if text.strip()))
