"""A run that reads the reference's log-probabilities takes the steps of one that computes them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mmalign.training.run as run_module
from mmalign.errors import ConfigError, StoreError
from mmalign.media import FrameSampling
from mmalign.models.families import EncodedCompletion, EncodedPrompt, family_of, processor_of
from mmalign.objectives import parse_objective
from mmalign.records import PreferencePair
from mmalign.records.jsonl import write_jsonl
from mmalign.training import LoraSettings, TrainerConfig, train
from mmalign.training.examples import Encoder
from mmalign.training.forward import Row
from mmalign.training.stored_reference import ReferenceStore, row_key
from mmalign.training.vision_cache import FeatureFiles

LORA = LoraSettings(lora_r=4, lora_alpha=8)
DPO = {"name": "dpo", "beta": 0.5}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(
    model_dir: Path,
    records: Any,
    output_dir: Path,
    *,
    objective: dict[str, Any] | None = DPO,
    lora: LoraSettings | None = LORA,
    **settings: Any,
) -> Path:
    defaults = {"learning_rate": 1e-2, "num_train_epochs": 2, "logging_steps": 1, "warmup_steps": 0}
    return train(
        str(model_dir),
        records,
        output_dir,
        objective=parse_objective(objective) if objective else None,
        trainer=TrainerConfig(**{**defaults, **settings}),
        lora=lora,
        media=FrameSampling(num_frames=4),
    )


def weights(folder: Path, *, lora: bool = True) -> dict[str, torch.Tensor]:
    return load_file(folder / ("adapter_model.safetensors" if lora else "model.safetensors"))


def row(*ids: int, key: str = "prompt") -> Row:
    tokens = torch.tensor(ids)
    return Row(
        EncodedPrompt(torch.tensor([1, 2]), {}, torch.tensor([0, 0]), key=key),
        (EncodedCompletion(tokens, torch.ones(len(ids), dtype=torch.bool), ()),),
    )


@pytest.mark.parametrize("lora", [LORA, None], ids=["adapter off", "copy"])
def test_single_records_take_the_same_steps_bit_for_bit(
    lora: LoraSettings | None, model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    computed = run(model_dir, pairs[:3], tmp_path / "compute", lora=lora)
    stored = run(model_dir, pairs[:3], tmp_path / "store", lora=lora, reference_logps="store")
    ours, theirs = (weights(f, lora=lora is not None) for f in (stored, computed))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_larger_batches_agree_to_rounding(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    sgd: dict[str, Any] = {"per_device_train_batch_size": 4, "optim": "sgd", "learning_rate": 1e-1}
    computed = weights(run(model_dir, pairs, tmp_path / "compute", **sgd))
    stored = weights(run(model_dir, pairs, tmp_path / "store", reference_logps="store", **sgd))
    names = [name for name in computed if "lora_B" in name]  # zero at the start
    moved = torch.stack([computed[name].norm() for name in names]).norm()
    gap = torch.stack([(computed[name] - stored[name]).norm() for name in names]).norm()
    assert moved > 1e-5
    assert gap < 1e-5 * moved


def test_a_second_run_loads_no_reference_at_all(
    model_dir: Path,
    pairs: list[PreferencePair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = tmp_path / "reference"
    shutil.copytree(model_dir, other)
    moved = {n: w * 1.01 for n, w in load_file(model_dir / "model.safetensors").items()}
    save_file(moved, other / "model.safetensors", {"format": "pt"})
    settings: dict[str, Any] = {"reference": str(other), "reference_logps": "store"}
    first = run(model_dir, pairs[:2], tmp_path / "first", **settings)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a reference was made although all of its numbers are stored")

    for name in ("make_reference", "starting_reference"):
        monkeypatch.setattr(run_module, name, refuse)
    second = run(model_dir, pairs[:2], tmp_path / "second", **settings)
    assert all(torch.equal(w, weights(first)[n]) for n, w in weights(second).items())
    with pytest.raises(AssertionError, match="a reference was made"):  # one record is new
        run(model_dir, pairs[:3], tmp_path / "third", **settings)


def test_a_store_serves_the_runs_that_share_its_reference_and_no_other(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path, cache: Path
) -> None:
    run(model_dir, pairs[:1], tmp_path / "one", reference_logps="store", max_steps=1)
    assert len(list((cache / "reference").iterdir())) == 1
    run(model_dir, pairs[:1], tmp_path / "two", reference_logps="store", max_steps=1, seed=7)
    assert len(list((cache / "reference").iterdir())) == 1
    plain: dict[str, Any] = {"layout": "plain", "reference_store": "run"}
    run(model_dir, pairs[:1], tmp_path / "three", reference_logps="store", max_steps=1, **plain)
    assert len(list((cache / "reference").iterdir())) == 1
    (own,) = (tmp_path / "three" / "reference").iterdir()
    assert own.name not in {folder.name for folder in (cache / "reference").iterdir()}


def test_planned_and_decoded_records_have_one_key_which_tells_records_apart(
    model_dir: Path, pairs: list[PreferencePair]
) -> None:
    family, processor = family_of(str(model_dir)), processor_of(str(model_dir))
    encoder = Encoder(family, processor, FrameSampling(num_frames=4))
    planner = encoder.for_planning(with_keys=True)
    decoded = [row_key(encoder.pair(pair).rows[0]) for pair in pairs]
    assert decoded == [row_key(planner.pair(pair).rows[0]) for pair in pairs]
    assert len(set(decoded)) == len(pairs)
    fewer = Encoder(family, processor, FrameSampling(num_frames=2))
    assert row_key(fewer.pair(pairs[0]).rows[0]) != decoded[0]
    unnamed = encoder.for_planning()
    assert unnamed.pair(pairs[0]).rows[0].prompt.key == ""


@pytest.mark.parametrize(
    ("objective", "settings", "why"),
    [
        ({"name": "rrpo"}, {}, r"rrpo compares whole distributions .* \(token_kl\)"),
        ({"name": "kto"}, {}, "kto scores prompts with answers of other records"),
        ({"name": "simpo"}, {}, "simpo has no reference"),
        (None, {}, "supervised training has no reference"),
        (DPO, {"disable_dropout": False}, "dropout is on"),
    ],
)
def test_what_is_not_one_number_is_refused(
    objective: dict[str, Any] | None,
    settings: dict[str, Any],
    why: str,
    model_dir: Path,
    pairs: list[PreferencePair],
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=why):
        run(
            model_dir,
            pairs,
            tmp_path / "run",
            objective=objective,
            reference_logps="store",
            **settings,
        )
    assert not (tmp_path / "run").exists()


def test_a_reference_that_this_run_writes_is_refused(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    inside = tmp_path / "run" / "checkpoint-1"
    inside.mkdir(parents=True)
    with pytest.raises(ConfigError, match="lies in the run's own folder and changes with it"):
        run(model_dir, pairs, tmp_path / "run", reference=str(inside), reference_logps="store")


def test_numbers_come_back_row_by_row_in_any_order(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, {"weights": "w"}, num_rows=2)
    rows = [row(5, 6), row(7), row(5, 6, key="other")]
    values = [torch.tensor([-1.0, -2.0]), torch.tensor([-3.0]), torch.tensor([-4.0, -5.0])]
    for item, value in zip(rows, values, strict=True):
        assert item not in store
        store.put(item, value)
    store.flush()
    again = ReferenceStore(tmp_path, {"weights": "w"})
    assert torch.equal(again.logps(rows[::-1]), torch.cat(values[::-1]))
    assert row(8) not in again
    with pytest.raises(StoreError, match="found no log-probabilities of a row of 2 prompt tokens"):
        again.logps([row(8)])


def test_a_damaged_file_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = ReferenceStore(tmp_path, {}, num_rows=1)
    store.put(row(5), torch.tensor([-1.0]))
    store.put(row(6), torch.tensor([-2.0]))
    first, second = sorted(tmp_path.glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-2])
    again = ReferenceStore(tmp_path, {})
    assert (row(5) in again) + (row(6) in again) == 1
    assert "damaged file dropped" in caplog.text
    assert list(tmp_path.glob("*.safetensors")) == [second]


@pytest.mark.parametrize("kept_by", [lambda folder: ReferenceStore(folder, {}), FeatureFiles])
def test_what_a_killed_writer_left_is_swept(
    kept_by: Callable[[Path], object], tmp_path: Path
) -> None:
    old, young = tmp_path / "old.partial", tmp_path / "young.partial"
    for path in (old, young):
        path.write_bytes(b"half a file")
    os.utime(old, (0, 0))
    kept_by(tmp_path)
    assert not old.exists()
    assert young.exists()  # somebody may be writing it


WRITER = """
import sys
from pathlib import Path
import torch
from mmalign.models.families import EncodedCompletion, EncodedPrompt
from mmalign.training.forward import Row
from mmalign.training.stored_reference import ReferenceStore

store = ReferenceStore(Path(sys.argv[1]), {}, num_rows=1)
ids = torch.tensor([1])
for n in range(10**6):
    answer = EncodedCompletion(torch.tensor([n]), torch.tensor([True]), ())
    store.put(Row(EncodedPrompt(ids, {}, ids * 0, key="p"), (answer,)), torch.full((9999,), -1.0))
"""


def test_a_killed_writer_leaves_whole_entries_only(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "store")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while len(list((tmp_path / "store").glob("*.safetensors"))) < 20:
        assert process.poll() is None
        time.sleep(0.01)  # leave the processor to the writer
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    files = sorted((tmp_path / "store").glob("*.safetensors"))
    store = ReferenceStore(tmp_path / "store", {})
    whole = [n for n in range(len(files)) if row(n, key="p") in store]
    assert len(whole) == len(files) >= 20
    assert sorted(store.folder.glob("*.safetensors")) == files  # none was dropped as damaged
    assert torch.equal(store.logps([row(0, key="p")]), torch.full((9999,), -1.0))


TRAIN = """
import sys
from pathlib import Path
from mmalign.media import FrameSampling
from mmalign.objectives import parse_objective
from mmalign.records import PreferencePair
from mmalign.records.jsonl import read_jsonl
from mmalign.training import LoraSettings, TrainerConfig, train

model, data, output, mode = sys.argv[1:]
train(
    model, list(read_jsonl(Path(data), PreferencePair)), Path(output),
    objective=parse_objective({"name": "dpo", "beta": 0.5}),
    trainer=TrainerConfig(
        learning_rate=1e-2, num_train_epochs=2, logging_steps=1, world_size=2, reference_logps=mode
    ),
    lora=LoraSettings(lora_r=4, lora_alpha=8), media=FrameSampling(num_frames=4),
)
"""


@pytest.mark.slow
def test_two_processes_share_the_work_and_take_the_same_steps(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path, cache: Path
) -> None:
    data, script = tmp_path / "pairs.jsonl", tmp_path / "train.py"
    write_jsonl(data, pairs[:4])
    script.write_text(TRAIN)
    found = {}
    for mode in ("compute", "store"):
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(script),
             str(model_dir), str(data), str(tmp_path / mode), mode],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found[mode] = weights(tmp_path / mode)
    assert all(torch.equal(found["store"][n], w) for n, w in found["compute"].items())
    (folder,) = (cache / "reference").iterdir()
    files = sorted(folder.glob("*.safetensors"))
    assert [len(load_file(file)) for file in files] == [2, 2]
