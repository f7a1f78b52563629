"""Splits are disjoint and frozen; the tools say what lessons show; tokens do not span tags."""

import asyncio
import json
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from mmalign.api import ConfigError
from mmalign.datasets.lookups import corpus, model, read, read_lessons, reader
from mmalign.datasets.lookups.questions import KINDS, Question, questions_of
from mmalign.datasets.lookups.reader import SPLITS, fingerprint
from mmalign.datasets.lookups.transcripts import draw_transcript
from mmalign.datasets.lookups.world import Split
from mmalign.datasets.small_language_model import write_untrained
from mmalign.engine.rollouts import RolloutConfig, ToolConfig, load_tools, roll_out
from mmalign.rewards.question_answering import last_answer
from mmalign.testing.policies import ScriptedPolicy

FROZEN = json.loads((Path(reader.__file__).parent / "frozen.json").read_text())
HELD_OUT: tuple[Split, ...] = ("train", "validation", "test")
TOOLS = (
    ToolConfig(
        path="mmalign.tools.search:search",
        corpus="mmalign.datasets.lookups:corpus",
        num_documents=1,
    ),
    ToolConfig(path="mmalign.tools.calculator:calculator"),
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = write_untrained(model.tokenizer(), tmp_path_factory.mktemp("lookups"))
    return AutoTokenizer.from_pretrained(folder)


def texts(split: Split, kind: str) -> set[str]:
    return {question.text for question in questions_of(split) if question.kind == kind}


@pytest.mark.parametrize("split", SPLITS)
def test_questions_are_frozen(split: Split) -> None:
    assert fingerprint(split) == FROZEN["questions"][split]


@pytest.mark.parametrize("kind", KINDS)
def test_no_question_is_in_two_of_the_held_out_splits(kind: str) -> None:
    found = [texts(split, kind) for split in HELD_OUT]
    assert len(found[0] | found[1] | found[2]) == sum(map(len, found)) > 0


@pytest.mark.parametrize("kind", ["hard_sum", "person", "two_hop"])
def test_lessons_do_not_tell_what_takes_a_tool(kind: str) -> None:
    assert not any(texts("lessons", kind) & texts(split, kind) for split in HELD_OUT)


@pytest.mark.parametrize("kind", ["easy_sum", "city"])
def test_lessons_tell_all_that_is_known_by_heart(kind: str) -> None:
    assert all(texts("lessons", kind) >= texts(split, kind) for split in HELD_OUT)


def test_samples_say_how_many_calls_they_take() -> None:
    calls = {(s.metadata["question_type"], s.metadata["num_calls"]) for s in read("test")}
    assert calls == {
        ("easy_sum", 0), ("city", 0), ("hard_sum", 1), ("person", 1), ("two_hop", 2),
    }  # fmt: skip


def test_the_last_call_shows_the_answer() -> None:
    for question in questions_of("test"):
        assert question.answer in question.calls[-1].output


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="found split 'dev', expected one of lessons, train"):
        next(read("dev"))  # type: ignore[arg-type]  # what is refused


def test_every_document_has_a_title_of_its_own() -> None:
    documents = list(corpus())
    assert len({document["title"] for document in documents}) == len(documents) == 2110


def test_teachers_call_too_often_and_some_guess() -> None:
    rng = np.random.default_rng(0)
    asked = [question for question in questions_of("lessons") if question.kind != "two_hop"]
    by_heart = [q for q in asked if q.by_heart]
    calls = [draw_transcript(rng, by_heart[k % len(by_heart)]).num_calls for k in range(600)]
    assert 1.2 < np.mean(calls) < 1.9
    assert 0.2 < Counter(calls)[0] / len(calls) < 0.4
    two_hops = [question for question in questions_of("lessons") if question.kind == "two_hop"]
    drawn = [draw_transcript(rng, question) for question in two_hops[:600]]
    assert 0.45 < np.mean(["guess" in transcript.text for transcript in drawn]) < 0.65


def test_what_tools_say_is_marked_in_lessons() -> None:
    lesson = next(one for one in read_lessons(50) if one.metadata["num_calls"])
    shown = [lesson.response.text[a:b] for a, b in lesson.response.observed]
    assert len(shown) == lesson.metadata["num_calls"]
    assert all(text.startswith("\n\n<information>") for text in shown)
    assert all(text.endswith("</information>\n\n") for text in shown)


def test_rollouts_read_as_the_lessons_do() -> None:
    """The loop and the world's tools give a teacher's turns the very text of the lesson."""
    tools = load_tools(TOOLS)
    config = RolloutConfig(
        format="search_r1", tools=TOOLS, prompt="{question}", max_turns=8,
        max_completion_length=4000, max_observation_length=1000,
    )  # fmt: skip
    for sample, question in zip(read("validation"), questions_of("validation")[:12], strict=False):
        transcript = draw_transcript(np.random.default_rng(3), question)
        policy = ScriptedPolicy(partial(_next_turn, transcript.text))
        ((rollout,),) = asyncio.run(
            roll_out(policy, [sample], config, tools, seed=0, epoch=0, num_generations=1)
        )
        assert rollout.text == transcript.text
        assert rollout.answer == last_answer(transcript.text)
        assert rollout.num_tool_calls == transcript.num_calls


def _next_turn(transcript: str, said: str, seed: int) -> str:
    del seed
    return transcript.removeprefix(said)


def test_a_transcript_has_the_same_tokens_in_parts_and_whole(tokenizer: object) -> None:
    assert callable(tokenizer)
    for lesson in read_lessons(200):
        text, parts, end = lesson.response.text, [], 0
        for start, stop in lesson.response.observed:
            inside = text[start:stop].removeprefix("\n\n<information>")
            said = inside.removesuffix("</information>\n\n")
            parts += [text[end:start], "\n\n<information>", said, "</information>\n\n"]
            end = stop
        parts.append(text[end:])
        ids = [token for part in parts for token in tokenizer(part)["input_ids"]]
        assert ids == tokenizer(text)["input_ids"]


def test_lessons_are_those_of_their_numbers() -> None:
    later = list(read_lessons(5, first=3))
    assert later[:2] == list(read_lessons(5))[3:]


def test_a_question_without_guesses_is_answered_right() -> None:
    rng = np.random.default_rng(5)
    question = Question("person", "Who?", "Ann", questions_of("test")[0].calls, ())
    found = {last_answer(draw_transcript(rng, question).text) for _ in range(50)}
    assert found == {"Ann"}
