"""The pages on which a person browses, judges and edits a run's records, as an ASGI app."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.routing import Route
from starlette.types import ASGIApp

from mmalign.engine.edits import edited_pair
from mmalign.engine.export import export
from mmalign.engine.interrupts import answer, waiting
from mmalign.engine.reviews import decide, review_history, undo
from mmalign.engine.store import RunStore
from mmalign.errors import MmalignError, StoreError
from mmalign.records import DroppedSample, PreferencePair
from mmalign.report.review.guard import Guard
from mmalign.report.review.index import Index
from mmalign.report.review.pages import (
    DroppedView,
    PairView,
    templates,
    view_dropped,
    view_list,
    view_pair,
    view_question,
)
from mmalign.report.review.queries import Query
from mmalign.report.review.rollouts import RolloutPages
from mmalign.report.review.shelf import Shelf
from mmalign.report.review.static import static_file
from mmalign.report.run_folder import sampling_of

__all__ = ["RunPages", "guarded_app"]

_MAX_BODY_BYTES = 1 << 20


def guarded_app(pages: "RunPages", *, token: str, port: int) -> ASGIApp:
    """The pages behind token, host and origin checks."""
    routes = [
        Route("/", pages.page),
        Route("/status", pages.status),
        Route("/static/{name}", static_file),
        Route("/media/{key}", pages.media),
        Route("/rollouts", pages.rollouts.page),
        Route("/decide", pages.decide, methods=["POST"]),
        Route("/answer", pages.answer, methods=["POST"]),
        Route("/export", pages.export, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={MmalignError: _refused})
    return Guard(app, token=token, port=port)


@dataclass
class RunPages:
    """The pages of one run.

    Args:
        store: Opened to be read; a build may be writing it.
        by: Who decides and answers.
        read_only: Take no decisions.
    """

    store: RunStore
    by: str
    read_only: bool = False

    def __post_init__(self) -> None:
        manifest = self.store.manifest
        self.index = Index(self.store)
        self.shelf = Shelf(
            self.store.folder / "data", sampling_of(manifest.config if manifest else {})
        )
        self.rollouts = RolloutPages(self.store.folder)
        self._writing = asyncio.Lock()
        self.template = templates().get_template("view.html.jinja")

    def page(self, request: Request) -> Response:
        """The list, and beside it the record that the address names."""
        self.index.refresh()
        query = Query.of(request.query_params)
        questions = waiting(self.store)
        content = self.template.render(
            run=self.store.folder.resolve().name,
            read_only=self.read_only,
            has_rollouts=self.rollouts.has_rollouts,
            query=query,
            counts=self._counts(len(questions)),
            decided=self.index.num_decided(),
            index=self.index,
            list=view_list(self.index, query) if query.tab != "waiting" else None,
            item=self._item(query),
            questions=[view_question(question, self.shelf) for question in questions]
            if query.tab == "waiting"
            else [],
        )
        return HTMLResponse(content)

    def status(self, _request: Request) -> Response:
        """How many records there are now."""
        self.index.refresh()
        return JSONResponse(self._counts(len(waiting(self.store))))

    async def media(self, request: Request) -> Response:
        """A file that a page has named, whole or a range of its bytes."""
        key = request.path_params["key"]
        if self.shelf.must_write(key):
            async with self._writing:  # one by one, and none for a page that was left meanwhile
                if await request.is_disconnected():
                    raise HTTPException(408)
                found = await run_in_threadpool(self.shelf.file, key)
        else:
            found = self.shelf.file(key)
        if found is None:
            raise HTTPException(404, "no record that was shown names this file; reload the page")
        headers = {"cache-control": "private, max-age=3600"}
        return FileResponse(found.path, media_type=found.media_type, headers=headers)

    async def decide(self, request: Request) -> Response:
        """Accept, reject, edit a pair, or undo the last of these."""
        return await self._written(request, self._decide)

    async def answer(self, request: Request) -> Response:
        """Answer what an agent has asked."""
        return await self._written(request, self._answer)

    async def export(self, request: Request) -> Response:
        """Write the records anew, as they were reviewed."""
        return await self._written(request, self._export)

    async def _written(self, request: Request, write: Any) -> Response:
        if self.read_only:
            raise HTTPException(403, "opened with --read-only: nothing is written")
        return JSONResponse(await run_in_threadpool(write, await _body(request)))

    def _decide(self, body: dict[str, Any]) -> dict[str, Any]:
        action, pair_id = body.get("action"), body.get("id")
        self.index.refresh()
        if not isinstance(pair_id, str) or (pair := self._pair(pair_id)) is None:
            raise HTTPException(404, f"there is no pair {pair_id!r} in this run; reload the page")
        if action == "undo":
            review = undo(self.store, pair_id, by=self.by)
            if review is None:
                raise HTTPException(409, "nothing was decided about this pair")
        elif action in ("accept", "reject", "edit"):
            texts = {name: body.get(name) for name in ("chosen", "rejected")}
            if any(not isinstance(text, str | None) for text in texts.values()):
                raise HTTPException(400, "chosen and rejected must be texts")
            review = decide(self.store, pair, action, by=self.by, **texts)
        else:
            raise HTTPException(400, f"action is {action!r}; known: accept, reject, edit, undo")
        self.index.refresh()
        return {"decision": review.decision, "is_edited": review.is_edited}

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        sample_id = body.get("sample_id")
        if not isinstance(sample_id, str) or "value" not in body:
            raise HTTPException(400, "an answer needs sample_id and value")
        answer(self.store, sample_id, body["value"], by=self.by)
        return {"sample_id": sample_id}

    def _export(self, _body: dict[str, Any]) -> dict[str, Any]:
        funnel = export(self.store)
        return {"num_pairs": funnel.num_pairs, "folder": str(self.store.folder / "data")}

    def _counts(self, num_waiting: int) -> dict[str, int]:
        return {
            "pairs": self.index.num_rows("pairs"),
            "dropped": self.index.num_rows("dropped"),
            "waiting": num_waiting,
        }

    def _item(self, query: Query) -> PairView | DroppedView | None:
        row = self.index.row(query.id)
        if row is None or query.tab == "waiting":
            return None
        neighbours = self.index.neighbours(query, row)
        if row.reason:
            line = self.index.line(row)
            return view_dropped(DroppedSample.model_validate_json(line), neighbours)
        pair, review = self._pair(row.id), self.index.review(row.id)
        assert pair is not None  # the row is one
        if review is not None:
            pair = edited_pair(pair, review.chosen, review.rejected)
        return view_pair(
            pair,
            review=review,
            history=review_history(self.store, row.id),
            neighbours=neighbours,
            clips=self.shelf,
        )

    def _pair(self, pair_id: str) -> PreferencePair | None:
        """As it was built."""
        row = self.index.row(pair_id)
        if row is None or row.reason:
            return None
        return PreferencePair.model_validate_json(self.index.line(row))


async def _body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "send JSON")
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > _MAX_BODY_BYTES:
            raise HTTPException(413, f"more than {_MAX_BODY_BYTES:,} bytes")
    try:
        body = json.loads(content)
    except ValueError as error:
        raise HTTPException(400, f"no valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "send a JSON object")
    return body


def _refused(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 503 if isinstance(error, StoreError) else 422)
