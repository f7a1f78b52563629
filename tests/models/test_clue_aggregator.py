"""CAT's clue aggregator in the audio-visual class: what guides it and what it replaces."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mmalign.errors import RecordError
from mmalign.media import AudioClip
from mmalign.models.audio_visual import AudioVisualConfig, AudioVisualForConditionalGeneration
from mmalign.models.families import EncodedPrompt
from mmalign.records import MediaRef, text_of, user
from mmalign.testing.tiny_audio_models import tiny_clue_model, tiny_sound
from mmalign.testing.tiny_models import TinyModel, tiny_clip


def encode(tiny: TinyModel, media: Sequence[Any], text: str = "What moves?") -> EncodedPrompt:
    refs = [
        MediaRef(kind="audio" if isinstance(item, AudioClip) else "video", uri="in memory")
        for item in media
    ]
    return tiny.family.encode_prompt(tiny.processor, [user(text, *refs)], media)


@torch.no_grad()
def features(tiny: TinyModel, prompt: EncodedPrompt) -> Tensor:
    return tiny.family.media_embeds(tiny.model, prompt.media)


def test_question_guides_the_clues() -> None:
    """The medium's own tokens and the global one are the same whatever is asked."""
    tiny = tiny_clue_model()
    for module in tiny.model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.in_proj_weight.data.mul_(4.0)  # so sharp that the question shows
    clip = tiny_clip(4)
    one, two = (
        features(tiny, encode(tiny, [clip], text)) for text in ("What moves?", "Is it red?")
    )
    assert one.shape == (16 + 3 + 1, 32)
    assert_close(one[:16], two[:16])
    assert_close(one[19], two[19])
    assert (one[16:19] - two[16:19]).abs().max() > 1e-2


def test_clues_take_the_place_of_the_media() -> None:
    tiny, kept = tiny_clue_model(keep_media_tokens=False), tiny_clue_model()
    media = [tiny_clip(4), tiny_sound(0.4)]
    alone, whole = features(tiny, encode(tiny, media)), features(kept, encode(kept, media))
    assert alone.shape == (8, 32)
    assert_close(alone, torch.cat([whole[16:20], whole[-4:]]), rtol=1e-4, atol=1e-5)


def test_global_token_is_the_projected_mean() -> None:
    tiny = tiny_clue_model()
    prompt = encode(tiny, [tiny_sound(0.4)])
    found = features(tiny, prompt)
    path: Any = tiny.model.model.get_submodule("clue_aggregator.audio")
    with torch.no_grad():
        assert_close(found[-1], path.to_global(found[:-4].mean(0)), rtol=1e-4, atol=1e-5)


def test_norms_are_shared_and_paths_are_not() -> None:
    names = [name for name, _ in tiny_clue_model().model.named_parameters()]
    inside = [name.split("clue_aggregator.")[1] for name in names if "clue_aggregator" in name]
    assert {name.split(".")[0] for name in inside} == {
        "video",
        "audio",
        "norm_media",
        "norm_guided",
    }
    paths = [
        sorted(name.removeprefix(kind) for name in inside if name.startswith(f"{kind}."))
        for kind in ("video", "audio")
    ]
    assert paths[0] == paths[1]
    assert ".queries" in paths[0]


def test_queries_of_a_fresh_model_differ() -> None:
    config = AudioVisualConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": 8,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        },
        audio_config={"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 2},
        clue_aggregator={"qformer_config": {"hidden_size": 24, "num_attention_heads": 2}},
    )
    aggregator = AudioVisualForConditionalGeneration(config).model.clue_aggregator
    assert aggregator is not None
    queries = aggregator.video.queries
    assert queries.shape == (1, 32, 24)
    assert queries.std().item() == pytest.approx(0.02, rel=0.1)
    assert len(aggregator.video.qformer.encoder.layer) == 4


def test_question_between_marks_is_asked_and_the_marks_are_gone() -> None:
    tiny = tiny_clue_model()
    marked = encode(tiny, [tiny_clip(2)], "Look. <Q>Is it red?<Q> Be brief.")
    bare = encode(tiny, [tiny_clip(2)], "Look. Is it red? Be brief.")
    ids = tiny.processor.tokenizer("Is it red?")["input_ids"]
    assert torch.equal(marked.input_ids, bare.input_ids)
    assert marked.media["video_question_ids"].tolist() == [ids]
    assert bare.media["video_question_ids"].shape[1] > len(ids)
    answers = [
        tiny.family.encode_completion(tiny.processor, [user(text)], [text_of("Yes.")])
        for text in ("<Q>Is it red?<Q>", "Is it red?")
    ]
    assert torch.equal(answers[0].input_ids, answers[1].input_ids)


def test_last_turn_of_the_user_is_the_question() -> None:
    tiny = tiny_clue_model()
    ref = MediaRef(kind="video", uri="in memory")
    turns = [user("What moves?", ref), text_of("A circle."), user("Is it red?")]
    prompt = tiny.family.encode_prompt(tiny.processor, turns, [tiny_clip(2)])
    asked = tiny.processor.tokenizer.decode(prompt.media["video_question_ids"][0])
    assert asked == "Is it red?"


def test_questions_that_cannot_guide_are_refused() -> None:
    tiny = tiny_clue_model()
    with pytest.raises(RecordError, match="<Q> are not a pair in 'Is it <Q>red"):
        encode(tiny, [tiny_clip(2)], "Is it <Q>red?")
    with pytest.raises(RecordError, match="last turn has no text; ask something"):
        encode(tiny, [tiny_clip(2)], " ")
    prompt = encode(tiny, [tiny_sound()])
    media = {key: value for key, value in prompt.media.items() if key != "audio_question_ids"}
    with pytest.raises(ValueError, match="audio_question_ids is missing"):
        tiny.model(prompt.input_ids[None], **media)
