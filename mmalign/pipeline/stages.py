"""The stages of a run; each can be called alone, and again: finished work is left as it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from mmalign.config import Config
from mmalign.engine import (
    AgentGraph,
    Funnel,
    Manifest,
    RunStore,
    agent_warnings,
    export,
    run_agent,
    run_apart,
    samples_fingerprint,
)
from mmalign.engine.manifest import current_versions
from mmalign.errors import ConfigError, StoreError
from mmalign.media import default_cache
from mmalign.models.families import family_of, processor_of
from mmalign.models.load import load_model
from mmalign.models.protocol import ChatModel
from mmalign.objectives import ChosenObjective, parse_objective
from mmalign.pipeline.agents import agent_settings, load_agent, online_agent
from mmalign.pipeline.config import Plugin, RunConfig, call_reader, supervised
from mmalign.pipeline.rollouts import rollout_task
from mmalign.records import PreferencePair, Sample, labelled_of
from mmalign.records.jsonl import read_jsonl
from mmalign.records.spans import phrase_ids_of
from mmalign.report import write_report
from mmalign.report.pair import PairTokens
from mmalign.sandbox import Sandbox
from mmalign.training.plan import percentiles, plan_table
from mmalign.training.run import plan_training, train

DECIDES_PAIRS = ("seed", "media", "dataset", "agent", "models")
"""Sections of a recipe that the pairs depend on."""

__all__ = [
    "DECIDES_PAIRS",
    "build_pairs",
    "claim_folder",
    "make_report",
    "read_samples",
    "train_policy",
    "trains_on_pairs",
]


def claim_folder(config: RunConfig) -> None:
    """Write config.yaml, or refuse a folder that holds another run.

    Budget, concurrency, training and evaluation may change between calls: the engine, the trainer
    and the evaluation each know what of theirs is finished, and refuse what does not fit.

    Raises:
        ConfigError: The recipe would build other pairs; the message lists the sections.
        StoreError: The folder cannot be written.
    """
    path = config.output_dir / "config.yaml"
    mine = config.model_dump(mode="json")
    if path.exists():
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if changed := [key for key in DECIDES_PAIRS if mine.get(key) != found.get(key)]:
            raise ConfigError(
                f"{config.output_dir} holds a run with another recipe; these sections differ: "
                f"{', '.join(changed)}. Give another output_dir, or delete the folder"
            )
    try:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(mine, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error}. Give another output_dir") from error


def read_samples(plugins: tuple[Plugin, ...]) -> Iterator[Sample]:
    """All samples of the data sets, one after the other."""
    for index, plugin in enumerate(plugins):
        yield from call_reader(plugin, f"dataset[{index}]" if len(plugins) > 1 else "dataset")


def build_pairs(config: RunConfig, console: Console) -> Funnel:
    """Run the agent over all samples and export the records.

    Raises:
        ConfigError: The recipe names no agent.
    """
    if config.agent is None:
        raise ConfigError("the recipe has no agent, so there is nothing to build")
    graph = load_agent(config.agent)
    settings = agent_settings(graph, config.agent)
    manifest = Manifest(
        agent=config.agent.path,
        config={
            "agent": settings.model_dump(mode="json"),
            "models": {
                role: model.model_dump(mode="json") for role, model in config.models.items()
            },
            "media": config.media.model_dump(mode="json"),
        },
        dataset=", ".join(plugin.path for plugin in config.datasets),
        dataset_fingerprint=samples_fingerprint(read_samples(config.datasets)),
        seed=config.seed,
        versions=current_versions(),
    )
    models = {role: load_model(model, config.media) for role, model in config.models.items()}
    with RunStore(config.output_dir) as store:
        try:
            run_apart(_build(config, graph, settings, manifest, models, store, console))
        finally:
            funnel = export(store)
        warnings = agent_warnings(graph, store)
    console.print(funnel.table())
    for warning in warnings:
        console.print(f"[yellow]{warning}[/yellow]")
    return funnel


async def _build(
    config: RunConfig,
    graph: AgentGraph,
    settings: Config,
    manifest: Manifest,
    models: dict[str, ChatModel],
    store: RunStore,
    console: Console,
) -> None:
    sandbox = Sandbox(config.sandbox)  # starts nothing until an agent runs code
    try:
        await run_agent(
            graph,
            read_samples(config.datasets),
            store=store,
            manifest=manifest,
            policy=models["policy"],
            models={role: model for role, model in models.items() if role != "policy"},
            sandbox=sandbox,
            config=settings,
            engine=config.engine,
            budget=config.budget,
            num_samples=sum(1 for _ in read_samples(config.datasets)),
            console=console,
        )
    finally:
        sandbox.close()
        for model in models.values():
            await model.close()


def train_policy(config: RunConfig, console: Console) -> Path:
    """Train the policy on the pairs of the run, or on the samples' answers.

    Raises:
        ConfigError: No trainer section, a policy that is not in process, or no records.
    """
    if config.trainer is None:
        raise ConfigError("the recipe has no trainer, so there is nothing to train")
    objective = _objective(config)
    with Sandbox(config.sandbox) as sandbox:  # starts nothing until something is run
        return train(
            policy_path(config),
            _records(config, objective),
            config.output_dir / "train",
            objective=objective,
            trainer=config.trainer,
            lora=config.lora,
            media=config.media,
            cache=default_cache(),
            console=console,
            agent=online_agent(config, sandbox) if config.trainer.online else None,
            rollouts=rollout_task(config, sandbox),
        )


def plan_policy(config: RunConfig, console: Console) -> dict[str, Any]:
    """Count the tokens of what would be trained on and predict the memory; print the table.

    Raises:
        ConfigError: No trainer section, a policy that is not in process, or no records.
    """
    if config.trainer is None:
        raise ConfigError("the recipe has no trainer, so there is nothing to plan")
    objective = _objective(config)
    with Sandbox(config.sandbox) as sandbox:  # starts nothing, for nothing is run
        plan = plan_training(
            policy_path(config),
            _records(config, objective),
            objective=objective,
            trainer=config.trainer,
            lora=config.lora,
            media=config.media,
            rollouts=rollout_task(config, sandbox),
        )
    console.print(plan_table(plan))
    return {"percentiles": percentiles(plan.counts), "too_long": list(plan.too_long)}


def pair_tokens(config: RunConfig, pair: PreferencePair) -> PairTokens:
    """The tokens of both sides and which of them carry reward, by the policy's own tokenizer."""
    path = policy_path(config)
    family, processor = family_of(path), processor_of(path)
    tokens: list[list[str]] = []
    phrases: list[list[int]] = []
    for side in (pair.chosen, pair.rejected):
        completion = family.encode_completion(processor, pair.prompt, side.messages)
        ends = [0, *(end for _, end in completion.offsets)]
        tokens.append(  # a character of several tokens is shown with the first of them
            [
                side.text[max(start, shown) : end]
                for (start, end), shown in zip(completion.offsets, ends, strict=False)
            ]
        )
        phrases.append(phrase_ids_of(completion.offsets, side.spans))
    return PairTokens(tokens[0], phrases[0], tokens[1], phrases[1])


def policy_path(config: RunConfig) -> str:
    """Folder or hub name of the weights that are trained.

    Raises:
        ConfigError: The policy answers over a server; its weights are not here.
    """
    path = getattr(config.models["policy"], "model_name_or_path", None)
    if path is None:
        raise ConfigError(
            "models.policy is a server; to train, give it backend: transformers and "
            "model_name_or_path"
        )
    return str(path)


def make_report(config: RunConfig) -> Path:
    """The page of the run."""
    return write_report(config.output_dir)


def trains_on_pairs(config: RunConfig) -> bool:
    """Whether training wants pairs that are built before it.

    Gold answers, rollouts and pairs that are built while training need none.

    Raises:
        ConfigError: The objective is unknown or a setting of it does not fit.
    """
    answers = supervised(config.objective)
    if answers is not None:
        return answers.answers == "chosen"
    is_online = config.trainer is not None and config.trainer.online
    return not is_online and parse_objective(config.objective).objective.unit != "rollout"


def _objective(config: RunConfig) -> ChosenObjective | None:
    if supervised(config.objective) is not None:
        return None
    return parse_objective(config.objective)


def _records(config: RunConfig, objective: ChosenObjective | None) -> list[Any]:
    """The pairs that the run has built, or their chosen sides; samples where it needs none."""
    if not trains_on_pairs(config):
        return list(read_samples(config.datasets))
    pairs = _pairs(config.output_dir)
    return pairs if objective else [labelled_of(pair)[0] for pair in pairs]


def _pairs(folder: Path) -> list[PreferencePair]:
    path = folder / "data" / "pairs.jsonl"
    if not path.exists():
        raise ConfigError(f"{path}: there are no pairs; run mmalign build with the same recipe")
    return list(read_jsonl(path, PreferencePair))
