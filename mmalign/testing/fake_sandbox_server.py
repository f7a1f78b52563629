"""A loopback server that speaks SandboxFusion's protocol and runs what it gets in our sandbox."""

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from mmalign.sandbox import Limits, RunResult, Sandbox
from mmalign.testing.faults import Fault

__all__ = ["FakeSandboxServer"]

_STATUS = {"pass": "Finished", "timeout": "TimeLimitExceeded"}


class FakeSandboxServer:
    """A real HTTP server in a thread; `with` starts it and gives its `url`.

    with FakeSandboxServer(sandbox) as server:
        remote = Sandbox(SandboxConfig(url=server.url))

    Takes python only. Faults come by request in order of arrival, none after the last: `status`,
    `slow`, `cut`, `invalid_json`, `wrong_schema` (SandboxError, as the server says that of itself).
    """

    def __init__(self, sandbox: Sandbox, *, faults: Sequence[Fault | None] = ()) -> None:
        self._sandbox = sandbox
        self._faults = faults
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._answer))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, body: dict[str, Any]) -> tuple[int, str] | None:
        """HTTP status and text; None cuts the connection."""
        index = len(self.requests)
        self.requests.append(body)
        fault = self._faults[index] if index < len(self._faults) else None
        kind = fault.kind if fault else None
        if fault is not None and kind == "status":
            return fault.status, '{"detail": "a fault on demand"}'
        if fault is not None and kind == "slow":
            time.sleep(fault.delay_s)
        if kind == "cut":
            return None
        if kind == "invalid_json":
            return 200, '{"status": "Succ'
        if kind == "wrong_schema":
            return 200, json.dumps({"status": "SandboxError", "message": "no", "run_result": None})
        if body.get("language") != "python":
            return 422, '{"detail": "language"}'
        result = self._sandbox.run(
            body["code"],
            stdin=body.get("stdin") or "",
            limits=Limits(wall_s=float(body.get("run_timeout", 10))),
        )
        return 200, json.dumps(_answer(result))


def _answer(result: RunResult) -> dict[str, Any]:
    return {
        "status": "Success" if result.passed else "Failed",
        "message": "",
        "compile_result": None,
        "run_result": {
            "status": _STATUS.get(result.status, "Error"),
            "execution_time": result.seconds,
            "return_code": 0 if result.passed else 1,
            "stdout": result.stdout,
            "stderr": result.stderr,
        },
        "executor_pod_name": None,
        "files": {},
    }


def _handler(
    answer: Callable[[dict[str, Any]], tuple[int, str] | None],
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answered = answer(body) if self.path == "/run_code" else (404, '{"detail": "no path"}')
            if answered is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status, text = answered
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler
