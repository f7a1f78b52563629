"""The settings of the CAT agent."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from mmalign.api import Config

__all__ = ["CATConfig"]

Attempts = Annotated[int, Field(ge=1, le=8)]
Tokens = Annotated[int, Field(gt=0)]


class CATConfig(Config):
    """How answers are sampled, judged, and written again.

    The paper's own settings could not be read: all of these are a reconstruction.
    """

    num_generations: Annotated[int, Field(ge=1)] = 5
    """Answers that are sampled for each question."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of these answers."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Of these answers."""
    with_greedy: bool = True
    """Whether a greedy answer is judged too, behind the sampled ones."""
    max_completion_length: Tokens = 128
    """Tokens of an answer."""
    ambiguity_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Smallest share of wrong and useless sentences of a rejected answer."""
    min_length_ratio: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Fewest words of a rewritten answer, as a share of those of the answer it is made from."""
    max_length_ratio: Annotated[float, Field(ge=1)] = 1.5
    """Most words of it."""
    num_judge_attempts: Attempts = 2
    """Replies of the judge about one answer before that answer is left out."""
    num_rewrite_attempts: Attempts = 2
    """Replies of the rewriter before the gold answer is taken as it is."""
    max_judge_length: Tokens = 1024
    """Tokens of a reply of the judge."""
    max_rewrite_length: Tokens = 256
    """Tokens of a reply of the rewriter."""
    rewrite_rejected: bool = False
    """Whether the rejected answer is rewritten too, as vague as it is, so that both sides have
    the rewriter's style. Source of the idea: HA-DPO."""
    silence: Annotated[float, Field(ge=0, lt=1)] = 1e-3
    """A sound whose loudest sample is no larger (1 is full scale) counts as none."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.num_generations == 1 and not self.with_greedy:
            raise ValueError(
                "num_generations is 1 and with_greedy false: the most ambiguous of one answer is "
                "no choice; sample more"
            )
        return self
