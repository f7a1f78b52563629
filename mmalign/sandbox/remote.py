"""Runs on a server that speaks SandboxFusion's protocol: one POST of /run_code for each.

Weaker than a sandbox of our own. Tests and code are two processes there too, and what passes
between them is data alone, but they share the server's user and its folders, and the verdict comes
on standard output, behind a nonce, for there is no private pipe. What holds around them is the
server's business: results say `remote` and `in_process`. The server needs Python 3.10 or newer.
"""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmalign.errors import ConfigError
from mmalign.sandbox.attempt import Job
from mmalign.sandbox.config import Limits
from mmalign.sandbox.limits import kernel_limits
from mmalign.sandbox.results import RunResult, cut_middle
from mmalign.sandbox.verdict import read_verdict

__all__ = ["RemoteServer"]

START_S = 30.0
"""The server may queue a run for so long before it begins."""
MAX_ANSWER_BYTES = 64 * 1024**2
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BUSY = (429, 500, 502, 503, 504)
_ROLES = ("wire", "judge", "candidate", "suite")


class RemoteServer:
    """Sends jobs to one address; keeps no connection, so that threads may share it."""

    def __init__(self, url: str) -> None:
        """Contact nothing yet.

        Args:
            url: Of the server, with or without /run_code.

        Raises:
            ConfigError: No HTTP address.
        """
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(
                f"sandbox.url is {url!r}, which is no address. Give that of a SandboxFusion "
                f"server, like http://127.0.0.1:8080"
            )
        self.url = url.rstrip("/").removesuffix("/run_code") + "/run_code"
        proxies: dict[str, str] | None = {} if urlsplit(url).hostname in _LOOPBACK else None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))

    def attempt(self, jobs: Sequence[Job], nonce: str, limits: Limits) -> RunResult:
        """One try; `infra_error` where the server failed, which is worth another one.

        Raises:
            ConfigError: The server refuses the request.
        """
        plain = jobs[0].role == "program"
        body = {
            "code": jobs[0].values["program"] if plain else _harness(),
            "stdin": jobs[0].stdin if plain else _job_text(jobs, limits),
            "language": "python",
            "run_timeout": limits.wall_s,
        }
        try:
            answer = self._post(body, limits.wall_s)
            return _read(answer, nonce, limits, plain=plain)
        except ConfigError:
            raise
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            why = f"{self.url}: {type(error).__name__}: {error}"
            return RunResult(status="infra_error", message=why[:500], isolation="remote")

    def _post(self, body: dict[str, Any], wall_s: float) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  # the scheme was checked
            self.url,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=wall_s + START_S) as answer:
                text = answer.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _BUSY:
                    raise ValueError(f"status {error.code}") from error
                raise ConfigError(
                    f"{self.url} answers {error.code}: {error.read(500)!r}. Is it a SandboxFusion "
                    f"server, and is sandbox.url its address?"
                ) from error
        if len(text) > MAX_ANSWER_BYTES:
            raise ValueError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        answered = json.loads(text)
        if not isinstance(answered, dict) or answered["status"] == "SandboxError":
            raise ValueError(f"no run: {text[:300]!r}")
        return answered


def _read(answer: dict[str, Any], nonce: str, limits: Limits, *, plain: bool) -> RunResult:
    run = answer["run_result"]
    stdout, stderr = str(run["stdout"] or ""), str(run["stderr"] or "")
    lines = stdout.splitlines(keepends=True)
    said = [] if plain else [line for line in lines if nonce in line]
    common: dict[str, Any] = {
        "stdout": _shortened("".join(line for line in lines if line not in said), limits),
        "stderr": _shortened(stderr, limits),
        "seconds": float(run["execution_time"] or 0.0),
        "isolation": "remote",
        "in_process": True,
    }
    if run["status"] == "TimeLimitExceeded":
        return RunResult(
            status="timeout", message="the server ended it at its time limit", **common
        )
    code = run["return_code"]
    if plain:
        last_line = stderr.strip().rpartition("\n")[2]
        message = "" if code == 0 else f"exit code {code}: {last_line[:300]}"
        return RunResult(status="pass" if code == 0 else "error", message=message, **common)
    verdict = read_verdict("".join(said).encode(), nonce)
    if verdict is None:
        message = f"its process ended with exit code {code} before its end"
        return RunResult(status="no_verdict", message=message, **common)
    return RunResult(**verdict, **common)


def _shortened(text: str, limits: Limits) -> str:
    return cut_middle(text.encode("utf-8", "replace"), limits.output_bytes)


def _job_text(jobs: Sequence[Job], limits: Limits) -> str:
    by_role = {job.role: job.values for job in jobs}
    return json.dumps({"jobs": by_role, "limits": kernel_limits(limits, counts_processes=False)})


@cache
def _harness() -> str:
    """A program that plays the roles there, with their texts inside it."""
    folder = Path(__file__).with_name("roles")
    sources = {name: (folder / f"{name}.py").read_text() for name in _ROLES}
    return (
        Path(__file__)
        .with_name("remote_harness.py")
        .read_text()
        .replace("SOURCES: dict[str, str] = {}", f"SOURCES = {sources!r}")
    )
