"""What became of one run."""

from typing import Literal

from pydantic import Field

from mmalign.config import Config
from mmalign.sandbox.config import Isolation
from mmalign.sandbox.output import BoundedOutput

__all__ = ["RunResult", "Status", "cut_middle"]

Status = Literal[
    "pass", "fail", "error", "timeout", "oom", "output_limit", "no_verdict", "infra_error"
]
"""`fail`: a test said no; `error`: the code raised; `no_verdict`: the run ended before the last
test had spoken; `infra_error`: the machine's fault, never to be counted as the code's."""


class RunResult(Config):
    """Status, what was counted and what was printed."""

    status: Status
    message: str = ""
    """Why, in one line, where the status is not `pass`."""
    num_run: int = Field(default=0, ge=0)
    """Tests that were begun."""
    num_passed: int = Field(default=0, ge=0)
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    """By the clock."""
    isolation: Isolation | Literal["remote"] = "namespaces"
    """What held around this run."""
    in_process: bool = False
    """Tests and code shared one interpreter, so the code could have forged the verdict."""
    num_attempts: int = 1
    """More than one where the machine failed before."""

    @property
    def passed(self) -> bool:
        """Whether every test spoke and said yes."""
        return self.status == "pass"


def cut_middle(data: bytes, limit: int) -> str:
    """At most `limit` bytes as text: both ends, and how much is missing between them."""
    output = BoundedOutput(limit)
    output.add(data)
    return output.text()
