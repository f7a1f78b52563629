"""What a model server may do wrong, on demand."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Fault", "FaultKind"]

FaultKind = Literal[
    "status",
    "slow",
    "cut",
    "cut_body",
    "cut_stream",
    "invalid_json",
    "wrong_schema",
    "no_choices",
    "empty_text",
    "n_ignored",
    "no_usage",
]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with one request."""

    kind: FaultKind
    status: int = 500
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    code: str | None = None

    @classmethod
    def rate_limit(cls, retry_after_s: float | None = None) -> "Fault":
        """429; names the wait in Retry-After, below a second also in retry-after-ms."""
        if retry_after_s is None:
            return cls("status", status=429)
        headers = [("retry-after", f"{retry_after_s:g}")]
        if retry_after_s < 1:
            headers.append(("retry-after-ms", f"{1000 * retry_after_s:g}"))
        return cls("status", status=429, headers=tuple(headers))

    @classmethod
    def out_of_money(cls) -> "Fault":
        """429 that no waiting mends."""
        return cls("status", status=429, code="insufficient_quota")

    @classmethod
    def error(cls, status: int) -> "Fault":
        """An HTTP status with OpenAI's form of an error."""
        return cls("status", status=status)

    @classmethod
    def slow(cls, delay_s: float) -> "Fault":
        """A right answer, late."""
        return cls("slow", delay_s=delay_s)

    @classmethod
    def cut(cls) -> "Fault":
        """The connection is reset before any byte of an answer."""
        return cls("cut")

    @classmethod
    def cut_body(cls) -> "Fault":
        """Half of an answer, then the connection ends."""
        return cls("cut_body")

    @classmethod
    def cut_stream(cls) -> "Fault":
        """Some events, then the stream ends as if all were well."""
        return cls("cut_stream")

    @classmethod
    def invalid_json(cls) -> "Fault":
        """200 with half a JSON object."""
        return cls("invalid_json")

    @classmethod
    def wrong_schema(cls) -> "Fault":
        """200 with JSON that is no chat completion."""
        return cls("wrong_schema")

    @classmethod
    def no_choices(cls) -> "Fault":
        """200 with an empty list of choices."""
        return cls("no_choices")

    @classmethod
    def empty_text(cls) -> "Fault":
        """200 with a choice that says nothing."""
        return cls("empty_text")

    @classmethod
    def n_ignored(cls) -> "Fault":
        """One choice, however many were asked for."""
        return cls("n_ignored")

    @classmethod
    def no_usage(cls) -> "Fault":
        """A right answer that counts no tokens."""
        return cls("no_usage")
