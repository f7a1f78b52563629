"""A program in an answer earns by its tests, in the sandbox."""

import atexit
import math
from functools import cache

from mmalign.errors import RecordError
from mmalign.evaluation.code import problem_of, program_of
from mmalign.rewards.contract import Episode, reward
from mmalign.rewards.reward import NotApplicable, Reward
from mmalign.sandbox import Sandbox

__all__ = ["passes_tests"]


@reward(low=0.0, high=1.0, time_limit_s=120.0)
def passes_tests(episode: Episode) -> Reward | NotApplicable:
    """1 where the program passes all tests of its sample, else 0.

    The tests run in one sandbox and the program in another, so that it cannot write its own
    verdict. Where the machine failed, the reward is unknown, never 0.

    Raises:
        RecordError: The tests want to run in one process with the program, which could then forge
            their verdict.
    """
    if not episode.sample.tests:
        return NotApplicable("the sample has no tests")
    problem = problem_of(episode.sample)
    if problem.mode != "check":
        raise RecordError(
            f"sample {episode.sample.id!r}: tests of mode {problem.mode!r} run in one process with "
            f"the program, which can forge their verdict; for a reward use samples of mode check"
        )
    program = program_of(episode.text, problem)
    if not program:
        return Reward(0.0, "the answer holds no code")
    result = _sandbox().check(program, problem.tests, problem.entry_points, setup=problem.setup)
    if result.status == "infra_error":
        return Reward(math.nan, f"{result.status}: {result.message}")
    note = "" if result.passed else f"{result.status}: {result.message}"
    return Reward(float(result.passed), note)


@cache
def _sandbox() -> Sandbox:
    """One pool for all programs of this process."""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox
