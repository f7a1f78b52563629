"""Where a right solution is restarted, and how hot, to get one that goes wrong only later."""

from collections.abc import Sequence
from typing import Literal, get_args

from mmalign.errors import RecordError, ShapeError

__all__ = ["BlockType", "branch_points", "restart_temperatures"]

BlockType = Literal["text", "code", "execution"]
"""Who wrote a block of a solution: the model in words, the model in code, or the interpreter."""


def branch_points(block_types: Sequence[BlockType]) -> list[int]:
    """How many leading blocks of a right solution may be kept before it is sampled anew.

    Never a point right after code, whose output would be missing, nor one inside the last two
    blocks, which leave nothing to go wrong.

    Args:
        block_types: The types of the solution's blocks, in order.

    Returns:
        Ascending numbers of kept blocks. 0, the restart from the question, is always there; with
        two blocks or fewer it is the only one, and the pair is one of whole responses.

    Raises:
        RecordError: There is no block, or one of unknown type.

    Source: SCDPO (Lu et al., 2024), start points as in its code.
    """
    known = get_args(BlockType)
    for place, block_type in enumerate(block_types):
        if block_type not in known:
            raise RecordError(
                f"block {place} has the type {block_type!r}, expected one of {', '.join(known)}"
            )
    if not block_types:
        raise RecordError("the solution has no block; drop it")
    return [0] + [
        place + 1 for place, block_type in enumerate(block_types[:-2]) if block_type != "code"
    ]


def restart_temperatures(
    num_steps: int, *, start: float = 1.1, rise: float = 0.05, cap: float = 1.4
) -> list[float]:
    """Sampling temperatures of the blocks after a restart; a constant high one garbles the text.

        temperature = min(start + rise * (blocks since the restart), cap)

    Args:
        num_steps: How many temperatures, >= 0.
        start: Of the first block, > 0.
        rise: Per block, >= 0; 0.05 in the paper, 0.1 in all released scripts.
        cap: The highest, at least `start`.

    Returns:
        `num_steps` temperatures that never fall.

    Raises:
        ShapeError: A setting is out of range.

    Source: SCDPO (Lu et al., 2024).
    """
    if not (num_steps >= 0 and rise >= 0 and 0 < start <= cap):
        raise ShapeError(
            f"num_steps is {num_steps}, start {start}, rise {rise} and cap {cap}, "
            f"expected num_steps >= 0, rise >= 0 and 0 < start <= cap"
        )
    return [min(start + rise * step, cap) for step in range(num_steps)]
