"""What came of running candidate programs against candidate tests."""

from typing import Self

from pydantic import Field, model_validator

from mmalign.records.base import Record

__all__ = ["EXECUTION_MATRIX", "ExecutionMatrix"]

EXECUTION_MATRIX = "test_matrix"
"""The key of a record's metadata under which its matrix stands."""


class ExecutionMatrix(Record):
    """Every program against every test, and the two cells that became a pair.

    Report and terminal draw it wherever it stands in a pair's metadata.
    """

    codes: tuple[str, ...] = Field(min_length=1)
    """[J] programs."""
    tests: tuple[str, ...] = Field(min_length=1)
    """[K] tests."""
    statuses: tuple[tuple[str, ...], ...]
    """[J][K]: `pass`, or what else became of the run; only `pass` counts for a score."""
    chosen: tuple[int, int] | None = None
    """Program and test of the chosen side, from 0."""
    rejected: tuple[int, int] | None = None

    @property
    def results(self) -> list[list[int]]:
        """[J][K]: 1 where the program passes the test, else 0."""
        return [[int(status == "pass") for status in row] for row in self.statuses]

    @property
    def code_scores(self) -> list[int]:
        """[J]: tests that each program passes."""
        return [sum(row) for row in self.results]

    @property
    def test_scores(self) -> list[int]:
        """[K]: programs that pass each test."""
        return [sum(column) for column in zip(*self.results, strict=True)]

    @model_validator(mode="after")
    def _is_rectangular(self) -> Self:
        shape = (len(self.codes), len(self.tests))
        if len(self.statuses) != shape[0] or any(len(row) != shape[1] for row in self.statuses):
            raise ValueError(
                f"statuses have rows of {[len(row) for row in self.statuses]}, expected "
                f"{shape[0]} rows of {shape[1]}: one for each program, one entry for each test"
            )
        for name, cell in (("chosen", self.chosen), ("rejected", self.rejected)):
            if cell is not None and not (0 <= cell[0] < shape[0] and 0 <= cell[1] < shape[1]):
                raise ValueError(f"{name} is {cell}, which is no cell of {shape[0]} x {shape[1]}")
        return self
