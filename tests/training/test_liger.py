"""Liger's kernel: where it is refused, and that it gives our numbers where it is used."""

import pytest
import torch
from torch import nn

from mmalign.training.liger import has_liger, liger_fits, liger_logps
from mmalign.training.logprobs import score_tokens


def test_refused_on_a_cpu() -> None:
    head = nn.Linear(4, 6)
    assert not liger_fits(torch.randn(3, 4), head, ())


def test_a_pass_without_gradient_on_a_cpu_is_ours() -> None:
    torch.manual_seed(0)
    head, hidden = nn.Linear(4, 6), torch.randn(3, 4)
    with torch.no_grad():
        scores = score_tokens(hidden, head, torch.tensor([1, 5, 0]), chunk_size=2)
        expected = head(hidden).log_softmax(-1)[torch.arange(3), torch.tensor([1, 5, 0])]
    torch.testing.assert_close(scores.logps, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bias", [False, True])
def test_gives_our_log_probs(bias: bool) -> None:
    if not has_liger():
        pytest.skip("needs liger-kernel")
    torch.manual_seed(0)
    head = nn.Linear(64, 1000, bias=bias, device="cuda", dtype=torch.bfloat16)
    hidden = torch.randn(300, 64, device="cuda", dtype=torch.bfloat16)
    ids = torch.randint(0, 1000, (300,), device="cuda")
    assert liger_fits(hidden, head, ())
    assert not liger_fits(hidden, head, ("entropy",))
    assert not liger_fits(hidden.double(), head.double(), ())
    head.bfloat16()
    ours = score_tokens(hidden.requires_grad_(), head, ids, chunk_size=128).logps.detach()
    found = liger_logps(hidden.detach(), head, ids)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ours, rtol=1e-2, atol=1e-2)
