"""SmolVLM: pictures in square tiles, a clip as a list of frames with their times as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.smolvlm.image_processing_smolvlm import get_resize_output_image_size

from mmalign.errors import ConfigError
from mmalign.models.families.loading import bare_model
from mmalign.models.families.protocol import DecodedMedia, PreparedMedia
from mmalign.models.families.vision import process_media
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
            ConfigError: The processor pads instead of filling the square.
        """
        tiles, parts = [], []
        for item in media:
            features, part = process_media(processor, [item], return_tensors="pt")
            if not features["pixel_attention_mask"].all():
                raise ConfigError(
                    "the processor pads pictures to the tower's square; mmalign needs them "
                    "resized to it: set do_resize: true in preprocessor_config.json and "
                    "video_preprocessor_config.json"
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

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Tokens of one clip or picture, without times and names of tiles."""
        if kind == "video":
            return int(num_frames * processor.image_seq_len)
        return _num_tiles(processor.image_processor, height, width) * int(processor.image_seq_len)


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
