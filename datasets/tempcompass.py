"""TempCompass's four tasks: temporal questions in several forms about the same clips.

Source: TempCompass (Liu et al., 2024), the released question files.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign.api import MediaRef, RecordError, Sample, user
from mmalign.datasets.benchmark_files import load_mapping, require_text

__all__ = ["ASPECTS", "TASKS", "read"]

ASPECTS = ("action", "direction", "speed", "order", "attribute_change")
TASKS: Mapping[str, str] = {
    "multi-choice": "\nPlease directly give the best option:",
    "yes_no": "\nPlease answer yes or no:",
    "caption_matching": "\nPlease directly give the best option:",
    "captioning": "",
}
"""What is asked behind the question."""

_TEMPLATE = "tempcompass/official-1"
_OPTIONS = {
    "multi-choice": re.compile(r"^[A-Z]\. (.*)$", re.MULTILINE),
    "caption_matching": re.compile(r"^(?:Sentence|Caption|Option) [AB12]: (.*)$", re.MULTILINE),
}
"""Lines of the question that can be the answer."""


def read(
    root: str | Path, *, tasks: Sequence[str] = tuple(TASKS), num_videos: int | None = None
) -> Iterator[Sample]:
    """All questions, task by task, clip by clip.

    Args:
        root: Folder that holds `questions/TASK.json`, `meta_info.json` and `videos/`.
        tasks: Tasks to read.
        num_videos: Only the questions about so many clips.

    Raises:
        ConfigError: A file is not there.
        RecordError: A question does not have the published form; named by file, clip, aspect
            and index.
    """
    meta_path = Path(root) / "meta_info.json"
    meta = load_mapping(meta_path)
    for task in tasks:
        path = Path(root) / "questions" / f"{task}.json"
        if task not in TASKS:
            raise RecordError(f"{path}: there is no task {task!r}; tasks: {', '.join(TASKS)}")
        for video, aspects in list(load_mapping(path).items())[:num_videos]:
            clip = MediaRef(kind="video", uri=str(Path(root) / "videos" / f"{video}.mp4"))
            for aspect, items in aspects.items():
                where = f"{path}: {video}, {aspect}"
                if aspect not in ASPECTS:
                    raise RecordError(f"{where}: unknown aspect; aspects: {', '.join(ASPECTS)}")
                fine = _fine_aspect(meta_path, meta, video, aspect)
                for index, record in enumerate(items):
                    yield _sample(
                        f"{where}, index {index}", task, video, aspect, fine, index, record, clip
                    )


def _sample(
    where: str,
    task: str,
    video: str,
    aspect: str,
    fine_aspect: str,
    index: int,
    record: object,
    clip: MediaRef,
) -> Sample:
    captioning = task == "captioning"
    item = require_text(where, record, ("question",) if captioning else ("question", "answer"))
    question, answer = item["question"], None if captioning else item["answer"]
    options = list(_OPTIONS[task].finditer(question)) if task in _OPTIONS else []
    lines = [match.group(0) for match in options]
    if task in _OPTIONS and answer not in lines:
        raise RecordError(f"{where}: the answer {answer!r} is none of the lines {lines}")
    if task == "yes_no" and answer not in ("yes", "no"):
        raise RecordError(f"{where}: the answer is {answer!r}, expected yes or no")
    return Sample(
        id=f"{task}/{video}/{aspect}/{index}",
        messages=(user(question + TASKS[task], clip),),
        answer=answer,
        choices=tuple(match.group(1) for match in options) or None,
        answer_index=lines.index(str(answer)) if lines else None,
        metadata={
            "dataset": "tempcompass",
            "subset": task,
            "question_type": task,
            "task": task,
            "aspect": aspect,
            "fine_aspect": fine_aspect,
            "question": question,
            "prompt_template": _TEMPLATE,
        },
    )


def _fine_aspect(path: Path, meta: Mapping[str, Any], video: str, aspect: str) -> str:
    """The finer kind that meta_info.json names; order has none but itself."""
    if aspect == "order":
        return "order"
    try:
        return str(meta[video]["eval_dim"][aspect]["type"])
    except (KeyError, TypeError) as error:
        raise RecordError(
            f"{path}: {video}: eval_dim has no type for the aspect {aspect}"
        ) from error
