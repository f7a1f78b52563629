"""DCPO's captions: which text belongs to which side, and what is refused."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import RecordError
from mmalign.objectives.diffusion.captions import (
    CaptionVariant,
    caption_fields,
    caption_pair,
    caption_separation,
)
from mmalign.objectives.diffusion.pairs import denoising_errors
from mmalign.testing.denoiser import LinearDenoiser

RECORD = {
    "prompt": "a red bus",
    "perturbed_prompt": "one bus, reddish",
    "caption_0": "a red bus in the rain",
    "caption_1": "a blue bus at night",
    "perturbed_caption_0": "rain on a bus that is red",
    "perturbed_caption_1": "at night, a bus of blue",
}


@pytest.mark.parametrize(
    ("variant", "chosen", "rejected"),
    [
        ("c", "caption_1", "caption_0"),
        ("h", "caption_1", "perturbed_caption_0"),
        ("p", "prompt", "perturbed_prompt"),
        ("none", "prompt", "prompt"),
    ],
)
def test_each_variant_names_its_captions(
    variant: CaptionVariant, chosen: str, rejected: str
) -> None:
    assert caption_fields(variant, chosen_image=1) == (chosen, rejected)
    assert caption_pair(RECORD, variant, chosen_image=1) == (RECORD[chosen], RECORD[rejected])


@pytest.mark.parametrize("variant", ["c", "h", "p", "none"])
def test_exchanging_images_captions_and_label_changes_nothing(variant: CaptionVariant) -> None:
    exchanged = {name.translate(str.maketrans("01", "10")): text for name, text in RECORD.items()}
    there = caption_pair(RECORD, variant, chosen_image=0)
    assert caption_pair(exchanged, variant, chosen_image=1) == there


@pytest.mark.parametrize("variant", ["c", "h"])
def test_exchanging_the_captions_alone_changes_the_pair(variant: CaptionVariant) -> None:
    exchanged = {name.translate(str.maketrans("01", "10")): text for name, text in RECORD.items()}
    there = caption_pair(RECORD, variant, chosen_image=0)
    assert caption_pair(exchanged, variant, chosen_image=0) != there


def test_the_chosen_caption_does_not_reach_the_rejected_errors() -> None:
    source = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    weights = {"M": normal(3, 3), "v": normal(3), "K": normal(2, 3)}
    noisy, noise, timesteps = normal(4, 3), normal(4, 3), torch.tensor([9, 99, 199, 999])
    captions, changed = normal(4, 2), normal(4, 2)
    changed[2:] = captions[2:]
    before, after = (
        denoising_errors(LinearDenoiser(**weights, condition=c)(noisy, timesteps), noise)
        for c in (captions, changed)
    )
    assert (before[:2] != after[:2]).all()
    assert_close(after[2:], before[2:], rtol=0, atol=0)


def test_separation_worked_by_hand() -> None:
    """(28 + 30) / 2 - (27 + 25) / 2 = 3."""
    assert caption_separation([28.0, 30.0], [27.0, 25.0]) == pytest.approx(3)


@pytest.mark.parametrize("text", ["", "  "])
def test_a_blank_caption_is_never_replaced_by_the_prompt(text: str) -> None:
    with pytest.raises(RecordError, match="caption_1 is missing or blank; variant 'c'"):
        caption_pair(RECORD | {"caption_1": text}, "c", chosen_image=0)


def test_a_missing_caption_is_refused() -> None:
    with pytest.raises(RecordError, match="perturbed_prompt is missing or blank; variant 'p'"):
        caption_pair({"prompt": "a red bus"}, "p", chosen_image=0)


def test_a_perturbation_that_changed_nothing_is_refused() -> None:
    record = RECORD | {"perturbed_caption_1": RECORD["caption_1"]}
    with pytest.raises(RecordError, match="perturbed_caption_1 is the same text as caption_1"):
        caption_pair(record, "h", chosen_image=0)


def test_an_unknown_variant_or_image_is_refused() -> None:
    with pytest.raises(RecordError, match="no caption variant is called 'x'; known: c, h, p"):
        caption_fields("x", chosen_image=0)  # type: ignore[arg-type]  # refused
    with pytest.raises(RecordError, match="chosen_image is 2, expected 0 or 1"):
        caption_fields("c", chosen_image=2)


def test_broken_similarities_are_refused() -> None:
    with pytest.raises(RecordError, match="at least one, found 2 and 1"):
        caption_separation([1.0, 2.0], [1.0])
    with pytest.raises(RecordError, match=r"pair 1: similarities are \(2.0, nan\)"):
        caption_separation([1.0, 2.0], [1.0, math.nan])
