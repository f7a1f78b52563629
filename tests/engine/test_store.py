import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmalign.engine.manifest import Manifest
from mmalign.engine.store import Answer, Outcome, RunStore
from mmalign.errors import StoreError
from mmalign.records import DroppedSample, PreferencePair, Response, text_of, user

MANIFEST = Manifest(agent="a:b", config={"keep": 0.4, "model": {"name": "m"}}, dataset="d")


def pair(sample_id: str) -> PreferencePair:
    return PreferencePair(
        sample_id=sample_id,
        prompt=(user("why?"),),
        chosen=Response(messages=(text_of("good\nline"),)),
        rejected=Response(messages=(text_of("bad"),)),
    )


def kept(position: int) -> Outcome:
    return Outcome(position, f"s{position}", (pair(f"s{position}"),), ())


def dropped(position: int) -> Outcome:
    drop = DroppedSample(sample_id=f"s{position}", reason="r", node="n", message="m")
    return Outcome(position, f"s{position}", (), (drop,))


def answer(draw: int, size: int = 10) -> Answer:
    return Answer(b"k" * 16, draw, "s0", "node", "model", "generate", 3, 4, 0.5, "x" * size)


def test_outcomes_come_back_in_the_order_of_the_data_set(tmp_path: Path) -> None:
    async def write() -> None:
        with RunStore(tmp_path) as store:
            store.claim(MANIFEST)
            await asyncio.gather(*(store.commit_outcome(kept(i)) for i in (2, 0)))
            await store.commit_outcome(dropped(1))

    asyncio.run(write())
    with RunStore(tmp_path, read_only=True) as store:
        assert list(store.pairs()) == [pair("s0"), pair("s2")]
        assert [record.sample_id for record in store.dropped()] == ["s1"]
        assert store.committed() == {"s0": 0, "s1": 1, "s2": 2}


def test_a_sample_is_never_committed_twice(tmp_path: Path) -> None:
    async def write() -> None:
        with RunStore(tmp_path) as store:
            await store.commit_outcome(kept(0))
            with pytest.raises(StoreError, match="UNIQUE"):
                await store.commit_outcome(kept(0))

    asyncio.run(write())


def test_answers_are_durable_when_their_future_is_done(tmp_path: Path) -> None:
    """A second connection, as after a kill, sees them at once."""

    async def write() -> None:
        with RunStore(tmp_path) as store:
            await store.commit_answers([answer(0), answer(1)])
            with RunStore(tmp_path, read_only=True) as other:
                assert [row.draw for row in other.answers(b"k" * 16)] == [0, 1]
                assert other.totals() == (2, 14, 1.0)

    asyncio.run(write())


def test_rows_that_arrive_together_share_transactions(tmp_path: Path) -> None:
    async def write() -> int:
        with RunStore(tmp_path) as store:
            commits: list[str] = []
            store._writer.set_trace_callback(commits.append)
            await asyncio.gather(*(store.commit_outcome(kept(i)) for i in range(200)))
            return sum(statement == "COMMIT" for statement in commits)

    assert asyncio.run(write()) <= 4


def test_another_runs_folder_is_refused_with_what_differs(tmp_path: Path) -> None:
    other = MANIFEST.model_copy(update={"config": {"keep": 0.5, "model": {"name": "m"}}, "seed": 3})
    with RunStore(tmp_path) as store:
        store.claim(MANIFEST)
        store.claim(MANIFEST)
        with pytest.raises(StoreError) as caught:
            store.claim(other)
    assert "config.keep: 0.4 there, 0.5 now" in str(caught.value)
    assert "seed: 0 there, 3 now" in str(caught.value)
    assert "model.name" not in str(caught.value)


def test_other_versions_are_the_same_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RunStore(tmp_path) as store:
        store.claim(MANIFEST)
        stored = store.manifest
        assert stored is not None
        older = stored.model_copy(update={"versions": {**stored.versions, "langgraph": "0.1"}})
        store._writer.execute("UPDATE meta SET value = ?", (older.model_dump_json(),))
        store.claim(MANIFEST)
    assert "langgraph 0.1 ->" in caplog.text


def test_a_rebuild_deletes_records_and_keeps_answers(tmp_path: Path) -> None:
    async def write() -> None:
        with RunStore(tmp_path) as store:
            store.claim(MANIFEST)
            await store.commit_answers([answer(0)])
            await store.commit_outcome(kept(0))
            store.claim(MANIFEST.model_copy(update={"seed": 1}), rebuild=True)
            assert (store.num_committed, store.totals().num_calls) == (0, 1)

    asyncio.run(write())


def test_two_processes_cannot_run_in_one_folder(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; from mmalign.engine.store import RunStore; "
        "RunStore(pathlib.Path(sys.argv[1]))"
    )
    with RunStore(tmp_path):
        command = [sys.executable, "-c", script, str(tmp_path)]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"process {os.getpid()} is running in this folder" in second.stderr
    RunStore(tmp_path).close()


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"not a database " * 100)
    with pytest.raises(StoreError, match="no intact store"):
        RunStore(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        store._writer.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="schema version 99"):
        RunStore(tmp_path)


def test_a_missing_store_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="build the run first"):
        RunStore(tmp_path, read_only=True)


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A folder that this process, made an ordinary user where it is root, cannot write to."""
    folder = Path(tempfile.mkdtemp(prefix="mmalign-ro-"))
    was_root = os.geteuid() == 0
    with RunStore(folder):
        pass
    (folder / "store.lock").chmod(0o444)
    folder.chmod(0o555)
    if was_root:
        os.seteuid(65534)
    yield folder
    if was_root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_is_named(unwritable: Path) -> None:
    for folder in (unwritable, unwritable / "new"):
        with pytest.raises(StoreError, match=r"cannot be written .*; give an output folder"):
            RunStore(folder)


def test_a_store_in_a_read_only_folder_can_be_read(unwritable: Path) -> None:
    with RunStore(unwritable, read_only=True) as store:
        assert store.num_committed == 0


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    """max_page_count makes SQLite report what it reports on a full disk."""

    async def fill() -> int:
        with RunStore(tmp_path) as store:
            store._writer.execute("PRAGMA max_page_count=40")
            done = 0
            with pytest.raises(StoreError, match=r"disk is full .* run the same command again"):
                for draw in range(1000):
                    await store.commit_answers([answer(draw, size=2000)])
                    done += 1
            with pytest.raises(StoreError, match="disk is full"):
                store.commit_answers([answer(2000)])
            return done

    async def go_on(done: int) -> None:
        with RunStore(tmp_path) as store:
            assert store.totals().num_calls == done > 10
            await store.commit_answers([answer(done)])
            assert store.totals().num_calls == done + 1

    asyncio.run(go_on(asyncio.run(fill())))


_FULL_DISK = """
import pathlib, subprocess, sys
folder = pathlib.Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(folder)], check=True)
from mmalign.errors import StoreError
from mmalign.testing.killable import build
try:
    build(folder / "run", folder.parent / "calls", num_samples=200)
except StoreError as error:
    print(error)
subprocess.run(["mount", "-o", "remount,size=20m", str(folder)], check=True)
build(folder / "run", folder.parent / "calls", num_samples=200)
print(len((folder / "run/data/pairs.jsonl").read_text().splitlines()), "pairs")
"""


def test_a_build_on_a_disk_that_fills_up_is_resumed_when_there_is_space(tmp_path: Path) -> None:
    """A real file system of 300 kB, mounted where the system lets us."""
    disk = tmp_path / "disk"
    disk.mkdir()
    alone = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("needs a mount namespace of its own")
    command = [*alone, sys.executable, "-c", _FULL_DISK, str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refusal, result = done.stdout.splitlines()
    assert "the disk is full" in refusal
    assert "run the same command again" in refusal
    assert result == "171 pairs"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(set(calls)) == 1000
    assert len(calls) - 1000 <= 8, "more than what was in flight was asked again"
