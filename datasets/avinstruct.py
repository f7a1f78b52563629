"""AVinstruct: CAT's instruction data about what is seen and heard.

Left out: training on the released features; a model of mmalign sees and hears the clip itself.

Source: CAT (Ye et al., 2024), the data set's own description of its fields; which questions are
about sound is mmalign's reading of their words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.api import (
    ConfigError,
    MediaPart,
    MediaRef,
    Message,
    RecordError,
    Sample,
    TextPart,
)
from mmalign.datasets.benchmark_files import load_list, require_text
from mmalign.datasets.clip_with_sound import clip_with_sound

__all__ = ["FILES", "read"]

FILES = ("avqa_data1.json", "avqa_data2.json")

_QUESTION, _MEDIA = "<Q>", "<video>"
_WIDTH = 1024
_SOUND = re.compile(
    r"\b(?:sound|hear|listen|audio|noise|loud|quiet|silen|music|instrument|play|sing|song|voice|"
    r"rhythm|bark|speak)",
    re.IGNORECASE,
)


def read(
    root: str | Path,
    *,
    media_root: str | Path | None = None,
    features_root: str | Path | None = None,
    files: Sequence[str] = FILES,
    num_samples: int | None = None,
) -> Iterator[Sample]:
    """All questions, file by file.

    Args:
        root: Folder of the JSON files.
        media_root: Folder of the raw clips, `VIDEO_ID.mp4`, of MUSIC-AVQA and AVQA.
        features_root: Folder that the records' paths of `.npy` features start from; they are
            checked, and kept in the metadata as `features`.
        files: Names of the JSON files.
        num_samples: Only so many questions of each file.

    Yields:
        Samples whose prompt has clip and sound at the place of the placeholder (with media_root;
        without it only text) and no markers. Their metadata holds the bare `question`, the data
        set's short answer as `correct_answer` and whether the question is `about_sound`.

    Raises:
        ConfigError: Neither folder is given, or a file is not there.
        RecordError: A record does not have the published form, or features are not [F, 1024];
            named by file and index.
    """
    if media_root is None and features_root is None:
        raise ConfigError(
            "avinstruct: found neither media_root nor features_root; give media_root, the folder "
            "of the clips of MUSIC-AVQA and AVQA"
        )
    for name in files:
        path = Path(root) / name
        for index, record in enumerate(load_list(path)[:num_samples]):
            where = f"{path}: index {index}"
            item = require_text(where, record, ("video_id", "video", "audio"))
            asked, answer = _turns(where, item.get("conversations"))
            question = _question(f'{where}, video "{item["video_id"]}"', asked)
            about_sound = _SOUND.search(question) is not None
            media: tuple[MediaRef, ...] = ()
            if media_root is not None:
                clip = Path(media_root) / f"{item['video_id']}.mp4"
                media = clip_with_sound(clip, about_sound=about_sound)
            features = None
            if features_root is not None:
                folder = Path(features_root)
                features = {
                    "video": _features(folder / item["video"], where),
                    "audio": _features(folder / item["audio"], where),
                }
            choices, gold = _choices(item)
            yield Sample(
                id=f"{path.stem}/{index:06d}",
                messages=(_prompt(asked, media),),
                answer=answer,
                choices=choices,
                answer_index=gold,
                metadata={
                    "dataset": "avinstruct",
                    "subset": path.stem,
                    "video_id": item["video_id"],
                    "question": question,
                    "correct_answer": item.get("correct_answer") or None,
                    "about_sound": about_sound,
                    "features": features,
                },
            )


def _prompt(asked: str, media: tuple[MediaRef, ...]) -> Message:
    """The human's turn without markers, the media where the placeholder was."""
    before, after = (" ".join(part.replace(_QUESTION, " ").split()) for part in asked.split(_MEDIA))
    space = " " if before and after and not media else ""
    texts = [TextPart(text=text) for text in (before, f"{space}{after}")]
    parts = (texts[0], *(MediaPart(media=ref) for ref in media), texts[1])
    return Message(role="user", content=tuple(part for part in parts if part != TextPart(text="")))


def _turns(where: str, turns: object) -> tuple[str, str]:
    """What the human says and what is answered."""
    if not isinstance(turns, list) or len(turns) != 2:
        raise RecordError(f"{where}: conversations are {turns!r:.80}, expected two turns")
    said = []
    for turn, speaker in zip(turns, ("human", "gpt"), strict=True):
        item = require_text(f"{where}, turn of {speaker}", turn, ("from", "value"))
        if item["from"] != speaker:
            raise RecordError(f"{where}: a turn is from {item['from']!r}, expected {speaker!r}")
        said.append(str(item["value"]).strip())
    return said[0], said[1]


def _question(where: str, asked: str) -> str:
    """What stands between the two markers."""
    parts = asked.split(_QUESTION)
    if len(parts) != 3 or not parts[1].strip():
        raise RecordError(
            f"{where}: found {len(parts) - 1} markers {_QUESTION} in {asked!r:.80}, expected a "
            f"pair of them around the question"
        )
    if asked.count(_MEDIA) != 1 or _MEDIA in parts[1]:
        raise RecordError(
            f"{where}: found {asked.count(_MEDIA)} placeholders {_MEDIA} in {asked!r:.80}, "
            f"expected one outside the question"
        )
    return parts[1].strip()


def _choices(item: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, int | None]:
    """The options and the place of the right one, where the record lists them."""
    options, correct = item.get("multi_choice"), item.get("correct_answer")
    if not isinstance(options, list) or not options:
        return None, None
    choices = tuple(str(option) for option in options)
    return choices, choices.index(correct) if correct in choices else None


def _features(path: Path, where: str) -> dict[str, Any]:
    """Path and shape of a file of features, whose values are not read."""
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except FileNotFoundError as error:
        raise RecordError(f"{where}: {path}: no such file; is features_root right?") from error
    except (ValueError, EOFError, OSError) as error:
        raise RecordError(f"{where}: {path}: cannot be read as .npy: {error}") from error
    if len(shape) != 2 or shape[1] != _WIDTH or shape[0] == 0:
        raise RecordError(
            f"{where}: {path}: features have the shape {list(shape)}, expected [*, {_WIDTH}]"
        )
    return {"path": str(path), "shape": list(shape)}
