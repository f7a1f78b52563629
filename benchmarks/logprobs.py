"""What token log-probabilities cost: all logits at once, checkpointed chunks, and ours.

    python benchmarks/logprobs.py [--quick] [--json]

Forward and backward of a weighted sum of log-probabilities, and of KL too where it says so, the
ways in turn, medians of several times; ratios above 1 say how many times ours is sooner. `kept`
are bytes for the backward pass and `peak` bytes at the worst moment, both without states and
head. The chunks of the second way are what any head of more than one layer gets.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from mmalign.testing.tensor_bytes import PeakBytes, saved_bytes
from mmalign.training.logprobs import ReferenceHidden, TokenScores, score_tokens

REPEATS = 5
CHUNK = 256


@dataclass(frozen=True)
class Shape:
    """Of the states and the head."""

    num_tokens: int
    hidden_size: int
    vocab_size: int


SHAPES = (Shape(128, 512, 32_000), Shape(512, 512, 32_000), Shape(512, 896, 151_936))
QUICK = (Shape(64, 64, 2_000), Shape(512, 64, 2_000))


@dataclass(frozen=True)
class Row:
    """One way at one shape."""

    way: str
    shape: Shape
    head: str
    with_kl: bool
    seconds: float
    kept_bytes: int
    peak_bytes: int
    sooner: float
    """Seconds of this way over those of ours."""


@dataclass(frozen=True)
class Case:
    """What is scored."""

    hidden: Tensor
    head: nn.Linear
    ids: Tensor
    weights: Tensor
    reference: ReferenceHidden | None

    def loss(self, way: "Way") -> Tensor:
        """A sum in which every token counts differently."""
        scores = way(self)
        total = (self.weights * scores.logps).sum()
        return total if scores.kl is None else total + (self.weights * scores.kl).sum()

    def step(self, way: "Way") -> None:
        """Forward and backward, gradients thrown away."""
        torch.autograd.backward(self.loss(way))
        self.hidden.grad = None
        self.head.zero_grad()


Way = Callable[[Case], TokenScores]


def main() -> None:
    """Print one row for each way, shape, head and set of scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--json", action="store_true", help="print one object and nothing else")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    machine = f"{name or platform.machine()}, {torch.get_num_threads()} threads"
    if not arguments.json:
        print(f"{machine}, torch {torch.__version__}, chunks of {CHUNK} tokens")
        print(f"{'N x H x V':>20} {'head':>8} {'scores':>9} {'way':>12} | {'seconds':>8} ", end="")
        print(f"{'sooner':>7} {'kept MiB':>9} {'peak MiB':>9}")
    rows: list[Row] = []
    for shape in QUICK if arguments.quick else SHAPES:
        for with_kl in (False, True):
            for frozen in (True, False):
                found = _measure(shape, device, frozen=frozen, with_kl=with_kl)
                rows += found
                if not arguments.json:
                    _print(found)
    if arguments.json:
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        everything = {"machine": machine, "versions": versions, "rows": [asdict(r) for r in rows]}
        print(json.dumps(everything))


def _measure(shape: Shape, device: str, *, frozen: bool, with_kl: bool) -> list[Row]:
    case = _case(shape, device, frozen=frozen, with_kl=with_kl)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for way in WAYS.values():
        case.step(way)
    for _ in range(REPEATS):
        for name, way in WAYS.items():  # in turn, so that a noisy moment hits all
            times[name].append(_seconds(lambda way=way: case.step(way), device))  # type: ignore[misc]  # bound now
    medians = {name: statistics.median(found) for name, found in times.items()}
    given = [case.hidden, *case.head.parameters(), case.ids, case.weights]
    if case.reference is not None:
        given.append(case.reference.hidden)
    rows = []
    for name, way in WAYS.items():
        with PeakBytes() as watch:
            case.step(way)
        rows.append(
            Row(
                way=name,
                shape=shape,
                head="frozen" if frozen else "trained",
                with_kl=with_kl,
                seconds=medians[name],
                kept_bytes=saved_bytes(lambda way=way: case.loss(way), given=given),  # type: ignore[misc]  # bound now
                peak_bytes=watch.peak,
                sooner=medians[name] / medians["ours"],
            )
        )
    return rows


def _case(shape: Shape, device: str, *, frozen: bool, with_kl: bool) -> Case:
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    head, ref_head = (
        nn.Linear(shape.hidden_size, shape.vocab_size, bias=False, device=device, dtype=dtype)
        for _ in range(2)
    )
    states = [
        torch.randn(shape.num_tokens, shape.hidden_size, device=device, dtype=dtype)
        for _ in range(2)
    ]
    return Case(
        hidden=states[0].requires_grad_(),
        head=head.requires_grad_(not frozen),
        ids=torch.randint(0, shape.vocab_size, (shape.num_tokens,), device=device),
        weights=torch.randn(shape.num_tokens, device=device),
        reference=ReferenceHidden(states[1], ref_head) if with_kl else None,
    )


def _naive(case: Case) -> TokenScores:
    logprobs = case.head(case.hidden).float().log_softmax(-1)
    logps = logprobs.gather(-1, case.ids[:, None])[:, 0]
    if case.reference is None:
        return TokenScores(logps)
    with torch.no_grad():
        ref = case.reference.head(case.reference.hidden).float().log_softmax(-1)
    return TokenScores(logps, kl=(ref.exp() * (ref - logprobs)).sum(-1))


def _chunked(case: Case, head: nn.Module) -> TokenScores:
    return score_tokens(case.hidden, head, case.ids, chunk_size=CHUNK, reference=case.reference)


WAYS: dict[str, Way] = {
    "naive": _naive,
    "checkpointed": lambda case: _chunked(case, nn.Sequential(case.head)),
    "ours": lambda case: _chunked(case, case.head),
}


def _seconds(step: Callable[[], None], device: str) -> float:
    """Of CPU time on a shared processor; between two events on a GPU."""
    if device == "cpu":
        begin = time.process_time()
        step()
        return time.process_time() - begin
    torch.cuda.synchronize()
    begin = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def _print(rows: list[Row]) -> None:
    for row in rows:
        sizes = f"{row.shape.num_tokens} x {row.shape.hidden_size} x {row.shape.vocab_size}"
        scores = "logps, kl" if row.with_kl else "logps"
        print(
            f"{sizes:>20} {row.head:>8} {scores:>9} {row.way:>12} | {row.seconds:8.4f} "
            f"{row.sooner:6.2f}x {row.kept_bytes / 2**20:9.2f} {row.peak_bytes / 2**20:9.2f}"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
