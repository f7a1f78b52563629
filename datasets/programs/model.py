"""The tokenizer of the world's small code model, trained on the world's own texts.

`python -m mmalign.datasets.programs.model FOLDER` writes the model untrained; with `--trained RUN`
it writes what training made of it instead, in half precision.
"""

from tokenizers import Regex
from transformers import PreTrainedTokenizerFast

from mmalign.datasets.programs.reader import read_lessons
from mmalign.datasets.small_language_model import byte_pair_tokenizer, command

__all__ = ["tokenizer"]

_NUM_LESSONS = 5_000
_PIECES = Regex(
    "[a-zA-Z](?=[a-zA-Z]*')|', '"  # letters of a string literal, and what stands between two
    r"|,? ?-?\d+"  # a number with the comma before it: lists are half as long
    "| ?[a-zA-Z_]+|,|\n *"
    r"| ?[^\sa-zA-Z0-9_,]+|\s+"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Pieces that make it easy to copy a list or a string."""
    lessons = list(read_lessons(_NUM_LESSONS))
    texts = [text for lesson in lessons for text in (lesson.question, lesson.answer or "")]
    return byte_pair_tokenizer(texts, _PIECES, num_tokens=1024)


if __name__ == "__main__":
    command("python -m mmalign.datasets.programs.model", tokenizer)
