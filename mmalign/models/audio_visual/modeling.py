"""The audio-visual language model: a vision tower per frame, a sound encoder, a text decoder."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from mmalign.models.audio_visual.clues import ClueAggregator, CluePath
from mmalign.models.audio_visual.configuration import AudioVisualConfig
from mmalign.models.audio_visual.sound_encoder import SoundEncoder

__all__ = ["MEDIA_ARGUMENTS", "AudioVisualForConditionalGeneration", "AudioVisualModel"]

MEDIA_ARGUMENTS = (
    "pixel_values_videos",
    "video_num_frames",
    "video_question_ids",
    "input_features",
    "feature_attention_mask",
    "audio_question_ids",
)
"""Arguments of the forward pass that hold media and what is asked about them."""


class MediaFeatures(NamedTuple):
    """What becomes of clips or of sounds; fields are called as in transformers."""

    pooler_output: list[Tensor]
    """[m, H] decoder inputs of each."""
    last_hidden_state: Tensor
    """[F, P, C] of frames, [N, S, C] of sounds: what the tower gave."""


class Projector(nn.Module):
    """Two linear layers from a tower's width to the decoder's."""

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_size, out_size)
        self.linear_2 = nn.Linear(out_size, out_size)

    def forward(self, states: Tensor) -> Tensor:
        """[..., out_size]."""
        projected: Tensor = self.linear_2(F.gelu(self.linear_1(states)))
        return projected


class AudioVisualPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]  # untyped there
    """What transformers needs to know of the class."""

    config: AudioVisualConfig
    config_class = AudioVisualConfig
    base_model_prefix = "model"
    input_modalities = ["video", "audio", "text"]
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]  # untyped there
        if isinstance(module, CluePath):
            # not zero, as before BLIP-2's weights are read: equal queries would stay equal
            init.normal_(module.queries, std=self.config.initializer_range)


class AudioVisualModel(AudioVisualPreTrainedModel):
    """Towers, projectors, aggregator and text decoder, without the vocabulary head."""

    def __init__(self, config: AudioVisualConfig) -> None:
        super().__init__(config)
        text, vision, audio = config.text_config, config.vision_config, config.audio_config
        width: int = text.hidden_size
        build: Any = AutoModel  # untyped there, as is SoundEncoder's base
        build_encoder: Any = SoundEncoder
        self.vision_tower = build.from_config(vision)
        self.video_projector = Projector(vision.hidden_size, width)
        self.audio_tower = build_encoder._from_config(audio)
        self.audio_projector = Projector(audio.d_model, width)
        self.clue_aggregator = (
            ClueAggregator(config.clue_aggregator, width) if config.clue_aggregator else None
        )
        self.language_model = build.from_config(text)
        self.post_init()  # type: ignore[no-untyped-call]  # untyped there

    def get_video_features(
        self,
        pixel_values_videos: Tensor,
        video_num_frames: Tensor,
        video_question_ids: Tensor | None = None,
        **_: Any,
    ) -> MediaFeatures:
        """Decoder inputs of N clips; those of a frame depend on that frame only.

        Args:
            pixel_values_videos: [F, 3, H, W], the frames of all clips, one after the other.
            video_num_frames: [N] frames of each clip.
            video_question_ids: [N, Q] what is asked about each, -1 behind shorter questions; only
                the clue aggregator reads it.

        Returns:
            [m, H] for each clip, frame by frame, then its clues; and what the tower gave.
        """
        tower = self.vision_tower
        states = tower(
            pixel_values_videos.to(tower.dtype), output_hidden_states=True, return_dict=True
        ).hidden_states[-1]
        frames = self._pool(self.video_projector(states))
        clips = torch.split(frames, video_num_frames.tolist())
        return MediaFeatures(
            last_hidden_state=states,
            pooler_output=self._with_clues(
                "video", [clip.flatten(0, 1) for clip in clips], video_question_ids
            ),
        )

    def get_audio_features(
        self,
        input_features: Tensor,
        feature_attention_mask: Tensor,
        audio_question_ids: Tensor | None = None,
        **_: Any,
    ) -> MediaFeatures:
        """Decoder inputs of N sounds, in the order of time.

        Steps at the end that do not fill a token are left out.

        Args:
            input_features: [N, mel, T] log-mel frames, anything behind shorter sounds.
            feature_attention_mask: [N, T], 1 where a frame belongs to the sound.
            audio_question_ids: [N, Q] what is asked about each, -1 behind shorter questions.

        Returns:
            [m, H] for each sound, then its clues; and what the encoder gave.
        """
        states = self.audio_tower(input_features, feature_attention_mask).last_hidden_state
        size = self.config.steps_per_token
        whole = states[:, : states.shape[1] // size * size]
        pooled = whole.reshape(len(whole), -1, size, whole.shape[-1]).mean(2)
        tokens = self.audio_projector(pooled)
        num_steps = (feature_attention_mask.sum(-1) - 1) // 2 + 1
        sounds = [
            sound[:count] for sound, count in zip(tokens, (num_steps // size).tolist(), strict=True)
        ]
        return MediaFeatures(
            last_hidden_state=states,
            pooler_output=self._with_clues("audio", sounds, audio_question_ids),
        )

    def embed(
        self,
        input_ids: Tensor,
        *,
        pixel_values_videos: Tensor | None = None,
        video_num_frames: Tensor | None = None,
        video_question_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        feature_attention_mask: Tensor | None = None,
        audio_question_ids: Tensor | None = None,
    ) -> Tensor:
        """[B, L, H] of text and media, those of the batch's rows one after the other.

        Raises:
            ValueError: A placeholder stands for no token of a medium, or the other way round; or
                half of what describes a medium is missing.
        """
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        if pixel_values_videos is not None:
            if video_num_frames is None:
                raise ValueError("pixel_values_videos came without video_num_frames; give both")
            clips = self.get_video_features(
                pixel_values_videos, video_num_frames, video_question_ids
            ).pooler_output
            embeds = self._place("video", input_ids, embeds, clips)
        if input_features is not None:
            if feature_attention_mask is None:
                raise ValueError("input_features came without feature_attention_mask; give both")
            sounds = self.get_audio_features(
                input_features, feature_attention_mask, audio_question_ids
            ).pooler_output
            embeds = self._place("audio", input_ids, embeds, sounds)
        return embeds

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        video_num_frames: Tensor | None = None,
        video_question_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        feature_attention_mask: Tensor | None = None,
        audio_question_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """The decoder's output; media as in `embed`.

        Raises:
            ValueError: There are both ids and embeddings, or neither; or see `embed`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if input_ids is not None:
            inputs_embeds = self.embed(
                input_ids,
                pixel_values_videos=pixel_values_videos,
                video_num_frames=video_num_frames,
                video_question_ids=video_question_ids,
                input_features=input_features,
                feature_attention_mask=feature_attention_mask,
                audio_question_ids=audio_question_ids,
            )
        output: BaseModelOutputWithPast = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return output

    def _pool(self, states: Tensor) -> Tensor:
        """[F, tokens_per_frame, H] means over parts of the grid [F, patches, H]."""
        side, kept = math.isqrt(states.shape[1]), math.isqrt(self.config.tokens_per_frame)
        grid = states.transpose(1, 2).reshape(len(states), -1, side, side)
        return F.adaptive_avg_pool2d(grid, kept).flatten(2).transpose(1, 2)

    def _with_clues(
        self,
        kind: Literal["video", "audio"],
        media: Sequence[Tensor],
        question_ids: Tensor | None,
    ) -> list[Tensor]:
        if self.clue_aggregator is None:
            return list(media)
        if question_ids is None:
            raise ValueError(
                f"the clue aggregator is guided by the question, {kind}_question_ids is missing; "
                f"give [N, Q] ids for N media, -1 behind shorter questions"
            )
        padded = pad_sequence(list(media), batch_first=True)
        lengths = torch.tensor([len(medium) for medium in media], device=padded.device)
        clues = self.clue_aggregator(
            kind,
            padded,
            torch.arange(padded.shape[1], device=padded.device) < lengths[:, None],
            self.get_input_embeddings()(question_ids.clamp(min=0)),
            question_ids >= 0,
        )
        if not self.config.keep_media_tokens:
            return list(clues)
        return [torch.cat(parts) for parts in zip(media, clues, strict=True)]

    def _place(
        self, kind: str, input_ids: Tensor, embeds: Tensor, features: Sequence[Tensor]
    ) -> Tensor:
        is_medium = input_ids == getattr(self.config, f"{kind}_token_id")
        found = torch.cat(list(features))
        if int(is_medium.sum()) != len(found):
            raise ValueError(
                f"the prompts hold {int(is_medium.sum())} {kind} placeholders, the media give "
                f"{len(found)} tokens; have the processor write the prompts"
            )
        return embeds.masked_scatter(is_medium[..., None], found.to(embeds))


class AudioVisualForConditionalGeneration(  # type: ignore[no-untyped-call]  # untyped there
    AudioVisualPreTrainedModel, GenerationMixin
):
    """`AudioVisualModel` with its vocabulary head."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}

    def __init__(self, config: AudioVisualConfig) -> None:
        super().__init__(config)
        self.model = AudioVisualModel(config)
        self.lm_head = nn.Linear(
            config.text_config.hidden_size, config.text_config.vocab_size, bias=False
        )
        self.post_init()  # type: ignore[no-untyped-call]  # untyped there

    def get_output_embeddings(self) -> nn.Module:
        """The vocabulary head."""
        head: nn.Module = self.lm_head
        return head

    def get_video_features(self, *args: Any, **kwargs: Any) -> MediaFeatures:
        """See `AudioVisualModel`."""
        found: MediaFeatures = self.model.get_video_features(*args, **kwargs)
        return found

    def get_audio_features(self, *args: Any, **kwargs: Any) -> MediaFeatures:
        """See `AudioVisualModel`."""
        found: MediaFeatures = self.model.get_audio_features(*args, **kwargs)
        return found

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss where there are labels; media arguments as in `AudioVisualModel`.

        Args:
            input_ids: [B, L].
            attention_mask: [B, L], 0 on padding.
            position_ids: [B, L]; None counts on.
            past_key_values: What was read before.
            inputs_embeds: [B, L, H] instead of ids and media.
            labels: [B, L], -100 where no token is to be learnt.
            logits_to_keep: Positions at the end whose logits are wanted; 0: all.
            **kwargs: Media, and what the decoder takes.
        """
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        logits = self.lm_head(output.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """As transformers' `generate`, from ids and media.

        Media are read once and go on as embeddings, so that beams and several answers to a prompt
        repeat rows and not the frames and sounds, whose first axis counts something else.
        """
        media = {name: kwargs.pop(name) for name in MEDIA_ARGUMENTS if name in kwargs}
        if media:
            input_ids = kwargs.pop("input_ids", inputs)
            kwargs["inputs_embeds"] = self.model.embed(input_ids, **media)
            inputs = input_ids
        return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]  # its own Protocol
