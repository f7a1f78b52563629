"""An OpenAI-compatible model server on loopback, with scripted answers and faults on demand."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from mmalign.testing.fake_bodies import (
    Reply,
    choice_body,
    echo_body,
    num_tokens,
    prompt_logprobs_of,
    stream_events,
    text_of_wire,
    token_body,
    words,
)
from mmalign.testing.faults import Fault

__all__ = ["Answers", "FakeOpenAIServer", "FakeRequest", "Faults", "Reply"]


_ADAPTER_PATHS = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")


@dataclass(frozen=True)
class FakeRequest:
    """A request as it came in."""

    index: int
    """Place among all requests, from 0."""
    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    received_s: float
    """Monotonic clock."""
    choice: int = 0
    """Which of the n choices is to be written."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Of a chat request."""
        return list(self.body.get("messages", []))

    @property
    def text(self) -> str:
        """The text of the last message."""
        return (
            text_of_wire(self.messages[-1]) if self.messages else str(self.body.get("prompt", ""))
        )


Answers = str | Sequence[str | Reply] | Callable[[FakeRequest], str | Reply]
"""One text for all, a script by choice in order of arrival (the last is repeated), a function."""
Faults = Sequence[Fault | None] | Callable[[FakeRequest], Fault | None]
"""By request in order of arrival (none after the last), or a function."""


class _Uvicorn(uvicorn.Server):
    """Stops when it is told to, instead of looking ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        await self.stopping.wait()
        self.force_exit = True


class FakeOpenAIServer:
    """A real HTTP server in a thread; `with` starts it and gives its `base_url`.

    with FakeOpenAIServer(lambda request: request.text.upper()) as server:
        config = OpenAIModelConfig(model="fake", base_url=server.base_url, api_key_env=None)

    Tokens are words with the space before them; token k of a text has the log-probability
    -1 / (k + 1). A picture, sound or clip counts 64 tokens.
    """

    def __init__(
        self,
        answers: Answers = "ok",
        *,
        faults: Faults = (),
        api_key: str | None = None,
        delay_s: float = 0.0,
        supports_n: bool = True,
    ) -> None:
        self._answers = answers
        self._faults = faults
        self._api_key = api_key
        self._delay_s = delay_s
        self._supports_n = supports_n
        self._num_choices = 0
        self._active = 0
        self._error: Exception | None = None
        self.requests: list[FakeRequest] = []
        self.adapters: dict[str, str] = {}
        """Folders of those that are loaded, by name."""
        self.peak_concurrency = 0

    @property
    def base_url(self) -> str:
        """Ends in /v1."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self._port: int = listener.getsockname()[1]
        self._server = _Uvicorn(
            uvicorn.Config(
                self._app,
                log_config=None,
                log_level="critical",
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                interface="asgi3",  # a bound method is not recognised
            )
        )
        self._thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the fake server did not start")
            time.sleep(0.002)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._error is not None and error is None:
            raise self._error  # a script that fails fails its test

    def stop(self) -> None:
        """Drop what is under way and free the port; may be called twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._server.stopping.set)
            self._thread.join(timeout=10)
            assert not self._thread.is_alive(), "the fake server did not stop"

    def _serve(self, listener: socket.socket) -> None:
        with listener:
            asyncio.run(self._serve_on(listener))

    async def _serve_on(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[listener])

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        received_s = time.monotonic()
        http = Request(scope, receive)
        if http.url.path == "/v1/models" and http.method == "GET":
            await JSONResponse({"object": "list", "data": [{"id": "fake"}]})(scope, receive, send)
            return
        request = FakeRequest(
            index=len(self.requests),
            path=http.url.path,
            body=json.loads(await http.body()),
            headers=dict(http.headers),
            received_s=received_s,
        )
        self.requests.append(request)
        self._active += 1
        self.peak_concurrency = max(self.peak_concurrency, self._active)
        try:
            await self._respond(request, scope, receive, send)
        except Exception as error:
            self._error = self._error or error
            raise
        finally:
            self._active -= 1

    async def _respond(
        self, request: FakeRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        fault = self._fault(request)
        await self._wait(self._delay_s + (fault.delay_s if fault else 0.0))
        if fault is not None and fault.kind in ("cut", "cut_body"):
            if fault.kind == "cut_body":
                half = {"type": "http.response.body", "body": b'{"choices": [', "more_body": True}
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send(half)
            _transport(send).abort()
            return
        await self._response(request, fault)(scope, receive, send)

    def _response(self, request: FakeRequest, fault: Fault | None) -> Response:
        refused = self._refusal(request)
        if refused is not None:
            return refused
        if fault is not None and fault.kind == "status":
            return _error(fault.status, "a fault on demand", fault.code, dict(fault.headers))
        if fault is not None and fault.kind == "invalid_json":
            return Response('{"choices": [{"mess', media_type="application/json")
        if fault is not None and fault.kind == "wrong_schema":
            return JSONResponse({"choices": [{"text": 3}], "object": "chat.completion"})
        if request.path in _ADAPTER_PATHS:
            return self._adapter(request)
        if request.path == "/v1/completions" and request.body.get("return_token_ids"):
            return JSONResponse(token_body(request.body, self._reply(request, 0).text))
        if request.path == "/v1/completions":
            return JSONResponse(echo_body(request.body))
        body = self._chat(request, fault)
        if request.body.get("stream"):
            cut = fault is not None and fault.kind == "cut_stream"
            return StreamingResponse(stream_events(body, cut=cut), media_type="text/event-stream")
        return JSONResponse(body)

    def _refusal(self, request: FakeRequest) -> Response | None:
        if self._api_key is not None:
            sent = request.headers.get("authorization", "")
            if sent != f"Bearer {self._api_key}":
                return _error(401, f"Incorrect API key provided: {sent.removeprefix('Bearer ')}")
        known = ("/v1/chat/completions", "/v1/completions", *_ADAPTER_PATHS)
        if request.path not in known:
            return _error(404, f"no such path: {request.path}")
        if not self._supports_n and request.body.get("n", 1) > 1:
            return _error(400, "Only one completion choice is allowed")
        return None

    def _adapter(self, request: FakeRequest) -> Response:
        """As vLLM: an adapter is loaded once, and unloaded only while it is there."""
        name = request.body["lora_name"]
        is_loading = request.path.endswith("/load_lora_adapter")
        if is_loading == (name in self.adapters):
            return _error(400, f"adapter {name}: loaded {name in self.adapters}")
        if is_loading:
            self.adapters[name] = request.body["lora_path"]
        else:
            del self.adapters[name]
        return Response("Success", media_type="text/plain")

    def _chat(self, request: FakeRequest, fault: Fault | None) -> dict[str, Any]:
        kind = fault.kind if fault else None
        n = 1 if kind == "n_ignored" else request.body.get("n", 1)
        replies = [self._reply(request, place) for place in range(n)]
        if kind == "empty_text":
            replies = [Reply() for _ in replies]
        choices = [
            choice_body(place, reply, with_logprobs=bool(request.body.get("logprobs")))
            for place, reply in enumerate(replies)
        ]
        prompt = sum(num_tokens(message) for message in request.messages)
        written = sum(len(words(reply.text)) for reply in replies)
        body: dict[str, Any] = {
            "id": f"fake-{request.index}",
            "object": "chat.completion",
            "created": 0,
            "model": request.body.get("model", "fake"),
            "choices": [] if kind == "no_choices" else choices,
        }
        if "prompt_logprobs" in request.body:
            body["prompt_logprobs"] = prompt_logprobs_of(request.body)
        if kind != "no_usage":
            body["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": written,
                "total_tokens": prompt + written,
            }
        return body

    def _reply(self, request: FakeRequest, choice: int) -> Reply:
        place = self._num_choices
        self._num_choices += 1
        if isinstance(self._answers, str):
            return Reply(self._answers)
        if callable(self._answers):
            answer = self._answers(
                FakeRequest(
                    request.index,
                    request.path,
                    request.body,
                    request.headers,
                    request.received_s,
                    choice,
                )
            )
        else:
            answer = self._answers[min(place, len(self._answers) - 1)]
        return Reply(answer) if isinstance(answer, str) else answer

    def _fault(self, request: FakeRequest) -> Fault | None:
        if callable(self._faults):
            return self._faults(request)
        return self._faults[request.index] if request.index < len(self._faults) else None

    async def _wait(self, delay_s: float) -> None:
        if delay_s > 0:
            try:
                await asyncio.wait_for(self._server.stopping.wait(), delay_s)
            except TimeoutError:
                return


def _transport(send: Send) -> asyncio.Transport:
    """Uvicorn's `send` is a method of the object that owns the connection."""
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]  # uvicorn
    return transport


def _error(
    status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    body = {"error": {"message": message, "type": code or "fault", "code": code, "param": None}}
    return JSONResponse(body, status_code=status, headers=headers)
