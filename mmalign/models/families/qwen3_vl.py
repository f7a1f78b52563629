"""Qwen3-VL: times as text between frames, features for several decoder layers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mmalign.media import VideoClip
from mmalign.models.families.loading import bare_model
from mmalign.models.families.protocol import DecodedMedia, PreparedMedia
from mmalign.models.families.qwen2_5_vl import Qwen25VL
from mmalign.models.families.vision import kept_frames

__all__ = ["Qwen3VL"]


class Qwen3VL(Qwen25VL):
    """Adapter around `Qwen3VLForConditionalGeneration`."""

    name = "qwen3_vl"
    model_types = frozenset({"qwen3_vl"})

    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Patches; every pair of frames has its time in the text, on the source's time axis.

        The processor shows the last of an odd number of frames twice, but refuses a lone frame.
        """
        return super().prepare_media(
            processor,
            [
                _twice(item) if isinstance(item, VideoClip) and len(item.frames) == 1 else item
                for item in media
            ],
        )

    def features_of(self, output: Any) -> Sequence[Tensor]:
        """[M, H * (1 + D)] of each medium: the features of the embedding, then of D layers."""
        return [
            torch.cat(layers, dim=-1)
            for layers in zip(output.pooler_output, *output.deepstack_features, strict=True)
        ]

    def no_features(self, model: PreTrainedModel) -> Tensor:
        """[0, H * (1 + D)], the features of no media."""
        empty = super().no_features(model)
        num_layers = len(bare_model(model).model.visual.deepstack_merger_list)
        return empty.repeat(1, 1 + num_layers)

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Tokens of one clip, without its times, or picture; sizes are of the clip as a whole."""
        if kind == "image":
            return super().media_token_count(
                processor, kind, num_frames=num_frames, height=height, width=width
            )
        part = processor.video_processor
        frames = max(num_frames, part.temporal_patch_size)
        num_patches = part.get_num_of_video_patches(frames, height, width)
        return int(num_patches // part.merge_size**2)

    def clip_text(
        self,
        processor: Any,
        *,
        num_tokens: int,
        timestamps_s: npt.NDArray[np.float64],
        fps: float,
    ) -> str:
        """Each pair of frames behind the mean of its times."""
        part = processor.video_processor
        num_pairs = -(-len(timestamps_s) // part.temporal_patch_size)
        grid = [num_pairs, part.merge_size, num_tokens // num_pairs * part.merge_size]
        sizes = {
            "video_grid_thw": torch.tensor([grid]),
            "video_metadata": [kept_frames(timestamps_s, fps=fps)],
        }
        return str(processor.replace_video_token(sizes, 0))


def _twice(clip: VideoClip) -> VideoClip:
    """A clip of one frame as one of two equal frames at the same time."""
    return replace(
        clip,
        frames=np.repeat(clip.frames, 2, axis=0),
        timestamps_s=np.repeat(clip.timestamps_s, 2),
        indices=np.repeat(clip.indices, 2),
    )
