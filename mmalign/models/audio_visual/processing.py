"""Text, clips and sounds to ids, pixels and spectra of the audio-visual language model."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import ProcessorMixin

from mmalign.models.audio_visual.configuration import AudioVisualConfig

__all__ = ["AudioVisualProcessor"]


class AudioVisualProcessor(ProcessorMixin):
    """A tokenizer, a video processor and Whisper's feature extractor.

    Args:
        tokenizer: Knows both placeholders as special tokens.
        video_processor: Resizes frames to the square that the tower takes.
        feature_extractor: Its `chunk_length` is the longest sound that the model hears.
        chat_template: Writes a placeholder where a medium stands.
        video_token: Placeholder, unless the tokenizer names its own.
        audio_token: The same.
        tokens_per_frame: As in the model's config.
        steps_per_token: The same.
        num_clue_tokens: The same; 0 without a clue aggregator.
        keep_media_tokens: The same.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        video_processor: Any = None,
        feature_extractor: Any = None,
        chat_template: str | None = None,
        video_token: str = "<video>",  # noqa: S107  # no secret
        audio_token: str = "<audio>",  # noqa: S107
        tokens_per_frame: int = 4,
        steps_per_token: int = 2,
        num_clue_tokens: int = 0,
        keep_media_tokens: bool = True,
    ) -> None:
        self.video_token = getattr(tokenizer, "video_token", video_token)
        self.audio_token = getattr(tokenizer, "audio_token", audio_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        self.audio_token_id = tokenizer.convert_tokens_to_ids(self.audio_token)
        self.tokens_per_frame = tokens_per_frame
        self.steps_per_token = steps_per_token
        self.num_clue_tokens = num_clue_tokens
        self.keep_media_tokens = keep_media_tokens
        super().__init__(  # type: ignore[no-untyped-call]  # untyped there
            tokenizer, video_processor, feature_extractor, chat_template=chat_template
        )

    @classmethod
    def for_config(
        cls,
        config: AudioVisualConfig,
        *,
        tokenizer: Any,
        video_processor: Any,
        feature_extractor: Any,
        chat_template: str | None = None,
    ) -> Self:
        """The processor of a model, with the model's numbers of tokens."""
        names = tokenizer.convert_ids_to_tokens([config.video_token_id, config.audio_token_id])
        return cls(
            tokenizer,
            video_processor,
            feature_extractor,
            chat_template=chat_template,
            video_token=names[0],
            audio_token=names[1],
            tokens_per_frame=config.tokens_per_frame,
            steps_per_token=config.steps_per_token,
            num_clue_tokens=config.num_clue_tokens,
            keep_media_tokens=config.keep_media_tokens,
        )

    def num_tokens(self, num_own: int) -> int:
        """Tokens that stand in a prompt for a medium, from those of its frames or steps."""
        return (num_own if self.keep_media_tokens else 0) + self.num_clue_tokens

    def replace_video_token(
        self, video_inputs: Mapping[str, Any], video_idx: int, **kwargs: Any
    ) -> str:
        """The placeholder once per token of the clip."""
        num_frames = int(video_inputs["video_num_frames"][video_idx])
        return str(self.video_token) * self.num_tokens(num_frames * self.tokens_per_frame)

    def replace_audio_token(
        self, audio_inputs: Mapping[str, Any], audio_idx: int, **kwargs: Any
    ) -> str:
        """The placeholder once per token of the sound."""
        num_frames = int(audio_inputs["feature_attention_mask"][audio_idx].sum())
        num_steps = (num_frames - 1) // 2 + 1
        return str(self.audio_token) * self.num_tokens(num_steps // self.steps_per_token)

    def _process_videos(self, videos: Any, **kwargs: Any) -> tuple[dict[str, Tensor], list[str]]:
        """Frames of all clips, one after the other: [F, 3, H, W]."""
        clips = self.video_processor(videos, **kwargs | {"return_tensors": None})
        frames = [torch.as_tensor(clip) for clip in clips["pixel_values_videos"]]
        found = {
            "pixel_values_videos": torch.cat(frames),
            "video_num_frames": torch.tensor([len(clip) for clip in frames]),
        }
        return found, [self.replace_video_token(found, index) for index in range(len(frames))]

    def _process_audio(self, audio: Any, **kwargs: Any) -> tuple[dict[str, Tensor], list[str]]:
        """Spectra as long as the longest sound, [N, mel, T], zeros behind the others."""
        spectra = [self._spectrum(sound, kwargs.get("sampling_rate")) for sound in audio]
        longest = max(spectrum.shape[1] for spectrum in spectra)
        found = {
            "input_features": torch.stack(
                [F.pad(spectrum, (0, longest - spectrum.shape[1])) for spectrum in spectra]
            ),
            "feature_attention_mask": torch.stack(
                [torch.arange(longest) < spectrum.shape[1] for spectrum in spectra]
            ).long(),
        }
        return found, [self.replace_audio_token(found, index) for index in range(len(spectra))]

    def _spectrum(self, sound: npt.NDArray[np.float32], rate_hz: int | None) -> Tensor:
        """[mel, T] of one sound, alone, so that it does not depend on its batch."""
        extractor = self.feature_extractor
        if len(sound) > extractor.n_samples:
            raise ValueError(
                f"a sound of {len(sound)} samples is longer than the {extractor.n_samples} that "
                f"the model hears, and nothing is ever cut; give a shorter one"
            )
        features = extractor(
            sound,
            sampling_rate=rate_hz,
            padding="longest",
            pad_to_multiple_of=extractor.hop_length,
        )["input_features"][0]
        return torch.as_tensor(features)
