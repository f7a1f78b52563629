"""The tokenizer of the world's small language model, trained on the world's own texts.

`python -m mmalign.datasets.lookups.model FOLDER` writes the model untrained; with `--trained RUN`
it writes what training made of it instead, in half precision.
"""

from tokenizers import Regex
from transformers import PreTrainedTokenizerFast

from mmalign.datasets.lookups.reader import read_lessons
from mmalign.datasets.small_language_model import byte_pair_tokenizer, command

__all__ = ["tokenizer"]

_NUM_LESSONS = 6_000
_PIECES = Regex(r" ?</?[a-z]+>| ?\p{L}+|\d| ?[^\s\p{L}\d]|\s+")


def tokenizer() -> PreTrainedTokenizerFast:
    """Tags, words and digits stand alone.

    No token spans the border of a tag, so that a transcript has the same tokens whether its parts
    are encoded together or one by one.
    """
    lessons = list(read_lessons(_NUM_LESSONS))
    texts = [text for lesson in lessons for text in (lesson.prompt[0].text, lesson.response.text)]
    return byte_pair_tokenizer(texts, _PIECES, num_tokens=1280)


if __name__ == "__main__":
    command("python -m mmalign.datasets.lookups.model", tokenizer)
