"""Every model answer is stored before it is used, and never asked for twice."""

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmalign.engine.budget import Budget, Price, Spending
from mmalign.engine.store import Answer, RunStore, StoredAnswer
from mmalign.errors import (
    BudgetReachedError,
    MediaMissingError,
    MmalignError,
    ModelResponseError,
)
from mmalign.records import MediaRef, Message

__all__ = ["Charged", "Ledger", "Request", "RunStopped", "SamplePass"]


class RunStopped(MmalignError):  # noqa: N818  # not an error: the run is being ended
    """A new call was asked for after the run was told to stop."""


@dataclass
class SamplePass:
    """One walk of one sample through the graph, and what its answers cost."""

    sample_id: str
    attempts: Counter[bytes] = field(default_factory=Counter)
    """How often each request was made, so that a loop's second try is asked anew."""
    num_tokens: int = 0
    costs: list[float] = field(default_factory=list)
    last_node: str = ""
    """The last node that asked a model."""
    refused: Exception | None = None
    """Set when a call was refused; what the graph made of that is not a result."""

    @property
    def cost(self) -> float:
        """Sum over the answers, whatever the order in which they came."""
        return math.fsum(self.costs)

    def next_attempt(self, digest: bytes) -> int:
        """How often the request was made before, in this walk."""
        attempt = self.attempts[digest]
        self.attempts[digest] += 1
        return attempt

    def add(self, answers: Sequence[StoredAnswer]) -> None:
        """Count answers towards the sample, whether they were paid for now or earlier."""
        self.num_tokens += sum(answer.num_tokens for answer in answers)
        self.costs.extend(answer.cost for answer in answers)


class Charged(NamedTuple):
    """An answer as the model gave it."""

    answer: str
    prompt_tokens: int
    completion_tokens: int


class Ledger:
    """Answers requests from the store, and asks the model only for what is missing there.

    Equal requests that are under way at the same time wait for the first one's answer.
    """

    def __init__(self, store: RunStore, budget: Budget) -> None:
        self.budget = budget
        self.stopped = False
        """After this is set, calls under way end and are stored, and no new one starts."""
        self._store = store
        self._under_way: dict[bytes, asyncio.Event] = {}
        self._file_hashes: dict[tuple[str, int, int], str] = {}

    async def answers(
        self,
        sample_pass: SamplePass,
        request: "Request",
        *,
        num_draws: int,
        estimate: Callable[[int], Spending],
        ask: Callable[[int, int], Awaitable[Sequence[Charged]]],
    ) -> list[str]:
        """The first draws of a request, as JSON, in their order.

        Args:
            sample_pass: Whose request it is.
            request: What is asked, by which node, how many times before.
            num_draws: How many answers are wanted.
            estimate: What that many draws may cost.
            ask: Calls the model for (number of draws, index of the first of them).

        Raises:
            RunStopped: The run ends; nothing was asked.
            BudgetReachedError: There is no budget left; nothing was asked.
            ModelResponseError: The model gave fewer answers than asked for; those that came
                are stored.
        """
        key = request.key
        while (event := self._under_way.get(key)) is not None:
            await event.wait()
        self._under_way[key] = asyncio.Event()
        try:
            found = {row.draw: row for row in self._store.answers(key) if row.draw < num_draws}
            missing = [draw for draw in range(num_draws) if draw not in found]
            if missing:
                rows = await self._pay(sample_pass, request, missing, estimate, ask)
                found |= {row.draw: row for row in rows}
        finally:
            self._under_way.pop(key).set()
        sample_pass.add(list(found.values()))
        if len(found) < num_draws:
            raise ModelResponseError(
                f"{request.model}: gave {len(found)} of {num_draws} answers to sample "
                f"{sample_pass.sample_id!r}; those are kept, the rest is asked for again"
            )
        return [found[draw].answer for draw in range(num_draws)]

    async def _pay(
        self,
        sample_pass: SamplePass,
        request: "Request",
        missing: Sequence[int],
        estimate: Callable[[int], Spending],
        ask: Callable[[int, int], Awaitable[Sequence[Charged]]],
    ) -> list[StoredAnswer]:
        reserved = estimate(len(missing))
        try:
            self._require_running()
            await self.budget.reserve(reserved)
        except (RunStopped, BudgetReachedError) as error:
            sample_pass.refused = error
            raise
        charged: Sequence[Charged] = ()
        rows: list[Answer] = []
        try:
            if self.stopped:  # the wait for other calls may have been long
                sample_pass.refused = RunStopped("the run ends")
                raise sample_pass.refused
            charged = (await ask(len(missing), missing[0]))[: len(missing)]
            rows = [
                request.row(sample_pass.sample_id, draw, one)
                for draw, one in zip(missing, charged, strict=False)
            ]
            if rows:
                await self._store.commit_answers(rows)
        finally:
            tokens = [row.prompt_tokens for row in rows]
            actual = Spending(
                sum(tokens) + sum(row.completion_tokens for row in rows),
                math.fsum(row.cost for row in rows),
            )
            self.budget.settle(reserved, actual, name=request.model, prompt_tokens=tokens)
        return [
            StoredAnswer(row.draw, row.answer, row.prompt_tokens + row.completion_tokens, row.cost)
            for row in rows
        ]

    def _require_running(self) -> None:
        if self.stopped:
            raise RunStopped("the run ends; no new call is made")

    async def describe(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages as JSON values in which media stand by content, not by path."""
        described = []
        for message in messages:
            value = message.model_dump(mode="json")
            if message.media:
                for part, dumped in zip(message.content, value["content"], strict=True):
                    if part.type == "media":
                        dumped["media"] = await self._describe_media(part.media)
            described.append(value)
        return described

    async def _describe_media(self, media: MediaRef) -> dict[str, Any]:
        value = media.model_dump(mode="json", exclude={"uri", "content_hash"})
        value["content"] = media.content_hash or await self._hash(media.uri)
        for operation, dumped in zip(media.operations, value["operations"], strict=True):
            if operation.other is not None:
                dumped["other"] = await self._describe_media(operation.other)
        return value

    async def _hash(self, uri: str) -> str:
        if uri.startswith("data:"):
            return hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()
        from mmalign.media import file_hash  # decoders load only where a clip has no hash

        try:
            status = Path(uri).stat()
        except OSError as error:
            raise MediaMissingError(f"{uri}: {error.strerror}; mend the path") from error
        key = (uri, status.st_mtime_ns, status.st_size)
        if key not in self._file_hashes:
            self._file_hashes[key] = await asyncio.to_thread(file_hash, Path(uri))
        return self._file_hashes[key]


class Request(NamedTuple):
    """Who asks which model what for the how-manieth time."""

    key: bytes
    kind: Literal["generate", "score"]
    node: str
    model: str
    price: Price

    def row(self, sample_id: str, draw: int, charged: Charged) -> Answer:
        """What the store keeps of an answer."""
        return Answer(
            key=self.key,
            draw=draw,
            sample_id=sample_id,
            node=self.node,
            model=self.model,
            kind=self.kind,
            prompt_tokens=charged.prompt_tokens,
            completion_tokens=charged.completion_tokens,
            cost=self.price.of(charged.prompt_tokens, charged.completion_tokens),
            answer=charged.answer,
        )
