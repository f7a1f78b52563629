"""The settings of each objective, with the defaults of its paper."""

from typing import Annotated, Literal

from pydantic import Field

from mmalign.config import Config

__all__ = [
    "BetaConfig",
    "CDPOConfig",
    "IPOConfig",
    "ORPOConfig",
    "RRPOConfig",
    "SLiCConfig",
    "SimPOConfig",
]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BetaConfig(Config):
    """Settings of the losses on beta times the log-ratio: dpo and hinge."""

    beta: Positive = 0.1
    """Inverse temperature; larger keeps the policy nearer the reference. Source: DPO, sec. 6."""


class CDPOConfig(BetaConfig):
    """Settings of cdpo."""

    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of pairs whose sides are expected to be swapped. Source: DPO's code."""


class IPOConfig(Config):
    """Settings of ipo and ipo_norm."""

    beta: Positive = 0.1
    """tau in the paper: 1 / (2 beta) is the margin sought."""


class SLiCConfig(Config):
    """Settings of slic."""

    delta: Positive = 1.0
    """Margin of log-probabilities sought."""
    sft_weight: NotNegative = 0.1
    """lambda in the paper: weight of the chosen response's NLL."""


class SimPOConfig(Config):
    """Settings of simpo."""

    beta: Positive = 2.0
    """Scale of the mean log-probability. Source: SimPO's code, 2.0 to 2.5."""
    gamma_beta_ratio: NotNegative = 0.5
    """Target margin over beta. Source: SimPO's code, 0.3 to 0.8."""


class ORPOConfig(Config):
    """Settings of orpo."""

    odds_weight: NotNegative = 0.1
    """lambda in the paper, beta in TRL. Source: ORPO, sec. 6."""


class RRPOConfig(BetaConfig):
    """Settings of rrpo. Source: RRPO's LLaVA-Video run; LongVU took beta 0.5 and alpha 0.05."""

    alpha: NotNegative = 0.01
    """Weight of the token-wise KL. Source: RRPO, 0.01 to 0.1."""
    kl_reduction: Literal["sum", "mean"] = "sum"
    """Sum over the chosen response's tokens as in RRPO, or their mean, free of its length."""
