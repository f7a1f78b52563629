"""Records come back from JSON lines and Parquet as they went in; ids name the content only."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from mmalign.errors import RecordError, StoreError
from mmalign.records import (
    DroppedSample,
    Lineage,
    MediaOperation,
    MediaRef,
    PreferencePair,
    Response,
    Sample,
    ToolCall,
    text_of,
    user,
)
from mmalign.records.jsonl import read_jsonl, write_jsonl
from mmalign.records.parquet import arrow_schema, read_parquet, write_parquet
from mmalign.testing.strategies import lineages, media_refs, pairs, samples

CLIP = MediaRef(kind="video", uri="clips/a.mp4", content_hash="0" * 32)

slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pair(
    chosen: str = "a red ball", rejected: str = "a blue ball", **fields: object
) -> PreferencePair:
    return PreferencePair.model_validate(
        {
            "sample_id": "s1",
            "prompt": (user("What moves?", CLIP),),
            "chosen": Response(messages=(text_of(chosen),)),
            "rejected": Response(messages=(text_of(rejected),)),
            **fields,
        }
    )


@slowly
@given(pairs())
def test_pairs_survive_both_files(record: PreferencePair) -> None:
    with TemporaryDirectory() as folder:
        lines, table = Path(folder) / "pairs.jsonl", Path(folder) / "pairs.parquet"
        assert write_jsonl(lines, [record]) == 1
        assert list(read_jsonl(lines, PreferencePair)) == [record]
        assert write_parquet(table, [record], PreferencePair) == 1
        assert list(read_parquet(table, PreferencePair)) == [record]


@slowly
@given(samples())
def test_samples_survive_both_files(record: Sample) -> None:
    with TemporaryDirectory() as folder:
        lines, table = Path(folder) / "samples.jsonl", Path(folder) / "samples.parquet"
        write_jsonl(lines, [record])
        assert list(read_jsonl(lines, Sample)) == [record]
        write_parquet(table, [record], Sample)
        assert list(read_parquet(table, Sample)) == [record]


@slowly
@given(pairs(), lineages())
def test_id_does_not_depend_on_the_lineage(record: PreferencePair, lineage: Lineage) -> None:
    assert PreferencePair.model_validate_json(record.model_dump_json()) == record
    other = PreferencePair.model_validate({**dict(record), "id": "", "lineage": lineage})
    assert other.id == record.id == record.content_id()


@slowly
@given(media_refs())
def test_moved_file_keeps_the_id_where_its_hash_is_known(media: MediaRef) -> None:
    moved = media.model_copy(update={"uri": f"elsewhere/{media.uri}"})
    assert (moved.content_id() == media.content_id()) == (media.content_hash is not None)


def test_id_depends_on_content_operations_and_call_ids() -> None:
    changed = CLIP.then(MediaOperation(name="reverse", seed=1))
    assert pair().id == pair().id
    assert pair("a green ball").id != pair().id
    assert pair(prompt=(user("What moves?", changed),)).id != pair().id
    assert (
        ToolCall(id="1", name="f", arguments="{}").content_id()
        != ToolCall(id="2", name="f", arguments="{}").content_id()
    )


def test_metadata_holds_json_only_and_comes_back_equal(tmp_path: Path) -> None:
    record = pair(metadata={"size": (1, (2, 3)), "big": 2**80})
    assert record.metadata == {"size": [1, [2, 3]], "big": 2**80}
    write_parquet(tmp_path / "p.parquet", [record], PreferencePair)
    assert list(read_parquet(tmp_path / "p.parquet", PreferencePair)) == [record]
    with pytest.raises(ValueError, match=r"\['when'\] is a Path|\['when'\] is a PosixPath"):
        pair(metadata={"when": tmp_path})
    with pytest.raises(ValueError, match="JSON knows finite numbers only"):
        pair(metadata={"x": float("nan")})
    with pytest.raises(ValueError, match="JSON keys are strings"):
        pair(metadata={"x": {1: 2}})


def test_parquet_keeps_row_groups_and_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    records = [pair(f"answer {number}") for number in range(7)]
    assert write_parquet(path, iter(records), PreferencePair, row_group_size=3) == 7
    with pq.ParquetFile(path) as file:
        assert file.num_row_groups == 3
        assert (
            b'"record":"PreferencePair","schema_version":1'
            in file.schema_arrow.metadata[b"mmalign"]
        )
    assert list(read_parquet(path, PreferencePair)) == records


def test_parquet_columns_can_be_queried(tmp_path: Path) -> None:
    """Texts and ids are columns of their own; free-form mappings and second clips are JSON."""
    path = tmp_path / "pairs.parquet"
    write_parquet(path, [pair()], PreferencePair)
    table = pq.read_table(path, columns=["sample_id", "chosen"])
    assert table.to_pylist()[0]["chosen"]["messages"][0]["content"][0]["text"] == "a red ball"
    assert arrow_schema(PreferencePair).field("metadata").type == pa.string()


def test_empty_files_hold_no_records(tmp_path: Path) -> None:
    assert write_jsonl(tmp_path / "a.jsonl", []) == 0
    assert list(read_jsonl(tmp_path / "a.jsonl", Sample)) == []
    assert write_parquet(tmp_path / "a.parquet", [], DroppedSample) == 0
    assert list(read_parquet(tmp_path / "a.parquet", DroppedSample)) == []


def test_parquet_of_other_records_or_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, [pair()], PreferencePair)
    with pytest.raises(RecordError, match="holds PreferencePair records, expected Sample"):
        list(read_parquet(path, Sample))
    table = pq.read_table(path)
    newer = table.schema.metadata[b"mmalign"].replace(b'"schema_version":1', b'"schema_version":9')
    pq.write_table(table.replace_schema_metadata({b"mmalign": newer}), path)
    with pytest.raises(RecordError, match=r"has schema version 9, this mmalign .* reads 1"):
        list(read_parquet(path, PreferencePair))
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(RecordError, match="has no manifest of mmalign"):
        list(read_parquet(path, PreferencePair))
    path.write_text("no parquet")
    with pytest.raises(RecordError, match="is no Parquet file"):
        list(read_parquet(path, PreferencePair))
    with pytest.raises(StoreError, match="cannot be read"):
        list(read_parquet(tmp_path / "absent.parquet", PreferencePair))


def test_parquet_names_the_row_that_breaks_a_rule(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, [pair(), pair("a green ball")], PreferencePair)
    rows = pq.read_table(path).to_pylist()
    rows[1]["rejected"] = rows[1]["chosen"]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    with pytest.raises(RecordError, match=r'a\.parquet: row 2: pair ".*": .*are the same'):
        list(read_parquet(path, PreferencePair))


def test_number_beyond_its_column_is_refused(tmp_path: Path) -> None:
    record = pair(lineage=Lineage(seed=2**70))
    with pytest.raises(RecordError, match="rows 1-1: a value does not fit its column"):
        write_parquet(tmp_path / "a.parquet", [record], PreferencePair)
    assert list(tmp_path.iterdir()) == []
