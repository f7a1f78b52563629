"""TVBench's ten tasks: multiple choice about what happens when.

Source: TVBench (Cores et al., 2024), the released JSON files; the prompt and the frames as
RRPO's evaluator has them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmalign.api import MediaRef, RecordError, Sample, user
from mmalign.datasets.benchmark_files import load_list, require_text

__all__ = ["TASKS", "frame_indices", "read"]

TASKS = (
    "action_count",
    "object_count",
    "action_sequence",
    "object_shuffle",
    "scene_transition",
    "action_localization",
    "action_antonym",
    "unexpected_action",
    "egocentric_sequence",
    "moving_direction",
)
_TIMED = ("action_sequence", "action_localization")
"""Tasks about a part of the clip, from start to end."""
_TEMPLATE = "tvbench/rrpo-1"


def read(
    root: str | Path, *, tasks: Sequence[str] = TASKS, num_samples: int | None = None
) -> Iterator[Sample]:
    """All questions, task by task.

    Args:
        root: Folder that holds `json/TASK.json` and `video/TASK/`.
        tasks: Tasks to read.
        num_samples: Only so many questions of each task.

    Raises:
        ConfigError: A task's file is not there.
        RecordError: A question does not have the published form, its answer is none of its
            candidates, or two candidates are the same; named by file and index.
    """
    for task in tasks:
        path = Path(root) / "json" / f"{task}.json"
        for index, record in enumerate(load_list(path)[:num_samples]):
            where = f"{path}: index {index}"
            item = require_text(where, record, ("video", "question", "answer"))
            candidates = _candidates(where, item.get("candidates"), item["answer"])
            start_s, end_s = _times(where, item) if task in _TIMED else (None, None)
            letters = "\n".join(
                f"({chr(ord('A') + place)}) {text}" for place, text in enumerate(candidates)
            )
            question = f"Question: {item['question']}\nOptions:\n{letters}"
            clip = MediaRef(
                kind="video",
                uri=str(Path(root) / "video" / task / item["video"]),
                start_s=start_s,
                end_s=end_s,
            )
            yield Sample(
                id=f"{task}/{index:04d}",
                messages=(user(f"{question}\nOnly give the best option.", clip),),
                answer=item["answer"],
                choices=candidates,
                answer_index=candidates.index(item["answer"]),
                metadata={
                    "dataset": "tvbench",
                    "subset": task,
                    "question_type": task,
                    "prompt_template": _TEMPLATE,
                },
            )


def frame_indices(
    num_source_frames: int,
    fps: float,
    num_frames: int,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
) -> list[int]:
    """The frames that the published evaluation shows.

        index_i = int(s + seg / 2 + round(seg * i)),  seg = (e - s) / num_frames

    Halves are rounded to even numbers; e is at most the last frame.

    Args:
        num_source_frames: Frames of the clip.
        fps: Of the clip.
        num_frames: How many to show.
        start_s: Where the part begins; None for the start of the clip.
        end_s: Where it ends; None for the end of the clip.
    """
    last = num_source_frames - 1
    start = 0 if start_s is None else max(0, round(start_s * fps))
    end = last if end_s is None else min(round(end_s * fps), last)
    segment = (end - start) / num_frames
    return [int(start + segment / 2 + round(segment * place)) for place in range(num_frames)]


def _candidates(where: str, value: object, answer: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < 2:
        raise RecordError(f"{where}: candidates are {value!r}, expected a list of two or more")
    candidates = tuple(str(text) for text in value)
    if len(set(candidates)) != len(candidates):
        raise RecordError(f"{where}: two candidates are the same: {list(candidates)}")
    if answer not in candidates:
        raise RecordError(f"{where}: the answer {answer!r} is none of {list(candidates)}")
    return candidates


def _times(where: str, item: Any) -> tuple[float, float]:
    start, end = item.get("start"), item.get("end")
    if not isinstance(start, int | float) or not isinstance(end, int | float) or start >= end:
        raise RecordError(
            f"{where}: start {start!r} and end {end!r} are no range in seconds; this task is "
            f"about a part of the clip"
        )
    return float(start), float(end)
