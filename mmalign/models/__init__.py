"""Models that answer chats: the protocol, and the ways to get one."""

from mmalign.models.load import ModelConfig, load_model
from mmalign.models.protocol import (
    Capability,
    ChatModel,
    Completion,
    Sampling,
    TokenLogprobs,
    Usage,
)

__all__ = [
    "Capability",
    "ChatModel",
    "Completion",
    "ModelConfig",
    "Sampling",
    "TokenLogprobs",
    "Usage",
    "load_model",
]
