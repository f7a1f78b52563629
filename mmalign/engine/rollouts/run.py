"""Many rollouts at once."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from langchain_core.runnables import RunnableConfig

from mmalign.engine.rollouts.config import RolloutConfig
from mmalign.engine.rollouts.formats import Format, plain, search_r1, template, torl
from mmalign.engine.rollouts.graph import RolloutContext, RolloutState, build_graph
from mmalign.engine.rollouts.prompts import prompt_messages
from mmalign.engine.rollouts.tools import RolloutTool, tool_schemas
from mmalign.errors import MediaError, ModelCallError
from mmalign.models.protocol import SamplesTokens
from mmalign.records import Lineage, Message, Rollout, Sample

__all__ = ["roll_out"]


async def roll_out(
    policy: SamplesTokens,
    samples: Sequence[Sample],
    config: RolloutConfig,
    tools: Sequence[RolloutTool] = (),
    *,
    seed: int,
    epoch: int,
    num_generations: int,
) -> list[list[Rollout]]:
    """The rollouts of each sample, in order.

    A rollout is a pure function of weights, sample, settings, seed, epoch and its place in the
    group, as long as its tools are and no budget of seconds cuts it.

    Args:
        policy: Whose tokens are kept with their log-probabilities.
        samples: The prompts.
        config: Format and budgets.
        tools: What may be called, as `load_tools` gives it.
        seed: Of the run.
        epoch: Which time the samples are seen.
        num_generations: Rollouts of each sample.

    Returns:
        `num_generations` rollouts for each sample. One that the machine failed has the stop
        `error` and says in `metadata["error"]` how.

    Raises:
        CapabilityError: The chat template cannot be used, or the model has no room.
        ConfigError: Tools do not fit the format.
    """
    slots = asyncio.Semaphore(config.max_concurrent)
    groups = (
        _group(policy, sample, config, tools, seed, epoch, num_generations, slots)
        for sample in samples
    )
    return list(await asyncio.gather(*groups))


async def _group(
    policy: SamplesTokens,
    sample: Sample,
    config: RolloutConfig,
    tools: Sequence[RolloutTool],
    seed: int,
    epoch: int,
    num_generations: int,
    slots: asyncio.Semaphore,
) -> list[Rollout]:
    messages, schemas = prompt_messages(sample, config, tools), tool_schemas(tools, config)
    form = await _format(policy, messages, schemas, config, tools)
    contexts = [
        RolloutContext(
            policy=policy,
            messages=messages,
            schemas=schemas,
            tools={tool.name: tool for tool in tools},
            format=form,
            config=config,
            sample_id=sample.id,
            seed=seed,
            epoch=epoch,
            draw_index=place,
        )
        for place in range(num_generations)
    ]
    try:
        async with slots:
            num_prompt_tokens = await policy.num_prompt_tokens(messages, schemas)
    except (ModelCallError, MediaError) as error:
        failed: RolloutState = {"stop": "error", "error": f"the prompt cannot be read: {error}"}
        return [_record(context, sample, failed, 0) for context in contexts]
    return list(
        await asyncio.gather(*(_walk(item, sample, num_prompt_tokens, slots) for item in contexts))
    )


async def _walk(
    context: RolloutContext, sample: Sample, num_prompt_tokens: int, slots: asyncio.Semaphore
) -> Rollout:
    settings: RunnableConfig = {
        "recursion_limit": 3 * context.config.max_turns + 1,
        "metadata": {"sample_id": sample.id},
    }
    async with slots:
        started = replace(context, started_s=time.monotonic())
        ended = await build_graph().ainvoke({}, settings, context=started)
    return _record(context, sample, cast("RolloutState", ended), num_prompt_tokens)


async def _format(
    policy: SamplesTokens,
    messages: Sequence[Message],
    schemas: Sequence[str],
    config: RolloutConfig,
    tools: Sequence[RolloutTool],
) -> Format:
    match config.format:
        case "search_r1":
            return search_r1(tools)
        case "torl":
            return torl(tools[0])
        case "template":
            return template(await policy.tool_template(messages, schemas))
        case "none":
            return plain()


def _record(
    context: RolloutContext, sample: Sample, ended: RolloutState, num_prompt_tokens: int
) -> Rollout:
    tags = {key: str(sample.metadata[key]) for key in ("question_type",) if key in sample.metadata}
    source = sample.metadata.get("dataset")
    rollout = Rollout(
        sample_id=sample.id,
        draw_index=context.draw_index,
        num_prompt_tokens=num_prompt_tokens,
        segments=tuple(ended.get("segments", ())),
        tool_runs=tuple(ended.get("runs", ())),
        stop=ended["stop"],
        answer=ended.get("answer"),
        metadata={"num_turns": ended.get("num_turns", 0)}
        | ({"error": ended["error"]} if "error" in ended else {}),
        lineage=Lineage(
            graph="mmalign.engine.rollouts.graph:build_graph",
            node="act",
            sampling={"temperature": context.config.temperature, "top_p": context.config.top_p},
            seed=context.turn_seed(0),
            source=source if isinstance(source, str) else None,
            tags=tags,
            cost=sum(run.cost for run in ended.get("runs", ())),
        ),
    )
    assert len(rollout.token_ids) <= context.config.max_completion_length
    return rollout
