"""Settings of trainers; leaf names are those of transformers, PEFT and TRL."""

from typing import Literal

from pydantic import Field

from mmalign.config import Config
from mmalign.training.forward import Layout
from mmalign.training.vision_cache import VisionCache

__all__ = ["LoraSettings", "TrainerConfig"]


class LoraSettings(Config):
    """Low-rank adapters on the language model."""

    lora_r: int = Field(default=128, gt=0)
    """Source: RRPO's training scripts."""
    lora_alpha: int = Field(default=256, gt=0)
    """The adapter is scaled by lora_alpha / lora_r."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Preference losses compare policy and reference, so 0 unless wished otherwise."""
    lora_target_modules: tuple[str, ...] | None = None
    """None: every linear layer of the language model, not the vision tower, projector or head."""
    modules_to_save: tuple[str, ...] = ()
    """Parts beside the text decoder (projectors, a clue aggregator) that are trained whole and
    saved with the adapter; with the adapter switched off they are as they were."""


class TrainerConfig(Config):
    """How long, how fast, in what batches, from which reference."""

    learning_rate: float = Field(default=5e-6, gt=0)
    """Its peak."""
    num_train_epochs: float = Field(default=1.0, gt=0)
    """Passes over the records."""
    max_steps: int = -1
    """Overrides `num_train_epochs` when positive."""
    per_device_train_batch_size: int = Field(default=1, gt=0)
    """Records of one forward pass on one device."""
    gradient_accumulation_steps: int = Field(default=1, gt=0)
    """Forward passes of one optimiser step; the gradient is that of one large batch."""
    lr_scheduler_type: str = "cosine"
    """A name of transformers' SchedulerType."""
    warmup_steps: float = Field(default=0.03, ge=0)
    """Below 1 it is a share of all steps."""
    optim: str = "adamw_torch"
    """A name of transformers' OptimizerNames."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW; biases and norms are left out."""
    adam_beta1: float = 0.9
    """Decay of the mean of gradients."""
    adam_beta2: float = 0.999
    """Decay of the mean of their squares."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Longer gradients are shortened to it; 0 leaves them."""
    seed: int = 42
    """Order of the records and weights of new adapters."""
    bf16: bool = False
    """Compute in bfloat16; adapters then stand on a bfloat16 model, other weights stay float32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    logging_steps: int = Field(default=10, gt=0)
    """Steps between two lines of trainer_log.jsonl."""
    save_steps: int = Field(default=500, gt=0)
    """Steps between two checkpoints."""
    save_total_limit: int = Field(default=2, gt=0)
    """Complete checkpoints that are kept."""
    report_to: str | tuple[str, ...] = "none"
    """tensorboard, trackio, wandb ..., where installed, beside trainer_log.jsonl."""
    run_name: str | None = None
    """What these services call the run."""
    dataloader_num_workers: int = Field(default=0, ge=0)
    """Processes that decode and encode; 0 does it between the steps."""
    ddp_find_unused_parameters: bool = False
    """For models of which a batch may leave parts unused, on several devices."""
    world_size: int | None = None
    """Refuse to train in any other number of processes; None takes what the launcher gives."""

    max_length: int | None = None
    """Longest prompt with its longest answer, in tokens; nothing is ever cut."""
    over_length: Literal["error", "drop"] = "error"
    """What happens to longer records: end before training begins, or leave them out with a note."""
    layout: Layout = "branch"
    """branch: a prompt once, its answers behind it; plain: the prompt again before each answer."""
    logps_chunk_size: int = Field(default=1024, gt=0)
    """Tokens whose vocabulary logits are alive at a time."""
    online: bool = False
    """The recipe's agent builds the pairs of every step from samples, asking the policy as it is
    then; nothing is built beforehand.
    """
    reference: str = "auto"
    """`auto`: adapter off where there is one, else a frozen copy; `adapter_off`; `copy`; or the
    folder or hub name of a model."""
    reference_logps: Literal["compute", "store"] = "compute"
    """store: the reference's log-probabilities are computed once before training, kept on disk and
    read in every epoch and run; its weights are then not held, or where all are there not loaded.
    """
    reference_store: Literal["cache", "run"] = "cache"
    """Where they are kept: with the user's caches for all runs, or in the run's own folder."""
    freeze_vision: bool = False
    """Train all weights but those of the vision tower and its projector."""
    vision_cache: VisionCache = "none"
    """How long features of a frozen tower are kept: for a step, in memory, on disk as well. What
    is kept equals what would be computed to rounding, not bit for bit."""
    vision_cache_mb: int = Field(default=2048, ge=0)
    """Features that are held in memory, the most recently used of them."""
    group_by_length: bool = False
    """Put records of similar length into one batch; the order is random all the same."""
    media_memory_mb: int = Field(default=4096, ge=0)
    """Prepared media that stay in memory for the next epoch, or the next question about a clip."""
    min_reward_accuracy: float | None = Field(default=None, ge=0, le=1)
    """End the training if the chosen answers have the larger reward in a smaller share of pairs,
    as they do where roles are swapped; None trains on."""
    reward_accuracy_steps: int = Field(default=200, gt=0)
    """Steps after which that is looked at, once."""
    disable_dropout: bool = True
    """Policy and reference must differ by their weights alone."""
    lineage_keys: tuple[str, ...] = ("question_type", "route")
    """Lineage tags that metrics are split by."""
