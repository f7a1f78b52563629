"""Whisper's encoder on sound of any length."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder

__all__ = ["SoundEncoder"]


class SoundEncoder(WhisperEncoder):  # type: ignore[no-untyped-call]  # untyped there
    """The layers, weights and positions of `WhisperEncoder`, on the sound's own length.

    Whisper pads every sound to 30 s with silence and attends to all of it. Here, as in newer
    audio language models such as Qwen2.5-Omni, the encoder runs on what was recorded: a clip of
    2 s costs a fifteenth, and its features do not depend on what it is batched with. On 30 s of
    sound both give the same numbers. Left out: dropping whole layers in training.
    """

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """[N, S, H] of N sounds, S = ceil(T / 2); steps behind the end of a sound mean nothing.

        Args:
            input_features: [N, mel, T] log-mel frames of 10 ms.
            attention_mask: [N, T], 1 where a frame belongs to the sound; None: all do.
            **kwargs: What the layers take.

        Raises:
            ValueError: There are more steps than positions.
        """
        num_steps = (input_features.shape[-1] - 1) // 2 + 1
        if num_steps > self.max_source_positions:
            raise ValueError(
                f"a sound of {input_features.shape[-1]} frames takes {num_steps} steps, the "
                f"encoder has {self.max_source_positions} positions; give a shorter sound"
            )
        states = F.gelu(self.conv1(input_features.to(self.conv1.weight.dtype)))
        step_mask = None
        if attention_mask is not None:
            # else the bias of padded frames would leak into the last step of a shorter sound
            states = states * attention_mask[:, None].to(states)
            lengths = (attention_mask.sum(-1) - 1) // 2 + 1
            step_mask = torch.arange(num_steps, device=lengths.device) < lengths[:, None]
        states = F.gelu(self.conv2(states)).transpose(1, 2)
        states = states + self.embed_positions.weight[:num_steps]
        states = F.dropout(states, p=self.dropout, training=self.training)
        mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=states, attention_mask=step_mask
        )
        for layer in self.layers:
            states = layer(states, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(states))
