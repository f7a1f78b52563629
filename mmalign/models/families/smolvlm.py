"""SmolVLM: pictures in square tiles, a clip as a list of frames with their times as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.smolvlm.image_processing_smolvlm import get_resize_output_image_size

from mmalign.errors import ConfigError
from mmalign.models.families.loading import bare_model
from mmalign.models.families.protocol import DecodedMedia, PreparedMedia
from mmalign.models.families.vision import kept_frames, process_media
from mmalign.models.families.vision_family import VisionFamily

__all__ = ["SmolVLM"]


class SmolVLM(VisionFamily):
    """Adapter around `SmolVLMForConditionalGeneration`.

    The processor, and with it this family, needs the package num2words. It writes a prompt with a
    clip by a chat template of its own, whatever template it was given.
    """

    name = "smolvlm"
    model_types = frozenset({"smolvlm"})
    decoder_name = "model.text_model"

    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Tiles and frames of all media in prompt order: [1, N, 3, S, S].

        Each medium is a call of its own: one call would keep either pictures or clips, and count
        the frames of the longest clip for all.

        Raises:
            ConfigError: The processor does not resize to the square that the tower takes.
        """
        side = processor.image_processor.max_image_size["longest_edge"]
        tiles, parts = [], []
        for item in media:
            features, part = process_media(processor, [item], return_tensors="pt")
            height, width = features["pixel_values"].shape[-2:]
            if (height, width) != (side, side):
                raise ConfigError(
                    f"the processor makes tiles of {height} x {width} pixels, the tower takes "
                    f"{side} x {side}; set do_resize: true and one max_image_size in "
                    f"preprocessor_config.json and video_preprocessor_config.json"
                )
            tiles.append(features["pixel_values"])
            parts.append(part)
        return PreparedMedia(
            tensors={"pixel_values": torch.cat(tiles, dim=1)} if tiles else {},
            kinds=tuple(kind for part in parts for kind in part.kinds),
            num_tokens=tuple(count for part in parts for count in part.num_tokens),
            texts=tuple(text for part in parts for text in part.texts),
        )

    def join_media(self, media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Tiles of several prompts, one after the other, as of one picture list."""
        tiles = [item["pixel_values"] for item in media if "pixel_values" in item]
        return {"pixel_values": torch.cat(tiles, dim=1)} if tiles else {}

    def media_embeds(self, model: PreTrainedModel, media: Mapping[str, Tensor]) -> Tensor:
        """[M, H]: tower and pixel shuffle by the model's own function."""
        if "pixel_values" not in media:
            return self.no_features(model)
        inner = bare_model(model).model
        found = inner.get_image_features(media["pixel_values"], return_dict=True).pooler_output
        return torch.cat(list(found))

    def split_media(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Frames and tiles, which are all the same to the tower."""
        if "pixel_values" not in media:
            return []
        return [{"pixel_values": tile} for tile in torch.split(media["pixel_values"], 1, dim=1)]

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Tokens of one clip or picture, without times and names of tiles."""
        if kind == "video":
            return int(num_frames * processor.image_seq_len)
        return _num_tiles(processor.image_processor, height, width) * int(processor.image_seq_len)

    def clip_text(
        self,
        processor: Any,
        *,
        num_tokens: int,
        timestamps_s: npt.NDArray[np.float64],
        fps: float,
    ) -> str:
        """How many frames there are, and each frame behind its time."""
        num_frames = num_tokens // processor.image_seq_len
        sizes = {
            "pixel_values": torch.empty(1, num_frames, 0),
            "video_metadata": [kept_frames(timestamps_s, fps=fps)],
        }
        return str(processor.replace_video_token(sizes, 0))


def _num_tiles(part: Any, height: int, width: int) -> int:
    """Tiles of a picture, and the whole picture behind them; 1 if it is a tile itself."""
    if not part.do_image_splitting:
        return 1
    shape = torch.empty(height, width, device="meta")
    height, width = get_resize_output_image_size(shape, part.size["longest_edge"])
    side, ratio = part.max_image_size["longest_edge"], width / height
    if width >= height:
        columns = math.ceil(width / side)
        rows = math.ceil(int(columns * side / ratio) / side)
    else:
        rows = math.ceil(height / side)
        columns = math.ceil(int(rows * side * ratio) / side)
    return rows * columns + 1 if rows * columns > 1 else 1
