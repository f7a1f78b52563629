"""Token scores behind a vocabulary head of one linear layer, with a backward pass of their own.

Behind a frozen head the gradient of a score with respect to its state is a row [H], whatever the
loss makes of the score: the forward pass keeps the rows, the backward pass scales them, and logits
are computed once. A row is one more product for each score, so where several scores are wanted,
and wherever the head is trained, the log-probs of the last chunk are kept until the loss is known,
and the other chunks' logits are computed a second time. Whichever takes fewer products is done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmalign.objectives.sums import at_least_float32
from mmalign.training.vocabulary import (
    Measure,
    ScoreWeights,
    TokenScores,
    join_scores,
    log_softmax,
    logit_gradients,
    reference_logprobs,
    token_scores,
)

__all__ = ["chunks", "is_one_linear_layer", "linear_scores"]


def is_one_linear_layer(head: nn.Module) -> bool:
    """Whether a head is a plain `nn.Linear`: no adapter, quantisation, parametrisation or hook."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        type(head) is nn.Linear
        and "forward" not in vars(head)  # accelerate replaces it where it moves weights
        and not any(getattr(head, name) for name in hooks)
    )


def linear_scores(
    hidden: Tensor,
    head: nn.Linear,
    ids: Tensor,
    *,
    chunk_size: int,
    measures: Sequence[Measure],
    ref_hidden: Tensor | None,
    ref_head: nn.Module | None,
) -> TokenScores:
    """The scores of N tokens; [chunk, V] is the largest tensor, also in the backward pass.

    What is kept for it is [N, H] for each score, or the log-probs [chunk, V] of the last chunk, of
    the policy and of the reference, beside the arguments.

    Args:
        hidden: [N, H]; carries gradient, once, not twice.
        head: The head; its weight and bias carry gradient where they are trained.
        ids: [N] int64, the taken tokens.
        chunk_size: Tokens per chunk, > 0.
        measures: What is computed beside `logps`.
        ref_hidden: [N, H'] of the reference; needed for `kl` and `js`.
        ref_head: The reference's head; gets no gradient.
    """
    task = _Task(chunk_size, tuple(measures), ref_head)
    scores = _LinearScores.apply(hidden, head.weight, head.bias, ids, ref_hidden, task)
    return TokenScores(*scores)


def chunks(num_tokens: int, chunk_size: int) -> Iterator[slice]:
    """Slices of `chunk_size` tokens behind a first, shorter one; an empty one if there are none."""
    first = (num_tokens - 1) % chunk_size + 1 if num_tokens else 0
    yield slice(0, first)
    for start in range(first, num_tokens, chunk_size):
        yield slice(start, start + chunk_size)


@dataclass(frozen=True)
class _Task:
    """What a pass computes."""

    chunk_size: int
    measures: tuple[Measure, ...]
    ref_head: nn.Module | None

    def rows_take_fewer_products(self, num_tokens: int) -> bool:
        """Or as many: one for each score, against one for all and the logits of most chunks."""
        num_models = 1 if self.ref_head is None else 2
        share_again = max(num_tokens - self.chunk_size, 0) / max(num_tokens, 1)
        return 1 + len(self.measures) <= 1 + num_models * share_again

    def reference(self, ref_hidden: Tensor | None, part: slice, vocab_size: int) -> Tensor | None:
        """[n, V], the reference's log-probabilities in a chunk, if there is a reference."""
        if ref_hidden is None or self.ref_head is None:
            return None
        return reference_logprobs(ref_hidden[part], self.ref_head, vocab_size=vocab_size)


@dataclass(frozen=True)
class _Linear:
    """The layer in the dtype that it is computed in."""

    weight: Tensor
    bias: Tensor | None

    def logprobs(self, hidden: Tensor) -> Tensor:
        """[n, V] of [n, H]."""
        return log_softmax(F.linear(hidden.to(self.weight.dtype), self.weight, self.bias))

    def state_gradients(self, gradients: Tensor) -> Tensor:
        """[n, H] of [n, V]."""
        return gradients.to(self.weight.dtype) @ self.weight


class _LinearScores(torch.autograd.Function):
    """`linear_scores` over tensors."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        ids: Tensor,
        ref_hidden: Tensor | None,
        task: _Task,
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)  # a score that nobody used costs nothing
        ctx.task, ctx.device, ctx.hidden_dtype = task, hidden.device.type, hidden.dtype
        ctx.autocast = torch.is_autocast_enabled(ctx.device)
        ctx.autocast_dtype = torch.get_autocast_dtype(ctx.device)
        lower = ctx.autocast and hidden.dtype != torch.float64
        ctx.dtype = ctx.autocast_dtype if lower else hidden.dtype
        trained = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        ctx.keeps_rows = not trained and task.rows_take_fewer_products(len(ids))
        linear = _in_dtype(weight, bias, ctx.dtype)
        scores: list[TokenScores] = []
        rows: list[list[Tensor]] = []
        for part in chunks(len(ids), task.chunk_size):
            logprobs = ref_logprobs = None  # those of the chunk before make room
            logprobs = linear.logprobs(hidden[part])
            ref_logprobs = task.reference(ref_hidden, part, len(weight))
            scores.append(token_scores(logprobs, ids[part], ref_logprobs, task.measures))
            if ctx.keeps_rows:
                rows.append(_rows(linear, logprobs, ids[part], ref_logprobs, task.measures))
        if ctx.keeps_rows:
            ctx.save_for_backward(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
        else:
            ctx.save_for_backward(hidden, weight, bias, ids, ref_hidden, logprobs, ref_logprobs)
        joined = join_scores(scores)
        return joined.logps, joined.kl, joined.entropy, joined.js

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *weights: Tensor | None) -> tuple[Tensor | None, ...]:
        of_hidden = of_weight = of_bias = None
        if ctx.keeps_rows:
            of_hidden = _scaled(ctx, ScoreWeights(*weights))
        elif any(weight is not None for weight in weights):
            with torch.autocast(ctx.device, dtype=ctx.autocast_dtype, enabled=ctx.autocast):
                of_hidden, of_weight, of_bias = _gradients(ctx, ScoreWeights(*weights))
        return of_hidden, of_weight, of_bias, None, None, None


def _in_dtype(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> _Linear:
    return _Linear(weight.to(dtype), None if bias is None else bias.to(dtype))


def _rows(
    linear: _Linear,
    logprobs: Tensor,
    ids: Tensor,
    ref_logprobs: Tensor | None,
    measures: tuple[Measure, ...],
) -> list[Tensor]:
    """[n, H] for each score: its gradient with respect to the states."""
    one = logprobs.new_ones(len(ids))
    return [
        linear.state_gradients(
            logit_gradients(logprobs, ids, ref_logprobs, ScoreWeights(**{name: one}))
        )
        for name in ("logps", *measures)
    ]


def _scaled(ctx: Any, weights: ScoreWeights) -> Tensor | None:
    """[N, H]: the gradient with respect to the states, of rows that were kept."""
    total: Tensor | None = None
    for name, row in zip(("logps", *ctx.task.measures), ctx.saved_tensors, strict=True):
        weight = getattr(weights, name)
        if weight is None:
            continue
        wide = row.to(weight.dtype)
        total = weight[:, None] * wide if total is None else total.addcmul_(weight[:, None], wide)
    return None if total is None else total.to(ctx.hidden_dtype)


def _gradients(
    ctx: Any, weights: ScoreWeights
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of the states, the weight and the bias, from logits that are kept or computed again."""
    hidden, weight, bias, ids, ref_hidden, last, ref_last = ctx.saved_tensors
    needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    linear = _in_dtype(weight, bias, ctx.dtype)
    of_hidden = torch.empty_like(hidden) if needs_hidden else None
    of_weight: Tensor | None = None
    of_bias: Tensor | None = None
    for part in chunks(len(ids), ctx.task.chunk_size):
        if part.stop == len(ids):
            logprobs, ref_logprobs = last, ref_last
        else:
            logprobs = linear.logprobs(hidden[part])
            ref_logprobs = ctx.task.reference(ref_hidden, part, len(weight))
        own = ScoreWeights(*(None if w is None else w[part] for w in weights))
        gradients = logit_gradients(logprobs, ids[part], ref_logprobs, own)
        if needs_bias:
            column = gradients.sum(0)
            of_bias = column if of_bias is None else of_bias.add_(column)
        if of_hidden is not None:
            of_hidden[part] = linear.state_gradients(gradients)
        if needs_weight:
            states = hidden[part].to(ctx.dtype)
            of_weight = _add_product(of_weight, gradients.to(ctx.dtype), states)
    return (
        of_hidden,
        None if of_weight is None else of_weight.to(weight.dtype),
        None if of_bias is None else of_bias.to(bias.dtype),
    )


def _add_product(total: Tensor | None, gradients: Tensor, states: Tensor) -> Tensor:
    """Add [V, n] x [n, H] to the weight's gradient; a sum is taken in float32 or finer."""
    if total is None:
        return gradients.T @ states
    total = at_least_float32(total)
    if gradients.dtype == total.dtype:
        return total.addmm_(gradients.T, states)
    return total.add_(gradients.T @ states)
