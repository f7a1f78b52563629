"""The in-process model: batches, seeds, log-probs, stops, and its limits."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close

from mmalign.errors import CapabilityError, ConfigError, MediaMissingError, ModelCallError
from mmalign.media import FrameSampling, operation, write_video
from mmalign.models import decoding
from mmalign.models.batching import Batcher
from mmalign.models.decoding import Draw, take_tokens
from mmalign.models.families import EncodedCompletion, EncodedPrompt
from mmalign.models.local import TransformersChatModel, TransformersModelConfig
from mmalign.models.protocol import ChatModel, Completion, Sampling
from mmalign.models.running_batch import RunningBatch
from mmalign.records import MediaRef, Message, text_of, user
from mmalign.testing.tiny_models import TINY_MODELS, TinyModel, tiny_causal_lm, tiny_clip
from mmalign.testing.tiny_vision_models import TINY_VISION_MODELS
from mmalign.training.forward import Row, completion_hidden, completion_ids
from mmalign.training.logprobs import score_tokens

Value = TypeVar("Value")
SAMPLING = FrameSampling(num_frames=4)
WARM = Sampling(temperature=1.0, max_completion_length=12, logprobs=True)
COLD = Sampling(max_completion_length=12, logprobs=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[MediaRef]:
    folder = tmp_path_factory.mktemp("clips")
    refs = []
    for seed in range(3):
        path = folder / f"{seed}.mp4"
        write_video(path, tiny_clip(8, 32, 32, seed=seed).frames, 8.0)
        refs.append(MediaRef(kind="video", uri=str(path)))
    return refs


@pytest.fixture(scope="module", params=sorted({**TINY_MODELS, **TINY_VISION_MODELS}))
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return {**TINY_MODELS, **TINY_VISION_MODELS}[request.param]()


def chat_of(tiny: TinyModel, **options: Any) -> TransformersChatModel:
    return TransformersChatModel(
        tiny.model, tiny.processor, tiny.family, SAMPLING, **{"batch_window_s": 0.02} | options
    )


def ask(
    tiny: TinyModel,
    work: Callable[[TransformersChatModel], Coroutine[Any, Any, Value]],
    **options: Any,
) -> Value:
    async def run() -> Value:
        chat = chat_of(tiny, **options)
        try:
            return await work(chat)
        finally:
            await chat.close()

    return asyncio.run(run())


def prompts(tiny: TinyModel, clips: Sequence[MediaRef]) -> list[list[Message]]:
    texts = ["What moves?", "How many shapes collide in the clip, two or three?", "Red?"]
    if tiny.family.name == "causal_lm":
        return [[user(text)] for text in texts]
    media: list[tuple[MediaRef, ...]] = [(clips[0],), (), (clips[1], clips[2])]
    return [
        [text_of("Be brief.", "system"), user(text, *refs)]
        for text, refs in zip(texts, media, strict=True)
    ]


async def all_at_once(
    chat: TransformersChatModel, asked: Sequence[Sequence[Message]], **options: Any
) -> list[tuple[Completion, ...]]:
    return list(await asyncio.gather(*(chat.generate(item, **options) for item in asked)))


def test_is_a_chat_model(tiny: TinyModel) -> None:
    assert isinstance(chat_of(tiny), ChatModel)


def test_drawn_logprobs_are_the_scored_ones(tiny: TinyModel, clips: list[MediaRef]) -> None:
    """Prefill and cache with padding against one forward over everything, by the same ids."""

    async def work(chat: TransformersChatModel) -> None:
        for completions, asked in zip(
            await all_at_once(chat, prompts(tiny, clips), sampling=WARM, n=2, seed=3),
            prompts(tiny, clips),
            strict=True,
        ):
            prompt = chat._encode_now(asked)
            for completion in completions:
                drawn = completion.logprobs
                assert drawn is not None
                tail = torch.tensor(drawn.token_ids)
                forced = decoding.score_batch(
                    tiny.model, tiny.family, [decoding.Scored(prompt, tail)]
                )
                assert_close(
                    torch.tensor(drawn.logprobs), torch.tensor(forced[0]), rtol=1e-4, atol=1e-4
                )

    ask(tiny, work)


def test_drawn_logprobs_are_those_of_the_training_forward(
    tiny: TinyModel, clips: list[MediaRef]
) -> None:
    """Token by token: drawn in a batch from a cache, and in one row with the other answers."""
    asked = prompts(tiny, clips)

    async def work(chat: TransformersChatModel) -> None:
        answers = await all_at_once(chat, asked, sampling=WARM, n=3, seed=5)
        drawn = [[one.logprobs for one in completions] for completions in answers]
        rows = [
            Row(
                chat._encode_now(messages),
                tuple(
                    EncodedCompletion(
                        torch.tensor(one.token_ids),
                        torch.ones(len(one.token_ids), dtype=torch.bool),
                        (),
                    )
                    for one in completions
                    if one is not None
                ),
            )
            for messages, completions in zip(asked, drawn, strict=True)
        ]
        with torch.no_grad():
            hidden = completion_hidden(tiny.model, tiny.family, rows)
            head = tiny.family.head(tiny.model)
            scored = score_tokens(hidden, head, completion_ids(rows), chunk_size=16).logps
        sampled = [value for row in drawn for one in row if one for value in one.logprobs]
        assert len(sampled) > 30
        assert_close(torch.tensor(sampled), scored, rtol=1e-5, atol=1e-5)

    ask(tiny, work)


def test_scores_of_a_batch_are_those_of_each_alone(tiny: TinyModel, clips: list[MediaRef]) -> None:
    answers = ["red", "the blue triangle vanishes", "no"]

    async def together(chat: TransformersChatModel) -> list[Any]:
        asked = zip(prompts(tiny, clips), answers, strict=True)
        return list(await asyncio.gather(*(chat.score(m, a) for m, a in asked)))

    async def alone(chat: TransformersChatModel) -> list[Any]:
        asked = zip(prompts(tiny, clips), answers, strict=True)
        return [await chat.score(m, a) for m, a in asked]

    for one, other, answer in zip(ask(tiny, together), ask(tiny, alone), answers, strict=True):
        assert one.token_ids == other.token_ids
        end = getattr(tiny.processor, "tokenizer", tiny.processor).eos_token
        blank = " " if tiny.family.name == "smolvlm" else ""  # by its template
        assert "".join(one.tokens) == f"{blank}{answer}{end}"
        assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), rtol=1e-4, atol=1e-4)


def test_score_is_the_models_own_log_softmax() -> None:
    tiny = tiny_causal_lm()
    scored = ask(tiny, lambda chat: chat.score([user("What moves?")], "red"))
    prompt = tiny.family.encode_prompt(tiny.processor, [user("What moves?")], [])
    ids = torch.cat([prompt.input_ids, torch.tensor(scored.token_ids)])
    with torch.no_grad():
        logps = tiny.model(ids[None]).logits[0].log_softmax(-1)
    start = len(prompt.input_ids) - 1
    expected = [logps[start + i, token].item() for i, token in enumerate(scored.token_ids)]
    assert_close(torch.tensor(scored.logprobs), torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampling", [WARM, COLD])
def test_answers_do_not_depend_on_company(
    tiny: TinyModel, clips: list[MediaRef], sampling: Sampling
) -> None:
    asked = prompts(tiny, clips)
    together = ask(tiny, lambda c: all_at_once(c, asked, sampling=sampling, n=2, seed=11))

    async def alone(chat: TransformersChatModel) -> list[tuple[Completion, ...]]:
        return [await chat.generate(m, n=2, sampling=sampling, seed=11) for m in asked]

    single = ask(tiny, alone, max_batch_size=1)
    for one, other in zip(together, single, strict=True):
        assert [c.text for c in one] == [c.text for c in other]
    is_warm = sampling.temperature > 0
    assert all((pair[0].text != pair[1].text) == is_warm for pair in together)


def test_greedy_answers_are_those_of_transformers_generate() -> None:
    tiny = tiny_causal_lm(seed=4)
    asked = [[user("What moves?")], [user("How many shapes collide in the clip?")]]
    ours = ask(tiny, lambda c: all_at_once(c, asked, sampling=COLD))
    for messages, completions in zip(asked, ours, strict=True):
        ids = tiny.family.encode_prompt(tiny.processor, messages, []).input_ids
        generated = tiny.model.generate(  # type: ignore[operator]  # GenerationMixin
            ids[None], max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(ids)[None]
        )
        logprobs = completions[0].logprobs
        assert logprobs is not None
        assert generated[0, len(ids) :].tolist() == list(logprobs.token_ids)


def test_draws_follow_the_distribution() -> None:
    """10,000 draws from (0.5, 0.3, 0.2): each share within four standard errors."""
    prompt = EncodedPrompt(torch.tensor([1]), {}, torch.tensor([0]))
    count = 10_000
    logits = torch.tensor([0.5, 0.3, 0.2]).log().repeat(count, 1)

    def shares(**options: Any) -> torch.Tensor:
        draws = [Draw(prompt, seed=i, **options) for i in range(count)]
        generators = [torch.Generator().manual_seed(draw.seed) for draw in draws]
        return torch.bincount(take_tokens(logits, draws, generators), minlength=3) / count

    assert_close(shares(temperature=1.0), torch.tensor([0.5, 0.3, 0.2]), rtol=0, atol=0.02)
    squares = torch.tensor([0.25, 0.09, 0.04])
    assert_close(shares(temperature=0.5), squares / squares.sum(), rtol=0, atol=0.02)
    # 0.5 < 0.6 <= 0.5 + 0.3: the third falls away, 0.5 : 0.3 stays
    assert_close(
        shares(temperature=1.0, top_p=0.6), torch.tensor([0.625, 0.375, 0.0]), rtol=0, atol=0.02
    )
    assert_close(shares(temperature=0.0), torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=0)


def test_length_stop_strings_and_usage() -> None:
    tiny = tiny_causal_lm(seed=1)
    messages = [user("What moves?")]
    long = ask(tiny, lambda c: c.generate(messages, sampling=COLD))[0]
    assert long.finish_reason == "length"
    assert long.usage.completion_tokens == 12
    assert long.usage.prompt_tokens == len(
        tiny.family.encode_prompt(tiny.processor, messages, []).input_ids
    )
    stop = long.text[3:5]
    cut = ask(
        tiny, lambda c: c.generate(messages, sampling=COLD.model_copy(update={"stop": (stop,)}))
    )[0]
    assert cut.finish_reason == "stop"
    assert cut.text == long.text[: long.text.index(stop)]
    assert cut.usage.completion_tokens < 12


def test_end_of_turn_ends_the_answer() -> None:
    tiny = tiny_causal_lm()
    end = torch.tensor([tiny.processor.eos_token_id])
    tiny.family.head(tiny.model).register_forward_hook(
        lambda module, inputs, logits: logits.index_fill(-1, end, 1e4)
    )
    answer = ask(tiny, lambda c: c.generate([user("What?")], sampling=COLD))[0]
    assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == ("", "stop", 1)


def test_requests_of_several_loops_share_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny_causal_lm()
    sizes: list[int] = []
    original = RunningBatch.add

    def counted(self: RunningBatch, draws: Any) -> None:
        sizes.append(len(draws))
        original(self, draws)

    monkeypatch.setattr(RunningBatch, "add", counted)
    chat = chat_of(tiny, batch_window_s=0.2, max_batch_size=8)
    answers: list[Any] = []

    def loop() -> None:
        answers.extend(asyncio.run(all_at_once(chat, [[user("Red?")]] * 4, sampling=COLD)))

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(chat.close())
    assert sum(sizes) == len(answers) == 8
    assert max(sizes) > 4


def test_media_are_prepared_once(clips: list[MediaRef], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = TINY_MODELS["llava_onevision"]()
    prepared: list[int] = []
    original = type(tiny.family).prepare_media

    def counted(self: Any, processor: Any, media: Any) -> Any:
        prepared.append(len(media))
        return original(self, processor, media)

    monkeypatch.setattr(type(tiny.family), "prepare_media", counted)
    asked = [[user(f"What moves, {i}?", clips[i % 2])] for i in range(6)]
    ask(tiny, lambda c: all_at_once(c, asked, sampling=COLD))
    assert prepared == [1, 1]


def test_media_beyond_the_memory_are_dropped(clips: list[MediaRef]) -> None:
    tiny = TINY_MODELS["llava_onevision"]()

    async def work(chat: TransformersChatModel) -> int:
        await all_at_once(chat, [[user("What?", clip)] for clip in clips], sampling=COLD)
        return len(chat._media._items)

    assert ask(tiny, work, media_memory_mb=0) == 0
    assert ask(tiny, work, media_memory_mb=1) == 3


def test_operations_reach_the_model(clips: list[MediaRef]) -> None:
    tiny = TINY_MODELS["llava_onevision"]()
    plain, turned = clips[0], clips[0].then(operation("reverse", None))

    async def work(chat: TransformersChatModel) -> list[Any]:
        return [await chat.score([user("What?", ref)], "red") for ref in (plain, turned)]

    one, other = ask(tiny, work)
    assert one.token_ids == other.token_ids
    assert max(abs(a - b) for a, b in zip(one.logprobs, other.logprobs, strict=True)) > 0.01


def test_changed_weights_answer_after_a_pause() -> None:
    tiny = tiny_causal_lm()

    async def work(chat: TransformersChatModel) -> tuple[Any, Any, bool]:
        before = await chat.score([user("What?")], "red")
        tiny.model.train()
        with chat.paused():
            waiting = asyncio.ensure_future(chat.score([user("What?")], "red"))
            await asyncio.sleep(0.1)
            was_waiting = not waiting.done()
            with torch.no_grad():
                for parameter in tiny.model.parameters():
                    parameter.mul_(1.1)
        after = await waiting
        assert tiny.model.training
        return before, after, was_waiting

    before, after, was_waiting = ask(tiny, work)
    assert was_waiting
    assert before.logprobs != after.logprobs


def test_training_goes_on_after_answers() -> None:
    """No tensor of inference mode stays behind in the model."""
    tiny = tiny_causal_lm()
    ask(tiny, lambda c: c.generate([user("What?")], sampling=COLD))
    tiny.model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert all(p.grad is not None for p in tiny.model.parameters())


def test_what_it_cannot_do_is_refused(clips: list[MediaRef]) -> None:
    text, video = tiny_causal_lm(), TINY_MODELS["qwen2_5_vl"]()
    with pytest.raises(CapabilityError, match="tools"):
        ask(text, lambda c: c.generate([user("?")], tools=["{}"]))
    with pytest.raises(CapabilityError, match="schema"):
        ask(text, lambda c: c.generate([user("?")], response_schema={}))
    with pytest.raises(CapabilityError, match="'video'"):
        ask(text, lambda c: c.generate([user("?", clips[0])]))
    with pytest.raises(CapabilityError, match="'audio'"):
        ask(video, lambda c: c.generate([user("?", MediaRef(kind="audio", uri="a.wav"))]))
    with pytest.raises(CapabilityError, match="holds 4096; sample fewer frames"):
        ask(text, lambda c: c.generate([user("?")], sampling=Sampling(max_completion_length=4096)))


def test_request_that_is_too_long_fails_alone() -> None:
    tiny = tiny_causal_lm()

    async def work(chat: TransformersChatModel) -> list[Any]:
        found = await asyncio.gather(
            chat.score([user("What?")], "red"),
            chat.score([user("What?")], "red " * 4096),
            return_exceptions=True,
        )
        return list(found)

    good, bad = ask(tiny, work)
    assert len(good.logprobs) == len(good.token_ids) > 0
    assert isinstance(bad, CapabilityError)


def test_missing_clip_fails_its_request_only(clips: list[MediaRef]) -> None:
    tiny = TINY_MODELS["qwen2_5_vl"]()
    missing = MediaRef(kind="video", uri="/nowhere/clip.mp4")

    async def work(chat: TransformersChatModel) -> list[Any]:
        asked = [[user("What?", clips[0])], [user("What?", missing)], [user("What?", missing)]]
        return await asyncio.gather(
            *(chat.generate(m, sampling=COLD) for m in asked), return_exceptions=True
        )

    good, *bad = ask(tiny, work)
    assert isinstance(good, tuple)
    assert [type(item) for item in bad] == [MediaMissingError, MediaMissingError]


def test_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny_causal_lm()
    sizes: list[int] = []
    original = RunningBatch.add

    def small(self: RunningBatch, draws: Any) -> None:
        sizes.append(self.num_rows + len(draws))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("full")
        original(self, draws)

    monkeypatch.setattr(RunningBatch, "add", small)
    asked = [[user("Red?")]] * 4
    limit = 1
    assert len(ask(tiny, lambda c: all_at_once(c, asked, sampling=COLD))) == 4
    assert max(sizes) > 1
    limit = 0
    with pytest.raises(ModelCallError, match="does not fit into the GPU's memory"):
        ask(tiny, lambda c: c.generate(asked[0]))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # asked by PEFT
def test_loads_from_a_folder_with_adapter(tmp_path: Path) -> None:
    tiny = tiny_causal_lm()
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.processor.save_pretrained(tmp_path / "model")
    config = TransformersModelConfig(model_name_or_path=str(tmp_path / "model"), device="cpu")
    plain = TransformersChatModel.load(config, SAMPLING)
    expected = ask(tiny, lambda c: c.score([user("What?")], "red"))
    assert asyncio.run(plain.score([user("What?")], "red")) == expected
    assert plain.identity["dtype"] == "float32"
    assert plain.identity["frame_sampling"]["num_frames"] == 4

    _save_adapter(tiny, tmp_path / "adapter")
    adapted = TransformersChatModel.load(
        config.model_copy(update={"adapter": str(tmp_path / "adapter")}), SAMPLING
    )
    assert asyncio.run(adapted.score([user("What?")], "red")).logprobs != expected.logprobs
    assert adapted.identity["adapter"] != plain.identity["adapter"]
    assert adapted.identity["weights"] == plain.identity["weights"]


def _save_adapter(tiny: TinyModel, folder: Path) -> None:
    names = tiny.family.language_linears(tiny.model)
    adapter = LoraConfig(target_modules=names, r=2, init_lora_weights=False)
    get_peft_model(tiny.model, adapter).save_pretrained(str(folder))


def test_missing_weights_are_a_config_error(tmp_path: Path) -> None:
    config = TransformersModelConfig(model_name_or_path=str(tmp_path), device="cpu")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        TransformersChatModel.load(config, SAMPLING)


def test_closed_model_says_so() -> None:
    tiny = tiny_causal_lm()
    chat = chat_of(tiny)
    asyncio.run(chat.close())
    with pytest.raises(RuntimeError):
        asyncio.run(chat.generate([user("What?")]))


@pytest.fixture
def batches() -> Iterator[tuple[Batcher[int, int], list[list[int]]]]:
    seen: list[list[int]] = []

    def double(numbers: Sequence[int]) -> list[int]:
        seen.append(list(numbers))
        return [2 * number for number in numbers]

    batcher = Batcher(double, max_batch_size=4, max_batch_tokens=20, window_s=0.1, name="test")
    yield batcher, seen
    batcher.close()


def test_batches_keep_to_both_limits(
    batches: tuple[Batcher[int, int], list[list[int]]],
) -> None:
    batcher, seen = batches
    futures = [batcher.submit(size, num_tokens=size) for size in (9, 2, 30, 3, 8, 1, 2)]
    assert [future.result() for future in futures] == [18, 4, 60, 6, 16, 2, 4]
    assert all(len(batch) <= 4 for batch in seen)
    assert all(len(batch) == 1 or len(batch) * max(batch) <= 20 for batch in seen)
    assert len(seen) < 7


def test_cancelled_request_is_left_out(
    batches: tuple[Batcher[int, int], list[list[int]]],
) -> None:
    batcher, seen = batches
    kept, dropped = batcher.submit(1, num_tokens=1), batcher.submit(2, num_tokens=1)
    assert dropped.cancel()
    assert kept.result() == 2
    assert seen == [[1]]
