"""What a trainer gets of whole distributions is what its objective needs, and no more."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from mmalign.media import FrameSampling
from mmalign.models.families import family_of
from mmalign.objectives import OBJECTIVES, Need, parse_objective
from mmalign.records import PreferencePair
from mmalign.training import LoraSettings, TrainerConfig
from mmalign.training.adapters import with_adapter
from mmalign.training.branches import BranchScores, measures_of, score_branches
from mmalign.training.checkpoints import begin_run
from mmalign.training.examples import Encoder, ExampleDataset, collate
from mmalign.training.forward import completion_hidden, completion_ids
from mmalign.training.preference import PreferenceTrainer
from mmalign.training.reference import Reference, make_reference


def parts_of(model_dir: Path, pairs: list[PreferencePair]) -> tuple[PreferenceTrainer, Encoder]:
    """A trainer whose adapter says something, so that policy and reference differ."""
    family = family_of(str(model_dir))
    model, processor = family.load(str(model_dir), dtype=torch.float32, device="cpu")
    policy = with_adapter(model, family, LoraSettings(lora_r=2, lora_alpha=4))
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    encoder = Encoder(family, processor, FrameSampling(num_frames=4))
    folder = Path(str(model_dir) + "-run")
    begin_run(folder, {})
    trainer = PreferenceTrainer(
        policy,
        family,
        processor,
        ExampleDataset(pairs, encoder.pair),
        TrainerConfig(max_steps=1),
        folder,
        {},
        objective=parse_objective({"name": "dpo"}),
        reference=make_reference(policy, family, "auto", dtype=torch.float32),
    )
    return trainer, encoder


@pytest.fixture(scope="module")
def scored(
    model_dir: Path, pairs: list[PreferencePair]
) -> tuple[PreferenceTrainer, Encoder, PreferencePair]:
    return *parts_of(model_dir, pairs), pairs[0]


def test_entropy_and_js_are_those_of_the_whole_vocabulary(
    scored: tuple[PreferenceTrainer, Encoder, PreferencePair],
) -> None:
    trainer, encoder, pair = scored
    rows = list(encoder.pair(pair).rows)
    measures = measures_of({"token_kl", "token_entropy", "token_js"})
    found = score_branches(
        trainer.policy,
        trainer.family,
        rows,
        trainer.config,
        reference=trainer.reference,
        measures=measures,
    )
    assert isinstance(trainer.reference, Reference)
    with torch.no_grad():
        hidden = completion_hidden(trainer.policy, trainer.family, rows)
        ref_hidden = trainer.reference.hidden(rows, layout="branch")
        p = trainer.reference.head(hidden).double().log_softmax(-1)
        r = trainer.reference.head(ref_hidden).double().log_softmax(-1)
    m = torch.logaddexp(p, r) - torch.log(torch.tensor(2.0))
    expected = {
        "kl": (r.exp() * (r - p)).sum(-1),
        "entropy": -(p.exp() * p).sum(-1),
        "js": (p.exp() * (p - m) + r.exp() * (r - m)).sum(-1) / 2 / torch.log(torch.tensor(2.0)),
    }
    assert len(completion_ids(rows)) == len(expected["js"])
    assert (expected["js"] > 1e-4).any()
    sizes = [len(part) for part in found.logps]
    for name, values in expected.items():
        parts = getattr(found, name)
        assert [len(part) for part in parts] == sizes
        assert_close(torch.cat(parts).double(), values, rtol=1e-4, atol=1e-5)
        assert torch.cat(parts).requires_grad


def test_what_no_objective_needs_is_not_computed(
    scored: tuple[PreferenceTrainer, Encoder, PreferencePair],
) -> None:
    trainer, encoder, pair = scored
    asked = {name: measures_of(item.needs) for name, item in OBJECTIVES.items()}
    assert {name for name, measures in asked.items() if measures} == {"rrpo"}
    assert asked["rrpo"] == {"kl"}
    scores: BranchScores = trainer.score_branches(list(encoder.pair(pair).rows))
    assert (scores.kl, scores.entropy, scores.js) == (None, None, None)
    assert scores.ref_logps is not None


def test_an_objective_over_pairs_reads_what_it_needs(
    scored: tuple[PreferenceTrainer, Encoder, PreferencePair], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, encoder, pair = scored
    batch = collate([encoder.pair(pair)])
    plain = trainer.pair_terms(batch)
    assert plain.chosen_token_entropy is plain.rejected_token_js is None
    further: frozenset[Need] = frozenset({"token_entropy", "token_js"})
    needs = trainer.objective.objective.needs | further
    wider = trainer.objective._replace(objective=replace(trainer.objective.objective, needs=needs))
    monkeypatch.setattr(trainer, "objective", wider)
    terms = trainer.pair_terms(batch)
    assert terms.chosen_token_kl is None
    for side in ("chosen", "rejected"):
        shape = terms.get(f"{side}_mask").shape
        assert terms.get(f"{side}_token_entropy").shape == shape
        assert ((terms.get(f"{side}_token_js") > 0) & (terms.get(f"{side}_token_js") < 1)).all()
