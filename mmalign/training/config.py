"""Settings of trainers; leaf names are those of transformers, PEFT and TRL."""

from typing import Literal

from pydantic import Field

from mmalign.config import Config
from mmalign.training.forward import Layout

__all__ = ["LoraSettings", "TrainerConfig"]


class LoraSettings(Config):
    """Low-rank adapters on the language model."""

    lora_r: int = Field(default=128, gt=0)
    """Source: RRPO's training scripts."""
    lora_alpha: int = Field(default=256, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Preference losses compare policy and reference, so 0 unless wished otherwise."""
    lora_target_modules: tuple[str, ...] | None = None
    """None: every linear layer of the language model, not the vision tower, projector or head."""


class TrainerConfig(Config):
    """How long, how fast, in what batches, from which reference."""

    learning_rate: float = Field(default=5e-6, gt=0)
    num_train_epochs: float = Field(default=1.0, gt=0)
    max_steps: int = -1
    """Overrides `num_train_epochs` when positive."""
    per_device_train_batch_size: int = Field(default=1, gt=0)
    gradient_accumulation_steps: int = Field(default=1, gt=0)
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = Field(default=0.03, ge=0)
    """Below 1 it is a share of all steps."""
    optim: str = "adamw_torch"
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = Field(default=1.0, ge=0)
    seed: int = 42
    bf16: bool = False
    gradient_checkpointing: bool = False
    logging_steps: int = Field(default=10, gt=0)
    save_steps: int = Field(default=500, gt=0)
    save_total_limit: int = Field(default=2, gt=0)
    report_to: str | tuple[str, ...] = "none"
    run_name: str | None = None
    dataloader_num_workers: int = Field(default=0, ge=0)
    ddp_find_unused_parameters: bool = False
    world_size: int | None = None
    """Refuse to train in any other number of processes; None takes what the launcher gives."""

    max_length: int | None = None
    """Longest prompt with its longest answer, in tokens; nothing is ever cut."""
    over_length: Literal["error", "drop"] = "error"
    layout: Layout = "branch"
    logps_chunk_size: int = Field(default=1024, gt=0)
    """Tokens whose vocabulary logits are alive at a time."""
    reference: str = "auto"
    """`auto`: adapter off where there is one, else a frozen copy; `adapter_off`; `copy`; or the
    folder or hub name of a model."""
    media_memory_mb: int = Field(default=4096, ge=0)
    """Prepared media that stay in memory for the next epoch, or the next question about a clip."""
    disable_dropout: bool = True
    lineage_keys: tuple[str, ...] = ("question_type", "route")
    """Lineage tags that metrics are split by."""
