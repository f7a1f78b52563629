"""Readers that recipes of tests name."""

from collections.abc import Iterator

from mmalign.records import Sample, user

__all__ = ["arithmetic", "interrupted"]


def arithmetic(num_samples: int) -> Iterator[Sample]:
    """Questions with answers."""
    for number in range(num_samples):
        yield Sample(
            id=f"sum-{number}",
            messages=(user(f"what is {number} and 1?"),),
            answer=str(number + 1),
            metadata={"number": number, "dataset": "arithmetic"},
        )


def interrupted() -> Iterator[Sample]:
    """Acts as if the user pressed Ctrl-C while it is read."""
    raise KeyboardInterrupt
    yield  # a generator, as readers are
