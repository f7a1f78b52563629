"""Rollouts of a training run as tables: who wrote which token, and what it earned."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from tokenizers import Tokenizer

from mmalign.records import Rollout, ToolRun
from mmalign.records.rollouts import SegmentKind

__all__ = [
    "GroupView",
    "RolloutView",
    "TokenView",
    "read_rollouts",
    "steps_of",
    "token_texts",
    "view_rollouts",
]

_MOST_TOKENS = 2000
"""Of one rollout that are shown."""
_STEP = re.compile(r'^\{"step": (\d+),')


@dataclass(frozen=True)
class TokenView:
    """One token."""

    text: str
    kind: SegmentKind
    mask: int
    """1 where it may carry loss."""
    title: str
    """Its id, and its log-probability where it was sampled."""


@dataclass(frozen=True)
class RolloutView:
    """One way through a question."""

    name: str
    stop: str
    answer: str | None
    reward: float | None
    advantage: float | None
    rewards: tuple[tuple[str, float | None], ...]
    num_tokens: int
    num_counted: int
    """Tokens with mask 1."""
    runs: tuple[ToolRun, ...]
    tokens: tuple[TokenView, ...]
    num_left_out: int
    error: str


@dataclass(frozen=True)
class GroupView:
    """The rollouts of one prompt at one step."""

    sample_id: str
    step: int
    rollouts: tuple[RolloutView, ...]


def steps_of(train_folder: Path) -> list[int]:
    """The steps that rollouts were made for."""
    return sorted({step for step, _ in _lines(train_folder)})


def read_rollouts(train_folder: Path, step: int, problems: list[str]) -> list[Rollout]:
    """The rollouts that were made for a step; what cannot be read is named in `problems`."""
    found = []
    for line_step, line in _lines(train_folder):
        if line_step != step:
            continue
        try:
            found.append(Rollout.model_validate(json.loads(line)["record"]))
        except (ValueError, KeyError, ValidationError) as error:
            problems.append(f"rollouts of step {step}: a line is no rollout: {str(error)[:200]}")
    return found


def view_rollouts(
    rollouts: Sequence[Rollout], step: int, text_of: Callable[[int], str] | None = None
) -> list[GroupView]:
    """The groups of a step, those that differ most in reward first.

    Args:
        rollouts: Of one step.
        step: That one.
        text_of: The text of a token; None shows ids.
    """
    groups: dict[str, list[Rollout]] = defaultdict(list)
    for rollout in rollouts:
        groups[rollout.sample_id].append(rollout)
    views = [
        GroupView(sample_id, step, tuple(_view(rollout, text_of) for rollout in group))
        for sample_id, group in groups.items()
    ]
    return sorted(views, key=_spread, reverse=True)


def token_texts(*folders: Path) -> Callable[[int], str] | None:
    """Texts of tokens by the first tokenizer.json that one of the folders holds."""
    for folder in folders:
        file = folder / "tokenizer.json"
        if file.is_file():
            tokenizer = Tokenizer.from_file(str(file))
            return lambda token: tokenizer.decode([token], skip_special_tokens=False)
    return None


def _view(rollout: Rollout, text_of: Callable[[int], str] | None) -> RolloutView:
    tokens = [
        TokenView(
            text=str(token) if text_of is None else text_of(token),
            kind=segment.kind,
            mask=int(segment.kind == "policy"),
            title=f"id {token}" + (f", log-prob {segment.logps[k]:.3f}" if segment.logps else ""),
        )
        for segment in rollout.segments
        for k, token in enumerate(segment.token_ids)
    ]
    return RolloutView(
        name=f"{rollout.sample_id} / {rollout.draw_index}",
        stop=rollout.stop,
        answer=rollout.answer,
        reward=rollout.reward,
        advantage=rollout.advantage,
        rewards=tuple(rollout.rewards.items()),
        num_tokens=len(tokens),
        num_counted=sum(token.mask for token in tokens),
        runs=rollout.tool_runs,
        tokens=tuple(tokens[:_MOST_TOKENS]),
        num_left_out=max(0, len(tokens) - _MOST_TOKENS),
        error=str(rollout.metadata.get("error", "")),
    )


def _spread(group: GroupView) -> float:
    rewards = [item.reward for item in group.rollouts if item.reward is not None]
    return max(rewards) - min(rewards) if rewards else -1.0


def _lines(train_folder: Path) -> Iterator[tuple[int, str]]:
    for file in sorted((train_folder / "rollouts").glob("rollouts-*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if match := _STEP.match(line):
                    yield int(match[1]), line
