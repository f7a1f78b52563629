"""Batches of similar length: every record once, as many for every process, little padding."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from safetensors.torch import load_file
from torch.utils.data import BatchSampler

from mmalign.errors import ConfigError
from mmalign.media import FrameSampling
from mmalign.models.families import EncodedCompletion, EncodedPrompt
from mmalign.objectives import parse_objective
from mmalign.records import PreferencePair, text_of
from mmalign.training import LoraSettings, TrainerConfig, train
from mmalign.training.batching import LengthGroups, RecordSize, padding_of
from mmalign.training.forward import Row


def mixed(num: int = 900) -> list[RecordSize]:
    """Text, pictures and clips in equal parts, with two answers each."""
    rng = random.Random(0)
    kinds = [((20, 400), (40, 800)), ((600, 1200), (20, 200)), ((2000, 8000), (40, 200))]
    return [
        RecordSize(rng.randint(*prompt), rng.randint(*answers))
        for prompt, answers in (rng.choice(kinds) for _ in range(num))
    ]


def padding_share(sizes: Sequence[RecordSize], order: Sequence[int], batch_size: int) -> float:
    """Of prompts and answers, padded apart."""
    tokens = positions = 0
    for start in range(0, len(order), batch_size):
        batch = [sizes[i] for i in order[start : start + batch_size]]
        tokens += sum(prompt + answers for prompt, answers in batch)
        longest = max(prompt for prompt, _ in batch) + max(answers for _, answers in batch)
        positions += len(batch) * longest
    return 1 - tokens / positions


def groups(
    sizes: Sequence[RecordSize], *, batch_size: int = 4, num_processes: int = 1, epoch: int = 0
) -> LengthGroups:
    sampler = LengthGroups(sizes, batch_size=batch_size, num_processes=num_processes, seed=7)
    sampler.set_epoch(epoch)
    return sampler


@pytest.mark.parametrize("batch_size", [2, 4, 8])
def test_padding_of_a_mixed_set_is_below_a_tenth(batch_size: int) -> None:
    sizes = mixed()
    order = list(range(len(sizes)))
    assert padding_share(sizes, order, batch_size) > 0.3
    for epoch in range(3):
        grouped = list(groups(sizes, batch_size=batch_size, epoch=epoch))
        assert padding_share(sizes, grouped, batch_size) < 0.1


def test_every_record_comes_once_in_an_order_of_its_epoch() -> None:
    sizes = mixed(103)
    orders = [list(groups(sizes, epoch=epoch)) for epoch in (0, 1, 0)]
    assert all(sorted(order) == list(range(103)) for order in orders)
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    batches = [{frozenset(order[i : i + 4]) for i in range(0, 100, 4)} for order in orders[:2]]
    assert batches[0] != batches[1]
    lengths = [sum(sizes[i]) for i in orders[0][:100:4]]
    assert lengths != sorted(lengths)


@pytest.mark.parametrize("num", [96, 101, 7])
def test_processes_take_as_many_steps_of_like_length(num: int) -> None:
    sizes = mixed(num)
    shards = []
    for rank in range(2):
        batches = BatchSampler(groups(sizes, batch_size=3, num_processes=2), 3, drop_last=False)
        shards.append(list(BatchSamplerShard(batches, num_processes=2, process_index=rank)))
    assert len(shards[0]) == len(shards[1])
    assert {i for shard in shards for batch in shard for i in batch} == set(range(num))
    for one, other in zip(*shards, strict=True):
        totals = [sorted(sum(sizes[i]) for i in batch) for batch in (one, other)]
        if num == 96:
            assert 0.25 < totals[0][1] / totals[1][1] < 4
        assert len(one) == len(other) == 3


def test_records_that_were_not_counted_cannot_be_grouped() -> None:
    with pytest.raises(ConfigError, match="group_by_length: the records were not counted"):
        LengthGroups((), batch_size=1, num_processes=1, seed=0)


def test_padding_is_counted_as_each_layout_pads() -> None:
    def row(prompt: int, *answers: int) -> Row:
        ids = torch.zeros(prompt, dtype=torch.long)
        branches = tuple(
            EncodedCompletion(torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool), ())
            for n in answers
        )
        return Row(EncodedPrompt(ids, {}, ids), branches)

    rows = [row(10, 2, 3), row(6, 7, 1)]
    assert padding_of(rows, layout="branch") == (29, 2 * (10 + 8))
    assert padding_of(rows, layout="plain") == (45, 4 * 13)


def run(model_dir: Path, records: Any, output_dir: Path, **settings: Any) -> Path:
    defaults = {
        "learning_rate": 1e-2,
        "num_train_epochs": 2,
        "logging_steps": 1,
        "save_steps": 3,
        "warmup_steps": 0,
        "per_device_train_batch_size": 2,
    }
    return train(
        str(model_dir),
        records,
        output_dir,
        objective=parse_objective({"name": "dpo", "beta": 0.5}),
        trainer=TrainerConfig(**{**defaults, **settings}),
        lora=LoraSettings(lora_r=4, lora_alpha=8),
        media=FrameSampling(num_frames=4),
    )


def padding_of_run(folder: Path) -> float:
    lines = map(json.loads, (folder / "trainer_log.jsonl").read_text().splitlines())
    shares = [line["padding_share"] for line in lines if "padding_share" in line]
    return float(sum(shares) / len(shares))


def test_a_run_pads_less_and_goes_on_where_it_stopped(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    uneven = [
        pair.model_copy(update={"prompt": (*pair.prompt, text_of("a " * 40 * (n % 3), "user"))})
        for n, pair in enumerate(pairs)
    ]
    anyhow = run(model_dir, uneven, tmp_path / "anyhow")
    whole = run(model_dir, uneven, tmp_path / "whole", group_by_length=True)
    assert padding_of_run(whole) < 0.7 * padding_of_run(anyhow)
    stopped = run(model_dir, uneven, tmp_path / "stopped", group_by_length=True)
    (stopped / "all_results.json").unlink()
    for folder in stopped.glob("checkpoint-*"):
        if folder.name != "checkpoint-6":  # the middle of the second epoch
            (folder / "complete.json").unlink()
    run(model_dir, uneven, tmp_path / "stopped", group_by_length=True)
    ours, theirs = (load_file(f / "adapter_model.safetensors") for f in (stopped, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
