"""The server of `mmalign view` in a thread, for tests in a browser."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from mmalign.engine.store import RunStore
from mmalign.report.review.app import RunPages, guarded_app
from mmalign.report.review.server import quiet_server

__all__ = ["serving"]

TOKEN = "for-tests"  # noqa: S105  # of a server that lives for one test


@contextmanager
def serving(run_folder: Path) -> Iterator[str]:
    """The address of a run's pages, token included, while the block runs."""
    with RunStore(run_folder, read_only=True) as store, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        pages = RunPages(store, by="ada")
        server = quiet_server(guarded_app(pages, token=TOKEN, port=port))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/?token={TOKEN}"
        finally:
            server.should_exit = True
            thread.join()
            pages.index.close()
