"""Bad files are named with line and id; what cannot be written leaves no trace."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmalign.errors import MediaMissingError, RecordError, StoreError
from mmalign.records import PreferencePair, Response, Sample, text_of, user
from mmalign.records.atomic import new_file, write_text
from mmalign.records.jsonl import read_jsonl, write_jsonl

PAIR = PreferencePair(
    sample_id="s1",
    prompt=(user("What moves?"),),
    chosen=Response(messages=(text_of("a red ball"),)),
    rejected=Response(messages=(text_of("a blue ball"),)),
)


def line(**changes: Any) -> str:
    return json.dumps({**PAIR.model_dump(mode="json"), **changes})


def side(text: str, **fields: Any) -> dict[str, Any]:
    return {**Response(messages=(text_of(text),)).model_dump(mode="json"), **fields}


BAD_LINES = [
    ("{", r"not valid JSON: Expecting property name.* at column [12]"),
    ("[1]", r"holds a list, expected an object"),
    (line(colour="red"), r'pair "\w{32}": unknown field \'colour\'; remove it or put it under'),
    (line(sample_id=""), r"sample_id: .*at least 1 character"),
    (line(id=""), r'pair "": the id is empty'),
    (
        line(chosen=side("red", spans=[{"start": 1, "end": 9, "phrase_id": 1}])),
        r"span 1-9 lies outside the response, which has 3 characters",
    ),
    (line(chosen=side("a blue ball")), r"chosen and rejected are the same \('a blue ball'\)"),
    (line(chosen=side("  ")), r"the chosen response is empty"),
    (line(schema_version=2), r"schema_version: Input should be 1"),
    ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), r"not valid JSON"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_LINES)
def test_bad_line_is_named(tmp_path: Path, bad: str, message: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{line()}\n\n{bad}\n", encoding="utf-8")
    with pytest.raises(RecordError, match=rf"pairs\.jsonl:3: .*{message}"):
        list(read_jsonl(path, PreferencePair))


def test_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{line(id='p1')}\n{line(id='p2')}\n{line(id='p1')}\n")
    with pytest.raises(
        RecordError, match=r'pairs\.jsonl:3: pair "p1": the same id stands at .*pairs\.jsonl:1;'
    ):
        list(read_jsonl(path, PreferencePair))
    with pytest.raises(RecordError, match=r"new\.jsonl:2: pair .* the same id"):
        write_jsonl(tmp_path / "new.jsonl", [PAIR, PAIR])
    assert not (tmp_path / "new.jsonl").exists()


def test_absent_id_is_computed(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = PAIR.model_dump(mode="json")
    del row["id"]
    path.write_text(json.dumps(row) + "\n")
    assert [record.id for record in read_jsonl(path, PreferencePair)] == [PAIR.content_id()]


def test_question_without_an_answer_is_an_error_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_jsonl(path, [Sample(id="q1", messages=(user("Why?"),))])
    assert [sample.id for sample in read_jsonl(path, Sample)] == ["q1"]
    with pytest.raises(RecordError, match=r'samples\.jsonl:1: sample "q1": has no answer'):
        list(read_jsonl(path, Sample, require_answer=True))


def test_not_utf8_and_absent_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(RecordError, match="is not UTF-8"):
        list(read_jsonl(path, PreferencePair))
    with pytest.raises(StoreError, match=r"absent\.jsonl: cannot be read: No such file"):
        list(read_jsonl(tmp_path / "absent.jsonl", PreferencePair))


def test_same_answer_by_another_way_is_a_pair() -> None:
    """Two trajectories that end in one answer differ; spaces around an answer make none."""
    short = Response(messages=(text_of("four"),))
    long = Response(messages=(text_of("let me count"), text_of("four")))
    pair = PreferencePair(sample_id="s", prompt=(user("?"),), chosen=short, rejected=long)
    assert pair.chosen.text == pair.rejected.text
    with pytest.raises(ValueError, match="are the same"):
        PreferencePair(
            sample_id="s",
            prompt=(user("?"),),
            chosen=short,
            rejected=Response(messages=(text_of(" four\n"),)),
        )


def test_failed_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_text(path, "old")

    def broken() -> Iterator[PreferencePair]:
        yield PAIR
        raise MediaMissingError("clip.mp4: gone")

    with pytest.raises(MediaMissingError, match=r"clip\.mp4: gone"):
        write_jsonl(path, broken())
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.jsonl"]
    assert path.read_text() == "old"


def test_written_file_has_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x")
    usual = tmp_path / "b"
    usual.write_text("x")
    assert (tmp_path / "a").stat().st_mode == usual.stat().st_mode


def test_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (Path("/proc/no/pairs.jsonl"), tmp_path / "file" / "pairs.jsonl"):
        with pytest.raises(StoreError, match=r"pairs\.jsonl: cannot be written: .*Nothing was"):
            write_jsonl(path, [PAIR])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_a_store_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="may not be written"):
        write_jsonl(tmp_path / "pairs.jsonl", [PAIR])
    tmp_path.chmod(0o700)


def test_full_disk_leaves_no_trace(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow, as a full disk does."""
    code = (
        "import signal\n"
        "from pathlib import Path\n"
        "from mmalign.errors import StoreError\n"
        "from mmalign.records.atomic import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n"
        f"    write_text(Path({str(tmp_path / 'big.txt')!r}), 'x' * 100_000)\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert "big.txt: cannot be written: the file would be larger" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_full_device_is_a_store_error(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="the disk is full; free some space"),
        new_file(tmp_path / "a.txt"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x" * 100_000)
    assert list(tmp_path.iterdir()) == []
