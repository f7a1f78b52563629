"""Train a model on records: load, plan, wrap, resume or begin, save."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rich.console import Console
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    PreTrainedModel,
    set_seed,
)

from mmalign.errors import ConfigError
from mmalign.media import FrameCache, FrameSampling
from mmalign.models.families import ModelFamily, family_of, processor_of
from mmalign.objectives import ChosenObjective, RolloutSettings, Unit
from mmalign.records import content_id
from mmalign.training.actor_critic import PPOTrainer
from mmalign.training.adapters import with_adapter
from mmalign.training.batching import RecordSize
from mmalign.training.card import write_model_card
from mmalign.training.checkpoints import begin_run, is_finished, mark_finished
from mmalign.training.config import LoraSettings, TrainerConfig
from mmalign.training.examples import Encoder, ExampleDataset, SampleDataset
from mmalign.training.forward import base_model
from mmalign.training.group import GroupTrainer
from mmalign.training.listwise import ListwiseTrainer
from mmalign.training.online import OnlineAgent, OnlineTrainer, require_online
from mmalign.training.plan import (
    Plan,
    count_all,
    estimate_memory,
    fits,
    plan_table,
)
from mmalign.training.preference import PreferenceTrainer
from mmalign.training.processes import own_device, require_launched_processes
from mmalign.training.reference import Reference, make_reference, starting_reference
from mmalign.training.rollout_task import RolloutTask, require_rollouts
from mmalign.training.stored_reference import (
    ReferenceStore,
    missing_examples,
    reference_parts,
    refuse_unfit,
    store_folder,
)
from mmalign.training.supervised import SupervisedTrainer
from mmalign.training.trainer import AlignmentTrainer, ObjectiveTrainer
from mmalign.training.units import TrainingRecord, encode_with, units_of
from mmalign.training.unpaired import UnpairedTrainer
from mmalign.training.vision_cache import freeze_vision

__all__ = ["TrainingRecord", "plan_training", "train"]

_OF_REFERENCE = {"ref_logps", "token_kl", "token_js"}


def train(
    model_name_or_path: str,
    records: Sequence[TrainingRecord],
    output_dir: Path,
    *,
    objective: ChosenObjective | None,
    trainer: TrainerConfig,
    lora: LoraSettings | None,
    media: FrameSampling,
    cache: FrameCache | None = None,
    console: Console | None = None,
    agent: OnlineAgent | None = None,
    rollouts: RolloutTask | None = None,
) -> Path:
    """Train, or go on where an interrupted run stopped; a finished run is left as it is.

    Args:
        model_name_or_path: Folder or hub name of the policy, which is also the reference unless
            `trainer.reference` names another.
        records: Pairs for an objective, or the labelled responses or rankings that it counts;
            for supervised training samples with answers, or wanted responses.
        output_dir: Gets checkpoints, trainer_log.jsonl, plan.json, the final model (the adapter
            alone with LoRA) and its card.
        objective: What to optimise on pairs; None is supervised training.
        trainer: Optimiser, batches, reference.
        lora: Adapter; None trains all weights.
        media: How frames are sampled, as when the data was built.
        cache: Decoded frames.
        console: Where the plan is printed.
        agent: Builds the pairs of every step from samples, with `trainer.online`.
        rollouts: How samples are rolled out and rewarded, for an objective over rollouts.

    Returns:
        The folder with the final model.

    Raises:
        ConfigError: No records, records too long, or the wrong number of processes.
        CheckpointError: The folder holds a run with other data, model or settings.
    """
    require_launched_processes()
    records = _checked(records, output_dir, objective, trainer, agent, rollouts)
    manifest = _manifest(model_name_or_path, records, objective, trainer, lora, media, agent)
    if rollouts is not None:
        manifest["rollouts"] = dict(rollouts.manifest)
    resume_from = begin_run(output_dir, manifest)
    if is_finished(output_dir):
        return output_dir
    set_seed(trainer.seed)
    dtype = torch.bfloat16 if trainer.bf16 and lora else torch.float32
    family = family_of(model_name_or_path)
    model, processor = family.load(model_name_or_path, dtype=dtype, device=own_device())
    encoder = Encoder(
        family, processor, media, cache=cache, keep_bytes=trainer.media_memory_mb * 2**20
    )
    policy = _trainable(model, family, trainer, lora)
    plan = _plan(policy, records, encoder, trainer, objective, rollouts)
    if int(os.environ.get("RANK", "0")) == 0:
        plan.save(output_dir / "plan.json")
        (console or Console()).print(plan_table(plan))
    dataset = _dataset(records, plan, encoder, trainer, objective, rollouts)
    loop = _make_trainer(
        policy, encoder, dataset, objective, trainer, output_dir, manifest, dtype, agent, rollouts
    )
    if isinstance(loop, ObjectiveTrainer) and trainer.reference_logps == "store":
        loop.reference = _stored_reference(
            loop, dataset, encoder, objective, model_name_or_path, output_dir, dtype
        )
    loop.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    loop.save_model(str(output_dir))
    if loop.is_world_process_zero():
        results = dict(loop.state.log_history[-1])
        write_model_card(
            output_dir,
            base_model=model_name_or_path,
            model_class=type(base_model(policy)).__name__,
            method=objective.name if objective else "sft",
            settings=objective.config if objective else None,
            trainer=trainer,
            lora=lora,
            records=records,
            results=results,
        )
        mark_finished(output_dir, results)
    loop.accelerator.wait_for_everyone()
    return output_dir


def _checked(
    records: Sequence[TrainingRecord],
    output_dir: Path,
    objective: ChosenObjective | None,
    trainer: TrainerConfig,
    agent: OnlineAgent | None,
    rollouts: RolloutTask | None,
) -> Sequence[TrainingRecord]:
    """The records as they are learnt from, once the settings are known to fit each other."""
    if not records:
        raise ConfigError(f"{output_dir}: there are no records to train on; look at the funnel")
    stores_reference = trainer.reference_logps == "store"
    if stores_reference:
        refuse_unfit(objective, trainer, output_dir)
    if objective is not None and objective.objective.unit == "rollout":
        require_rollouts(rollouts, objective.name, records, trainer)
        return records
    if not trainer.online:
        return units_of(records, objective)
    unit = objective.objective.unit if objective else "sample"
    require_online(agent, unit=unit, stores_reference=stores_reference)
    return records


def _make_trainer(
    policy: nn.Module,
    encoder: Encoder,
    dataset: ExampleDataset,
    objective: ChosenObjective | None,
    trainer: TrainerConfig,
    output_dir: Path,
    manifest: Mapping[str, Any],
    dtype: torch.dtype,
    agent: OnlineAgent | None,
    rollouts: RolloutTask | None,
) -> AlignmentTrainer:
    common: dict[str, Any] = {
        "model": policy,
        "family": encoder.family,
        "processor": encoder.processor,
        "dataset": dataset,
        "config": trainer,
        "output_dir": output_dir,
        "manifest": manifest,
    }
    if objective is None:
        return SupervisedTrainer(**common)
    common |= {
        "objective": objective,
        "reference": _reference(policy, encoder.family, objective, trainer, dtype),
    }
    samples = SampleDataset(dataset.records, dataset.sizes or ())
    if rollouts is not None and objective.objective.unit == "rollout":
        common |= {"dataset": samples, "task": rollouts, "encoder": encoder}
        return PPOTrainer(**common) if objective.name == "ppo" else GroupTrainer(**common)
    if agent is not None and trainer.online:
        return OnlineTrainer(**common | {"dataset": samples}, agent=agent, encoder=encoder)
    loops: dict[Unit, type[PreferenceTrainer | UnpairedTrainer | ListwiseTrainer]] = {
        "pair": PreferenceTrainer,
        "response": UnpairedTrainer,
        "list": ListwiseTrainer,
    }
    return loops[objective.objective.unit](**common)


def _reference(
    policy: nn.Module,
    family: ModelFamily,
    objective: ChosenObjective,
    trainer: TrainerConfig,
    dtype: torch.dtype,
) -> Reference | None:
    if not _needs_reference(objective) or trainer.reference_logps == "store":
        return None
    return make_reference(policy, family, trainer.reference, dtype=dtype)


def _dataset(
    records: Sequence[TrainingRecord],
    plan: Plan,
    encoder: Encoder,
    trainer: TrainerConfig,
    objective: ChosenObjective | None,
    rollouts: RolloutTask | None,
) -> ExampleDataset:
    """The records that fit, with the tokens that were counted."""
    kept = fits(plan, over_length=trainer.over_length)
    sizes = {
        count.id: RecordSize(count.media_tokens + count.text_tokens, count.completion_tokens)
        for count in plan.counts
    }
    fitting = [record for record in records if record.id in kept]
    return ExampleDataset(
        fitting,
        encode_with(encoder, objective, trainer, rollouts),
        sizes=[sizes[record.id] for record in fitting],
    )


def _stored_reference(
    loop: ObjectiveTrainer,
    dataset: ExampleDataset,
    encoder: Encoder,
    objective: ChosenObjective | None,
    model_name_or_path: str,
    output_dir: Path,
    dtype: torch.dtype,
) -> ReferenceStore:
    """The reference's numbers of all records; those that are missing are computed first."""
    trainer, accelerator = loop.config, loop.accelerator
    of_policy = trainer.reference in ("auto", "copy", "adapter_off")
    weights = model_name_or_path if of_policy else trainer.reference
    parts = reference_parts(loop.policy, encoder.processor, weights, trainer)
    store = ReferenceStore(store_folder(parts, trainer.reference_store, output_dir), parts)
    planner = encoder.for_planning(with_keys=True)
    planned = ExampleDataset(dataset.records, encode_with(planner, objective, trainer))
    missing = missing_examples(store, (planned[index] for index in range(len(planned))))
    share = missing[accelerator.process_index :: accelerator.num_processes]
    if share:
        reference = starting_reference(loop.policy, loop.family, trainer.reference, dtype=dtype)
        if loop.vision is not None:
            reference.share(loop.vision, loop.policy)
        for row in (row.to(loop.args.device) for index in share for row in dataset[index].rows):
            with accelerator.autocast():
                logps = reference.logps(
                    [row], layout=trainer.layout, chunk_size=trainer.logps_chunk_size
                )
            store.put(row, logps)
        store.flush()
    accelerator.wait_for_everyone()
    store.refresh()
    return store


def plan_training(
    model_name_or_path: str,
    records: Sequence[TrainingRecord],
    *,
    objective: ChosenObjective | None,
    trainer: TrainerConfig,
    lora: LoraSettings | None,
    media: FrameSampling,
    rollouts: RolloutTask | None = None,
) -> Plan:
    """What `train` would count and predict, without the weights."""
    family = family_of(model_name_or_path)
    config = AutoConfig.from_pretrained(model_name_or_path)
    config = getattr(config, "thinker_config", config)  # what speaks is not trained
    model_class = AutoModelForCausalLM if family.name == "causal_lm" else AutoModelForMultimodalLM
    with torch.device("meta"):
        empty: PreTrainedModel = model_class.from_config(config)  # type: ignore[no-untyped-call]  # transformers
    if not trainer.online:
        records = units_of(records, objective)
    encoder = Encoder(family, processor_of(model_name_or_path), media)
    policy = _trainable(empty, family, trainer, lora)
    return _plan(policy, records, encoder, trainer, objective, rollouts)


def _plan(
    policy: nn.Module,
    records: Sequence[TrainingRecord],
    encoder: Encoder,
    trainer: TrainerConfig,
    objective: ChosenObjective | None,
    rollouts: RolloutTask | None,
) -> Plan:
    encode = encode_with(encoder.for_planning(), objective, trainer, rollouts)
    counts, broken = count_all(records, encode)
    copies = (
        trainer.reference_logps == "compute"
        and trainer.reference != "adapter_off"
        and not (trainer.reference == "auto" and isinstance(policy, PeftModel))
    )
    memory = estimate_memory(
        base_model(policy),
        counts,
        trainer,
        num_trainable=sum(p.numel() for p in policy.parameters() if p.requires_grad),
        copies_reference=copies and _needs_reference(objective),
    )
    limit = trainer.max_length
    too_long = [c.id for c in counts if limit is not None and c.longest_tokens > limit]
    return Plan(tuple(counts), limit, tuple(too_long), broken, memory)


def _needs_reference(objective: ChosenObjective | None) -> bool:
    if objective is None:
        return False
    if isinstance(objective.config, RolloutSettings):
        return objective.config.uses_reference
    return bool(objective.objective.needs & _OF_REFERENCE)


def _trainable(
    model: nn.Module, family: ModelFamily, trainer: TrainerConfig, lora: LoraSettings | None
) -> nn.Module:
    policy = with_adapter(model, family, lora)
    if trainer.freeze_vision:
        freeze_vision(policy, family)
    return policy


def _manifest(
    model_name_or_path: str,
    records: Sequence[TrainingRecord],
    objective: ChosenObjective | None,
    trainer: TrainerConfig,
    lora: LoraSettings | None,
    media: FrameSampling,
    agent: OnlineAgent | None,
) -> dict[str, Any]:
    """What a resumed run must agree on."""
    return {
        "model": model_name_or_path,
        "data": content_id([record.id for record in records]),
        "num_records": len(records),
        "objective": {"name": objective.name, **objective.config.model_dump(mode="json")}
        if objective
        else {"name": "sft"},
        "trainer": trainer.model_dump(mode="json"),
        "lora": lora.model_dump(mode="json") if lora else None,
        "media": media.model_dump(mode="json"),
        "agent": {"path": agent.path, "seed": agent.seed, **agent.config.model_dump(mode="json")}
        if agent
        else None,
        "num_processes": int(os.environ.get("WORLD_SIZE", "1")),
    }
