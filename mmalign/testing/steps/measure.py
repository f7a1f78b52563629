"""What a step costs: time, memory, tokens, frames encoded, logits; and that it is the same step."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmalign.errors import ConfigError
from mmalign.testing.steps.layouts import Case, Layouts, Step
from mmalign.testing.steps.world import LlavaShape, World, llava_world, make_row
from mmalign.testing.tensor_bytes import saved_bytes
from mmalign.training.forward import Row, base_model

__all__ = ["Inspection", "grad_rel_diff", "inspect_step", "peak_in_child", "timed"]

Gradients = Mapping[str, Tensor]


@dataclass(frozen=True)
class Inspection:
    """One step, looked at closely and therefore not timed."""

    loss: float
    gradients: Gradients
    """Of every trained weight that has one."""
    tokens_forwarded: int
    """At the decoder's input, padding included, policy and reference together."""
    encoder_calls: float
    """Frames (or patches) that went through the tower over those of the clip, in every layout alike
    and in however many calls: two answers in one call that each bring the clip are 2."""
    logits_alive: int
    """Numbers in the largest product with the vocabulary head."""
    activation_bytes: int
    """Kept for the backward pass, weights excluded: on a CPU the saved tensors, on a GPU what is
    allocated behind the forward pass and was not before it, inputs of checkpoints included."""
    peak_bytes: int | None
    """Of the device's memory, weights included; None on a CPU."""


@dataclass
class _Counts:
    tokens: int = 0
    tower_rows: int = 0


def inspect_step(world: World, step: Step, row: Row) -> Inspection:
    """Run a step with hooks on everything that it may waste."""
    on_gpu = world.device.type == "cuda"
    _clear(world)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else 0
    heads = [world.family.head(base_model(model)).weight for model in world.models]
    logits = _LogitsWatch([head for head in heads if isinstance(head, Tensor)])
    losses: list[Tensor] = []

    def forward() -> list[Tensor]:
        losses.append(step())
        return losses

    weights = [tensor for model in world.models for tensor in _tensors(model)]
    with _counting(world) as counts, logits:
        kept = saved_bytes(forward, given=weights)
    if on_gpu:
        kept = torch.cuda.memory_allocated() - before
    torch.autograd.backward(losses)
    gradients = {
        name: parameter.grad
        for name, parameter in world.policy.named_parameters()
        if parameter.grad is not None
    }
    inspection = Inspection(
        loss=float(losses[0].detach()),
        gradients={name: gradient.cpu() for name, gradient in gradients.items()},
        tokens_forwarded=counts.tokens,
        encoder_calls=counts.tower_rows / _tower_rows(row.prompt.media["pixel_values_videos"]),
        logits_alive=logits.most,
        activation_bytes=kept,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
    )
    _clear(world)
    return inspection


def timed(world: World, step: Step) -> float:
    """Seconds of forward and backward: of the process's CPU time, or between two GPU events."""
    _clear(world)
    if world.device.type == "cuda":
        start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch
        end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch
        start.record()
        torch.autograd.backward(step())
        end.record()
        torch.cuda.synchronize()
        seconds = start.elapsed_time(end) / 1e3
    else:
        begin = time.process_time()
        torch.autograd.backward(step())
        seconds = time.process_time() - begin
    _clear(world)
    return float(seconds)


def grad_rel_diff(found: Gradients, expected: Gradients) -> float:
    """Norm of the difference of two gradients over the norm of the second.

    Raises:
        ConfigError: They are gradients of different weights.
    """
    if found.keys() != expected.keys():
        raise ConfigError(
            f"gradients of different weights: {sorted(found.keys() ^ expected.keys())[:5]}"
        )
    gap = torch.stack([(found[n].double() - expected[n].double()).norm() for n in expected]).norm()
    norm = torch.stack([gradient.double().norm() for gradient in expected.values()]).norm()
    return float(gap / norm)


def peak_in_child(case: Case, shape: LlavaShape) -> int | None:
    """Peak resident set of one step in a process of its own, less what it had before the model.

    Returns:
        Bytes of weights, reference, activations and gradients; None where /proc is missing.

    Raises:
        ConfigError: The process failed; its last lines are in the message.
    """
    if not Path("/proc/self/status").exists():
        return None
    message = json.dumps({"case": asdict(case), "shape": asdict(shape)})
    child = subprocess.run(  # noqa: S603  # our own interpreter on our own module
        [sys.executable, "-m", "mmalign.testing.steps.measure", message],
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise ConfigError(f"the process that measures {case} failed:\n{child.stderr[-2000:]}")
    return int(child.stdout.split()[-1])


def peak_of_step(case: Case, shape: LlavaShape) -> int:
    """What `peak_in_child` runs there."""
    torch.set_num_threads(1)
    if case.layout == "trl":  # imports are no part of the step
        import trl.trainer.dpo_trainer
        import trl.trainer.grpo_trainer  # noqa: F401  # loads what the step needs
    before = _resident("VmRSS")
    world = llava_world(shape)
    row = make_row(
        world,
        prompt_tokens=case.prompt_tokens,
        answer_tokens=case.answer_tokens,
        branches=case.branches,
    )
    torch.autograd.backward(Layouts(world).step(case, row)())
    return _resident("VmHWM") - before


class _LogitsWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Sees every product with one of the vocabulary heads."""

    def __init__(self, heads: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self._heads = {head.untyped_storage().data_ptr() for head in heads}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.overloadpacket.__name__ in ("mm", "addmm", "linear", "bmm", "matmul"):
            inputs = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            if any(leaf.untyped_storage().data_ptr() in self._heads for leaf in inputs):
                self.most = max(self.most, result.numel())
        return result


@contextlib.contextmanager
def _counting(world: World) -> Iterator[_Counts]:
    """Count what reaches decoders and towers."""
    counts = _Counts()

    def at_decoder(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        embeds = kwargs.get("inputs_embeds")
        assert isinstance(embeds, Tensor)
        counts.tokens += embeds.shape[0] * embeds.shape[1]

    def at_tower(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        pixels = args[0] if args else kwargs.get("pixel_values", kwargs.get("hidden_states"))
        assert isinstance(pixels, Tensor)
        counts.tower_rows += len(pixels)

    hooks = []
    for model in world.models:
        base = base_model(model)
        tower = base.get_submodule(_name_of(world.tower, world.base))
        decoder = world.family.decoder(base)
        hooks.append(decoder.register_forward_pre_hook(at_decoder, with_kwargs=True))
        hooks.append(tower.register_forward_pre_hook(at_tower, with_kwargs=True))
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _tower_rows(pixels: Tensor) -> int:
    """Rows of the tower's input that a clip makes: frames [1, F, 3, H, W], or patches [N, D]."""
    return pixels.shape[0] * pixels.shape[1] if pixels.dim() == 5 else pixels.shape[0]


def _name_of(part: nn.Module, whole: nn.Module) -> str:
    names: dict[int, str] = {id(module): name for name, module in whole.named_modules()}
    return names[id(part)]


def _clear(world: World) -> None:
    for model in world.models:
        model.zero_grad(set_to_none=True)


def _resident(field_name: str) -> int:
    """Bytes, of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field_name))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(peak_of_step(Case(**given["case"]), LlavaShape(**given["shape"])))
