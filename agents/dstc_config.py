"""The settings of the DSTC agent."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mmalign.api import Config, Limits

__all__ = ["DSTCConfig"]

Count = Annotated[int, Field(ge=1)]


class DSTCConfig(Config):
    """How programs and tests are drawn and run, and which of them become a pair.

    That code and test stand together in a response, and the minimax rule, are the paper's.
    Everything else, all numbers and prompts among it, is mmalign's reading.
    """

    num_programs: Annotated[int, Field(ge=2)] = 10
    """Programs drawn for each instruction (J)."""
    num_tests: Annotated[int, Field(ge=2)] = 10
    """Tests drawn for each instruction (K)."""
    temperature: Annotated[float, Field(ge=0)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_completion_length: Count = 512
    """Tokens of a program or a test; one that is cut off is not run."""
    min_programs: Count = 2
    """Different programs that can be read and run; an instruction with fewer is dropped."""
    min_tests: Count = 2
    """The same of tests."""
    infer_entry_point: bool = False
    """Where the sample's metadata names no `entry_point`, take the function of a greedy program."""
    program_prompt: Path | None = None
    """A file in place of agents/dstc_program.md, with $instruction, $entry_point, $signature."""
    test_prompt: Path | None = None
    """In place of agents/dstc_test.md."""
    pair_prompt: Path | None = None
    """In place of agents/dstc_program_and_test.md, which the pairs are trained behind."""
    exclude: Path | None = None
    """A JSON lines file of benchmark problems; what overlaps them is dropped."""
    limits: Limits = Limits(wall_s=5.0, cpu_s=5.0, memory_bytes=1024**3)
    """Of one program with one test."""
    max_execution_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that all runs of an instruction may take together; past it the sample is dropped."""
    max_concurrency: Count = 8
    """Runs of one instruction that are handed to the sandbox at once."""
    check_flaky: bool = True
    """Run what passes a second time; what then does not is a failure, and marked."""
    selection: Literal["minimax", "random_pair"] = "minimax"
    """`random_pair`: a pass and a failure drawn evenly, the ablation."""
    code_only: bool = False
    """Leave the tests out of the responses, the ablation; the prompt is that of the programs."""
    drop_same_code: bool = False
    """Drop pairs whose sides hold one program; with `code_only` they always are."""

    @model_validator(mode="after")
    def _can_have_enough(self) -> Self:
        if self.min_programs > self.num_programs or self.min_tests > self.num_tests:
            raise ValueError(
                f"min_programs {self.min_programs} and min_tests {self.min_tests} must not exceed "
                f"num_programs {self.num_programs} and num_tests {self.num_tests}"
            )
        return self
