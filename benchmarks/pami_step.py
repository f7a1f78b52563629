"""What one step of PaMi-VDPO costs: frames through the tower, prompts through the decoder, time.

    python benchmarks/pami_step.py [--frames 16] [--steps 4]

The same agent and trainer, with and without their savings: features of a frame that several clips
show are computed once, and what the reference computes to compare clips also gives its
log-probabilities of the loss. Counted by hooks on tower and decoder of the shapes world's model,
whose clips here are noise; CPU seconds of the process, one thread, medians over steps.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from torch import nn

from mmalign.agents.pami_vdpo import PaMiVDPOConfig, build_graph
from mmalign.media import FrameSampling, write_video
from mmalign.objectives import parse_objective
from mmalign.records import MediaRef, Sample, user
from mmalign.training import LoraSettings, TrainerConfig, run
from mmalign.training.forward import base_model
from mmalign.training.live_model import LiveModel
from mmalign.training.online import OnlineAgent, OnlineTrainer

MODEL = Path(__file__).parents[1] / "datasets" / "shapes" / "base_model"
PAIRS = 2
"""Samples of one step."""


class CountedTrainer(OnlineTrainer):
    """Counts what goes through tower and decoder, step by step."""

    steps: list[Counter[str]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        type(self).steps = []
        base = base_model(self.policy)
        tower: Any = base.model.vision_tower
        tower.register_forward_pre_hook(self._count_frames, with_kwargs=True)
        self.family.decoder(base).register_forward_pre_hook(self._count_rows, with_kwargs=True)

    def prepare_step(self, batches: list[Any]) -> Any:
        """Begin a step's counts."""
        self.steps.append(Counter(start=time.process_time_ns()))
        return super().prepare_step(batches)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """End a step's clock."""
        loss = super().training_step(*args, **kwargs)
        self.steps[-1]["end"] = time.process_time_ns()
        return loss

    def _count_frames(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        del module
        pixels = args[0] if args else kwargs["pixel_values"]
        self.steps[-1]["frames"] += len(pixels)

    def _count_rows(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        del module, args
        self.steps[-1]["prompts"] += len(kwargs["inputs_embeds"])


class NaiveTrainer(CountedTrainer):
    """Every pass computes what it needs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        reference = kwargs["reference"]
        super().__init__(*args, **kwargs)
        self.reference = reference
        self.vision = None
        reference._vision = None
        for model in (self._policy, *self.models.values()):
            assert isinstance(model, LiveModel)
            model._vision = model._known = None


def main() -> None:
    """Print a row for each way, and their quotient."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    packages = ", ".join(f"{name} {version(name)}" for name in ("mmalign", "torch", "transformers"))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {packages}")
    print(f"{PAIRS} samples a step, {asked.frames} frames of 64 x 64, four candidates each")
    print(f"{'':10} {'frames':>8} {'prompts':>8} {'CPU s':>8}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        samples = _samples(Path(folder), asked)
        for name, kind in (("naive", NaiveTrainer), ("mmalign", CountedTrainer)):
            found[name] = _measure(kind, samples, Path(folder) / name, asked)
            frames, prompts, seconds = found[name]
            print(f"{name:10} {frames:8.0f} {prompts:8.0f} {seconds:8.2f}")
    quotients = [one / other for one, other in zip(*found.values(), strict=True)]
    print(f"{'quotient':10} {quotients[0]:8.2f} {quotients[1]:8.2f} {quotients[2]:8.2f}")


def _samples(folder: Path, asked: argparse.Namespace) -> list[Sample]:
    samples = []
    for number in range(PAIRS * asked.steps):
        rng = np.random.default_rng(number)
        clip = folder / f"{number}.mp4"
        frames = rng.integers(0, 255, (asked.frames, 64, 64, 3), dtype=np.uint8)
        write_video(clip, frames, 8.0)
        media = MediaRef(kind="video", uri=str(clip))
        answer = "the red circle moves to the left ."
        samples.append(Sample(id=str(number), messages=(user("what?", media),), answer=answer))
    return samples


def _measure(
    kind: type[CountedTrainer],
    samples: list[Sample],
    out: Path,
    asked: argparse.Namespace,
) -> tuple[float, float, float]:
    """Frames, prompts and CPU seconds of a step, medians without the first step."""
    with patch.object(run, "OnlineTrainer", kind):
        run.train(
            str(MODEL),
            samples,
            out,
            objective=parse_objective({"name": "pami_vdpo"}),
            trainer=TrainerConfig(
                online=True, max_steps=asked.steps, per_device_train_batch_size=PAIRS
            ),
            lora=LoraSettings(lora_r=8, lora_alpha=16),
            media=FrameSampling(num_frames=asked.frames),
            agent=OnlineAgent(build_graph(), PaMiVDPOConfig(), "pami_vdpo", seed=0),
            console=Console(quiet=True),
        )
    steps = kind.steps[1:]
    return (
        statistics.median(step["frames"] for step in steps),
        statistics.median(step["prompts"] for step in steps),
        statistics.median((step["end"] - step["start"]) / 1e9 for step in steps),
    )


if __name__ == "__main__":
    main()
