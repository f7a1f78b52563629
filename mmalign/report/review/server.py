"""Serves the pages of a run on this machine only, until Ctrl-C."""

import getpass
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from mmalign.engine.store import RunStore
from mmalign.errors import ConfigError, StoreError
from mmalign.report.review.app import RunPages, guarded_app
from mmalign.report.review.guard import new_token
from mmalign.report.review.rollouts import RolloutPages, guarded_rollouts

__all__ = ["quiet_server", "serve"]

log = logging.getLogger("uvicorn.error")


def serve(
    run_folder: Path, *, port: int, read_only: bool, started: Callable[[str], object]
) -> None:
    """Serve a run's pages until the process is asked to end.

    Args:
        run_folder: What `mmalign build` wrote or is writing, or what was trained on rollouts.
        port: Of 127.0.0.1; 0 takes a free one.
        read_only: Take no decisions.
        started: Is called with the address, token included, before the first request is taken.

    Raises:
        StoreError: The folder is missing or holds no store.
        ConfigError: The port is taken.
    """
    if not run_folder.is_dir():
        raise StoreError(f"{run_folder}: no such run folder; give one that `mmalign build` wrote")
    rollouts = RolloutPages(run_folder)
    if rollouts.has_rollouts and not (run_folder / "store.sqlite").exists():
        with _listening(port) as listening:
            _run(partial(guarded_rollouts, rollouts), listening, started)
        return
    with RunStore(run_folder, read_only=True) as store, _listening(port) as listening:
        pages = RunPages(store, by=_user(), read_only=read_only)
        try:
            pages.index.refresh()
            _run(partial(guarded_app, pages), listening, started)
        finally:
            pages.index.close()


def _run(
    app: Callable[..., ASGIApp], listening: socket.socket, started: Callable[[str], object]
) -> None:
    token, port = new_token(), listening.getsockname()[1]
    server = quiet_server(app(token=token, port=port))
    # a film that is being sent ends with us, and that is no error
    log.addFilter(lambda _: not server.should_exit)
    started(f"http://127.0.0.1:{port}/?token={token}")
    with suppress(KeyboardInterrupt):  # uvicorn has closed everything and raises it once more
        server.run(sockets=[listening])


def quiet_server(app: ASGIApp) -> uvicorn.Server:
    """Serves the pages, quietly and not longer than the process is wanted."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def _listening(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()  # who comes before the server does waits
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(
            f"--port {port}: cannot be listened on ({error}); give another one, or 0 for a free one"
        ) from error
    return listening


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "person"
