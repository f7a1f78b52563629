"""What happens when a model server misbehaves."""

import asyncio
import time
from itertools import pairwise

import pytest

from mmalign.errors import (
    ConfigError,
    ModelCallError,
    ModelResponseError,
    ModelTimeoutError,
    ModelUnavailableError,
    RateLimitError,
)
from mmalign.records import user
from mmalign.testing.fake_server import FakeOpenAIServer
from mmalign.testing.faults import Fault
from mmalign.testing.servers import client_of


def ask(server: FakeOpenAIServer, **settings: object) -> str:
    (completion,) = asyncio.run(client_of(server, **settings).generate([user("?")]))
    return completion.text


@pytest.mark.parametrize(
    "fault",
    [
        Fault.rate_limit(0.01),
        Fault.rate_limit(),
        Fault.error(408),
        Fault.error(500),
        Fault.error(503),
        Fault.error(529),
        Fault.cut(),
        Fault.cut_body(),
        Fault.invalid_json(),
        Fault.wrong_schema(),
        Fault.no_choices(),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_a_passing_fault_is_retried(fault: Fault) -> None:
    with FakeOpenAIServer("fine", faults=[fault, fault]) as server:
        assert ask(server) == "fine"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (Fault.rate_limit(0.01), RateLimitError, r"429.*after 2 attempts"),
        (Fault.error(408), ModelTimeoutError, "408"),
        (Fault.error(500), ModelUnavailableError, r"fake at http.*500"),
        (Fault.error(503), ModelUnavailableError, "503"),
        (Fault.cut(), ModelUnavailableError, "Is the server running"),
        (Fault.cut_body(), ModelUnavailableError, "cut"),
        (Fault.invalid_json(), ModelResponseError, "Invalid JSON"),
        (Fault.wrong_schema(), ModelResponseError, r"choices\.0\.message"),
        (Fault.no_choices(), ModelResponseError, "choices of the answer"),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
def test_a_lasting_fault_ends_in_our_error(
    fault: Fault, error: type[Exception], message: str
) -> None:
    with (
        FakeOpenAIServer(faults=lambda _: fault) as server,
        pytest.raises(error, match=message) as caught,
    ):
        ask(server, max_retries=1)
    assert len(server.requests) == 2
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.error(400), ModelCallError),
        (Fault.error(401), ConfigError),
        (Fault.error(403), ModelCallError),
        (Fault.error(404), ConfigError),
        (Fault.error(422), ModelCallError),
        (Fault.out_of_money(), RateLimitError),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Fault) else "",
)
def test_what_no_retry_mends_is_not_retried(fault: Fault, error: type[Exception]) -> None:
    with FakeOpenAIServer(faults=lambda _: fault) as server, pytest.raises(error):
        ask(server)
    assert len(server.requests) == 1


def test_nothing_said_is_data() -> None:
    with FakeOpenAIServer("text", faults=[Fault.empty_text()]) as server:
        assert ask(server) == ""
    assert len(server.requests) == 1


def test_retry_after_is_honoured() -> None:
    with FakeOpenAIServer(faults=[Fault.rate_limit(0.15)]) as server:
        ask(server)
    first, second = server.requests
    assert second.received_s - first.received_s >= 0.15


def test_a_longer_wait_than_allowed_is_not_waited_for() -> None:
    start_s = time.monotonic()
    with (
        FakeOpenAIServer(faults=[Fault.rate_limit(3600)]) as server,
        pytest.raises(RateLimitError, match="3600 s"),
    ):
        ask(server)
    assert time.monotonic() - start_s < 5
    assert len(server.requests) == 1


def test_retry_after_holds_back_the_other_requests_too() -> None:
    """Four at once are all refused; nobody comes back before the time that the server named."""
    with FakeOpenAIServer(faults=[Fault.rate_limit(0.2)] * 4) as server:
        model = client_of(server)

        async def eight() -> None:
            await asyncio.gather(*(model.generate([user("?")]) for _ in range(4)))

        asyncio.run(eight())
    refused = server.requests[3].received_s
    assert all(request.received_s - refused >= 0.15 for request in server.requests[4:])
    assert len(server.requests) == 8


def test_a_slow_answer_times_out_and_is_retried() -> None:
    with FakeOpenAIServer("fine", faults=[Fault.slow(30)]) as server:
        assert ask(server, timeout_s=0.25) == "fine"
    assert len(server.requests) == 2


def test_a_server_that_stays_slow_is_a_timeout() -> None:
    with (
        FakeOpenAIServer(faults=lambda _: Fault.slow(30)) as server,
        pytest.raises(ModelTimeoutError, match=r"time limit.*timeout_s"),
    ):
        ask(server, timeout_s=0.1, max_retries=1)


def test_no_server_at_all_is_unavailable() -> None:
    with FakeOpenAIServer() as server:
        gone = client_of(server, max_retries=1)
    with pytest.raises(ModelUnavailableError, match="base_url"):
        asyncio.run(gone.generate([user("?")]))


def test_a_cut_stream_is_detected_and_retried() -> None:
    text = "one two three four five six"
    with FakeOpenAIServer(text, faults=[Fault.cut_stream(), Fault.cut()]) as server:
        assert ask(server, stream=True) == text
    assert len(server.requests) == 3


def test_a_stream_that_is_always_cut_is_a_bad_response() -> None:
    with (
        FakeOpenAIServer("one two three", faults=lambda _: Fault.cut_stream()) as server,
        pytest.raises(ModelResponseError, match=r"stream was cut.*finish reason"),
    ):
        ask(server, stream=True, max_retries=1)


def test_congestion_halves_the_requests_under_way() -> None:
    """Eight are refused together: the limit falls once, to four."""
    with FakeOpenAIServer(faults=[Fault.error(503)] * 8, delay_s=0.05) as server:
        model = client_of(server, max_concurrency=8, max_retries=5, breaker_failures=99)

        async def sixteen() -> float | None:
            await asyncio.gather(*(model.generate([user("?")]) for _ in range(16)))
            return model.concurrency_limit

        left = asyncio.run(sixteen())
    assert server.peak_concurrency == 8
    after = sorted(request.received_s for request in server.requests)[8:]
    at_once = max(sum(1 for t in after if start <= t < start + 0.04) for start in after)
    assert at_once <= 6
    assert left is not None
    assert 4 < left <= 8


def test_the_breaker_spares_a_dead_server_and_lets_one_try() -> None:
    """Three failures open it; while it is open nothing is sent; then one probe closes it."""
    with FakeOpenAIServer("back", faults=[Fault.error(500)] * 3) as server:
        model = client_of(server, breaker_failures=3, breaker_pause_s=0.2, max_retries=8)

        async def ten() -> list[str]:
            drawn = await asyncio.gather(*(model.generate([user("?")]) for _ in range(3)))
            return [completion.text for (completion,) in drawn]

        assert asyncio.run(ten()) == ["back"] * 3
    assert len(server.requests) == 6
    assert server.requests[3].received_s - server.requests[2].received_s >= 0.19


def test_a_server_that_stays_dead_gets_one_probe_per_pause() -> None:
    with (
        FakeOpenAIServer(faults=lambda _: Fault.error(500)) as server,
        pytest.raises(ModelUnavailableError),
    ):
        ask(server, breaker_failures=2, breaker_pause_s=0.05, max_retries=5)
    times = [request.received_s for request in server.requests]
    assert all(later - earlier >= 0.045 for earlier, later in pairwise(times[1:]))


def test_cancelling_a_call_frees_its_slot() -> None:
    with FakeOpenAIServer("fine", faults=[Fault.slow(30)]) as server:
        model = client_of(server, max_concurrency=1)

        async def give_up_then_ask() -> str:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(model.generate([user("?")]), 0.2)
            (completion,) = await model.generate([user("?")])
            return completion.text

        assert asyncio.run(give_up_then_ask()) == "fine"
