"""The table: recipes find their objective, wrong ones are told what is right."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mmalign.errors import ConfigError, ShapeError
from mmalign.objectives import (
    OBJECTIVES,
    ListTerms,
    PairTerms,
    UnpairedTerms,
    check_terms,
    parse_objective,
)


def terms(**changed: Tensor | None) -> PairTerms:
    values: dict[str, Any] = {
        "policy_chosen_token_logps": torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]),
        "policy_rejected_token_logps": torch.tensor([[-1.0, -1.0], [-1.0, -1.0]]),
        "chosen_mask": torch.tensor([[1, 1], [1, 0]]),
        "rejected_mask": torch.tensor([[1, 1], [1, 1]]),
    }
    return PairTerms(**(values | changed))


def test_a_recipe_gets_its_objective_with_its_settings() -> None:
    chosen = parse_objective({"name": "rrpo", "alpha": 0.05})
    assert chosen.objective is OBJECTIVES["rrpo"]
    assert chosen.config.model_dump() == {"beta": 0.1, "alpha": 0.05, "kl_reduction": "sum"}
    assert "token_kl" in chosen.objective.needs


PAIRWISE = [name for name, objective in OBJECTIVES.items() if objective.unit == "pair"]


@pytest.mark.parametrize("name", PAIRWISE)
def test_every_pairwise_objective_reads_no_more_than_it_declares(name: str) -> None:
    given: dict[str, Tensor | None] = {}
    needs = OBJECTIVES[name].needs
    if "ref_logps" in needs:
        given["ref_chosen_token_logps"] = given["ref_rejected_token_logps"] = -torch.ones(2, 2)
    if "spans" in needs:
        given["chosen_phrase_ids"] = given["rejected_phrase_ids"] = torch.ones(2, 2).long()
    if "token_kl" in needs:
        given["chosen_token_kl"] = torch.zeros(2, 2)
    if "chosen_tokens_per_pair" in needs:
        given["chosen_tokens_per_pair"] = torch.tensor(1.5)
    if "scores" in needs:
        given["chosen_scores"], given["rejected_scores"] = torch.ones(2), torch.zeros(2)
    if "weights" in needs:
        given["weights"] = torch.ones(2)
    result = parse_objective({"name": name}).loss(terms(**given))
    assert result.loss.shape == (2,)
    assert result.loss.isfinite().all()
    assert not result.chosen_rewards.requires_grad


@pytest.mark.parametrize("name", PAIRWISE)
def test_every_pairwise_objective_compiles_to_one_graph(name: str) -> None:
    chosen = parse_objective({"name": name})
    logps = terms(
        ref_chosen_token_logps=-torch.ones(2, 2),
        ref_rejected_token_logps=-torch.ones(2, 2),
        chosen_phrase_ids=torch.ones(2, 2).long(),
        rejected_phrase_ids=torch.ones(2, 2).long(),
        chosen_token_kl=torch.zeros(2, 2),
        chosen_tokens_per_pair=torch.tensor(1.5),
        chosen_scores=torch.ones(2),
        rejected_scores=torch.zeros(2),
        weights=torch.ones(2),
    )
    compiled = torch.compile(chosen.objective.fn, fullgraph=True, backend="eager")
    result = compiled(**chosen.objective.reads(logps), **chosen.config.model_dump())
    assert torch.equal(result.loss, chosen.loss(logps).loss)


def test_an_unpaired_objective_reads_labelled_responses() -> None:
    logps = torch.tensor([-1.0, -2.0, -3.0])
    batch = UnpairedTerms(
        policy_logps=logps,
        labels=torch.tensor([True, False, True]),
        ref_logps=logps,
        reference_point=torch.tensor(0.0),
    )
    result = parse_objective({"name": "kto", "undesirable_weight": 2.0}).loss(batch)
    assert result.loss.tolist() == [0.5, 1.0, 0.5]
    with pytest.raises(ShapeError, match="reads reference_point, which is missing"):
        parse_objective({"name": "kto"}).loss(UnpairedTerms(logps, logps, logps))
    with pytest.raises(ShapeError, match="dpo counts a pair, the batch holds a response each"):
        parse_objective({"name": "dpo"}).loss(batch)


def test_a_listwise_objective_reads_rankings() -> None:
    """Two responses whose rewards differ by 1: lambda * log(1 + e^-1)."""
    batch = ListTerms(
        policy_logps=torch.tensor([[2.0, 0.0]]),
        scores=torch.tensor([[1.0, 0.0]]),
        ref_logps=torch.zeros(1, 2),
    )
    result = parse_objective({"name": "tpo_tree", "beta": 0.5, "weigh_ranks": False}).loss(batch)
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-1)), rel=1e-6)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "rrop"}, r"objective\.name: .*'rrop'; did you mean 'rrpo'\?"),
        ({"name": "xyz"}, "known ones: dpo, "),
        ({"beta": 0.1}, "no objective is called None"),
        ({"name": "rrpo", "alhpa": 0.1}, r"alhpa: unknown key; did you mean 'alpha'\?"),
        ({"name": "dpo", "beta": 0.0}, "beta: .*greater than 0"),
        ({"name": "dpo", "beta": math.inf}, "beta: .*finite"),
        ({"name": "rrpo", "alpha": -0.1}, "alpha: .*greater than or equal to 0"),
        ({"name": "cdpo", "label_smoothing": 0.5}, "label_smoothing: .*less than 0.5"),
        ({"name": "rrpo", "kl_reduction": "max"}, "kl_reduction: .*'sum' or 'mean'"),
    ],
)
def test_a_wrong_recipe_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_objective(section)


def test_a_missing_term_is_named() -> None:
    with pytest.raises(ShapeError, match="reads ref_chosen_token_logps, which is missing"):
        parse_objective({"name": "dpo"}).loss(terms())


def test_terms_of_different_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"chosen_mask \[2, 3\]"):
        terms(chosen_mask=torch.ones(2, 3))


def test_sound_terms_pass_the_check() -> None:
    outside = torch.tensor([[-1.0, -2.0], [-3.0, math.nan]])
    check_terms(terms(policy_chosen_token_logps=outside), ["a", "b"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"policy_rejected_token_logps": torch.tensor([[-1.0, -1.0], [-1.0, math.inf]])},
            "pair 'b' at token 1: policy_rejected_token_logps is not finite",
        ),
        (
            {"chosen_mask": torch.tensor([[1, 1], [0, 0]])},
            "pair 'b': the chosen response has no token left",
        ),
        (
            {"rejected_phrase_ids": torch.tensor([[0, 0], [1, 0]])},
            "pair 'a': no token of the rejected response carries a phrase id",
        ),
        (
            {"chosen_phrase_ids": torch.tensor([[1, 0], [0, 1]])},
            "pair 'b': no token of the chosen response carries a phrase id",
        ),
    ],
)
def test_broken_terms_are_named_by_record_and_position(
    changed: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        check_terms(terms(**changed), ["a", "b"])
