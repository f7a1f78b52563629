"""Rollouts of a prompt as an example: the prompt once, each rollout as a branch behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmalign.engine.rollouts import RolloutConfig, RolloutTool, prompt_messages, tool_schemas
from mmalign.errors import RecordError
from mmalign.models.families import EncodedCompletion, EncodedPrompt
from mmalign.records import Rollout, Sample
from mmalign.training.examples import Batch, Encoder, Example
from mmalign.training.forward import Row

__all__ = [
    "Group",
    "RolloutExample",
    "branch_of",
    "example_of",
    "padded",
    "per_example",
    "planned_rollouts",
]


class Group(NamedTuple):
    """A prompt with all its rollouts, rewards included."""

    sample: Sample
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True)
class RolloutExample(Example):
    """The rollouts of a prompt that can be learnt from. All tuples are per branch.

    Tensors [T] have an entry for each token that the policy sampled, and for no other.
    """

    places: tuple[int, ...] = ()
    """Which of the group's rollouts the branches are."""
    rewards: tuple[float, ...] = ()
    carries_loss: tuple[bool, ...] = ()
    """False where a rollout counts in its group alone."""
    sampled_logps: tuple[Tensor, ...] = ()
    """[T], nats, as they were when the tokens were drawn."""
    advantages: tuple[Tensor, ...] = ()
    """A scalar, or [T] of a critic."""
    old_logps: tuple[Tensor, ...] | None = None
    """[T], nats, by the training forward of the policy that sampled."""
    ref_logps: tuple[Tensor, ...] | None = None
    """[T], nats, of the reference, where they were taken at sampling time."""
    old_values: tuple[Tensor, ...] | None = None
    """[T], of the critic at sampling time: of the state before each token."""
    returns: tuple[Tensor, ...] | None = None
    """[T], the critic's targets."""
    num_rollouts: int = 0
    """That the loss is averaged over: also those whose gradient is 0, which are no branches."""
    num_tokens: int = 0
    """Of these, sampled by the policy."""

    def keep(self, keeps: Callable[[int], bool]) -> "RolloutExample":
        """The example with some of its branches; what the loss is averaged over stays."""
        (row,) = self.rows
        chosen = [index for index in range(len(row.branches)) if keeps(index)]
        per_branch: dict[str, Any] = {
            name: tuple(values[index] for index in chosen)
            for name in _PER_BRANCH
            if (values := getattr(self, name)) is not None and len(values)
        }
        branches = tuple(row.branches[index] for index in chosen)
        return replace(self, rows=(Row(row.prompt, branches),), **per_branch)


_PER_BRANCH = (
    "phrase_ids", "places", "rewards", "carries_loss", "sampled_logps", "advantages", "old_logps",
    "ref_logps", "old_values", "returns",
)  # fmt: skip


def example_of(
    group: Group, prompt: EncodedPrompt, *, carries_loss: Callable[[Rollout], bool]
) -> RolloutExample:
    """The rollouts of a group that have a reward and tokens of the policy.

    Args:
        group: With rewards.
        prompt: What they were sampled behind.
        carries_loss: Whether a rollout is learnt from; else its reward counts in the group alone.

    Raises:
        RecordError: The prompt has not the tokens that the policy was shown.
    """
    kept = [
        (place, rollout)
        for place, rollout in enumerate(group.rollouts)
        if rollout.reward is not None and any(rollout.mask)
    ]
    carries = tuple(carries_loss(rollout) for _, rollout in kept)
    for _, rollout in kept:
        if rollout.num_prompt_tokens != len(prompt.input_ids):
            raise RecordError(
                f"sample {group.sample.id!r}: the policy was shown a prompt of "
                f"{rollout.num_prompt_tokens} tokens, training encodes {len(prompt.input_ids)}; "
                f"rollouts and training must share template, media and frame sampling"
            )
    branches = tuple(branch_of(rollout) for _, rollout in kept)
    tags = {k: v for k, v in group.sample.metadata.items() if isinstance(v, str)}
    return RolloutExample(
        group.sample.id,
        (Row(prompt, branches),),
        tuple(torch.zeros(len(branch.input_ids), dtype=torch.long) for branch in branches),
        tags,
        places=tuple(place for place, _ in kept),
        rewards=tuple(rollout.reward or 0.0 for _, rollout in kept),
        carries_loss=carries,
        sampled_logps=tuple(_sampled_logps(rollout) for _, rollout in kept),
        num_rollouts=sum(carries),
        num_tokens=sum(
            int(branch.mask.sum()) for branch, does in zip(branches, carries, strict=True) if does
        ),
    )


def planned_rollouts(
    encoder: Encoder, sample: Sample, config: RolloutConfig, tools: Sequence[RolloutTool]
) -> Example:
    """As large as a group whose rollouts are as long as they may be, for planning."""
    prompt = encoder.prompt(
        prompt_messages(sample, config, tools), tools=tool_schemas(tools, config)
    )
    ids = torch.zeros(config.max_completion_length, dtype=torch.long)
    longest = EncodedCompletion(ids, torch.ones_like(ids, dtype=torch.bool), ())
    row = Row(prompt, (longest,) * config.num_generations)
    return Example(sample.id, (row,), (ids,) * config.num_generations, {})


def branch_of(rollout: Rollout) -> EncodedCompletion:
    """Ids as they were sampled and spliced in; True where the policy sampled."""
    return EncodedCompletion(
        input_ids=torch.tensor(rollout.token_ids, dtype=torch.long),
        mask=torch.tensor(rollout.mask, dtype=torch.bool),
        offsets=(),
    )


def padded(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """[B, T], 0 behind each part."""
    return nn.utils.rnn.pad_sequence([part.to(device) for part in parts], batch_first=True)


def per_example(batch: Batch, values: Tensor) -> Tensor:
    """[E] means over the branches of each example, of [B]."""
    sizes = [len(example.rows[0].branches) for example in batch.examples]
    return torch.stack([part.float().mean() for part in torch.split(values.detach(), sizes)])


def _sampled_logps(rollout: Rollout) -> Tensor:
    known = [segment.logps or () for segment in rollout.segments]
    return torch.tensor([value for values in known for value in values], dtype=torch.float32)
