"""Each family against the forward pass of the transformers class that it adapts."""

import inspect
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.testing import assert_close
from transformers.video_utils import VideoMetadata

from mmalign.errors import CapabilityError, ConfigError, RecordError
from mmalign.media import VideoClip
from mmalign.models.families import FAMILIES, EncodedPrompt, family_for, place_media
from mmalign.models.families.vision import MEDIA_ORDER, sampled_fps
from mmalign.records import MediaRef, Message, ToolCall, text_of, user
from mmalign.testing.tiny_audio_models import TINY_AUDIO_MODELS, tiny_sound
from mmalign.testing.tiny_models import (
    LLAVA_TEMPLATE,
    TINY_MODELS,
    TinyModel,
    tiny_causal_lm,
    tiny_clip,
    tiny_image,
)
from mmalign.testing.tiny_vision_models import TINY_VISION_MODELS

MODELS = {**TINY_MODELS, **TINY_VISION_MODELS, **TINY_AUDIO_MODELS}
DEAF = ("llava_onevision", "qwen2_5_vl", "qwen3_vl", "smolvlm")
VISION = (*DEAF, "qwen2_5_omni")
CLIP = MediaRef(kind="video", uri="clip.mp4")
PICTURE = MediaRef(kind="image", uri="picture.png")
SOUND = MediaRef(kind="audio", uri="sound.wav")
ANSWER = "It is red, é 🙂!"

PROMPTS: dict[str, tuple[list[MediaRef], list[Any]]] = {
    "text": ([], []),
    "clip": ([CLIP], [tiny_clip(4)]),
    "odd clip": ([CLIP], [tiny_clip(5, 40, 24)]),
    "one frame": ([CLIP], [tiny_clip(1)]),
    "picture": ([PICTURE], [tiny_image(32, 60)]),
    "two pictures": ([PICTURE, PICTURE], [tiny_image(seed=1), tiny_image(48, 32, seed=2)]),
    "two clips": ([CLIP, CLIP], [tiny_clip(4, seed=1), tiny_clip(4, seed=2)]),
    "mixed": (
        [CLIP, PICTURE, CLIP, PICTURE],
        [tiny_clip(4), tiny_image(seed=1), tiny_clip(4, seed=2), tiny_image(seed=3)],
    ),
}


SOUND_PROMPTS: dict[str, tuple[list[MediaRef], list[Any]]] = {
    "sound": ([SOUND], [tiny_sound(0.37)]),
    "two sounds": ([SOUND, SOUND], [tiny_sound(0.05, seed=1), tiny_sound(1.0, seed=2)]),
}
JOINT_PROMPTS: dict[str, tuple[list[MediaRef], list[Any]]] = {
    "picture and sound": ([PICTURE, SOUND], [tiny_image(), tiny_sound()]),
    "sound and clip": ([SOUND, CLIP], [tiny_sound(1.9), tiny_clip(5)]),
    "everything": (
        [CLIP, SOUND, PICTURE, SOUND, CLIP],
        [tiny_clip(4), tiny_sound(0.2), tiny_image(), tiny_sound(0.9), tiny_clip(3, 64, 32)],
    ),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return MODELS[request.param]()


@pytest.fixture(scope="module", params=VISION)
def seeing(request: pytest.FixtureRequest) -> TinyModel:
    return MODELS[request.param]()


def encode(tiny: TinyModel, refs: Sequence[MediaRef], media: Sequence[Any]) -> EncodedPrompt:
    messages = [text_of("Be brief.", "system"), user("What moves?", *refs)]
    return tiny.family.encode_prompt(tiny.processor, messages, media)


@torch.no_grad()
def native_logits(tiny: TinyModel, prompt: EncodedPrompt, tail: Tensor) -> Tensor:
    """By the class itself, from ids and pixels."""
    arguments: dict[str, Any] = {k: v for k, v in prompt.media.items() if k != MEDIA_ORDER}
    if "mm_token_type_ids" in inspect.signature(tiny.model.model.forward).parameters:
        types = torch.cat([prompt.token_types, torch.zeros_like(tail)])
        arguments["mm_token_type_ids"] = types[None]
    tiny.model.model.rope_deltas = None  # Qwen's memory
    ids = torch.cat([prompt.input_ids, tail])
    mask = torch.ones_like(ids)[None]  # without it the thinker takes text positions
    logits: Tensor = tiny.model(input_ids=ids[None], attention_mask=mask, **arguments).logits[0]
    return logits


@torch.no_grad()
def own_logits(tiny: TinyModel, prompt: EncodedPrompt, tail: Tensor) -> Tensor:
    """By the family's parts: embedding, media features, decoder, head."""
    family, model = tiny.family, tiny.model
    ids = torch.cat([prompt.input_ids, tail])
    types = torch.cat([prompt.token_types, torch.zeros_like(tail)])
    inputs = place_media(
        family.embed_tokens(model)(ids)[None],
        types[None] > 0,
        family.media_embeds(model, prompt.media),
    )
    positions = family.position_ids(model, prompt, tail)
    hidden = family.decoder(model)(
        **inputs,
        position_ids=positions[:, None] if len(positions) > 1 else positions,
    ).last_hidden_state
    logits: Tensor = family.head(model)(hidden)[0]
    return logits


CASES = [
    ("causal_lm", "text"),
    *((name, kind) for name in VISION for kind in PROMPTS),
    *(("qwen2_audio", kind) for kind in ("text", *SOUND_PROMPTS)),
    *(("qwen2_5_omni", kind) for kind in (*SOUND_PROMPTS, *JOINT_PROMPTS)),
    *(("audio_visual", kind) for kind in ("text", "clip", "odd clip", "one frame", "two clips")),
    *(("audio_visual", kind) for kind in (*SOUND_PROMPTS, "sound and clip")),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_parts_give_the_logits_of_the_whole(name: str, kind: str) -> None:
    tiny = MODELS[name]()
    prompt = encode(tiny, *(PROMPTS | SOUND_PROMPTS | JOINT_PROMPTS)[kind])
    tail = tiny.family.encode_completion(
        tiny.processor, [user("What moves?")], [text_of(ANSWER)]
    ).input_ids
    assert_close(
        own_logits(tiny, prompt, tail), native_logits(tiny, prompt, tail), rtol=1e-5, atol=1e-5
    )


def change(tiny: TinyModel, one: Sequence[Any], other: Sequence[Any]) -> float:
    refs = [CLIP if isinstance(item, VideoClip) else PICTURE for item in one]
    tail = torch.tensor([20, 21])
    logits = [native_logits(tiny, encode(tiny, refs, media), tail)[-1] for media in (one, other)]
    return float((logits[0] - logits[1]).abs().max())


def test_media_change_the_logits(seeing: TinyModel) -> None:
    assert change(seeing, [tiny_clip(4)], [tiny_clip(4, seed=9)]) > 0.05
    assert change(seeing, [tiny_image()], [tiny_image(seed=9)]) > 0.05


def test_order_of_frames_changes_the_logits(seeing: TinyModel) -> None:
    clip = tiny_clip(4)
    turned = VideoClip(
        frames=clip.frames[::-1].copy(),
        timestamps_s=clip.timestamps_s,
        indices=clip.indices,
        fps=clip.fps,
        decoder=clip.decoder,
        source_hash=clip.source_hash,
    )
    assert change(seeing, [clip], [turned]) > 0.05


def test_order_of_media_changes_the_logits(seeing: TinyModel) -> None:
    media = [tiny_clip(4), tiny_image(seed=1), tiny_image(seed=2)]
    assert change(seeing, media, [media[0], media[2], media[1]]) > 0.05


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen2_5_omni", "qwen3_vl", "smolvlm"])
def test_pace_of_the_frames_is_seen(name: str) -> None:
    tiny = MODELS[name]()
    assert change(tiny, [tiny_clip(6, fps=0.5)], [tiny_clip(6, fps=2.0)]) > 1e-3


@pytest.mark.parametrize("size", [(32, 32), (17, 90), (90, 33), (200, 120), (64, 64), (9, 9)])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 8])
def test_arithmetic_counts_the_tokens(
    seeing: TinyModel, num_frames: int, size: tuple[int, int]
) -> None:
    height, width = size
    for kind, ref, item in (
        ("video", CLIP, tiny_clip(num_frames, height, width)),
        ("image", PICTURE, tiny_image(height, width)),
    ):
        expected = encode(seeing, [ref], [item]).num_media_tokens
        counted = seeing.family.media_token_count(
            seeing.processor, kind, num_frames=num_frames, height=height, width=width
        )
        assert counted == expected > 0


@pytest.mark.parametrize(("name", "max_video_tokens"), [("qwen2_5_vl", 40), ("qwen3_vl", 5)])
def test_arithmetic_counts_capped_frames(name: str, max_video_tokens: int) -> None:
    """Qwen2.5-VL caps the tokens of a clip, Qwen3-VL those of a frame; both bite at 8 frames."""
    tiny = MODELS[name]()
    part = tiny.processor.video_processor
    uncapped = encode(tiny, [CLIP], [tiny_clip(8, 64, 64)]).num_media_tokens
    part.cap_pixels_per_frame, part.max_video_tokens = True, max_video_tokens
    capped = encode(tiny, [CLIP], [tiny_clip(8, 64, 64)]).num_media_tokens
    assert capped < uncapped
    assert capped == tiny.family.media_token_count(
        tiny.processor, "video", num_frames=8, height=64, width=64
    )


def test_joined_media_give_the_features_of_each(seeing: TinyModel) -> None:
    kinds = ["clip", "picture", "text", "odd clip", "mixed", "two pictures", "one frame"]
    prompts = [encode(seeing, *PROMPTS[kind]) for kind in kinds]
    with torch.no_grad():
        joined = seeing.family.media_embeds(
            seeing.model, seeing.family.join_media([p.media for p in prompts])
        )
        single = [seeing.family.media_embeds(seeing.model, p.media) for p in prompts]
    assert [len(item) for item in single] == [p.num_media_tokens for p in prompts]
    assert_close(joined, torch.cat(single), rtol=1e-4, atol=1e-4)


def test_answer_ids_follow_the_prompts(tiny: TinyModel) -> None:
    messages = [user("What moves?")]
    prompt = tiny.family.encode_prompt(tiny.processor, messages, [])
    answer = tiny.family.encode_completion(tiny.processor, messages, [text_of(ANSWER)])
    tokenizer = getattr(tiny.processor, "tokenizer", tiny.processor)
    whole = tokenizer.decode(torch.cat([prompt.input_ids, answer.input_ids]))
    if tiny.family.name == "smolvlm":
        chat = f"<|im_start|>User: What moves?<end_of_utterance>\nAssistant: {ANSWER}"
    else:
        chat = f"<|im_start|>user\nWhat moves?<|im_end|>\n<|im_start|>assistant\n{ANSWER}"
    assert whole == chat + tokenizer.eos_token
    assert answer.input_ids[-1] == tokenizer.eos_token_id
    assert answer.mask.all()


def test_offsets_map_back_to_the_text(tiny: TinyModel) -> None:
    messages = [user("What moves?")]
    answer = tiny.family.encode_completion(tiny.processor, messages, [text_of(ANSWER)])
    tokenizer = getattr(tiny.processor, "tokenizer", tiny.processor)
    covered: set[int] = set()
    for token, (start, end) in zip(answer.input_ids.tolist(), answer.offsets, strict=True):
        covered |= set(range(start, end))
        piece = tokenizer.decode([token])
        if "�" not in piece and token != tokenizer.eos_token_id:  # a whole character
            # SmolVLM's template puts a blank in front of the answer
            assert ANSWER[start:end] == (piece if start else piece.removeprefix(" "))
    assert covered == set(range(len(ANSWER)))
    assert answer.offsets[-1] == (len(ANSWER), len(ANSWER))


def test_offsets_are_those_of_the_last_turn_and_tools_are_masked() -> None:
    tiny = tiny_causal_lm()
    tiny.processor.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}<call>{{ c.function.arguments.x }}</call>{% endfor %}"
        "<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    completion = [
        Message(role="assistant", tool_calls=(ToolCall(name="f", arguments='{"x": 41}'),)),
        Message(role="tool", content=text_of("red").content),
        text_of("red"),
    ]
    answer = tiny.family.encode_completion(tiny.processor, [user("What?")], completion)
    written = tiny.processor.decode(answer.input_ids[answer.mask])
    assert written == "<call>41</call><|im_end|>red<|im_end|>"
    spans = [o for o in answer.offsets if o[0] < o[1]]
    assert (spans[0][0], spans[-1][1]) == (0, 3)
    first = next(i for i, o in enumerate(answer.offsets) if o[0] < o[1])
    assert tiny.processor.decode(answer.input_ids[first:]) == "red<|im_end|>"


def test_text_model_without_template_joins_texts_and_ends_them() -> None:
    tiny = tiny_causal_lm(chat=False)
    messages = [user("Is it red?\n")]
    prompt = tiny.family.encode_prompt(tiny.processor, messages, [])
    answer = tiny.family.encode_completion(tiny.processor, messages, [text_of("yes")])
    assert tiny.processor.decode(prompt.input_ids) == "Is it red?\n"
    assert tiny.processor.decode(answer.input_ids) == "yes<|im_end|>"
    assert answer.offsets[-2][1] == 3


def test_token_across_the_border_is_refused() -> None:
    tiny = tiny_causal_lm(chat=False)
    with pytest.raises(RecordError, match="spans the border of prompt and answer"):
        tiny.family.encode_completion(tiny.processor, [user("the circ")], [text_of("le")])


def test_template_that_rewrites_history_is_refused(tiny: TinyModel) -> None:
    built = MODELS[tiny.family.name]()
    built.processor.chat_template = (
        "{{ '<|im_start|>' if add_generation_prompt else '<|endoftext|>' }}"
        "{% for m in messages %}{{ m.role }}<|im_end|>{% endfor %}"
    )
    with pytest.raises(RecordError, match="renders the prompt differently"):
        built.family.encode_completion(built.processor, [user("What?")], [text_of("red")])


def test_header_may_differ_in_blanks() -> None:
    """As in LLaVA-OneVision's published template: a blank behind the role in the history only."""
    tiny = TINY_MODELS["llava_onevision"]()
    usual = tiny.family.encode_completion(tiny.processor, [user("What?")], [text_of(" red ")])
    tiny.processor.chat_template = LLAVA_TEMPLATE.replace(
        "{{ message.role }}", "{{ message.role }} "
    )
    answer = tiny.family.encode_completion(tiny.processor, [user("What?")], [text_of(" red ")])
    assert tiny.processor.decode(answer.input_ids) == " red <|im_end|>"
    assert torch.equal(answer.input_ids, usual.input_ids)
    assert answer.offsets == usual.offsets


def test_template_that_trims_keeps_offsets_right() -> None:
    tiny = tiny_causal_lm()
    tiny.processor.chat_template = tiny.processor.chat_template.replace(
        "message.content", "message.content | trim"
    )
    answer = tiny.family.encode_completion(tiny.processor, [user("What?")], [text_of("  red ")])
    assert tiny.processor.decode(answer.input_ids) == "red<|im_end|>"
    assert (answer.offsets[0][0], answer.offsets[-2][1]) == (2, 5)


def test_text_that_repeats_the_header_is_found() -> None:
    tiny = tiny_causal_lm()
    answer = tiny.family.encode_completion(tiny.processor, [user("e")], [text_of("e")])
    assert answer.offsets == ((0, 1), (1, 1))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llava_onevision", "<video>"),
        ("qwen2_5_vl", "see <|video_pad|> here"),
        ("qwen2_5_omni", "hear <|AUDIO|> here"),
        ("qwen3_vl", "<|video_pad|>"),
        ("smolvlm", "see <image> here"),
    ],
)
def test_placeholder_in_a_text_is_refused(name: str, text: str) -> None:
    tiny = MODELS[name]()
    with pytest.raises(RecordError, match="Remove placeholders"):
        tiny.family.encode_prompt(tiny.processor, [user(text, CLIP)], [tiny_clip()])
    with pytest.raises(RecordError, match="media placeholder"):
        tiny.family.encode_completion(tiny.processor, [user("What?")], [text_of(text)])


@pytest.mark.parametrize("kind", PROMPTS)
def test_ids_are_those_of_the_processor(seeing: TinyModel, kind: str) -> None:
    refs, media = PROMPTS[kind]
    processor = seeing.processor
    images = [item for item in media if not isinstance(item, VideoClip)]
    videos = [item.frames for item in media if isinstance(item, VideoClip)]
    if seeing.family.name == "qwen3_vl":  # its processor refuses a lone frame
        videos = [frames.repeat(2, axis=0) if len(frames) == 1 else frames for frames in videos]
    text = processor.apply_chat_template(
        [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {
                "role": "user",
                "content": [
                    *({"type": ref.kind} for ref in refs),
                    {"type": "text", "text": "What moves?"},
                ],
            },
        ],
        add_generation_prompt=True,
    )
    assert text.count(processor.video_token) == len(videos)
    metadata = [
        VideoMetadata(
            total_num_frames=len(frames),
            fps=2.0,
            duration=len(frames) / 2.0,
            frames_indices=[0] * len(frames) if kind == "one frame" else [*range(len(frames))],
        )
        for frames in videos
    ]
    expected = processor(
        text=text,
        images=[images] if images else None,
        videos=videos or None,
        videos_kwargs={"video_metadata": metadata, "do_sample_frames": False} if videos else {},
        **({"return_tensors": "pt"} if seeing.family.name == "smolvlm" else {}),
    )["input_ids"][0]
    encoded = encode(seeing, refs, media)
    assert encoded.input_ids.tolist() == list(expected)


def test_prepared_media_serve_several_questions(seeing: TinyModel) -> None:
    prepared = seeing.family.prepare_media(seeing.processor, [tiny_clip(4)])
    for question in ("What moves?", "How many?"):
        one, other = (
            seeing.family.encode_prompt(seeing.processor, [user(question, CLIP)], media)
            for media in (prepared, [tiny_clip(4)])
        )
        assert torch.equal(one.input_ids, other.input_ids)
        assert all(torch.equal(one.media[key], other.media[key]) for key in other.media)
        assert one.media is prepared.tensors


def test_media_must_match_their_references(seeing: TinyModel) -> None:
    with pytest.raises(RecordError, match="names 1 media, 2 decoded"):
        encode(seeing, [CLIP], [tiny_clip(), tiny_clip()])
    with pytest.raises(RecordError, match="names video, image came"):
        encode(seeing, [CLIP], [tiny_image()])
    with pytest.raises(CapabilityError, match="reads text only"):
        tiny = tiny_causal_lm()
        tiny.family.encode_prompt(tiny.processor, [user("What?", CLIP)], [])


@pytest.mark.parametrize("name", DEAF)
def test_sound_is_refused_by_models_that_do_not_hear(name: str) -> None:
    tiny = MODELS[name]()
    with pytest.raises(CapabilityError, match=r"sound.wav: the model reads .*, no sound"):
        encode(tiny, [SOUND], [tiny_image()])
    with pytest.raises(CapabilityError, match="no sound"):
        encode(tiny, [PICTURE], [tiny_sound()])


def test_language_linears_leave_tower_projector_and_head(tiny: TinyModel) -> None:
    names = tiny.family.language_linears(tiny.model)
    assert len(names) == 7 * 2
    towers = ("vision", "visual", "audio")
    assert all(".layers." in name and not any(t in name for t in towers) for name in names)
    assert {type(tiny.model.get_submodule(name)).__name__ for name in names} == {"Linear"}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # asked by PEFT
def test_parts_are_found_inside_a_peft_model(tiny: TinyModel) -> None:
    built = MODELS[tiny.family.name]()
    names = tiny.family.language_linears(built.model)
    wrapped: Any = get_peft_model(built.model, LoraConfig(target_modules=names, r=2))
    assert tiny.family.decoder(wrapped) is tiny.family.decoder(built.model)
    prompt = encode(tiny, *PROMPTS["text"])
    tail = torch.tensor([20])
    assert_close(
        own_logits(TinyModel(wrapped, built.processor, built.family), prompt, tail),
        own_logits(tiny, prompt, tail),
    )


def test_fps_of_the_kept_frames() -> None:
    assert sampled_fps(tiny_clip(5, fps=3.0)) == pytest.approx(3.0)
    assert sampled_fps(tiny_clip(1)) == 24.0


def test_family_is_found_by_type_config_or_model(tiny: TinyModel) -> None:
    assert family_for(tiny.model) is tiny.family
    assert family_for(tiny.model.config) is tiny.family
    assert family_for(tiny.model.config.model_type) is tiny.family
    assert family_for("llama") is FAMILIES["causal_lm"]


def test_unknown_family_lists_what_there_is() -> None:
    with pytest.raises(
        ConfigError, match=r"'idefics3'; supported are audio_visual, llava_onevision, "
    ):
        family_for("idefics3")


def test_model_with_scaled_logits_is_refused() -> None:
    tiny = tiny_causal_lm()
    tiny.model.config.final_logit_softcapping = 30.0
    with pytest.raises(CapabilityError, match="final_logit_softcapping"):
        tiny.family.head(tiny.model)


def test_saved_model_loads_again(tiny: TinyModel, tmp_path: Any) -> None:
    tiny.model.save_pretrained(tmp_path)
    tiny.processor.save_pretrained(tmp_path)
    model, processor = tiny.family.load(str(tmp_path), dtype=torch.float32, device="cpu")
    refs, media = PROMPTS["mixed"]
    if tiny.family.name in ("qwen2_audio", "audio_visual"):
        refs, media = SOUND_PROMPTS["sound"]
    elif tiny.family.name == "causal_lm":
        refs, media = [], []
    prompt = encode(tiny, refs, media)
    loaded = TinyModel(model, processor, tiny.family)
    again = encode(loaded, refs, media)
    tail = torch.tensor([20])
    assert torch.equal(again.input_ids, prompt.input_ids)
    assert_close(own_logits(loaded, again, tail), own_logits(tiny, prompt, tail))


def test_missing_model_says_so(tiny: TinyModel, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        tiny.family.load(str(tmp_path / "none"), dtype=torch.float32, device="cpu")
