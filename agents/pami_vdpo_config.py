"""Settings of the PaMi-VDPO agent."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mmalign.api import Config, operation

__all__ = ["DEFAULT_BAG", "Augmentation", "PaMiVDPOConfig"]

Augmentation = Literal[
    "crop",
    "shuffle",
    "reverse",
    "temporal_crop",
    "freeze",
    "speed",
    "mask",
    "frame_drop",
    "hflip",
    "color",
    "noise",
    "swap",
]
DEFAULT_BAG: tuple[Augmentation, ...] = ("crop", "shuffle", "reverse", "temporal_crop")


def _once_each(bag: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
    if len(set(bag)) < len(bag):
        raise ValueError(f"an operator occurs twice in {list(bag)}; name each once")
    return bag


class PaMiVDPOConfig(Config):
    """What clips are altered by, and which of them is chosen.

    The paper names cropping, shuffling and reversing, a divergence of output distributions, and
    that noisy samples weigh less. Everything else, all numbers among it, is mmalign's reading.
    """

    bag: Annotated[tuple[Augmentation, ...], Field(min_length=1), AfterValidator(_once_each)] = (
        DEFAULT_BAG
    )
    """Operators of `mmalign list operators` that candidates are made with."""
    params: dict[Augmentation, dict[str, Any]] = {}
    """Parameters of single operators other than their defaults, as `crop: {area: [0.3, 0.6]}`."""
    num_candidates: int | None = Field(default=None, gt=0)
    """Draw only so many operators from the bag for each sample; None takes all."""
    tau_close: float = Field(default=0.5, ge=-1, le=1)
    """Smallest closeness of a candidate to the clip; -1 does not look at visual features."""
    tau_far: float = Field(default=0.1, gt=0)
    """Divergence, in bits, from which on a pair counts in full."""
    gamma: float = Field(default=1.0, ge=0)
    """Sharpness of the weight; 0 weighs all pairs alike."""
    score_with: Literal["reference", "policy"] = "reference"
    """Which model tells what a candidate does to the response; where data is built before
    training the two are one.
    """
    js_tokens: Literal["all", "first_n", "content"] = "all"
    """Tokens of the response that the divergence is the mean over: all that cover text, the first
    `js_num_tokens`, or words and numbers only. Of an answer that names an option, its letter.
    """
    js_num_tokens: int = Field(default=8, gt=0)
    close_to_far: Literal["per_sample", "schedule"] = "per_sample"
    """schedule: in the first third of training take the closest candidate that tells anything."""

    @model_validator(mode="after")
    def _parameters_fit(self) -> Self:
        for name, params in self.params.items():
            if name not in self.bag:
                raise ValueError(f"params.{name}: the bag holds no {name}; it has {self.bag}")
            if name != "swap":
                operation(name, 0, **params)
        return self

    @property
    def scores(self) -> bool:
        """Whether anything depends on the divergence."""
        return self.gamma > 0 or self.num_candidates != 1
