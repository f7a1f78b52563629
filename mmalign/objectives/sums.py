"""Sums over tokens, and the checks of shape that every objective shares."""

import math

import torch
from torch import Tensor

from mmalign.errors import ShapeError

__all__ = [
    "at_least_float32",
    "masked_mean",
    "masked_sum",
    "phrase_sums",
    "require_finite",
    "require_one_per_pair",
    "require_positive",
    "require_same_shape",
    "zero_outside",
]


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32, or in float64 where they are that already."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def zero_outside(values: Tensor, mask: Tensor) -> Tensor:
    """The values, at least float32, and 0 outside the mask.

    Args:
        values: [B, T]; what stands outside the mask does not matter, even if it is NaN.
        mask: [B, T], not 0 on tokens that count.

    Returns:
        [B, T]; its gradient is exactly 0 outside the mask.
    """
    return at_least_float32(values).where(mask.bool(), 0.0)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the tokens that count.

    Args:
        values: [B, T]; what stands outside the mask does not matter, even if it is NaN.
        mask: [B, T], not 0 on tokens that count.

    Returns:
        [B], at least float32; its gradient is exactly 0 outside the mask.
    """
    require_same_shape(values=values, mask=mask)
    return zero_outside(values, mask).sum(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """`masked_sum` over the number of tokens that count; NaN in a row without any."""
    return masked_sum(values, mask) / mask.bool().sum(-1)


def phrase_sums(values: Tensor, phrase_ids: Tensor, *, num_phrases: int) -> Tensor:
    """Sum over the tokens of each phrase.

    Args:
        values: [B, T].
        phrase_ids: [B, T], integers; 0 on tokens of no phrase.
        num_phrases: The largest id that occurs; given, so that no device has to be asked.

    Returns:
        [B, num_phrases], column i - 1 for phrase i; 0 for a phrase that the row lacks.
    """
    require_same_shape(values=values, phrase_ids=phrase_ids)
    inside = zero_outside(values, phrase_ids)
    sums = inside.new_zeros(values.shape[0], num_phrases + 1)
    return sums.scatter_add(1, phrase_ids.long(), inside)[:, 1:]


def require_same_shape(**tensors: Tensor) -> None:
    """Refuse tensors that would broadcast against each other in silence.

    Raises:
        ShapeError: With all names and shapes.
    """
    if len({tuple(tensor.shape) for tensor in tensors.values()}) > 1:
        raise ShapeError(f"expected tensors of one shape, found {_shapes(tensors)}")


def require_one_per_pair(**tensors: Tensor) -> None:
    """Refuse tensors that are not all [B] with the same B.

    Raises:
        ShapeError: With all names and shapes.
    """
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ShapeError(
            f"expected one number per pair, all [B] with the same B, found {_shapes(tensors)}"
        )


def require_positive(**numbers: float) -> None:
    """Refuse settings that are not positive and finite.

    Raises:
        ShapeError: With name and value.
    """
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ShapeError(f"{name} is {number}, expected a positive finite number")


def require_finite(**tensors: Tensor) -> None:
    """Refuse NaN and infinite entries. It waits for the device: not for use inside a loss.

    Raises:
        ShapeError: With the name and the place of the first such entry.
    """
    for name, tensor in tensors.items():
        bad = (~tensor.isfinite()).nonzero()
        if len(bad):
            place = bad[0].tolist()
            raise ShapeError(f"{name}{place} is {tensor[tuple(place)].item()}, expected a number")


def _shapes(tensors: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
