"""Chunked scores equal those over the whole vocabulary at once, and their gradients too."""

import pytest
import torch
from torch import nn

from mmalign.errors import ShapeError
from mmalign.training.logprobs import ReferenceHidden, score_tokens


def setup() -> tuple[torch.Tensor, nn.Linear, torch.Tensor, ReferenceHidden]:
    torch.manual_seed(0)
    hidden = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(5, 7, bias=False, dtype=torch.float64)
    ids = torch.randint(0, 7, (11,))
    ref_head = nn.Linear(5, 7, bias=False, dtype=torch.float64)
    return hidden, head, ids, ReferenceHidden(torch.randn(11, 5, dtype=torch.float64), ref_head)


@pytest.mark.parametrize("chunk_size", [1, 4, 11, 100])
def test_chunks_change_nothing(chunk_size: int) -> None:
    hidden, head, ids, reference = setup()
    scores = score_tokens(hidden, head, ids, chunk_size=chunk_size, reference=reference)
    logprobs = head(hidden).log_softmax(-1)
    ref = reference.head(reference.hidden).log_softmax(-1).detach()
    logps = logprobs[torch.arange(11), ids]
    kl = (ref.exp() * (ref - logprobs)).sum(-1)
    assert scores.kl is not None
    torch.testing.assert_close(scores.logps, logps, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(scores.kl, kl, rtol=1e-12, atol=1e-14)

    parameters = (hidden, head.weight)
    whole = torch.autograd.grad((2 * logps + 3 * kl).sum(), parameters, retain_graph=True)
    chunked = torch.autograd.grad((2 * scores.logps + 3 * scores.kl).sum(), parameters)
    for one, other in zip(whole, chunked, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_no_gradient_reaches_the_reference() -> None:
    hidden, head, ids, reference = setup()
    scores = score_tokens(hidden, head, ids, chunk_size=4, reference=reference)
    assert scores.kl is not None
    torch.autograd.backward(scores.kl.sum())
    assert reference.head.weight.grad is None
    assert head.weight.grad is not None


def test_vocabularies_must_agree() -> None:
    hidden, head, ids, reference = setup()
    other = ReferenceHidden(reference.hidden, nn.Linear(5, 6, bias=False, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"vocabulary has 7 tokens, the reference's 6"):
        score_tokens(hidden, head, ids, chunk_size=4, reference=other)


def test_what_is_not_asked_for_is_not_there() -> None:
    hidden, head, ids, reference = setup()
    alone = score_tokens(hidden, head, ids, chunk_size=4)
    assert (alone.kl, alone.entropy, alone.js) == (None, None, None)
    only_js = ReferenceHidden(reference.hidden, reference.head, ("js",))
    scores = score_tokens(hidden, head, ids, chunk_size=4, reference=only_js, with_entropy=True)
    assert scores.kl is None
    assert scores.js is not None
    assert ((scores.js > 0) & (scores.js < 1)).all()


@pytest.mark.parametrize("num_positions", [10, 12])
def test_lengths_must_agree(num_positions: int) -> None:
    hidden, head, ids, reference = setup()
    states = torch.zeros(num_positions, 5, dtype=torch.float64)
    with pytest.raises(ShapeError, match=f"{num_positions} hidden states for 11 tokens"):
        score_tokens(states, head, ids, chunk_size=4)
    with pytest.raises(ShapeError, match=f"11 positions, the reference {num_positions}"):
        score_tokens(
            hidden, head, ids, chunk_size=4, reference=ReferenceHidden(states, reference.head)
        )


def test_low_precision_is_scored_in_float32() -> None:
    hidden, head, ids, _ = setup()
    scores = score_tokens(hidden.bfloat16(), head.bfloat16(), ids, chunk_size=4)
    assert scores.logps.dtype == torch.float32
