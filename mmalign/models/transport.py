"""Send a request to a model server until it is answered: retries, slots, circuit breaker."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from openai import AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient, OpenAIError, Timeout
from pydantic import Field

from mmalign.config import Config
from mmalign.errors import ConfigError, ModelCallError, ModelUnavailableError
from mmalign.models.retry import Failure, failure_of, with_retries
from mmalign.models.traffic import AdaptiveLimit, CircuitBreaker
from mmalign.models.wire import join_stream

__all__ = ["ModelServer", "ServerConfig", "together"]

Result = TypeVar("Result")

_HOSTED = "https://api.openai.com/v1"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CONNECT_S = 10.0


class ServerConfig(Config):
    """Where a model server is and how patiently it is asked."""

    base_url: str | None = Field(default=None, pattern="^https?://")
    """Ends in /v1; without it OPENAI_BASE_URL, else OpenAI's own."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Environment variable that holds the key; null for a server that wants none."""
    timeout_s: float = Field(default=600.0, gt=0)
    """For one attempt, from sending to the last byte."""
    max_retries: int = Field(default=6, ge=0)
    """Further attempts after rate limits, timeouts and answers of 5xx."""
    first_wait_s: float = Field(default=0.5, gt=0)
    """Before the first retry; doubles from one to the next."""
    max_wait_s: float = Field(default=60.0, gt=0)
    """Longest wait between two attempts; a server that asks for a longer one is given up."""
    max_concurrency: int = Field(default=32, gt=0)
    """Requests under way at once; fewer while the server is congested."""
    breaker_failures: int = Field(default=8, gt=0)
    """Unavailable answers in a row after which the server is left alone."""
    breaker_pause_s: float = Field(default=10.0, gt=0)
    """Time until one request tries whether it is back."""
    stream: bool = False
    """Receive answers as events, so that proxies do not time out on long ones."""


@dataclass(frozen=True)
class _Connection:
    """What belongs to one event loop."""

    client: AsyncOpenAI
    key: str
    limit: AdaptiveLimit


class ModelServer:
    """One server, called from several event loops one after another or each in its thread."""

    def __init__(self, config: ServerConfig, model: str) -> None:
        self._config = config
        self._model = model
        self._breaker = CircuitBreaker(
            failures_to_open=config.breaker_failures, pause_s=config.breaker_pause_s
        )
        self._connections: dict[asyncio.AbstractEventLoop, _Connection] = {}
        self._keepers: dict[asyncio.AbstractEventLoop, AsyncGenerator[_Connection]] = {}

    @property
    def base_url(self) -> str:
        """The address in use now."""
        return self._config.base_url or os.environ.get("OPENAI_BASE_URL") or _HOSTED

    @property
    def where(self) -> str:
        """Model and address, for messages."""
        return f"{self._model} at {self.base_url}"

    @property
    def limit(self) -> float | None:
        """Requests that may be under way at once in the running loop; None before the first."""
        connection = self._connections.get(asyncio.get_running_loop())
        return connection.limit.limit if connection else None

    async def post(
        self, path: str, body: Mapping[str, Any], read: Callable[[str], Result]
    ) -> Result:
        """What `read` makes of the answer's body.

        Args:
            path: From the base URL, with its slash.
            body: JSON of the request.
            read: Raises ModelResponseError where the body is not as promised; the request is
                then sent again.

        Raises:
            ConfigError: No key in the environment, or the server refuses key, model or address.
            ModelCallError: No answer after all retries.
        """
        connection = await self._connection()
        config = self._config
        return await with_retries(
            lambda: self._attempt(connection, path, body, read),
            max_retries=config.max_retries,
            first_wait_s=config.first_wait_s,
            max_wait_s=max(config.max_wait_s, config.breaker_pause_s),
        )

    async def close(self) -> None:
        """Close the running loop's connections; a loop that ended has closed its own."""
        keeper = self._keepers.get(asyncio.get_running_loop())
        if keeper is not None:
            await keeper.aclose()

    async def _attempt(
        self,
        connection: _Connection,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[str], Result],
    ) -> Result | Failure:
        async with connection.limit.slot() as sent_at:
            pause_s = self._breaker.admit()
            if pause_s is not None:
                return self._left_alone(pause_s)
            reported = False
            try:
                async with asyncio.timeout(self._config.timeout_s):
                    text = await self._send(connection.client, path, body)
                answer = read(text)
            except (OpenAIError, TimeoutError, json.JSONDecodeError, ModelCallError) as error:
                failure = failure_of(error, self.where, hide=connection.key)
                reported = True
                self._breaker.report(available=not failure.unavailable)
                if failure.congested:
                    connection.limit.shrink(sent_at, wait_s=self._shared_wait_s(failure))
                return failure
            else:
                reported = True
                self._breaker.report(available=True)
                connection.limit.grow()
                return answer
            finally:
                if not reported:
                    self._breaker.abandon()

    async def _send(self, client: AsyncOpenAI, path: str, body: Mapping[str, Any]) -> str:
        if not self._config.stream or path != "/chat/completions":
            return await client.post(path, body=body, cast_to=str)
        streaming = {**body, "stream": True, "stream_options": {"include_usage": True}}
        events = await client.post(
            path, body=streaming, cast_to=object, stream=True, stream_cls=AsyncStream[object]
        )
        async with events:
            return await join_stream(events, self.where)

    def _shared_wait_s(self, failure: Failure) -> float:
        """Every request waits as long as the server asks, unless it is given up anyway."""
        wait_s = failure.wait_s or 0.0
        return wait_s if failure.retryable and wait_s <= self._config.max_wait_s else 0.0

    def _left_alone(self, pause_s: float) -> Failure:
        return Failure(
            ModelUnavailableError(
                f"{self.where}: left alone after {self._config.breaker_failures} unavailable "
                f"answers in a row (circuit breaker open). Is the server running, and is "
                f"base_url right?"
            ),
            retryable=True,
            wait_s=pause_s,
        )

    async def _connection(self) -> _Connection:
        """The running loop's own; `asyncio.run` closes it by closing its async generator."""
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            keeper = self._kept_open(loop)
            self._connections[loop] = await anext(keeper)  # does not yield to the loop
            self._keepers[loop] = keeper
        return self._connections[loop]

    async def _kept_open(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[_Connection]:
        key = self._key()
        address = self.base_url
        parts = urlsplit(address)
        client = AsyncOpenAI(
            api_key=key or "none",
            base_url=address,
            timeout=Timeout(
                self._config.timeout_s, connect=min(_CONNECT_S, self._config.timeout_s)
            ),
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(
                trust_env=parts.hostname not in _LOOPBACK,  # no proxy on the way to this machine
                verify=parts.scheme == "https" or _no_certificates(),
            ),
        )
        try:
            yield _Connection(client, key, AdaptiveLimit(self._config.max_concurrency))
        finally:
            self._connections.pop(loop, None)
            self._keepers.pop(loop, None)
            await client.close()

    def _key(self) -> str:
        variable = self._config.api_key_env
        if variable is None:
            return ""
        key = os.environ.get(variable, "")
        if not key:
            raise ConfigError(
                f"{self.where}: the environment variable {variable} holds no key. Set it, or "
                f"set api_key_env: null for a server that wants none"
            )
        return key


@cache
def _no_certificates() -> ssl.SSLContext:
    """For plain HTTP: trusts nobody, and saves reading 144 certificates (0.2 s) per loop."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def together(calls: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results in order; the first error ends the other calls."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
