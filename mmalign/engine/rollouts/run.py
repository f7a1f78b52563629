"""Many rollouts at once."""

import asyncio
from collections.abc import Sequence
from typing import Any

from mmalign.engine.context import draw_seed
from mmalign.engine.rollouts.config import RolloutConfig
from mmalign.models.protocol import Sampling, SamplesTokens
from mmalign.records import Lineage, Rollout, Sample, Segment

__all__ = ["roll_out"]


async def roll_out(
    policy: SamplesTokens,
    samples: Sequence[Sample],
    config: RolloutConfig,
    tools: Sequence[Any] = (),
    *,
    seed: int,
    epoch: int,
    num_generations: int,
) -> list[list[Rollout]]:
    """The rollouts of each sample, in order."""
    found = await asyncio.gather(
        *(
            _one(policy, sample, config, seed=seed, epoch=epoch, draw=draw)
            for sample in samples
            for draw in range(num_generations)
        )
    )
    return [
        list(found[start : start + num_generations])
        for start in range(0, len(found), num_generations)
    ]


async def _one(
    policy: SamplesTokens,
    sample: Sample,
    config: RolloutConfig,
    *,
    seed: int,
    epoch: int,
    draw: int,
) -> Rollout:
    sampling = Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_completion_length=min(config.max_turn_length, config.max_completion_length),
    )
    first = draw_seed(seed, sample.id, epoch, f"rollout/{draw}/0")
    sampled = await policy.sample_tokens(sample.messages, sampling=sampling, seed=first)
    return Rollout(
        sample_id=sample.id,
        draw_index=draw,
        num_prompt_tokens=await policy.num_prompt_tokens(sample.messages),
        segments=(
            Segment(
                kind="policy",
                token_ids=sampled.token_ids,
                logps=sampled.logps,
                text=sampled.text,
            ),
        ),
        stop="end" if sampled.finish_reason == "stop" else "length",
        answer=sampled.text if sampled.finish_reason == "stop" else None,
        lineage=Lineage(seed=first),
    )
