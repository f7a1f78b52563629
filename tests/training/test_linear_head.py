"""The backward pass of a linear vocabulary head: its numbers, its memory, its work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, addmm_flop

from mmalign.testing.tensor_bytes import PeakBytes, saved_bytes
from mmalign.training.linear_head import is_one_linear_layer
from mmalign.training.logprobs import ReferenceHidden, TokenScores, score_tokens

NAMES = ("logps", "kl", "entropy", "js")
BOTH: tuple[Literal["kl", "js"], ...] = ("kl", "js")


@dataclass(frozen=True)
class Inputs:
    hidden: Tensor
    head: nn.Linear
    ids: Tensor
    reference: ReferenceHidden

    def trained(self) -> list[Tensor]:
        return [t for t in (self.hidden, *self.head.parameters()) if t.requires_grad]

    def scores(self, chunk_size: int, head: nn.Module | None = None) -> TokenScores:
        return score_tokens(
            self.hidden,
            head or self.head,
            self.ids,
            chunk_size=chunk_size,
            reference=self.reference,
            with_entropy=True,
        )


def make(
    num_tokens: int = 11,
    size: int = 5,
    vocab: int = 7,
    *,
    bias: bool = False,
    frozen: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Inputs:
    torch.manual_seed(0)
    head = nn.Linear(size, vocab, bias=bias).to(dtype).requires_grad_(not frozen)
    ref_head = nn.Linear(size + 1, vocab).to(dtype)
    return Inputs(
        torch.randn(num_tokens, size).to(dtype).requires_grad_(),
        head,
        torch.randint(0, vocab, (num_tokens,)),
        ReferenceHidden(torch.randn(num_tokens, size + 1).to(dtype), ref_head, BOTH),
    )


def naive(hidden: Tensor, weight: Tensor, bias: Tensor | None, inputs: Inputs) -> TokenScores:
    """The equations over [N, V] at once, softmax in the dtype that the logits have."""
    logits = F.linear(hidden, weight, bias)
    logprobs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    reference = inputs.reference
    ref = reference.head(reference.hidden).detach().to(logprobs.dtype).log_softmax(-1)
    p, r = logprobs.exp(), ref.exp()
    mean = ((p + r) / 2).log()
    halves = (p * (logprobs - mean)).sum(-1) + (r * (ref - mean)).sum(-1)
    return TokenScores(
        logps=logprobs[torch.arange(len(inputs.ids)), inputs.ids],
        kl=(r * (ref - logprobs)).sum(-1),
        entropy=-(p * logprobs).sum(-1),
        js=halves / 2 / torch.log(torch.tensor(2.0, dtype=p.dtype)),
    )


def naive_of(inputs: Inputs) -> TokenScores:
    return naive(inputs.hidden, inputs.head.weight, inputs.head.bias, inputs)


def weighted(scores: TokenScores, names: tuple[str, ...] = NAMES) -> Tensor:
    """A sum in which every token counts differently in every score."""
    source = torch.Generator().manual_seed(1)
    total = torch.zeros(())
    for name in NAMES:
        values = getattr(scores, name)
        weights = torch.randn(len(values), generator=source).to(values.dtype)
        if name in names:
            total = total + (weights * values).sum()
    return total


def relative_gap(found: Tensor, expected: Tensor) -> float:
    expected = expected.detach().double()
    return float((found.detach().double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("chunk_size", [1, 4, 11, 100])
def test_values_and_gradients_are_those_of_the_whole(
    chunk_size: int, bias: bool, frozen: bool
) -> None:
    inputs = make(bias=bias, frozen=frozen)
    whole, scores = naive_of(inputs), inputs.scores(chunk_size)
    for name in NAMES:
        assert_close(getattr(scores, name), getattr(whole, name), rtol=1e-12, atol=1e-14)
    expected = torch.autograd.grad(weighted(whole), inputs.trained())
    found = torch.autograd.grad(weighted(scores), inputs.trained())
    assert len(found) == 1 if frozen else len(found) == 2 + bias
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("name", NAMES)
def test_each_score_alone_has_its_gradient(name: str, frozen: bool) -> None:
    inputs = make(frozen=frozen)
    expected = torch.autograd.grad(weighted(naive_of(inputs), (name,)), inputs.trained())
    found = torch.autograd.grad(weighted(inputs.scores(4), (name,)), inputs.trained())
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("trained", ["hidden", "head", "both"])
def test_gradcheck(trained: str) -> None:
    inputs = make(num_tokens=5, bias=True, frozen=trained == "hidden")
    hidden = inputs.hidden if trained != "head" else inputs.hidden.detach()

    def scores(*_: Tensor) -> list[Tensor]:
        found = score_tokens(
            hidden,
            inputs.head,
            inputs.ids,
            chunk_size=2,
            reference=inputs.reference,
            with_entropy=True,
        )
        return [getattr(found, name) for name in NAMES]

    arguments = [t for t in (hidden, *inputs.head.parameters()) if t.requires_grad]
    assert torch.autograd.gradcheck(scores, arguments)


def test_a_tied_head_adds_to_the_gradient_of_the_embedding() -> None:
    inputs = make()
    weight = inputs.head.weight

    def gradient(scores_of: Callable[[Tensor], TokenScores]) -> Tensor:
        hidden = F.embedding(inputs.ids.roll(1), weight).tanh()
        (found,) = torch.autograd.grad(weighted(scores_of(hidden)), weight)
        return found

    whole = gradient(lambda hidden: naive(hidden, weight, None, inputs))
    chunked = gradient(
        lambda hidden: Inputs(hidden, inputs.head, inputs.ids, inputs.reference).scores(4)
    )
    assert_close(chunked, whole, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)], ids=str
)
def test_low_precision_stays_near_float64(
    dtype: torch.dtype, tolerance: float, frozen: bool
) -> None:
    inputs = make(40, 16, 50, bias=True, frozen=frozen, dtype=dtype)
    scores = inputs.scores(7)
    assert scores.logps.dtype == torch.float32
    found = torch.autograd.grad(weighted(scores), inputs.trained())
    assert [gradient.dtype for gradient in found] == [dtype] * len(found)

    finer = [
        t.detach().double().requires_grad_() for t in (inputs.hidden, *inputs.head.parameters())
    ]
    ref_head = nn.Linear(17, 50, dtype=torch.float64)
    ref_head.load_state_dict(inputs.reference.head.state_dict())
    reference = ReferenceHidden(inputs.reference.hidden.double(), ref_head)
    exact = naive(
        finer[0], finer[1], finer[2], Inputs(finer[0], inputs.head, inputs.ids, reference)
    )
    expected = torch.autograd.grad(weighted(exact), finer[: len(found)])
    for one, other in zip(found, expected, strict=True):
        assert relative_gap(one, other) < tolerance
    assert relative_gap(scores.logps, exact.logps) < tolerance


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_autocast_reaches_the_backward_pass(frozen: bool) -> None:
    inputs = make(40, 16, 50, bias=True, frozen=frozen, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, scores = naive_of(inputs), inputs.scores(100)
    assert_close(scores.logps, whole.logps, rtol=0, atol=0)
    assert_close(scores.kl, whole.kl, rtol=1e-5, atol=1e-6)
    expected = torch.autograd.grad(weighted(whole), inputs.trained())
    found = torch.autograd.grad(weighted(scores), inputs.trained())
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert relative_gap(one, other) < 1e-2
    full = make(40, 16, 50, bias=True, frozen=frozen, dtype=torch.float32)
    exact = torch.autograd.grad(weighted(full.scores(100)), full.trained())
    assert relative_gap(found[0], exact[0]) > 1e-4  # the products were indeed in bfloat16


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("around", ["body", "everything"])
def test_checkpointing_changes_nothing(around: str, frozen: bool) -> None:
    inputs = make(frozen=frozen)
    body = nn.Sequential(nn.Linear(5, 5), nn.Tanh()).double()
    parameters = [*body.parameters(), *(p for p in inputs.head.parameters() if p.requires_grad)]

    def loss(hidden: Tensor) -> Tensor:
        return weighted(Inputs(hidden, inputs.head, inputs.ids, inputs.reference).scores(4))

    def everything(states: Tensor) -> Tensor:
        return loss(body(states))

    expected = torch.autograd.grad(everything(inputs.hidden), parameters)
    if around == "body":
        found = loss(checkpoint(body, inputs.hidden, use_reentrant=False))
    else:
        found = checkpoint(everything, inputs.hidden, use_reentrant=False)
    for one, other in zip(torch.autograd.grad(found, parameters), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_a_graph_can_be_used_twice(frozen: bool) -> None:
    inputs = make(frozen=frozen)
    scores = inputs.scores(4)
    first = torch.autograd.grad(weighted(scores), inputs.hidden, retain_graph=True)[0]
    (other,) = torch.autograd.grad(scores.logps.sum(), inputs.hidden, retain_graph=True)
    again = torch.autograd.grad(weighted(scores), inputs.hidden)[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_second_derivative_is_refused() -> None:
    inputs = make()
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    loss = weight * weighted(inputs.scores(4))
    (gradient,) = torch.autograd.grad(loss, inputs.hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(gradient.sum())


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_impossible_tokens_leave_no_nan(frozen: bool) -> None:
    inputs = make(bias=True, frozen=frozen)
    with torch.no_grad():
        inputs.head.bias[2] = -torch.inf
        assert isinstance(inputs.reference.head, nn.Linear)
        inputs.reference.head.bias[2] = -torch.inf
        inputs.ids[inputs.ids == 2] = 3
    scores = inputs.scores(4)
    for name in NAMES:
        assert getattr(scores, name).isfinite().all(), name
    for gradient in torch.autograd.grad(weighted(scores), inputs.trained()):
        assert gradient.isfinite().all()


def test_no_token_gives_empty_scores_and_no_gradient() -> None:
    inputs = make(num_tokens=0, bias=True)
    scores = inputs.scores(4)
    assert all(getattr(scores, name).shape == (0,) for name in NAMES)
    for gradient in torch.autograd.grad(weighted(scores), inputs.trained()):
        assert not gradient.any()


def test_a_head_of_more_than_one_layer_gives_the_same_numbers() -> None:
    inputs = make(bias=True)
    wrapped = nn.Sequential(inputs.head)
    assert not is_one_linear_layer(wrapped)
    ours, other = inputs.scores(4), inputs.scores(4, wrapped)
    for name in NAMES:
        assert_close(getattr(ours, name), getattr(other, name), rtol=1e-13, atol=1e-15)
    expected = torch.autograd.grad(weighted(other), inputs.trained())
    for one, two in zip(
        torch.autograd.grad(weighted(ours), inputs.trained()), expected, strict=True
    ):
        assert_close(one, two, rtol=1e-10, atol=1e-13)


def test_only_plain_linear_heads_are_taken_apart() -> None:
    class Scaled(nn.Linear):
        """A head that does more than its weight says."""

    hooked, replaced = nn.Linear(2, 3), nn.Linear(2, 3)
    hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    replaced.forward = lambda input: input  # type: ignore[method-assign]  # as accelerate does
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    assert is_one_linear_layer(nn.Linear(2, 3))
    assert not any(map(is_one_linear_layer, (Scaled(2, 3), hooked, replaced, normed)))


TOKENS, SIZE, VOCAB, CHUNK = 256, 4, 2048, 16
ROW = VOCAB * 4
"""Bytes of one row of float32 logits."""


def large(num_tokens: int, *, frozen: bool) -> Inputs:
    return make(num_tokens, SIZE, VOCAB, frozen=frozen, dtype=torch.float32)


def kept(inputs: Inputs, chunk_size: int, *, with_kl: bool) -> int:
    reference = ReferenceHidden(inputs.reference.hidden, inputs.reference.head)
    return saved_bytes(
        lambda: score_tokens(
            inputs.hidden,
            inputs.head,
            inputs.ids,
            chunk_size=chunk_size,
            reference=reference if with_kl else None,
        ),
        given=(inputs.hidden, inputs.head.weight, inputs.ids, inputs.reference.hidden),
    )


@pytest.mark.parametrize("num_tokens", [TOKENS, 2 * TOKENS])
def test_behind_a_frozen_head_rows_of_states_are_kept(num_tokens: int) -> None:
    """One for each score; KL in one chunk takes fewer products with its log-probs kept."""
    inputs, row = large(num_tokens, frozen=True), num_tokens * SIZE * 4
    assert kept(inputs, num_tokens, with_kl=False) == row
    assert kept(inputs, CHUNK, with_kl=False) == row
    assert kept(inputs, CHUNK, with_kl=True) == 2 * row
    assert kept(inputs, num_tokens, with_kl=True) == 2 * num_tokens * ROW


@pytest.mark.parametrize("num_tokens", [TOKENS, TOKENS + 1, 2 * TOKENS])
def test_behind_a_trained_head_one_chunk_is_kept(num_tokens: int) -> None:
    """Of the policy and, where it is asked, of the reference, whatever the number of tokens."""
    inputs = large(num_tokens, frozen=False)
    assert kept(inputs, CHUNK, with_kl=False) == CHUNK * ROW
    assert kept(inputs, CHUNK, with_kl=True) == 2 * CHUNK * ROW


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_the_peak_grows_with_the_chunk_and_not_with_the_tokens(frozen: bool) -> None:
    def peak(num_tokens: int, chunk_size: int) -> int:
        inputs = large(num_tokens, frozen=frozen)
        watch = PeakBytes()
        with watch:
            torch.autograd.backward(weighted(inputs.scores(chunk_size)))
        return watch.peak

    one, more_tokens, larger = peak(64, CHUNK), peak(TOKENS, CHUNK), peak(64, 2 * CHUNK)
    assert CHUNK * ROW < one < 12 * CHUNK * ROW
    assert more_tokens - one < (TOKENS - 64) * ROW / 50
    assert larger > 1.5 * one


def test_the_watch_sees_the_whole_of_the_naive_pass() -> None:
    inputs = large(TOKENS, frozen=False)
    with PeakBytes() as watch:
        torch.autograd.backward(naive_of(inputs).logps.sum())
    assert watch.peak > 2 * TOKENS * ROW


def _in_place(total: Any, one: Any, other: Any, **_: object) -> int:
    """Counted by torch in its other form only."""
    return int(addmm_flop(total, one, other))


@pytest.mark.parametrize(
    ("frozen", "with_kl", "chunk_size", "products", "ref_products"),
    [
        (True, False, CHUNK, 2, 0),
        (False, False, TOKENS, 3, 0),
        (False, False, TOKENS // 2, 3.5, 0),
        (True, True, TOKENS, 2, 1),
        (True, True, TOKENS // 2, 3, 1),
        (False, True, TOKENS, 3, 1),
        (False, True, TOKENS // 2, 3.5, 1.5),
    ],
)
def test_logits_are_computed_again_only_where_it_takes_fewer_products(
    frozen: bool, with_kl: bool, chunk_size: int, products: float, ref_products: float
) -> None:
    """Of N x H x V; checkpointed chunks take 3 behind a frozen head, 4 behind a trained one."""
    inputs = large(TOKENS, frozen=frozen)
    reference = ReferenceHidden(inputs.reference.hidden, inputs.reference.head)
    mapping = {torch.ops.aten.addmm_: _in_place}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        scores = score_tokens(
            inputs.hidden,
            inputs.head,
            inputs.ids,
            chunk_size=chunk_size,
            reference=reference if with_kl else None,
        )
        total = scores.logps if scores.kl is None else scores.logps + scores.kl
        torch.autograd.backward(total.sum())
    expected = 2 * TOKENS * VOCAB * (products * SIZE + ref_products * (SIZE + 1))
    assert counter.get_total_flops() == expected
