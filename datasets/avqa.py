"""AVQA: multiple choice about what is seen and heard in ten seconds of everyday life.

Source: AVQA (Yang et al., 2022), the released question files; the prompt is mmalign's own.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from mmalign.api import ConfigError, RecordError, Sample, user
from mmalign.datasets.benchmark_files import load_list, require_text
from mmalign.datasets.clip_with_sound import clip_with_sound

__all__ = ["NUM_OPTIONS", "Split", "read"]

Split = Literal["train", "val"]

NUM_OPTIONS = 4
_NO_OPTION = "(no option)"
"""Stands for options that a question lacks, so that all have as many."""

_TEMPLATE = "avqa/mmalign-1"


def read(
    root: str | Path, split: Split = "val", *, num_samples: int | None = None
) -> Iterator[Sample]:
    """The first questions of a split, by default all.

    Args:
        root: Folder that holds `data/annotation/SPLIT_qa.json` and `videos/VIDEO_NAME.mp4`.
        split: `train`, or `val`, on which results are reported.
        num_samples: Stop after so many.

    Yields:
        Samples with clip, sound and four choices; the metadata holds `question_type` (Which,
        Where ...), `question_relation` and whether the question is `about_sound`.

    Raises:
        ConfigError: There is no such split or file.
        RecordError: A question does not have the published form; named by file and index.
    """
    if split not in get_args(Split):
        raise ConfigError(
            f"avqa: found split {split!r}, expected one of {', '.join(get_args(Split))}"
        )
    path = Path(root) / "data" / "annotation" / f"{split}_qa.json"
    for index, record in enumerate(load_list(path)[:num_samples]):
        where = f"{path}: index {index}"
        names = ("video_name", "question_text", "question_relation", "question_type")
        item = require_text(where, record, names)
        choices, gold = _choices(where, item)
        about_sound = item["question_relation"] != "View"
        clip = Path(root) / "videos" / f"{item['video_name']}.mp4"
        media = clip_with_sound(clip, about_sound=about_sound)
        lettered = "\n".join(
            f"({chr(ord('A') + place)}) {text}" for place, text in enumerate(choices)
        )
        prompt = f"{item['question_text']}\n{lettered}\nAnswer with the letter of the option only."
        yield Sample(
            id=f"{split}/{item.get('id', index)}",
            messages=(user(prompt, *media),),
            answer=choices[gold],
            choices=choices,
            answer_index=gold,
            metadata={
                "dataset": "avqa",
                "subset": split,
                "question_type": item["question_type"],
                "question_relation": item["question_relation"],
                "about_sound": about_sound,
                "question": item["question_text"],
                "answer_short": choices[gold],
                "prompt_template": _TEMPLATE,
            },
        )


def _choices(where: str, item: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    options, gold = item.get("multi_choice"), item.get("answer")
    if (
        not isinstance(options, list)
        or not all(isinstance(text, str) for text in options)
        or not 2 <= len(options) <= NUM_OPTIONS
    ):
        raise RecordError(
            f"{where}: multi_choice is {options!r}, expected a list of 2 to {NUM_OPTIONS} texts"
        )
    if not isinstance(gold, int) or not 0 <= gold < len(options) or not options[gold].strip():
        raise RecordError(
            f"{where}: the answer is {gold!r}, expected the place of one of the "
            f"{len(options)} options, from 0"
        )
    padded = [text.strip() or _NO_OPTION for text in options]
    return (*padded, *[_NO_OPTION] * (NUM_OPTIONS - len(padded))), gold
