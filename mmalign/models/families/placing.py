"""Put media features where the decoder reads them."""

from typing import Any

from torch import Tensor

__all__ = ["place_media"]


def place_media(embeds: Tensor, is_media: Tensor, features: Tensor) -> dict[str, Any]:
    """Arguments of the decoder that carry a batch's tokens and media.

    Args:
        embeds: [B, L, H] of the tokens.
        is_media: [B, L] bool, true on the M placeholders.
        features: [M, H], or [M, H * (1 + D)] where the first D decoder layers are given features
            of their own, side by side, as `ModelFamily.media_embeds` returns them.
    """
    width = embeds.shape[-1]
    features = features.to(embeds)
    placed = embeds.masked_scatter(is_media[..., None], features[:, :width])
    if features.shape[-1] == width:
        return {"inputs_embeds": placed}
    layers = range(width, features.shape[-1], width)
    return {
        "inputs_embeds": placed,
        "visual_pos_masks": is_media,
        "deepstack_visual_embeds": [features[:, start : start + width] for start in layers],
    }
