"""A build that is killed at any moment loses nothing, writes nothing twice, pays nothing twice."""

import multiprocessing
import os
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from mmalign.engine import RunStore
from mmalign.testing.killable import build, main_of_fork

NUM_SAMPLES = 200
NUM_CALLS = 5 * NUM_SAMPLES
MAX_CONCURRENCY = 8
_TIME = re.compile(rb'"created_at":"[^"]*"')


FORKS = multiprocessing.get_context("forkserver")  # imports once: a start takes no seconds
FORKS.set_forkserver_preload(["mmalign.testing.killable"])


def start(folder: Path, *options: str) -> ForkServerProcess:
    """The build as a process of its own."""
    arguments = [str(folder / "run"), str(folder / "calls"), *options]
    process = FORKS.Process(target=main_of_fork, args=(folder / "errors", arguments), daemon=True)
    process.start()
    return process


def end(process: ForkServerProcess) -> int | None:
    """The exit code; negative where a signal ended the process."""
    process.join(timeout=120)
    return process.exitcode


def errors_of(folder: Path) -> str:
    """What the builds wrote to their standard error output."""
    return (folder / "errors").read_text()


def send(process: ForkServerProcess, number: signal.Signals) -> None:
    """A signal, as the terminal or the system sends it."""
    assert process.pid is not None
    os.kill(process.pid, number)


def calls_of(folder: Path) -> list[str]:
    """Every call that reached the model, as `sample node`."""
    file = folder / "calls"
    return file.read_text().splitlines() if file.exists() else []


def answered(folder: Path) -> set[str]:
    """What the ledger holds, as `sample node`."""
    path = folder / "run" / "store.sqlite"
    if not path.exists():
        return set()
    connection = sqlite3.connect(path)
    try:
        return {f"{s} {n}" for s, n in connection.execute("SELECT sample_id, node FROM ledger")}
    except sqlite3.OperationalError:  # killed before the tables were made
        return set()
    finally:
        connection.close()


def wait_for_calls(folder: Path, process: ForkServerProcess, num_calls: int) -> None:
    """Until so many calls were made, or the process ended."""
    while len(calls_of(folder)) < num_calls and process.is_alive():
        time.sleep(0.002)


def kill_and_compare(folder: Path, *, num_kills: int, seed: int) -> None:
    rng = random.Random(seed)
    moments = sorted(rng.randrange(NUM_CALLS - 50) for _ in range(num_kills))
    num_killed = 0
    for moment in moments:
        before, num_before = answered(folder), len(calls_of(folder))
        process = start(folder)
        wait_for_calls(folder, process, max(moment, num_before))
        time.sleep(rng.random() * 0.03)
        process.kill()
        num_killed += end(process) == -signal.SIGKILL
        repeated = before.intersection(calls_of(folder)[num_before:])
        assert repeated == set(), "an answered call was made again"
        assert before <= answered(folder), "an answer was lost"
    assert num_killed == num_kills
    before, num_before = answered(folder), len(calls_of(folder))
    process = start(folder)
    assert end(process) == 0
    assert errors_of(folder) == ""
    assert before.isdisjoint(calls_of(folder)[num_before:])

    calls = Counter(calls_of(folder))
    assert len(calls) == NUM_CALLS
    assert calls.total() - NUM_CALLS <= num_kills * MAX_CONCURRENCY, "more than was in flight"
    assert len(answered(folder)) == NUM_CALLS
    with RunStore(folder / "run", read_only=True) as store:
        assert store.committed() == {f"s{i}": i for i in range(NUM_SAMPLES)}
        assert store.totals().num_calls == NUM_CALLS

    whole = folder / "whole"
    whole.mkdir()
    build(whole / "run", whole / "calls", num_samples=NUM_SAMPLES)
    for name in ("pairs.jsonl", "dropped.jsonl", "funnel.json"):
        killed, uninterrupted = (
            _TIME.sub(b"", (place / "run" / "data" / name).read_bytes())
            for place in (folder, whole)
        )
        assert killed == uninterrupted != b""


def test_three_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, num_kills=3, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, num_kills=20, seed=1)


def test_a_ledger_that_forgets_is_caught_by_the_kill_test(
    tmp_path: Path,
) -> None:
    """The measure itself: two starts of a build whose ledger is emptied between them."""
    build(tmp_path / "run", tmp_path / "calls", num_samples=3)
    connection = sqlite3.connect(tmp_path / "run" / "store.sqlite")
    connection.executescript("DELETE FROM ledger; DELETE FROM outcomes WHERE position = 1")
    connection.close()
    build(tmp_path / "run", tmp_path / "calls", num_samples=3)
    calls = Counter(calls_of(tmp_path))
    assert sorted(call for call, count in calls.items() if count > 1) == sorted(
        f"s1 {node}" for node in ("caption", "answer", "judge", "spoil", "write_pair")
    )


def test_ctrl_c_leaves_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    process = start(tmp_path, "--num-samples", "60", "--wait-s", "0.05")
    wait_for_calls(tmp_path, process, 60)
    send(process, signal.SIGINT)
    assert end(process) == 1
    message = errors_of(tmp_path)
    assert re.search(r"RunInterruptedError: .* samples are committed, \d+ are left", message)
    assert f"Run the same command again to resume {tmp_path / 'run'}" in message
    assert set(calls_of(tmp_path)) == answered(tmp_path), "calls in flight were not stored"

    assert end(start(tmp_path, "--num-samples", "60", "--wait-s", "0")) == 0
    assert set(Counter(calls_of(tmp_path)).values()) == {1}
    with RunStore(tmp_path / "run", read_only=True) as store:
        assert store.num_committed == 60


def test_calls_that_take_too_long_are_cut_off_after_the_grace(tmp_path: Path) -> None:
    process = start(tmp_path, "--num-samples", "60", "--wait-s", "3600")
    wait_for_calls(tmp_path, process, 8)
    sent = time.monotonic()
    send(process, signal.SIGTERM)
    assert end(process) == 1
    assert time.monotonic() - sent >= 1.0
    assert "stopped on request; 0 samples are committed, 60 are left" in errors_of(tmp_path)


def test_a_second_ctrl_c_aborts_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, "--wait-s", "3600", "--stop-grace-s", "3600")
    wait_for_calls(tmp_path, process, 8)
    send(process, signal.SIGINT)
    while "press Ctrl-C again" not in errors_of(tmp_path):
        time.sleep(0.01)
    send(process, signal.SIGINT)
    assert end(process) == -signal.SIGINT
    RunStore(tmp_path / "run").close()
