"""Pairs go to the neighbours' files and back; what a file cannot hold is refused by row."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmalign.errors import ConfigError, LossyExportError, RecordError, StoreError
from mmalign.records import (
    Lineage,
    MediaOperation,
    MediaPart,
    MediaRef,
    Message,
    PreferencePair,
    Response,
    Span,
    TextPart,
    ToolCall,
    text_of,
    user,
)
from mmalign.records.interop import FORMATS, export_pairs, import_pairs, losses_of

VIDEO = MediaRef(kind="video", uri="clips/a.mp4", content_hash="a" * 32)
OTHER = MediaRef(kind="video", uri="clips/b.mp4")
IMAGE = MediaRef(kind="image", uri="images/a.png")
SOUND = MediaRef(kind="audio", uri="sounds/a.wav")
SCHEMA = '{"type": "function", "function": {"name": "count", "parameters": {}}}'


def answer(text: str, **fields: Any) -> Response:
    return Response(messages=(text_of(text),), **fields)


def pair(**fields: Any) -> PreferencePair:
    return PreferencePair(
        **{
            "sample_id": "s1",
            "prompt": (user("What moves?", VIDEO),),
            "chosen": answer("a red ball"),
            "rejected": answer("a blue ball"),
            "metadata": {"subset": "motion"},
            "lineage": Lineage(source="shapes", seed=3, tags={"route": "template"}),
            **fields,
        }
    )


PLAIN = pair(prompt=(user("What moves?"),))
SYSTEM = pair(prompt=(text_of("Be brief.", "system"), user("What moves?", VIDEO)))
SCORED = pair(chosen=answer("a red ball", score=0.9), rejected=answer("a cube", score=0.1))
MARKED = pair(
    chosen=answer("a red ball", spans=(Span(start=2, end=5, phrase_id=1),)),
    rejected=answer("a blue ball", spans=(Span(start=2, end=6, phrase_id=1),)),
)
INTERLEAVED = pair(
    prompt=(
        Message(
            role="user",
            content=(
                TextPart(text="First "),
                MediaPart(media=IMAGE),
                TextPart(text=" then "),
                MediaPart(media=VIDEO),
                TextPart(text=": what changed?"),
            ),
        ),
    )
)
TOOLS = pair(
    prompt=(user("How many?", VIDEO),),
    chosen=Response(
        messages=(
            Message(
                role="assistant",
                content=(TextPart(text="I count."),),
                tool_calls=(ToolCall(name="count", arguments='{"what": "ball"}'),),
            ),
            Message(role="tool", content=(TextPart(text="2"),)),
            text_of("two"),
        )
    ),
    rejected=answer("three"),
    tools=(SCHEMA,),
)
TWO_SIDED = pair(rejected=answer("a red ball", media=(OTHER,)))
CUT = pair(prompt=(user("What moves?", VIDEO.model_copy(update={"start_s": 1.0})),))
SHUFFLED = pair(prompt=(user("Why?", VIDEO.then(MediaOperation(name="shuffle", seed=1))),))

HELD = [
    ("trl", PLAIN),
    ("trl", pair()),
    ("trl", SYSTEM),
    ("trl", SCORED),
    ("trl", INTERLEAVED),
    ("trl", TOOLS),
    ("trl_plain", PLAIN),
    ("swift", PLAIN),
    ("swift", SYSTEM),
    ("swift", SCORED),
    ("swift", INTERLEAVED),
    ("swift", TOOLS),
    ("swift", TWO_SIDED),
    ("swift", pair(prompt=(user("What sounds?", SOUND),))),
    ("swift", pair(rejected=answer("no", tools=(SCHEMA,)))),
    ("llama_factory", PLAIN),
    ("llama_factory", SYSTEM),
    ("llama_factory", SCORED),
    ("llama_factory", INTERLEAVED),
    ("llama_factory", pair(tools=(SCHEMA,))),
    ("rrpo", MARKED),
]


@pytest.mark.parametrize(("name", "record"), HELD)
def test_what_a_format_holds_comes_back(tmp_path: Path, name: str, record: PreferencePair) -> None:
    path = tmp_path / "pairs.json"
    assert export_pairs(path, [record], name) == []
    assert list(import_pairs(path, name)) == [record]


REFUSED = [
    ("trl", MARKED, "spans of the differing phrases"),
    ("trl", TWO_SIDED, "would be left out: different media on the two sides"),
    ("trl", CUT, "time ranges of media"),
    ("trl", SHUFFLED, r"media operations \(shuffle\)"),
    ("trl", pair(prompt=(user("?", SOUND),)), "audio"),
    ("trl", pair(rejected=answer("no", tools=(SCHEMA,))), "different tools on the two sides"),
    ("trl_plain", pair(), "media"),
    ("trl_plain", pair(prompt=(text_of("x", "system"), user("?"))), "turns before the last one"),
    ("swift", MARKED, "spans"),
    ("swift", SHUFFLED, r"media operations \(shuffle\)"),
    ("llama_factory", TWO_SIDED, "different media"),
    ("llama_factory", TOOLS, "turns before the last one of a response"),
    ("llama_factory", pair(prompt=(user("a"), user("b"))), "turns that do not alternate"),
    ("rrpo", pair(), "a side without spans, which the loaders skip"),
    ("rrpo", PLAIN, r"media that are not one video \(none\)"),
    ("rrpo", SYSTEM, "turns before the last one of the prompt"),
    (
        "rrpo",
        pair(
            chosen=answer("red ball", spans=(Span(start=0, end=3, phrase_id=2),)),
            rejected=answer("blue ball", spans=(Span(start=0, end=4, phrase_id=2),)),
        ),
        "which phrases belong together",
    ),
]


@pytest.mark.parametrize(("name", "record", "message"), REFUSED)
def test_lossy_export_names_the_rows(
    tmp_path: Path, name: str, record: PreferencePair, message: str
) -> None:
    held = next(item for format_name, item in HELD if format_name == name)
    path = tmp_path / "pairs.json"
    with pytest.raises(LossyExportError, match=r'1 of 2 pairs carry:\n  row 2 \(pair "\w+"\): '):
        export_pairs(path, [held, record], name)
    with pytest.raises(LossyExportError, match=message):
        export_pairs(path, [held, record], name)
    assert list(tmp_path.iterdir()) == []


def test_allowed_losses_are_returned_and_senseless_rows_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    losses = export_pairs(path, [MARKED, TWO_SIDED, pair()], "trl", allow_lossy=True)
    assert [(loss.row, loss.leaves_out) for loss in losses] == [(1, False), (2, True)]
    assert losses == losses_of([MARKED, TWO_SIDED, pair()], "trl")
    kept = list(import_pairs(path, "trl"))
    assert [record.id for record in kept] == [MARKED.id, pair().id]
    assert kept[0].chosen.spans == ()


def test_lossy_message_shows_ten_rows(tmp_path: Path) -> None:
    records = [
        pair(chosen=answer(f"{i}", spans=MARKED.chosen.spans[:0]), prompt=CUT.prompt)
        for i in range(12)
    ]
    with pytest.raises(LossyExportError, match=r"12 of 12 pairs(.|\n)*row 10 (.|\n)*and 2 more"):
        export_pairs(tmp_path / "a.jsonl", records, "trl")


def test_literal_placeholder_is_refused(tmp_path: Path) -> None:
    record = pair(prompt=(user("Is <video> a tag?", VIDEO),))
    for name in ("swift", "llama_factory"):
        with pytest.raises(RecordError, match="holds a literal <video>"):
            export_pairs(tmp_path / "a.jsonl", [record], name)


def written(tmp_path: Path, name: str, *records: PreferencePair) -> list[dict[str, Any]]:
    path = tmp_path / "pairs.json"
    export_pairs(path, records, name)
    text = path.read_text()
    rows: list[dict[str, Any]] = (
        [json.loads(line) for line in text.splitlines()]
        if FORMATS[name].lines
        else json.loads(text)
    )
    for row in rows:
        del row["mmalign"]
    return rows


def test_trl_rows_have_one_form_per_column(tmp_path: Path) -> None:
    """Parts in all messages, media columns and tools in all rows, arguments as objects."""
    plain, tools = written(tmp_path, "trl", PLAIN, TOOLS)
    assert plain == {
        "prompt": [{"role": "user", "content": [{"type": "text", "text": "What moves?"}]}],
        "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "a red ball"}]}],
        "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "a blue ball"}]}],
        "videos": [],
        "tools": "[]",
    }
    assert tools["prompt"][0]["content"] == [
        {"type": "video"},
        {"type": "text", "text": "How many?"},
    ]
    assert tools["videos"] == ["clips/a.mp4"]
    assert tools["chosen"][0]["tool_calls"] == [
        {"type": "function", "function": {"name": "count", "arguments": {"what": "ball"}}}
    ]
    assert json.loads(tools["tools"]) == [json.loads(SCHEMA)]
    assert written(tmp_path, "trl", PLAIN)[0]["prompt"] == [
        {"role": "user", "content": "What moves?"}
    ]


def test_trl_loads_as_a_hugging_face_data_set(tmp_path: Path) -> None:
    """Arrow takes rows with and without media, and without null keys in the tools' schemas."""
    from datasets import load_dataset

    path = tmp_path / "pairs.jsonl"
    export_pairs(path, [PLAIN, TOOLS, INTERLEAVED], "trl")
    loaded = load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [len(row["videos"]) for row in loaded] == [0, 1, 1]
    assert [len(row["images"]) for row in loaded] == [0, 0, 1]
    assert json.loads(loaded[1]["tools"]) == [json.loads(SCHEMA)]


def test_swift_rows(tmp_path: Path) -> None:
    plain, tools, two_sided = written(tmp_path, "swift", pair(), TOOLS, TWO_SIDED)
    assert plain == {
        "messages": [
            {"role": "user", "content": "<video>What moves?"},
            {"role": "assistant", "content": "a red ball"},
        ],
        "videos": ["clips/a.mp4"],
        "rejected_response": "a blue ball",
    }
    assert [turn["role"] for turn in tools["messages"]] == [
        "user",
        "assistant",
        "tool_call",
        "tool_response",
        "assistant",
    ]
    assert json.loads(tools["messages"][2]["content"]) == {
        "name": "count",
        "arguments": {"what": "ball"},
    }
    assert tools["rejected_tools"] == tools["tools"]
    assert two_sided["videos"] == ["clips/a.mp4"]
    assert two_sided["rejected_videos"] == ["clips/b.mp4"]
    assert two_sided["rejected_messages"][1] == {"role": "assistant", "content": "a red ball"}


def test_swift_objects_pass_through(tmp_path: Path) -> None:
    objects = {"ref": ["ball"], "bbox": [[1, 2, 3, 4]], "bbox_type": "real", "image_id": [0]}
    record = pair(metadata={"objects": objects})
    assert written(tmp_path, "swift", record)[0]["objects"] == objects
    assert list(import_pairs(tmp_path / "pairs.json", "swift")) == [record]


def test_swift_chosen_side_with_its_own_media(tmp_path: Path) -> None:
    """The chosen side's clip becomes the row's, the prompt's becomes the rejected side's."""
    record = pair(chosen=answer("a red ball", media=(OTHER,)))
    export_pairs(tmp_path / "a.jsonl", [record], "swift")
    (found,) = import_pairs(tmp_path / "a.jsonl", "swift")
    assert [media.uri for media in found.media] == ["clips/b.mp4"]
    assert found.rejected.media is not None
    assert [media.uri for media in found.rejected.media] == ["clips/a.mp4"]


def test_llama_factory_row_and_info(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"old": {"file_name": "old.json"}}')
    (row,) = written(tmp_path, "llama_factory", SYSTEM)
    assert row == {
        "system": "Be brief.",
        "conversations": [{"from": "human", "value": "<video>What moves?"}],
        "chosen": {"from": "gpt", "value": "a red ball"},
        "rejected": {"from": "gpt", "value": "a blue ball"},
        "videos": ["clips/a.mp4"],
    }
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info == {
        "old": {"file_name": "old.json"},
        "pairs": {
            "file_name": "pairs.json",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {
                "messages": "conversations",
                "chosen": "chosen",
                "rejected": "rejected",
                "videos": "videos",
                "system": "system",
            },
        },
    }


def test_rrpo_row(tmp_path: Path) -> None:
    (row,) = written(tmp_path, "rrpo", MARKED)
    assert row == {
        "question": "<image>\nWhat moves?",
        "answer": "a red ball",
        "pred": "a blue ball",
        "answer_masked": "a <MASK> red </MASK> ball",
        "pred_masked": "a <MASK> blue </MASK> ball",
        "src": "shapes",
        "sample_id": "s1",
        "video": "clips/a.mp4",
    }


# Files that others wrote --------------------------------------------------------------------


def read(tmp_path: Path, name: str, *rows: Any) -> list[PreferencePair]:
    path = tmp_path / "foreign.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(import_pairs(path, name))


ASK = {"role": "user", "content": "What?"}
GOOD = {"role": "assistant", "content": "red"}
BAD = {"role": "assistant", "content": "blue"}


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"prompt": "What?", "chosen": "red", "rejected": "blue"}, None),
        ({"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]}, None),
        ({"chosen": [ASK, GOOD], "rejected": [ASK, BAD]}, {"prompt": "implicit"}),
        (
            {"prompt": "What?", "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
            {"prompt_type": "string", "prompt": "repeated"},
        ),
    ],
)
def test_trl_finds_the_prompt_and_remembers_where(
    tmp_path: Path, row: dict[str, Any], form: dict[str, str] | None
) -> None:
    (found,) = read(tmp_path, "trl", row)
    assert found.prompt == (user("What?"),)
    assert (found.chosen.text, found.rejected.text) == ("red", "blue")
    assert found.metadata.get("imported") == form
    assert found.lineage.source == "foreign.jsonl"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": "What? red", "rejected": "What? blue"}, "where the prompt ends cannot be told"),
        ({"chosen": [GOOD], "rejected": [BAD]}, "do not begin with the same turns"),
        ({"prompt": [ASK], "chosen": [ASK, GOOD], "rejected": [BAD]}, "must repeat the prompt"),
        ({"prompt": [ASK], "chosen": [GOOD], "rejected": [GOOD]}, "are the same"),
        ({"prompt": [ASK], "chosen": [GOOD]}, "format trl|at least 1 item|response"),
        (
            {"prompt": [{"role": "judge"}], "chosen": [GOOD], "rejected": [BAD]},
            "role: Input should",
        ),
        (
            {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD], "videos": ["a.mp4"]},
            "names 1 media files, the prompt has parts for 0",
        ),
        (["no object"], "holds a list, expected an object"),
    ],
)
def test_trl_never_guesses(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(RecordError, match=rf"foreign\.jsonl:1: .*({message})"):
        read(tmp_path, "trl", row)


def test_trl_repeated_prompt_shows_its_video_again(tmp_path: Path) -> None:
    ask = {
        "role": "user",
        "content": [{"type": "video", "text": None}, {"type": "text", "text": "?"}],
    }
    row = {"prompt": [ask], "chosen": [ask, GOOD], "rejected": [ask, BAD], "videos": ["a.mp4"]}
    (found,) = read(tmp_path, "trl", row)
    assert [media.uri for media in found.media] == ["a.mp4"]


def test_arguments_become_text_and_their_form_is_remembered(tmp_path: Path) -> None:
    def call(arguments: Any) -> dict[str, Any]:
        function = {"name": "f", "arguments": arguments}
        return {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}

    as_dict, as_text = read(
        tmp_path,
        "trl",
        {"prompt": [ASK], "chosen": [call({"x": 1})], "rejected": [BAD]},
        {"prompt": [ASK], "chosen": [call('{"x":1}')], "rejected": [BAD]},
    )
    assert as_dict.chosen.messages[0].tool_calls[0].arguments == '{"x": 1}'
    assert as_text.chosen.messages[0].tool_calls[0].arguments == '{"x":1}'
    assert "imported" not in as_dict.metadata
    assert as_text.metadata["imported"] == {"arguments": "text"}


def test_other_columns_become_metadata(tmp_path: Path) -> None:
    row = {"prompt": "?", "chosen": "a", "rejected": "b", "margin": 0.5, "none": None, "id": 7}
    (found,) = read(tmp_path, "trl", row)
    assert found.metadata == {"margin": 0.5}
    assert found.sample_id == "7"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [ASK, GOOD]}, "neither rejected_response nor rejected_messages"),
        ({"messages": [ASK], "rejected_response": "x"}, "end without an answer"),
        (
            {"messages": [ASK, GOOD], "rejected_response": "x", "videos": ["a.mp4"]},
            "1 of the video files have no <video> placeholder",
        ),
        (
            {"messages": [{"role": "user", "content": "<video>?"}, GOOD], "rejected_response": "x"},
            "more <video> placeholders than videos",
        ),
        (
            {"messages": [ASK, GOOD], "rejected_messages": [GOOD, BAD]},
            "do not begin with the same questions",
        ),
        (
            {"messages": [ASK, {"role": "tool_call", "content": "f()"}], "rejected_response": "x"},
            "a tool_call holds no JSON",
        ),
        (
            {"messages": [ASK, GOOD], "rejected_response": "x", "videos": [["1.png", "2.png"]]},
            "videos holds a list .*expected paths",
        ),
    ],
)
def test_bad_swift_rows_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=rf"foreign\.jsonl:1: .*{message}"):
        read(tmp_path, "swift", row)


def test_swift_rejected_messages_without_own_media_show_the_chosen_ones(tmp_path: Path) -> None:
    ask = {"role": "user", "content": "<image>What?"}
    row = {"messages": [ask, GOOD], "rejected_messages": [ask, BAD], "images": ["a.png"]}
    (found,) = read(tmp_path, "swift", row)
    assert found.rejected.media is None
    assert [media.uri for media in found.media] == ["a.png"]


def test_llama_factory_alpaca_and_renamed_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    row = {"ask": "Q", "more": "now?", "good": "a", "bad": "b", "history": [["q0", "a0"]]}
    path.write_text(json.dumps([row]))
    columns = {"prompt": "ask", "query": "more", "chosen": "good", "rejected": "bad"}
    info = {"mine": {"file_name": "mine.json", "ranking": True, "columns": columns}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (found,) = import_pairs(path, "llama_factory")
    assert [turn.text for turn in found.prompt] == ["q0", "a0", "Q\nnow?"]
    assert found.chosen.text == "a"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conversations": [{"from": "bot", "value": "?"}]}, "a turn is from 'bot'"),
        ({"videos": ["a.mp4"]}, "1 of the video files have no <video> placeholder"),
        ({"chosen": None}, "is no row of the format llama_factory"),
    ],
)
def test_bad_llama_factory_rows_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    row = {
        "conversations": [{"from": "human", "value": "?"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    }
    with pytest.raises(RecordError, match=rf"foreign\.jsonl:1: .*{message}"):
        read(tmp_path, "llama_factory", {**row, **changes})


RRPO_ROW = {
    "question": "<image>\nWhat moves?",
    "answer": "a red ball",
    "pred": "a blue ball",
    "answer_masked": "a <MASK> red </MASK> ball",
    "pred_masked": "a <MASK>blue</MASK> ball",
    "src": "made-up",
    "sample_id": 4,
    "media_path": "a.mp4",
}


def test_rrpo_reads_both_ways_of_marking_and_both_keys_of_the_video(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "rrpo", RRPO_ROW)
    assert found.chosen.spans == (Span(start=2, end=5, phrase_id=1),)
    assert found.rejected.spans == (Span(start=2, end=6, phrase_id=1),)
    assert found.sample_id == "4"
    assert found.lineage.source == "made-up"
    assert found.media[0].uri == "a.mp4"
    assert found.metadata == {"imported": {"video": "media_path"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": ""}, "field 'answer' is missing or empty"),
        ({"media_path": None}, "names no video"),
        ({"question": "What?"}, "holds 0 <image> placeholders, expected one"),
        ({"answer_masked": "a <MASK>red ball"}, "character 2: <MASK> is never closed"),
        ({"answer_masked": "a <MASK>green</MASK> ball"}, "the two must agree"),
    ],
)
def test_bad_rrpo_rows_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=rf"foreign\.jsonl:1: .*{message}"):
        read(tmp_path, "rrpo", {**RRPO_ROW, **changes})


def test_unreadable_files_and_unknown_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1,\n}")
    with pytest.raises(RecordError, match=r"a\.json:2: not valid JSON"):
        list(import_pairs(path, "rrpo"))
    path.write_text("{\n")
    with pytest.raises(RecordError, match=r"a\.json:1: not valid JSON"):
        list(import_pairs(path, "trl"))
    with pytest.raises(StoreError, match="cannot be read"):
        list(import_pairs(tmp_path / "absent.json", "trl"))
    with pytest.raises(ConfigError, match=r"no format 'tlr'; known formats: trl, trl_plain"):
        list(import_pairs(path, "tlr"))


def test_same_row_twice_is_an_error(tmp_path: Path) -> None:
    row = {"prompt": "?", "chosen": "a", "rejected": "b"}
    with pytest.raises(RecordError, match=r"row 2: pair .*the same id stands at .*row 1"):
        read(tmp_path, "trl", row, row)
