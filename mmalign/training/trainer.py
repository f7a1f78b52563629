"""transformers' training loop with our batch, loss scale, metrics and checkpoints."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import (
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from mmalign.errors import ConfigError
from mmalign.models.families import ModelFamily
from mmalign.objectives import ChosenObjective
from mmalign.training.batching import LengthGroups, padding_of
from mmalign.training.branches import (
    BranchScores,
    StoredLogps,
    measures_of,
    score_branches,
)
from mmalign.training.checkpoints import finish_checkpoint
from mmalign.training.config import TrainerConfig
from mmalign.training.examples import Batch, Example, ExampleDataset, SampleDataset, collate
from mmalign.training.forward import Row, call_through
from mmalign.training.out_of_memory import explain_memory
from mmalign.training.reference import Reference
from mmalign.training.role_check import RoleCheck
from mmalign.training.vision_cache import shared_features

__all__ = ["AlignmentTrainer", "ItemLosses", "ObjectiveTrainer"]


@dataclass(frozen=True)
class ItemLosses:
    """What one micro-batch costs, before anything is averaged."""

    total: Tensor
    """Scalar: losses summed over the units; carries gradient."""
    metrics: Mapping[str, Tensor]
    """Per example [B], detached; averaged over all examples between two log lines, without NaN."""


class AlignmentTrainer(Trainer):
    """A training loop whose gradient does not depend on how the batch is cut.

    The loss of a step is the sum over all units (pairs or tokens) of all micro-batches of all
    processes, divided by their number; 1 x 4, 4 x 1 and two processes x 2 give one gradient.
    """

    loss_is_scaled_for_ga = True
    collate = staticmethod(collate)

    def __init__(
        self,
        model: nn.Module,
        family: ModelFamily,
        processor: Any,  # transformers' processors share no typed base
        dataset: ExampleDataset | SampleDataset,
        config: TrainerConfig,
        output_dir: Path,
        manifest: Mapping[str, Any],
    ) -> None:
        self.policy = model
        self.family = family
        self.config = config
        self._metrics: dict[str, list[tuple[float, int]]] = defaultdict(list)
        if config.disable_dropout:
            _disable_dropout(model)
        self.vision = shared_features(
            model,
            family,
            processor,
            keep=config.vision_cache,
            max_bytes=config.vision_cache_mb * 2**20,
            plain_layout=config.layout == "plain",
            with_dropout=not config.disable_dropout,
            bf16=config.bf16,
        )
        self._num_encoded = 0
        self._sizes = dataset.sizes or ()
        super().__init__(
            model=model,
            args=training_arguments(config, output_dir),
            train_dataset=dataset,
            data_collator=self.collate,  # type: ignore[arg-type]  # a Batch, not a dict
            processing_class=processor,
            callbacks=[
                _RunFolder(output_dir, manifest, config.save_total_limit),
                RoleCheck(config.min_reward_accuracy, config.reward_accuracy_steps),
            ],
        )
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(_Progress())
        if config.world_size is not None and self.args.world_size != config.world_size:
            raise ConfigError(
                f"trainer.world_size asks for {config.world_size} processes, there are "
                f"{self.args.world_size}. Start them with torchrun --nproc_per_node "
                f"{config.world_size}; `accelerate launch --cpu` silently runs one"
            )

    def item_losses(self, batch: Batch) -> ItemLosses:
        """Losses of one micro-batch, summed over its units."""
        raise NotImplementedError

    def num_units(self, batch: Batch) -> int:
        """What the loss is averaged over, counted in one micro-batch."""
        raise NotImplementedError

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """The micro-batches of one step and the number of units in them, over all processes."""
        if self.vision is not None:
            self.vision.begin_step()
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        batches = self.prepare_step(batches)
        units = torch.tensor(sum(self.num_units(batch) for batch in batches), device=device)
        return batches, self.accelerator.gather(units).sum().clamp(min=1)

    def prepare_step(self, batches: list[Any]) -> list[Batch]:
        """The micro-batches of a step as the data set gives them, made ready to be learnt from."""
        return batches

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward pass of one micro-batch.

        Raises:
            TrainingMemoryError: It does not fit into memory.
        """
        with explain_memory(inputs.examples, self.config):
            return super().training_step(model, inputs, num_items_in_batch)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """Records of similar length together, where the recipe says so; else any order."""
        if not self.config.group_by_length:
            return super()._get_train_sampler(train_dataset)
        return LengthGroups(
            self._sizes,
            batch_size=self.args.train_batch_size,
            num_processes=self.args.world_size,
            seed=self.config.seed,
        )

    def _prepare_inputs(self, inputs: Any) -> Batch:  # type: ignore[override]  # not a dict
        """A Batch moves itself; transformers' version wants a dict."""
        batch: Batch = inputs.to(self.args.device)
        return batch

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> None:
        """Ours are counted in `get_batch_samples`; transformers' count wants `labels`."""

    def compute_loss(  # type: ignore[override]  # a Batch, not a dict
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """This process's share of the step's mean loss."""
        assert not return_outputs
        assert num_items_in_batch is not None
        unwrapped = self.accelerator.unwrap_model(model)
        total: Tensor
        with self.accelerator.autocast():  # accelerate's is around a forward that is not called
            total, metrics = call_through(model, unwrapped, self._total_and_metrics, inputs)
        self._record(inputs.examples, metrics)
        self._record_work(inputs.rows)
        # DistributedDataParallel averages gradients over processes; the sum is what is meant.
        share: Tensor = total * (self.accelerator.num_processes / num_items_in_batch)
        return share

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of our metrics since the last line, over all processes."""
        if "loss" in logs:
            logs |= self._drain_metrics()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: transformers' estimate wants `input_ids`."""
        return 0

    def _total_and_metrics(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self.item_losses(batch)
        return losses.total, dict(losses.metrics)

    def _record(self, examples: Sequence[Example], metrics: Mapping[str, Tensor]) -> None:
        for name, values in metrics.items():
            for example, value in zip(examples, values.tolist(), strict=True):
                if math.isnan(value):  # says nothing about this example
                    continue
                self._metrics[name].append((value, 1))
                for key in self.config.lineage_keys:
                    if key in example.tags:
                        self._metrics[f"lineage/{key}={example.tags[key]}/{name}"].append(
                            (value, 1)
                        )

    def _record_work(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        padding = padding_of(rows, layout=self.config.layout)
        wasted = padding.num_positions - padding.num_tokens
        self._metrics["padding_share"].append((wasted, padding.num_positions))
        if self.vision is not None:
            encoded = self.vision.num_encoded - self._num_encoded
            self._num_encoded += encoded
            self._metrics["vision/encoded_frames"].append((encoded, 1))

    def _drain_metrics(self) -> dict[str, float]:
        own = {
            name: (math.fsum(value for value, _ in pairs), sum(count for _, count in pairs))
            for name, pairs in self._metrics.items()
        }
        self._metrics.clear()
        totals: dict[str, tuple[float, int]] = {}
        for part in gather_object([own]):
            for name, (value, count) in part.items():
                before = totals.get(name, (0.0, 0))
                totals[name] = (before[0] + value, before[1] + count)
        return {name: value / count for name, (value, count) in sorted(totals.items())}


class ObjectiveTrainer(AlignmentTrainer):
    """A training loop around one objective of the table, with its reference if it has one."""

    def __init__(
        self,
        model: nn.Module,
        *args: Any,
        objective: ChosenObjective,
        reference: Reference | StoredLogps | None,
        **kwargs: Any,
    ) -> None:
        self.objective: ChosenObjective = objective
        self.reference = reference
        super().__init__(model, *args, **kwargs)
        if self.vision is not None and isinstance(reference, Reference):
            reference.share(self.vision, model)

    def num_units(self, batch: Batch) -> int:
        """Records: pairs, responses or lists."""
        return len(batch.examples)

    def score_branches(self, rows: Sequence[Row]) -> BranchScores:
        """One forward pass of the policy and, where it is computed, of the reference."""
        return score_branches(
            self.policy,
            self.family,
            rows,
            self.config,
            reference=self.reference,
            vision=self.vision,
            measures=measures_of(self.objective.objective.needs),
        )


class _Progress(ProgressCallback):
    """transformers' bar with a short line where it prints every metric of every lineage tag."""

    shown = ("loss", "rewards/margins", "rewards/accuracies", "nll", "kl", "grad_norm")

    def on_log(  # type: ignore[no-untyped-def]  # as its base
        self, args, state, control, logs=None, **kwargs
    ) -> None:
        """One line of the metrics that most runs are watched by; trainer_log.jsonl has all."""
        if self.training_bar is not None and "loss" in (logs or {}):
            parts = [f"{name} {logs[name]:.4g}" for name in self.shown if name in logs]
            self.training_bar.write(f"step {state.global_step}: {', '.join(parts)}")


class _RunFolder(TrainerCallback):
    """Keeps trainer_log.jsonl whole and marks checkpoints that are complete."""

    def __init__(
        self, output_dir: Path, manifest: Mapping[str, Any], save_total_limit: int
    ) -> None:
        self._output_dir = output_dir
        self._manifest = manifest
        self._limit = save_total_limit

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the whole history, so that a resumed run has no line twice."""
        if state.is_world_process_zero:
            lines = "".join(json.dumps(entry) + "\n" for entry in state.log_history)
            (self._output_dir / "trainer_log.jsonl").write_text(lines, encoding="utf-8")

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The marker is the last file of a checkpoint; older ones go only after it is there."""
        if state.is_world_process_zero:
            folder = self._output_dir / f"checkpoint-{state.global_step}"
            finish_checkpoint(folder, self._manifest, keep=self._limit)


def training_arguments(config: TrainerConfig, output_dir: Path) -> TrainingArguments:
    """transformers' arguments of a recipe."""
    return TrainingArguments(
        output_dir=str(output_dir),
        learning_rate=config.learning_rate,
        num_train_epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_steps,
        optim=config.optim,
        weight_decay=config.weight_decay,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        data_seed=config.seed,
        bf16=config.bf16,
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=None,  # ours: a checkpoint may go only when a later one is complete
        report_to=config.report_to if isinstance(config.report_to, str) else list(config.report_to),
        run_name=config.run_name,
        dataloader_num_workers=config.dataloader_num_workers,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        ddp_find_unused_parameters=config.ddp_find_unused_parameters,
        use_cpu=not torch.cuda.is_available(),
    )


def _disable_dropout(model: nn.Module) -> None:
    """Zero every dropout, module or attention attribute: policy and reference must agree."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010  # nn.Module types it as Tensor
