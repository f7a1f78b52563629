"""Training on labelled responses and on rankings."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmalign.errors import RecordError, ShapeError
from mmalign.media import FrameSampling
from mmalign.objectives import parse_objective
from mmalign.records import (
    LabelledResponse,
    PreferencePair,
    RankedResponses,
    Response,
    labelled_of,
    ranked_of,
    text_of,
)
from mmalign.training import TrainerConfig, train


def run(model_dir: Path, records: Any, folder: Path, name: str, **settings: Any) -> Path:
    defaults = {
        "learning_rate": 2e-3,
        "max_steps": 8,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "warmup_steps": 0,
    }
    return train(
        str(model_dir),
        records,
        folder,
        objective=None if name == "sft" else parse_objective({"name": name, "beta": 0.5}),
        trainer=TrainerConfig(**{**defaults, **settings}),
        lora=None,
        media=FrameSampling(num_frames=4),
    )


def log_of(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "trainer_log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "loss" in entry]


def test_kto_raises_wanted_responses_and_lowers_the_others(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    log = log_of(run(model_dir, pairs, tmp_path, "kto"))
    assert log[0]["loss"] == pytest.approx(0.5, abs=1e-5)  # policy equals reference
    last = log[-1]
    assert last["rewards/chosen"] > last["rewards/rejected"] + 0.1
    assert last["loss"] < 0.5


def test_the_reference_point_does_not_depend_on_how_a_batch_is_cut(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    rows = [side for pair in pairs[:4] for side in labelled_of(pair)]
    found = []
    for size in (1, 4, 8):
        folder = run(
            model_dir,
            rows,
            tmp_path / str(size),
            "kto",
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            max_steps=2,
            optim="sgd",
            learning_rate=1e-2,
        )
        found.append(load_file(folder / "model.safetensors"))
    base = load_file(model_dir / "model.safetensors")
    moved = torch.cat([(found[0][name] - base[name]).flatten() for name in base])
    for other in found[1:]:
        gap = torch.cat([(found[0][name] - other[name]).flatten() for name in base])
        assert gap.norm() < 1e-4 * moved.norm()


def test_one_response_has_no_reference_point(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    with pytest.raises(ShapeError, match="take batches of 2 rows and more"):
        run(model_dir, pairs, tmp_path, "kto", per_device_train_batch_size=1)


def ranking(pair: PreferencePair, *texts: str) -> RankedResponses:
    """The pair's sides with worse answers behind them."""
    sides = ranked_of(pair).responses
    worse = tuple(
        Response(messages=(text_of(text),), score=-float(place))
        for place, text in enumerate(texts, start=1)
    )
    return RankedResponses(sample_id=pair.sample_id, prompt=pair.prompt, responses=(*sides, *worse))


def test_rankings_move_the_better_responses_up(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    rankings = [ranking(pair, "a nothing", "b nothing") for pair in pairs]
    log = log_of(run(model_dir, rankings, tmp_path, "tpo_tree"))
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert log[-1]["rewards/margins"] > 0.1
    assert log[-1]["rewards/accuracies"] > 0.7


def test_rankings_of_unequal_length_do_not_share_a_batch(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    rankings = [ranked_of(pairs[0]), ranking(pairs[1], "nothing")]
    with pytest.raises(ShapeError, match=r"have \[2, 3\] responses"):
        run(model_dir, rankings, tmp_path, "tpo_tree")


def test_an_objective_on_scores_wants_scores(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    without = [pair.model_copy(update={"id": f"p{i}"}) for i, pair in enumerate(pairs)]
    with pytest.raises(RecordError, match=r"record 'p\d+': response 0 has no score"):
        run(model_dir, without, tmp_path, "sppo")


def test_a_pair_counts_by_its_weight(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    halved = [pair.model_copy(update={"metadata": {"weight": 0.5}}) for pair in pairs[:4]]
    log = log_of(run(model_dir, halved, tmp_path / "half", "sem_dpo", max_steps=1))
    assert log[0]["loss"] == pytest.approx(0.5 * math.log(2), rel=1e-5)
    log = log_of(run(model_dir, pairs[:4], tmp_path / "whole", "sem_dpo", max_steps=1))
    assert log[0]["loss"] == pytest.approx(math.log(2), rel=1e-5)
    wrong = pairs[0].model_copy(update={"metadata": {"weight": "much"}})
    with pytest.raises(RecordError, match=r"metadata\.weight is 'much', expected a number >= 0"):
        run(model_dir, [wrong], tmp_path / "wrong", "sem_dpo")


def test_records_of_one_response_and_of_several_have_ids_and_check_themselves(
    pairs: list[PreferencePair],
) -> None:
    chosen, rejected = labelled_of(pairs[0])
    assert (chosen.desirable, rejected.desirable) == (True, False)
    assert chosen.id != rejected.id
    assert LabelledResponse.model_validate_json(chosen.model_dump_json()) == chosen
    both = ranked_of(pairs[0])
    assert [response.score for response in both.responses] == [1.0, 0.0]
    assert RankedResponses.model_validate_json(both.model_dump_json()) == both
    with pytest.raises(ValueError, match=r"responses \[0, 1\] have no score"):
        RankedResponses(
            sample_id="s", prompt=both.prompt, responses=(pairs[0].chosen, pairs[0].rejected)
        )
    tied = [response.model_copy(update={"score": 1.0}) for response in both.responses]
    with pytest.raises(ValueError, match="all 2 responses have the same score"):
        RankedResponses(sample_id="s", prompt=both.prompt, responses=tuple(tied))


def test_supervised_training_learns_wanted_responses(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    log = log_of(run(model_dir, [labelled_of(pair)[0] for pair in pairs], tmp_path, "sft"))
    assert log[-1]["nll"] < log[0]["nll"] - 0.1


def test_supervised_training_refuses_an_unwanted_response(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="an unwanted response cannot be learnt from"):
        run(model_dir, [labelled_of(pairs[0])[1]], tmp_path, "sft")
