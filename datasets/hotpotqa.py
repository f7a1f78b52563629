"""HotpotQA: questions that take two articles, in its form without given articles.

Source: Yang et al. (2018), in FlashRAG's form (Jin et al., 2024). Score it by
`question_answering`, or with tools by `tool_use`.
"""

from collections.abc import Iterator
from pathlib import Path

from mmalign.api import Sample
from mmalign.datasets.question_files import read_questions

__all__ = ["read"]


def read(file: str | Path, *, num_samples: int | None = None) -> Iterator[Sample]:
    """All questions of a file, in its order.

    Args:
        file: `hotpotqa/dev.jsonl` of FlashRAG, or another of its form.
        num_samples: Stop after so many.

    Yields:
        Samples whose metadata holds `golden_answers` and, as `question_type`, bridge or
        comparison where the file tells.

    Raises:
        ConfigError: There is no such file.
        RecordError: A row does not have the form.
    """
    return read_questions(file, "hotpotqa", num_samples=num_samples, type_key="type")
