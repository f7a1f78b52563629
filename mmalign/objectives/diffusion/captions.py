"""DCPO's choice of captions: each image of a pair is denoised under a caption of its own.

The loss is `diffusion_dpo_loss` on the errors under these captions. Left out: the captioner and
the paraphraser that write them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from mmalign.errors import RecordError

__all__ = [
    "CaptionPair",
    "CaptionVariant",
    "caption_fields",
    "caption_pair",
    "caption_separation",
]

CaptionVariant = Literal["c", "p", "h", "none"]
"""DCPO-c (generated captions), -p (perturbed prompt), -h (hybrid), or the prompt for both."""


class CaptionPair(NamedTuple):
    """Captions, or the names of the fields that hold them, of both sides."""

    chosen: str
    rejected: str


def caption_fields(variant: CaptionVariant, *, chosen_image: int) -> CaptionPair:
    """Which fields of a record hold the captions that the two images are denoised under.

        c:    caption of the chosen image | caption of the rejected image
        h:    caption of the chosen image | perturbed caption of the rejected image
        p:    prompt                      | perturbed prompt
        none: prompt                      | prompt, which is Diffusion-DPO

    The captions follow the images: which image is the chosen one decides both.

    Args:
        variant: Of the four rows above; DCPO-h gave the paper's best numbers.
        chosen_image: 0 or 1, of `order_by_label`.

    Returns:
        Two of `prompt`, `caption_0`, `caption_1`, `perturbed_prompt`, `perturbed_caption_0`,
        `perturbed_caption_1`.

    Raises:
        RecordError: An unknown variant, or no image of that number.

    Source: DCPO (Saeidi et al., 2025).
    """
    if chosen_image not in (0, 1):
        raise RecordError(f"chosen_image is {chosen_image}, expected 0 or 1")
    rejected_image = 1 - chosen_image
    match variant:
        case "c":
            return CaptionPair(f"caption_{chosen_image}", f"caption_{rejected_image}")
        case "h":
            return CaptionPair(f"caption_{chosen_image}", f"perturbed_caption_{rejected_image}")
        case "p":
            return CaptionPair("prompt", "perturbed_prompt")
        case "none":
            return CaptionPair("prompt", "prompt")
        case _:
            raise RecordError(f"no caption variant is called {variant!r}; known: c, h, p, none")


def caption_pair(
    record: Mapping[str, str], variant: CaptionVariant, *, chosen_image: int
) -> CaptionPair:
    """The captions that the two images of a record are denoised under.

    Args:
        record: Holds the fields that `caption_fields` names for the variant.
        variant: See there.
        chosen_image: 0 or 1.

    Raises:
        RecordError: A caption is missing or blank (the prompt never takes its place), or a
            perturbed text equals the one it was made of.
    """
    fields = caption_fields(variant, chosen_image=chosen_image)
    for field in fields:
        if not (record.get(field) or "").strip():
            raise RecordError(
                f"{field} is missing or blank; variant {variant!r} needs it: write the caption or "
                f"drop the pair"
            )
        source = field.removeprefix("perturbed_")
        if field != source and record[field] == record.get(source):
            raise RecordError(f"{field} is the same text as {source}: the perturbation failed")
    return CaptionPair(*(record[field] for field in fields))


def caption_separation(
    chosen_similarities: Sequence[float], rejected_similarities: Sequence[float]
) -> float:
    """How much better the chosen images fit their captions than the rejected ones fit theirs.

        mean of chosen_similarities - mean of rejected_similarities

    Quality rises with it up to a threshold and falls beyond. Below 0 the captions most likely
    stand at the wrong images: images were exchanged without them.

    Args:
        chosen_similarities: CLIPScore of each chosen image and its caption.
        rejected_similarities: The same for the rejected images.

    Raises:
        RecordError: No pair, lists of different length, or a score that is not finite.

    Source: DCPO (Saeidi et al., 2025), delta mu.
    """
    if len(chosen_similarities) != len(rejected_similarities) or not chosen_similarities:
        raise RecordError(
            f"expected as many scores of chosen as of rejected images and at least one, found "
            f"{len(chosen_similarities)} and {len(rejected_similarities)}"
        )
    for row, scores in enumerate(zip(chosen_similarities, rejected_similarities, strict=True)):
        if not all(math.isfinite(score) for score in scores):
            raise RecordError(f"pair {row}: similarities are {scores}, expected two numbers")
    gaps = zip(chosen_similarities, rejected_similarities, strict=True)
    return math.fsum(chosen - rejected for chosen, rejected in gaps) / len(chosen_similarities)
