"""EfficientNet-lite as a vision tower: the backbone without its classifier.

Of the EfficientNets, transformers ships those with squeeze-and-excitation only; the lite variants
have none, use ReLU6, and keep stem and head at one width.

Source: EfficientNet (Tan and Le, 2019) and Google's lite variants of it.
"""

from typing import Any

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

__all__ = ["EfficientNetLiteConfig", "EfficientNetLiteModel"]

_LITE0 = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_NORM_EPS = 1e-3


@strict
class EfficientNetLiteConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]  # untyped there
    """EfficientNet-lite0 by default: 224 pixels to 7 x 7 vectors of 1,280."""

    model_type = "efficientnet_lite"

    image_size: int = 224
    stem_size: int = 32
    stages: list[Any] | tuple[Any, ...] = _LITE0
    """(blocks, kernel, stride of the first, expansion, channels) of each stage."""
    hidden_size: int = 1280


class EfficientNetLiteModel(PreTrainedModel):  # type: ignore[no-untyped-call]  # untyped there
    """Frames to a grid of vectors. Norms keep their statistics in training, so that what becomes
    of a frame does not depend on the others.
    """

    config: EfficientNetLiteConfig
    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    # no attention inside: whatever kind a whole model asks for is fine
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.conv_stem = SameConv2d(3, config.stem_size, kernel_size=3, stride=2, bias=False)
        self.bn0 = FrozenBatchNorm2d(config.stem_size, eps=_NORM_EPS)
        blocks: list[nn.Module] = []
        width = config.stem_size
        for num_blocks, kernel, stride, expansion, out_size in config.stages:
            for index in range(num_blocks):
                blocks.append(
                    InvertedBottleneck(
                        width, out_size, kernel, stride if index == 0 else 1, expansion
                    )
                )
                width = out_size
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = SameConv2d(width, config.hidden_size, kernel_size=1, bias=False)
        self.bn1 = FrozenBatchNorm2d(config.hidden_size, eps=_NORM_EPS)
        self.post_init()  # type: ignore[no-untyped-call]  # untyped there

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """`last_hidden_state` [F, P, hidden_size], P places of the grid row by row.

        Args:
            pixel_values: [F, 3, H, W], normalised as ImageNet's.
        """
        states = F.relu6(self.bn0(self.conv_stem(pixel_values)))
        for block in self.blocks:
            states = block(states)
        states = F.relu6(self.bn1(self.conv_head(states))).flatten(2).transpose(1, 2)
        return BaseModelOutput(last_hidden_state=states, hidden_states=(states,))


class InvertedBottleneck(nn.Module):
    """Widen, convolve each channel, narrow; added to its input where both are of one shape."""

    def __init__(
        self, in_size: int, out_size: int, kernel_size: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = in_size * expansion
        if expansion > 1:
            self.expand_conv = SameConv2d(in_size, wide, kernel_size=1, bias=False)
            self.bn0 = FrozenBatchNorm2d(wide, eps=_NORM_EPS)
        self.depthwise_conv = SameConv2d(
            wide, wide, kernel_size=kernel_size, stride=stride, groups=wide, bias=False
        )
        self.bn1 = FrozenBatchNorm2d(wide, eps=_NORM_EPS)
        self.project_conv = SameConv2d(wide, out_size, kernel_size=1, bias=False)
        self.bn2 = FrozenBatchNorm2d(out_size, eps=_NORM_EPS)
        self.widens = expansion > 1
        self.adds = stride == 1 and in_size == out_size

    def forward(self, states: Tensor) -> Tensor:
        """[F, out_size, H / stride, W / stride]."""
        wide = F.relu6(self.bn0(self.expand_conv(states))) if self.widens else states
        wide = F.relu6(self.bn1(self.depthwise_conv(wide)))
        narrow: Tensor = self.bn2(self.project_conv(wide))
        return states + narrow if self.adds else narrow


class SameConv2d(nn.Conv2d):
    """Padded as TensorFlow pads: the odd pixel behind, so even sizes are halved from pixel 0."""

    def forward(self, states: Tensor) -> Tensor:
        """[F, out_channels, ceil(H / stride), ceil(W / stride)]."""
        pads: list[int] = []
        for size, kernel, stride in zip(
            states.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(states, pads))
