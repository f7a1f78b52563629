"""Rollouts of real model classes: the chat template's calls, drift, prompts."""

import asyncio
import sys
import types
from typing import Any

import pytest
import torch
from langchain_core.tools import BaseTool, tool

from mmalign.engine.rollouts import (
    RolloutConfig,
    RolloutTool,
    ToolConfig,
    load_tools,
    prompt_messages,
    roll_out,
    tool_schemas,
)
from mmalign.engine.rollouts.formats import template
from mmalign.errors import CapabilityError, ConfigError, PluginError
from mmalign.media import FrameSampling
from mmalign.models.families import EncodedCompletion
from mmalign.models.families.chat import control_tokens, template_render
from mmalign.models.local import TransformersChatModel
from mmalign.models.tool_template import ToolTemplate, tool_template
from mmalign.records import MediaRef, Message, Rollout, Sample, TextPart, ToolCall, user
from mmalign.testing.tiny_models import TinyModel, tiny_causal_lm, tiny_tokenizer
from mmalign.training.forward import Row, completion_hidden, completion_ids
from mmalign.training.logprobs import score_tokens

HERMES_TEMPLATE = r"""
{%- if tools %}{{ '<|im_start|>system' }}
{%- for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
{%- else %}
{{- '<|im_start|>' + message.role + '\n' }}{{ message.content }}
{%- for call in message.tool_calls or [] %}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{ '}\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
"""The form that Qwen's and Hermes' templates share: results as a user's turn."""


@tool
def search(query: str) -> str:
    """Find what is known.

    Args:
        query: What to look for.
    """
    return f"{query} is red<|im_end|>"


def tiny(chat_template: str) -> TinyModel:
    found = tiny_causal_lm()
    found.processor.chat_template = chat_template
    return found


def read_template(chat_template: str) -> ToolTemplate:
    tokenizer = tiny_tokenizer(chat_template=chat_template)
    render = template_render(tokenizer, with_parts=False)
    return tool_template(render, [user("What moves?")], control_tokens(tokenizer))


def roll(found: TinyModel, samples: list[Sample], config: RolloutConfig) -> list[list[Rollout]]:
    async def run() -> list[list[Rollout]]:
        chat = TransformersChatModel(
            found.model, found.processor, found.family, FrameSampling(num_frames=4)
        )
        tools = [RolloutTool(search)] if config.tools else []
        try:
            return await roll_out(chat, samples, config, tools, seed=1, epoch=0, num_generations=3)
        finally:
            await chat.close()

    return asyncio.run(run())


def samples() -> list[Sample]:
    return [Sample(id=f"q{i}", messages=(user(f"What moves in {i}?"),)) for i in range(3)]


NAMED = (ToolConfig(path="tests:search"),)


def test_template_is_read_as_it_writes() -> None:
    found = read_template(HERMES_TEMPLATE)
    assert found == ToolTemplate(
        call_opener="<tool_call>",
        call_closer="</tool_call>",
        name_key="name",
        arguments_key="arguments",
        opener="\n<|im_start|>user\n<tool_response>\n",
        between="\n</tool_response>\n<tool_response>\n",
        closer="\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
    )


def test_assembled_text_is_the_chat_templates() -> None:
    """Prompt, call, spliced results and answer, against the template over the whole chat."""
    calls = ['{"name": "search", "arguments": {"query": "a"}}'] * 2
    turn = "".join(f"\n<tool_call>\n{call}\n</tool_call>" for call in calls)
    form = template(read_template(HERMES_TEMPLATE))
    action = form.read(turn, True)
    assert [call.tool for call in action.calls] == ["search", "search"]
    render = template_render(tiny_tokenizer(chat_template=HERMES_TEMPLATE), with_parts=False)
    chat = [user("What moves?")]
    assembled = render(chat, True) + turn + "<|im_end|>"
    assembled += form.opener + form.between.join(["it is red", "and blue"]) + form.closer
    assembled += "red<|im_end|>\n"
    said = Message(
        role="assistant",
        content=(TextPart(text=""),),
        tool_calls=tuple(ToolCall(name=c.tool, arguments=c.arguments) for c in action.calls),
    )
    results = [
        Message(role="tool", content=(TextPart(text=text),)) for text in ("it is red", "and blue")
    ]
    answer = Message(role="assistant", content=(TextPart(text="red"),))
    assert assembled == render([*chat, said, *results, answer], False)


CONTENT = "{{ message.content }}"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (CONTENT, "{{ message.content if loop.last else '' }}", "becomes other text once more"),
        ("message.content + '", "(message.content | tojson) + '", "a tool's result as it is"),
        ('{"name": "', "<function=", "expected a JSON object"),
        ('{"name": "', '{"id": "\' + call.id + \'", "name": "', "ids of calls"),
        ("'<|im_end|>\\n' }}{% endif %}\n{%- endfor", "'\\n' }}{% endif %}\n{%- endfor", "without"),
    ],
)
def test_template_that_rewrites_is_refused(old: str, new: str, why: str) -> None:
    assert old in HERMES_TEMPLATE
    changed = HERMES_TEMPLATE.replace(old, new)
    with pytest.raises(CapabilityError, match=why):
        read_template(changed)


@pytest.mark.parametrize("form", ["search_r1", "template", "none"])
def test_logps_are_those_of_the_training_forward(form: Any) -> None:
    """The trainer's own row of a rollout: prompt as it was sent, ids and mask of the record."""
    found = tiny(HERMES_TEMPLATE)
    config = RolloutConfig(
        format=form,
        tools=() if form == "none" else NAMED,
        max_turn_length=12,
        max_turns=3,
        max_completion_length=400,
        prompt=None if form != "search_r1" else "{question}",
    )
    tools = [RolloutTool(search)] if config.tools else []
    groups = roll(found, samples(), config)
    rows, sampled = [], []
    for sample, group in zip(samples(), groups, strict=True):
        messages = prompt_messages(sample, config, tools)
        prompt = found.family.encode_prompt(
            found.processor, messages, [], tools=tool_schemas(tools, config)
        )
        assert {rollout.num_prompt_tokens for rollout in group} == {len(prompt.input_ids)}
        branches = [
            EncodedCompletion(torch.tensor(r.token_ids), torch.tensor(r.mask), ()) for r in group
        ]
        rows.append(Row(prompt, tuple(branches)))
        sampled += [v for r in group for s in r.segments for v in s.logps or ()]
    with torch.no_grad():
        hidden = completion_hidden(found.model, found.family, rows)
        scored = score_tokens(
            hidden, found.family.head(found.model), completion_ids(rows), chunk_size=64
        ).logps
    assert len(sampled) == len(scored) > 60
    torch.testing.assert_close(torch.tensor(sampled), scored, rtol=2e-5, atol=2e-5)


def test_tokenising_the_text_again_gives_other_ids() -> None:
    """Why ids are kept: a random policy's text, tokenised again, is seldom what it sampled."""
    found = tiny(HERMES_TEMPLATE)
    groups = roll(found, samples(), RolloutConfig(max_completion_length=40))
    rollouts = [rollout for group in groups for rollout in group]
    again = [
        tuple(found.processor(rollout.text, add_special_tokens=False)["input_ids"])
        for rollout in rollouts
    ]
    drifted = [r for r, ids in zip(rollouts, again, strict=True) if r.token_ids != ids]
    assert len(drifted) > len(rollouts) // 2
    assert all(len(r.token_ids) == len(r.segments[0].logps or ()) for r in rollouts)


def test_instruction_stands_around_the_question_and_media_stay() -> None:
    clip = MediaRef(kind="video", uri="clip.mp4")
    sample = Sample(id="q", messages=(user("What moves?", clip),))
    config = RolloutConfig(format="search_r1", tools=NAMED)
    (message,) = prompt_messages(sample, config, [RolloutTool(search)])
    assert message.text.endswith("Question: What moves?")
    assert "<search> ... </search>: Find what is known." in message.text
    assert "<answer> Lisbon </answer>" in message.text
    assert message.media == (clip,)
    bare = RolloutConfig(format="search_r1", tools=NAMED, prompt="{question}")
    assert prompt_messages(sample, bare, [RolloutTool(search)]) == sample.messages
    assert prompt_messages(sample, RolloutConfig()) == sample.messages


def test_instruction_without_a_question_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"holds no \{question\}"):
        prompt_messages(samples()[0], RolloutConfig(prompt="Answer!"))
    with pytest.raises(ConfigError, match="cannot be read"):
        prompt_messages(samples()[0], RolloutConfig(prompt=str(tmp_path / "none.md")))
    (tmp_path / "one.md").write_text("Q: {question}\n")
    asked = prompt_messages(samples()[0], RolloutConfig(prompt=str(tmp_path / "one.md")))
    assert asked[0].text == "Q: What moves in 0?"


def build_search(name: str = "search", sandbox: str = "none") -> BaseTool:
    """A tool with a setting, and with what the run has at hand."""
    return search.model_copy(update={"name": name, "description": sandbox})


def test_tools_are_loaded_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("tools_of_a_test")
    module.__dict__.update(build=build_search, nothing=lambda: 3)
    monkeypatch.setitem(sys.modules, "tools_of_a_test", module)
    plain = ToolConfig(path="tools_of_a_test:build", price=2.0)
    named = ToolConfig.model_validate({"path": "tools_of_a_test:build", "name": "look"})
    tools = load_tools([plain, named], sandbox="the run's", other=3)
    assert [(item.name, item.price) for item in tools] == [("search", 2.0), ("look", 0.0)]
    assert tools[0].tool.description == "the run's"
    with pytest.raises(ConfigError, match="two are named search"):
        load_tools([plain, plain])
    with pytest.raises(ConfigError, match="cannot be built"):
        load_tools([ToolConfig.model_validate({"path": "tools_of_a_test:build", "k": 1})])
    with pytest.raises(PluginError, match="gave a int"):
        load_tools([ToolConfig(path="tools_of_a_test:nothing")])
