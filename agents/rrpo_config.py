"""The settings of the RRPO agent."""

from typing import Annotated, Literal

from pydantic import Field

from mmalign.api import Config

__all__ = ["RRPOConfig"]

Share = Annotated[float, Field(ge=0, le=1)]
Attempts = Annotated[int, Field(ge=1, le=8)]  # the longest walk stays under 50 steps


class RRPOConfig(Config):
    """How wrong answers are provoked, told from right ones, and laid on the gold answer."""

    perturbation: Literal["mask+local_shuffle", "mask", "shuffle", "local_shuffle", "none"] = (
        "mask+local_shuffle"
    )
    """What is done to the clip before the policy is asked. Source: RRPO, its best perturbation."""
    mask_area: tuple[Share, Share] = (0.25, 0.5)
    """Bounds of the rectangle's share of the frame. Source: RRPO."""
    num_windows: Annotated[int, Field(ge=1)] = 4
    """Equal windows inside which `local_shuffle` permutes the frames."""
    num_attempts: Attempts = 1
    """Times that the policy is asked, each with another perturbation, until it errs."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Of long answers; short ones are greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Of long answers."""
    max_completion_length: Annotated[int, Field(gt=0)] = 256
    """Tokens of the policy's answer."""
    short_answer_words: Annotated[int, Field(ge=1)] = 3
    """A gold answer of more words is long, unless the question has choices."""
    route: Literal["auto", "template", "rewrite"] = "auto"
    """How a long wrong answer is laid on the gold one. `auto`: as it is where it has the gold
    answer's skeleton, else rewritten; `rewrite`: always rewritten; `template`: as it is or not at
    all, compared word by word, so that no other model is asked. Short answers are always put
    into the gold answer's wording by template."""
    num_judge_attempts: Attempts = 3
    """Replies of the judge to one question before the sample is dropped."""
    num_rewrite_attempts: Attempts = 2
    """Replies of the rewriter to each of its two requests before the sample is dropped."""
    max_rewrite_length: Annotated[int, Field(gt=0)] = 512
    """Tokens of a reply of judge or rewriter."""
    span_source: Literal["diff", "tags"] = "diff"
    """Where the phrases of a rewritten answer come from: a diff of the words, or marks that the
    rewriter sets on both sides."""
    include_indels: bool = False
    """Whether words that only one side has are phrases too. Source: RRPO's code, no."""
    max_coverage: Share = 0.6
    """Share of a long answer that may lie in phrases before the sides count as not aligned."""
