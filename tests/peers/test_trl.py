"""TRL's losses on the same log-probabilities as ours.

TRL's code runs unchanged: its trainer is made without its constructor and given a model that
returns prescribed log-probabilities. Where the two differ on purpose, the test says how.
"""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.testing import assert_close

from mmalign.objectives import (
    PairTerms,
    UnpairedTerms,
    parse_objective,
)
from mmalign.objectives.unpaired import kto_reference_point
from mmalign.testing.packages import require_package

pytestmark = pytest.mark.peer

BETA = 0.3
NUM_PAIRS, NUM_TOKENS = 4, 7


def logps(seed: int, mask: Tensor) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return -3 * torch.rand(mask.shape, generator=source, dtype=torch.float64) * mask


def masks() -> tuple[Tensor, Tensor]:
    """Response tokens behind a first position that no one predicts."""
    chosen = torch.ones(NUM_PAIRS, NUM_TOKENS, dtype=torch.float64)
    rejected = chosen.clone()
    chosen[1, 5:] = 0
    rejected[2, 3:] = 0
    return chosen, rejected


def terms() -> PairTerms:
    chosen_mask, rejected_mask = masks()
    return PairTerms(
        policy_chosen_token_logps=logps(0, chosen_mask).requires_grad_(),
        policy_rejected_token_logps=logps(1, rejected_mask).requires_grad_(),
        chosen_mask=chosen_mask,
        rejected_mask=rejected_mask,
        ref_chosen_token_logps=logps(2, chosen_mask),
        ref_rejected_token_logps=logps(3, rejected_mask),
        chosen_tokens_per_pair=chosen_mask.sum() / NUM_PAIRS,
    )


def bare(trainer_class: Any, **settings: Any) -> Any:
    """TRL's trainer with the attributes that its loss reads, and nothing else."""
    trainer = trainer_class.__new__(trainer_class)
    trainer.model = SimpleNamespace(training=True)
    trainer.accelerator = Accelerator(cpu=True)
    trainer.aux_loss_enabled = False
    trainer.precompute_ref_logps = True
    trainer.beta = BETA
    trainer._metrics = {"train": defaultdict(list)}
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    for name, value in settings.items():
        setattr(trainer, name, value)
    return trainer


def model_of(*log_probs: Tensor) -> Any:
    """Answers its n-th call with the n-th log-probabilities."""
    answers = iter(log_probs)

    def forward(**_: Any) -> SimpleNamespace:
        given = next(answers)
        zeros = torch.zeros_like(given)
        return SimpleNamespace(
            log_probs=given, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
        )

    return forward


def with_first_position(mask: Tensor) -> Tensor:
    """[.., T + 1]: TRL's masks cover the prompt's last position, its log-probabilities do not."""
    return torch.nn.functional.pad(mask, (1, 0))


def trl_dpo(batch: PairTerms, loss_type: str, label_smoothing: float = 0.0) -> Tensor:
    require_package("trl")
    from trl.trainer.dpo_trainer import DPOTrainer

    trainer = bare(
        DPOTrainer,
        loss_types=[loss_type],
        loss_weights=[1.0],
        label_smoothing=label_smoothing,
        f_divergence_type="reverse_kl",
        ld_alpha=None,
        use_weighting=False,
    )
    mask = with_first_position(torch.cat([batch.chosen_mask, batch.rejected_mask]))
    ref = (batch.get("ref_chosen_token_logps"), batch.get("ref_rejected_token_logps"))
    inputs = {
        "input_ids": torch.zeros_like(mask, dtype=torch.long),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": ref[0].sum(-1),
        "ref_rejected_logps": ref[1].sum(-1),
    }
    policy = torch.cat([batch.policy_chosen_token_logps, batch.policy_rejected_token_logps])
    inside = policy * mask[:, 1:]  # as its own head gives them: 0 where there is no label
    loss: Tensor = trainer._compute_loss(model_of(inside), inputs, return_outputs=False)
    return loss


def ours(batch: PairTerms, **section: Any) -> Tensor:
    result = parse_objective(section).loss(batch)
    return result.loss.mean()


def assert_same(batch: PairTerms, mine: Tensor, theirs: Tensor) -> None:
    leaves = (batch.policy_chosen_token_logps, batch.policy_rejected_token_logps)
    assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    expected = torch.autograd.grad(theirs, leaves, retain_graph=True)
    for found, gradient in zip(torch.autograd.grad(mine, leaves), expected, strict=True):
        assert_close(found, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("loss_type", "name", "settings", "label_smoothing"),
    [
        ("sigmoid", "dpo", {}, 0.0),
        ("hinge", "hinge", {}, 0.0),
        ("ipo", "ipo_norm", {}, 0.0),
        ("robust", "robust_dpo", {"flip_rate": 0.2}, 0.2),
    ],
)
def test_the_losses_are_the_same(
    loss_type: str, name: str, settings: dict[str, float], label_smoothing: float
) -> None:
    batch = terms()
    mine = ours(batch, name=name, beta=BETA, **settings)
    assert_same(batch, mine, trl_dpo(batch, loss_type, label_smoothing))


def test_ipo_of_the_equation_is_that_of_one_token() -> None:
    """TRL has the mean over tokens only; both agree where every response is one token."""
    batch = terms()
    one = torch.zeros_like(batch.chosen_mask)
    one[:, 0] = 1
    single = PairTerms(
        policy_chosen_token_logps=(batch.policy_chosen_token_logps * one).detach().requires_grad_(),
        policy_rejected_token_logps=(batch.policy_rejected_token_logps * one)
        .detach()
        .requires_grad_(),
        chosen_mask=one,
        rejected_mask=one,
        ref_chosen_token_logps=batch.get("ref_chosen_token_logps") * one,
        ref_rejected_token_logps=batch.get("ref_rejected_token_logps") * one,
    )
    assert_same(single, ours(single, name="ipo", beta=BETA), trl_dpo(single, "ipo"))


def test_sppo_is_half_of_trls() -> None:
    """The paper's square has the factor 1/2 of a mean over both sides; TRL leaves it out."""
    batch = terms()
    mine = ours(batch, name="sppo_hard", beta=BETA)
    assert_same(batch, 2 * mine, trl_dpo(batch, "sppo_hard"))


def test_sft_of_trl_is_the_nll_per_token_of_cpo() -> None:
    """CPO's hold in the form token_mean is TRL's sft: the mean over the tokens of the batch."""
    batch = terms()
    section = {"name": "cpo", "beta": BETA, "sft_form": "token_mean"}
    mine = ours(batch, **section, sft_weight=1.0) - ours(batch, **section, sft_weight=0.0)
    assert_same(batch, mine, trl_dpo(batch, "sft"))


@pytest.mark.parametrize("shift", [0.0, 4.0])
def test_kto_is_the_same(shift: float) -> None:
    """Below 0 both clamp the reference point; above they use its mean over the batch."""
    require_package("trl")
    from trl.trainer.kto_trainer import KTOTrainer

    mask = masks()[0]
    labels = torch.tensor([True, False, False, True])
    policy = logps(0, mask).requires_grad_()
    ref, kl_policy, kl_ref = logps(2, mask), logps(4, mask), logps(5, mask) - shift * mask
    trainer = bare(
        KTOTrainer,
        loss_type="kto",
        calculate_KL=True,
        desirable_weight=1.5,
        undesirable_weight=0.7,
    )
    trl_mask = with_first_position(mask)
    batch = {
        "input_ids": torch.zeros_like(trl_mask, dtype=torch.long),
        "attention_mask": torch.ones_like(trl_mask),
        "completion_mask": trl_mask,
        "KL_input_ids": torch.zeros_like(trl_mask, dtype=torch.long),
        "KL_attention_mask": torch.ones_like(trl_mask),
        "KL_completion_mask": trl_mask,
        "label": labels,
        "ref_logps": ref.sum(-1),
        "ref_KL_logps": kl_ref.sum(-1),
    }
    theirs = trainer._compute_loss(model_of(kl_policy, policy * mask), batch, return_outputs=False)
    reference_point = kto_reference_point(kl_policy.sum(-1), kl_ref.sum(-1))
    assert (reference_point > 0) == (shift > 0)
    result = parse_objective(
        {"name": "kto", "beta": BETA, "desirable_weight": 1.5, "undesirable_weight": 0.7}
    ).loss(
        UnpairedTerms(
            policy_logps=(policy * mask).sum(-1),
            labels=labels,
            ref_logps=ref.sum(-1),
            reference_point=reference_point,
        )
    )
    assert_close(result.loss.mean(), theirs, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad(loss, policy)[0] for loss in (result.loss.mean(), theirs)]
    assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)
