"""MUSIC-AVQA: questions about what is seen and heard in videos of people who make music.

Source: MUSIC-AVQA (Li et al., 2022), the released question files; the prompt is mmalign's own.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from mmalign.api import ConfigError, RecordError, Sample, user
from mmalign.datasets.benchmark_files import load_list, require_text
from mmalign.datasets.clip_with_sound import clip_with_sound

__all__ = ["MODALITIES", "Split", "Version", "read"]

Split = Literal["train", "val", "test"]
Version = Literal["original", "corrected"]
"""The test split has 9,185 questions originally, 9,129 corrected: results name the version."""

MODALITIES = ("Audio", "Visual", "Audio-Visual")

_FOLDERS: dict[Version, str] = {"original": "json", "corrected": "json_update"}
_PLACEHOLDER = re.compile(r"<[A-Za-z]+>")
_PROMPT = "{question}\nAnswer with a single word or name."
_TEMPLATE = "music_avqa/mmalign-1"


def read(
    root: str | Path,
    split: Split = "test",
    *,
    version: Version = "original",
    question_types: Sequence[str] = (),
    num_samples: int | None = None,
) -> Iterator[Sample]:
    """All questions of a split, in the file's order.

    Args:
        root: Folder that holds `data/json/avqa-SPLIT.json`, `data/json_update/` for the corrected
            version, and `videos/VIDEO_ID.mp4`.
        split: `train`, `val` or `test`.
        version: Which edition of the question files.
        question_types: Only these, as `Audio-Visual/Location`; by default all.
        num_samples: Stop after so many.

    Yields:
        Samples with clip and sound. Their metadata holds `question_type`, `answer_short` (a class
        as the data set spells it) and whether the question is `about_sound`.

    Raises:
        ConfigError: There is no such split, version or file.
        RecordError: A question does not have the published form; named by file and index.
    """
    if split not in get_args(Split) or version not in _FOLDERS:
        raise ConfigError(
            f"music_avqa: found split {split!r} and version {version!r}, expected one of "
            f"{', '.join(get_args(Split))} and one of {', '.join(_FOLDERS)}"
        )
    path = Path(root) / "data" / _FOLDERS[version] / f"avqa-{split}.json"
    num_read = 0
    for index, record in enumerate(load_list(path)):
        where = f"{path}: index {index}"
        item = require_text(where, record, ("video_id", "type", "question_content", "anser"))
        modality, kind = _type_of(where, item["type"])
        if question_types and f"{modality}/{kind}" not in question_types:
            continue
        if num_read == num_samples:
            return
        num_read += 1
        question = _filled(where, item)
        about_sound = modality != "Visual"
        clip = Path(root) / "videos" / f"{item['video_id']}.mp4"
        media = clip_with_sound(clip, about_sound=about_sound)
        yield Sample(
            id=f"{split}/{item.get('question_id', index)}",
            messages=(user(_PROMPT.format(question=question), *media),),
            answer=item["anser"],
            metadata={
                "dataset": "music_avqa",
                "subset": split,
                "version": version,
                "question_type": f"{modality}/{kind}",
                "modality": modality,
                "about_sound": about_sound,
                "question": question,
                "answer_short": item["anser"],
                "video_id": item["video_id"],
                "question_deleted": item.get("question_deleted"),
                "prompt_template": _TEMPLATE,
            },
        )


def _type_of(where: str, text: str) -> tuple[str, str]:
    """Modality and kind, from a list that is written as JSON text."""
    found = _texts(where, "type", text)
    if len(found) != 2 or found[0] not in MODALITIES:
        raise RecordError(
            f"{where}: the type is {text}, expected a modality ({', '.join(MODALITIES)}) and a kind"
        )
    return found[0], found[1]


def _filled(where: str, item: Mapping[str, Any]) -> str:
    """The question with its placeholders replaced in order."""
    values = _texts(where, "templ_values", item.get("templ_values"))
    question = str(item["question_content"])
    places = _PLACEHOLDER.findall(question)
    if len(places) != len(values):
        raise RecordError(
            f"{where}: {question!r} has {len(places)} placeholders and {len(values)} values; "
            f"expected one value for each"
        )
    rest = iter(values)
    return _PLACEHOLDER.sub(lambda _: next(rest), question)


def _texts(where: str, name: str, text: object) -> list[str]:
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
        raise RecordError(
            f"{where}: field {name!r} is {text!r}, expected a list of texts written as JSON text"
        )
    return found
