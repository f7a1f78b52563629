"""What altered clips do to real models: features, next-token distributions, and who may ask."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mmalign.errors import RecordError
from mmalign.media import FrameSampling, operation, write_video
from mmalign.models.clip_comparison import counted_tokens
from mmalign.models.families import EncodedCompletion
from mmalign.models.local import TransformersChatModel
from mmalign.models.protocol import ComparesClips
from mmalign.objectives.kl import jensen_shannon
from mmalign.records import MediaOperation, MediaRef, Message, text_of, user
from mmalign.testing.tiny_models import TinyModel, tiny_llava_onevision, tiny_qwen2_5_vl

QUESTION = "what colour is it?"
ANSWER = "it is red."
TINY = {"llava_onevision": tiny_llava_onevision, "qwen2_5_vl": tiny_qwen2_5_vl}


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return TINY[request.param]()


@pytest.fixture
def clip(tmp_path: Path) -> MediaRef:
    frames = np.random.default_rng(0).integers(0, 255, (8, 56, 56, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames, 8.0)
    return MediaRef(kind="video", uri=str(tmp_path / "clip.mp4"))


def model_of(tiny: TinyModel) -> TransformersChatModel:
    sampling = FrameSampling(num_frames=4)
    return TransformersChatModel(tiny.model, tiny.processor, tiny.family, sampling)


def prompts(clip: MediaRef, *operations: MediaOperation) -> list[tuple[Message, ...]]:
    return [(user(QUESTION, clip.then(item)),) for item in operations]


REVERSE, CROP = operation("reverse", None), operation("crop", 3)


def test_a_permuted_clip_is_as_close_as_can_be_and_a_crop_is_not(
    tiny: TinyModel, clip: MediaRef
) -> None:
    model = model_of(tiny)
    messages = (user(QUESTION, clip),)
    reverse, crop = asyncio.run(model.clip_closeness(messages, prompts(clip, REVERSE, CROP)))
    if tiny.family.name == "llava_onevision":  # frame by frame; two frames a patch are not blind
        assert reverse == pytest.approx(1.0, abs=1e-6)
    assert -1 <= crop < 0.9999


def test_the_divergence_is_that_of_the_models_own_logits(tiny: TinyModel, clip: MediaRef) -> None:
    model, messages = model_of(tiny), (user(QUESTION, clip),)
    altered = prompts(clip, REVERSE, CROP)
    found = asyncio.run(model.response_divergence(messages, ANSWER, altered))

    answer = tiny.family.encode_completion(tiny.processor, messages, (text_of(ANSWER),))
    counted = counted_tokens(answer)
    logprobs = [plain_logprobs(tiny, model, prompt, answer) for prompt in (messages, *altered)]
    wanted = [
        float(jensen_shannon(logprobs[0][counted], other[counted]).mean()) for other in logprobs[1:]
    ]
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-7)
    assert all(0 < value < 1 for value in found)


def plain_logprobs(
    tiny: TinyModel,
    model: TransformersChatModel,
    messages: Sequence[Message],
    answer: EncodedCompletion,
) -> torch.Tensor:
    """[R, V] by transformers' own forward."""
    prompt = asyncio.run(model.encode_messages(messages))
    ids = torch.cat([prompt.input_ids, answer.input_ids])[None]
    arguments = dict(tiny.family.join_media([prompt.media]))
    if tiny.family.name == "qwen2_5_vl":
        types = torch.cat([prompt.token_types, torch.zeros_like(answer.input_ids)])
        arguments["mm_token_type_ids"] = types[None]
    with torch.no_grad():
        logits: torch.Tensor = tiny.model(input_ids=ids, **arguments).logits[0]
    start = len(prompt.input_ids) - 1
    return logits[start : start + len(answer.input_ids)].float().log_softmax(-1)


def test_the_same_clip_differs_in_nothing(tiny: TinyModel, clip: MediaRef) -> None:
    model, messages = model_of(tiny), (user(QUESTION, clip),)
    twice = prompts(clip.then(REVERSE), REVERSE)
    assert asyncio.run(model.clips_differ(messages, [*twice, *prompts(clip, CROP)])) == (
        False,
        True,
    )
    (divergence,) = asyncio.run(model.response_divergence(messages, ANSWER, twice))
    assert divergence == pytest.approx(0.0, abs=1e-8)


def test_a_clip_of_other_length_is_refused(clip: MediaRef) -> None:
    model = model_of(tiny_llava_onevision())
    longer = (user(QUESTION, clip, clip),)
    with pytest.raises(RecordError, match=r"visual tokens.*alter clips after frames are sampled"):
        asyncio.run(model.clips_differ((user(QUESTION, clip),), [longer]))


def test_no_counted_token_is_refused(clip: MediaRef) -> None:
    model = model_of(tiny_llava_onevision())
    with pytest.raises(RecordError, match="no token of the response"):
        asyncio.run(
            model.response_divergence(
                (user(QUESTION, clip),), ANSWER, prompts(clip, CROP), spans=[(90, 91)]
            )
        )


def test_tokens_that_count() -> None:
    answer = EncodedCompletion(
        input_ids=torch.arange(5),
        mask=torch.tensor([True, True, True, False, True]),
        offsets=((0, 2), (2, 5), (5, 7), (7, 8), (8, 8)),  # the last one ends the turn
    )
    assert counted_tokens(answer).tolist() == [True, True, True, False, False]
    assert counted_tokens(answer, spans=[(3, 6)]).tolist() == [False, True, True, False, False]
    assert counted_tokens(answer, num_tokens=2).tolist() == [True, True, False, False, False]


def test_a_model_in_process_compares_clips() -> None:
    assert isinstance(model_of(tiny_llava_onevision()), ComparesClips)
