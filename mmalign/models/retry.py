"""What went wrong with a call of a model server, and when to try again."""

import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt

from mmalign.errors import (
    ConfigError,
    MmalignError,
    ModelCallError,
    ModelResponseError,
    ModelTimeoutError,
    ModelUnavailableError,
    RateLimitError,
)

__all__ = ["Failure", "failure_of", "retry_after_s", "with_retries"]

Answer = TypeVar("Answer")

_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
_CONGESTED = (429, 503, 529)


@dataclass(frozen=True)
class Failure:
    """One attempt that brought no usable answer."""

    error: MmalignError
    """What the caller gets when there is no further attempt."""
    cause: BaseException | None = None
    retryable: bool = False
    wait_s: float | None = None
    """How long the server asks to wait."""
    congested: bool = False
    """The server has too much to do: send less."""
    unavailable: bool = False
    """The server did not do its work at all: counts for the circuit breaker."""


def failure_of(error: Exception, where: str, *, hide: str = "") -> Failure:
    """Sort a foreign exception into our tree.

    Args:
        error: What openai's client or the reader of its answer raised.
        where: Model and server, for the message.
        hide: A key that some servers repeat in their messages.
    """
    match error:
        case ModelResponseError():
            return Failure(error, error.__cause__, retryable=True)
        case openai.APIStatusError():
            return _status_failure(error, where, hide)
        case openai.APITimeoutError() | TimeoutError():
            slow = ModelTimeoutError(
                f"{where}: no answer within the time limit. Raise timeout_s, or lower "
                f"max_completion_length or max_concurrency"
            )
            return Failure(slow, error, retryable=True, unavailable=True)
        case openai.APIConnectionError():
            gone = ModelUnavailableError(
                f"{where}: the connection failed or was cut ({error.__cause__ or error}). "
                f"Is the server running, and is base_url right?"
            )
            return Failure(gone, error, retryable=True, unavailable=True)
        case openai.APIError() | json.JSONDecodeError() | UnicodeDecodeError():
            bad = ModelResponseError(f"{where}: the answer breaks the protocol: {_short(error)}")
            return Failure(bad, error, retryable=True)
        case _:
            raise error


async def with_retries(
    attempt: Callable[[], Awaitable[Answer | Failure]],
    *,
    max_retries: int,
    first_wait_s: float,
    max_wait_s: float,
) -> Answer:
    """The first answer that is not a failure.

    Waits as long as the server asks for, else a random part of first_wait_s, twice that, four
    times that ... up to max_wait_s. A server that asks for more than max_wait_s is not waited for.

    Raises:
        MmalignError: That of the last failure, with the number of attempts.
    """

    def worth_another(outcome: Answer | Failure) -> bool:
        return (
            isinstance(outcome, Failure)
            and outcome.retryable
            and (outcome.wait_s or 0.0) <= max_wait_s
        )

    def wait_s(state: RetryCallState) -> float:
        failure = state.outcome.result() if state.outcome else None
        if isinstance(failure, Failure) and failure.wait_s is not None:
            return failure.wait_s * random.uniform(1.0, 1.1)  # noqa: S311  # spreads, hides nothing
        longest = min(max_wait_s, first_wait_s * 2.0 ** (state.attempt_number - 1))
        return random.uniform(0.5, 1.0) * longest  # noqa: S311  # spreads, hides nothing

    retrying = AsyncRetrying(
        stop=stop_after_attempt(max_retries + 1),
        wait=wait_s,
        retry=retry_if_result(worth_another),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )

    async def attempted() -> Answer | Failure:  # tenacity awaits only what is declared async
        return await attempt()

    outcome: Answer | Failure = await retrying(attempted)
    if not isinstance(outcome, Failure):
        return outcome
    attempts = int(retrying.statistics.get("attempt_number", 1))
    if attempts > 1:
        raise type(outcome.error)(f"{outcome.error} (after {attempts} attempts)") from outcome.cause
    raise outcome.error from outcome.cause


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: retry-after-ms, else Retry-After (seconds or a date)."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000.0)
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return max(0.0, seconds)
    if not text:
        return None
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _status_failure(error: openai.APIStatusError, where: str, hide: str) -> Failure:
    status, said = error.status_code, _short(error, hide)
    wait_s = retry_after_s(error.response.headers)
    if status == 429:
        paid_up = error.code not in _NO_MONEY and error.type not in _NO_MONEY
        until = "" if wait_s is None else f" It asks to wait {wait_s:g} s."
        limited = RateLimitError(f"{where}: too many requests (429): {said}.{until}")
        return Failure(limited, error, retryable=paid_up, wait_s=wait_s, congested=True)
    if status == 408:
        slow = ModelTimeoutError(f"{where}: the server timed out (408): {said}")
        return Failure(slow, error, retryable=True, wait_s=wait_s, unavailable=True)
    if status >= 500:
        down = ModelUnavailableError(f"{where}: the server failed ({status}): {said}")
        return Failure(
            down,
            error,
            retryable=True,
            wait_s=wait_s,
            congested=status in _CONGESTED,
            unavailable=True,
        )
    if status in (401, 404):
        hint = "api_key_env names another key" if status == 401 else "model or base_url is wrong"
        return Failure(ConfigError(f"{where}: refused ({status}): {said}. Perhaps {hint}"), error)
    return Failure(ModelCallError(f"{where}: the request was refused ({status}): {said}"), error)


def _short(error: Exception, hide: str = "") -> str:
    text = " ".join(str(error).split())
    text = text.replace(hide, "***") if hide else text
    return text if len(text) <= 300 else text[:300] + " ..."


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < float("inf") else None
