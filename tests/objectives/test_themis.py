"""Themis's two losses: a worked case, what is learnt and what is not, refused input."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.terms import PreferenceLoss
from mmalign.objectives.themis import (
    Segment,
    reward_ranking_loss,
    segment_tokens_per_pair,
    themis_loss,
    themis_pooled_loss,
)
from mmalign.testing.golden import t64

CHOSEN_SEGMENTS = torch.tensor([[0, 4, 1, 1, 2, 3], [4, 4, 1, 2, 2, 3]])
REJECTED_SEGMENTS = torch.tensor([[0, 4, 4, 3, 3], [0, 4, 1, 2, 3]])
CODE: dict[str, Any] = {"train_observations": True, "train_chosen_answer": True}


def inputs(seed: int = 0) -> dict[str, Any]:
    """Two pairs; rewards and log-probabilities are leaves."""
    source = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return -torch.rand(*shape, generator=source, dtype=torch.float64).requires_grad_()

    return {
        "chosen_rewards": leaf(2).detach().requires_grad_(),
        "rejected_rewards": leaf(2).detach().requires_grad_(),
        "chosen_token_logps": leaf(2, 6).detach().requires_grad_(),
        "rejected_token_logps": leaf(2, 5).detach().requires_grad_(),
        "chosen_segments": CHOSEN_SEGMENTS,
        "rejected_segments": REJECTED_SEGMENTS,
        "tokens_per_pair": segment_tokens_per_pair(CHOSEN_SEGMENTS, REJECTED_SEGMENTS),
    }


def token_gradients(result: PreferenceLoss, given: dict[str, Any]) -> tuple[Tensor, Tensor]:
    chosen, rejected = torch.autograd.grad(
        result.loss.mean(), (given["chosen_token_logps"], given["rejected_token_logps"])
    )
    return chosen, rejected


def test_worked_by_hand() -> None:
    """One pair, rewards equal: rank log 2.

    Calls -1 and -3 have the mean NLL 2, the observation -5 has 5, rationales -2, -2 and -5
    have 3, the chosen answer -4 has 4. Paper: log 2 + 2 + 3. Code, all learnt but the
    rejected answer: (1 + 3 + 5 + 2 + 2 + 5 + 4) / 7 = 22 / 7, plus log 2 / 2.
    """
    given: dict[str, Any] = {
        "chosen_rewards": t64([0.4]),
        "rejected_rewards": t64([0.4]),
        "chosen_token_logps": t64([[-4.0, -1.0, -5.0, -2.0]]),
        "rejected_token_logps": t64([[-9.0, -3.0, -2.0, -5.0]]),
        "chosen_segments": torch.tensor([[4, 1, 2, 3]]),
        "rejected_segments": torch.tensor([[4, 1, 3, 3]]),
    }
    given["tokens_per_pair"] = segment_tokens_per_pair(
        given["chosen_segments"], given["rejected_segments"]
    )
    paper = themis_loss(**given, train_observations=False)
    assert paper.loss.item() == pytest.approx(math.log(2) + 2 + 3, rel=1e-12)
    assert paper.metrics["observation_loss"].item() == pytest.approx(5)
    with_observations = themis_loss(**given, train_observations=True)
    assert with_observations.loss.item() == pytest.approx(math.log(2) + 2 + 5 + 3, rel=1e-12)
    code = themis_pooled_loss(**given, **CODE)
    assert code.loss.item() == pytest.approx(22 / 7 + math.log(2) / 2, rel=1e-12)


def test_without_its_weights_the_paper_s_loss_is_that_of_a_plain_reward_model() -> None:
    given = inputs()
    found = themis_loss(**given, tool_weight=0.0, rationale_weight=0.0, train_observations=True)
    plain = reward_ranking_loss(given["chosen_rewards"], given["rejected_rewards"])
    assert_close(found.loss, plain, rtol=0, atol=0)
    assert_close(reward_ranking_loss(t64([3.0]), t64([3.0])), t64([math.log(2)]))


def test_a_constant_on_all_rewards_changes_nothing() -> None:
    given = inputs()
    moved = given | {
        "chosen_rewards": given["chosen_rewards"] + 7,
        "rejected_rewards": given["rejected_rewards"] + 7,
    }
    assert_close(themis_pooled_loss(**moved, **CODE).loss, themis_pooled_loss(**given, **CODE).loss)


def test_the_gradients_of_both_rewards_add_up_to_zero() -> None:
    given = inputs()
    chosen, rejected = torch.autograd.grad(
        themis_loss(**given, train_observations=True).loss.mean(),
        (given["chosen_rewards"], given["rejected_rewards"]),
    )
    assert_close(chosen, -rejected, rtol=0, atol=0)
    assert (chosen < 0).all()


@pytest.mark.parametrize("train_observations", [True, False])
def test_only_what_is_learnt_gets_gradient(train_observations: bool) -> None:
    given = inputs()
    learnt = {Segment.TOOL_CALL, Segment.RATIONALE}
    if train_observations:
        learnt.add(Segment.OBSERVATION)
    results = {
        "paper": themis_loss(**given, train_observations=train_observations),
        "code": themis_pooled_loss(
            **given, train_observations=train_observations, train_chosen_answer=True
        ),
    }
    for name, result in results.items():
        chosen, rejected = token_gradients(result, given)
        chosen_learnt = learnt | ({Segment.ANSWER} if name == "code" else set())
        for grads, segments, kinds in (
            (chosen, CHOSEN_SEGMENTS, chosen_learnt),
            (rejected, REJECTED_SEGMENTS, learnt),
        ):
            trained = torch.isin(segments, torch.tensor(sorted(kinds)))
            assert (grads[trained] < 0).all()
            assert grads[~trained].abs().max().item() == 0


def test_a_segment_that_does_not_occur_costs_nothing() -> None:
    given = inputs() | {
        "chosen_segments": torch.zeros_like(CHOSEN_SEGMENTS),
        "rejected_segments": torch.zeros_like(REJECTED_SEGMENTS),
    }
    given["tokens_per_pair"] = segment_tokens_per_pair(
        given["chosen_segments"], given["rejected_segments"]
    )
    rank = reward_ranking_loss(given["chosen_rewards"], given["rejected_rewards"])
    paper = themis_loss(**given, train_observations=True)
    assert_close(paper.loss, rank, rtol=0, atol=0)
    code = themis_pooled_loss(**given, **CODE)
    assert_close(code.loss, rank / 2, rtol=0, atol=0)
    assert token_gradients(code, given)[0].abs().max().item() == 0


def test_the_pairs_of_a_batch_may_be_computed_one_by_one() -> None:
    given = inputs()
    whole = themis_pooled_loss(**given, **CODE).loss
    parts = [
        themis_pooled_loss(
            **{
                name: value if name == "tokens_per_pair" else value[row : row + 1]
                for name, value in given.items()
            },
            **CODE,
        ).loss
        for row in (0, 1)
    ]
    assert_close(torch.cat(parts), whole)


def test_gradients_agree_with_central_differences() -> None:
    given = inputs()
    leaves = {
        name: value
        for name, value in given.items()
        if isinstance(value, Tensor) and value.requires_grad
    }

    def losses(*values: Tensor) -> Tensor:
        changed = given | dict(zip(leaves, values, strict=True))
        paper = themis_loss(**changed, tool_weight=0.7, train_observations=True)
        return paper.loss + themis_pooled_loss(**changed, **CODE).loss

    assert torch.autograd.gradcheck(losses, tuple(leaves.values()), eps=1e-6, atol=1e-6)


def test_wrong_shapes_are_refused() -> None:
    given = inputs()
    with pytest.raises(ShapeError, match=r"chosen_segments \[2, 5\]"):
        themis_loss(**given | {"chosen_segments": REJECTED_SEGMENTS}, train_observations=True)
    with pytest.raises(ShapeError, match=r"rank_loss \[1\], traces \[2\]"):
        one = {"chosen_rewards": t64([1.0]), "rejected_rewards": t64([0.0])}
        themis_loss(**given | one, train_observations=True)
    with pytest.raises(ShapeError, match="2 traces in chosen_token_logps and 1 in rejected"):
        themis_pooled_loss(
            **given
            | {
                "rejected_token_logps": given["rejected_token_logps"][:1],
                "rejected_segments": REJECTED_SEGMENTS[:1],
            },
            **CODE,
        )
