"""Supervised and preference training of multimodal models on records."""

from mmalign.training.config import LoraSettings, TrainerConfig
from mmalign.training.merge import merge_adapter
from mmalign.training.run import train

__all__ = ["LoraSettings", "TrainerConfig", "merge_adapter", "train"]
