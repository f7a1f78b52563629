"""CAT's clue aggregator: what a clip and a sound say about the question, in a few tokens.

Source: CAT (Ye et al., 2024) and its released code. There one clip and one sound share one
placeholder, as [clues of the clip | clues of the sound | both global tokens]; here each medium has
a placeholder of its own, so the order is [clues | global] for each, and there may be several. What
goes in are the projected tokens of the medium instead of ImageBind's vectors, so the width of the
media (1,024 there) is that of the text decoder (4,096 there) throughout. As there, nothing in the
aggregator knows the order of the tokens: what came first is told by the medium's own tokens, where
they are kept.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerModel

from mmalign.models.audio_visual.configuration import ClueAggregatorConfig

__all__ = ["ClueAggregator"]


class ClueAggregator(nn.Module):
    """One path for clips, one for sounds, with both layer norms in common.

    Args:
        config: Sizes.
        hidden_size: H, of the text decoder.
    """

    def __init__(self, config: ClueAggregatorConfig, hidden_size: int) -> None:
        super().__init__()
        self.video = CluePath(config, hidden_size)
        self.audio = CluePath(config, hidden_size)
        self.norm_media = nn.LayerNorm(hidden_size)
        self.norm_guided = nn.LayerNorm(hidden_size)

    def forward(
        self,
        kind: Literal["video", "audio"],
        media: Tensor,
        media_mask: Tensor,
        question: Tensor,
        question_mask: Tensor,
    ) -> Tensor:
        """[N, num_queries + 1, H]: the clues of each medium and its global token.

        Args:
            kind: Of all N media.
            media: [N, M, H] projected tokens.
            media_mask: [N, M] bool, true on a medium's own tokens.
            question: [N, Q, H] embeddings of the question asked about each.
            question_mask: [N, Q] bool, true on its own tokens, of which there is at least one.
        """
        path: CluePath = self.get_submodule(kind)  # type: ignore[assignment]
        clues = path(media, media_mask, question, question_mask, self.norm_media, self.norm_guided)
        total = (media * media_mask[..., None]).sum(1, keepdim=True)
        mean = total / media_mask.sum(1)[:, None, None]
        return torch.cat([clues, path.to_global(mean)], dim=1)


class CluePath(nn.Module):
    """The layers for one kind of media.

    media'  = LN(drop(W attention(media, media)))
    grounded = tanh(attention(question, media'))
    guided  = LN(drop(W tanh(attention(media', grounded))))
    clues   = W qformer(queries, guided)
    """

    def __init__(self, config: ClueAggregatorConfig, hidden_size: int) -> None:
        super().__init__()
        qformer = config.qformer_config

        def attention() -> nn.MultiheadAttention:
            return nn.MultiheadAttention(
                hidden_size, config.num_heads, dropout=config.dropout, batch_first=True
            )

        self.attend_itself, self.ground, self.guide = attention(), attention(), attention()
        self.expand = nn.Linear(hidden_size, hidden_size)
        self.contract = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.to_qformer = nn.Linear(hidden_size, qformer.encoder_hidden_size)
        self.queries = nn.Parameter(torch.empty(1, config.num_queries, qformer.hidden_size))
        build: Any = Blip2QFormerModel
        self.qformer = build._from_config(qformer)
        self.to_text = nn.Linear(qformer.hidden_size, hidden_size)
        self.to_global = nn.Linear(hidden_size, hidden_size)

    def forward(
        self,
        media: Tensor,
        media_mask: Tensor,
        question: Tensor,
        question_mask: Tensor,
        norm_media: nn.LayerNorm,
        norm_guided: nn.LayerNorm,
    ) -> Tensor:
        """[N, num_queries, H]; arguments as in `ClueAggregator`."""
        seen = _attend(self.attend_itself, media, media, media_mask)
        seen = norm_media(self.dropout(self.expand(seen)))
        grounded = torch.tanh(_attend(self.ground, question, seen, media_mask))
        guided = torch.tanh(_attend(self.guide, seen, grounded, question_mask))
        guided = norm_guided(self.dropout(self.contract(guided)))
        clues = self.qformer(
            query_embeds=self.queries.expand(len(media), -1, -1),
            encoder_hidden_states=self.to_qformer(guided),
            encoder_attention_mask=media_mask.long(),
        ).last_hidden_state
        found: Tensor = self.to_text(clues.to(self.to_text.weight.dtype))
        return found


def _attend(layer: nn.MultiheadAttention, asking: Tensor, read: Tensor, mask: Tensor) -> Tensor:
    found: Tensor = layer(asking, read, read, key_padding_mask=~mask, need_weights=False)[0]
    return found
