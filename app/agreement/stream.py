"""The feed of events as server-sent events: NOTIFY wakes it, the subscriber's own credential reads."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
import structlog
from litestar import Request, get
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from app.agreement import queries
from app.agreement.queries import TimelineEvent
from app.errors import INVALID, Axioms, refusal_of
from app.identifiers import earlier
from app.shared.actor import Actor, Caller
from app.shared.credentials import PROGRAM, takes
from app.shared.openapi import problem_spec

logger = structlog.get_logger(__name__)

KEEP_ALIVE = 15.0  # seconds
MOMENT = 0.02  # seconds
LATE = 1.0  # seconds after a notice until a look at what committed just behind it and left its own out
BATCH = 100
# An event gets its id before its transaction commits, so one with a smaller id may appear after one with a greater.
OVERLAP = timedelta(seconds=30)


class Feed:
    """What one subscriber has been sent, and what he is to be sent next."""

    def __init__(self, actor: Caller, start: UUID) -> None:
        self._actor = actor
        self._newest = start
        self._floor = earlier(start, OVERLAP)
        self._position = self._floor
        self._sent = {start}
        self.is_behind = False

    async def read(self) -> list[TimelineEvent]:
        """Return the next events that were committed since, each once; `is_behind` tells that there are more."""
        rows = await self._rows()
        fresh = [row for row in rows if row.id not in self._sent]
        self._newest = max([self._newest, *(row.id for row in rows)])
        self._floor = max(self._floor, earlier(self._newest, OVERLAP))
        self._sent = {each for each in self._sent.union(row.id for row in rows) if each >= self._floor}
        self.is_behind = len(rows) == BATCH
        self._position = rows[-1].id if self.is_behind else self._floor
        return fresh

    async def _rows(self) -> list[TimelineEvent]:
        """Read in a task of its own: the server cancels a stream at any await, and a connection must be put back."""
        after = self._position
        read = asyncio.ensure_future(self._actor.run(lambda db: queries.list_events(db, after=after, limit=BATCH)))
        read.add_done_callback(_heard)
        return await asyncio.shield(read)


def _heard(read: asyncio.Future[list[TimelineEvent]]) -> None:
    """Look at how a read ended, lest asyncio complains of one that failed when its stream was gone."""
    if not read.cancelled():
        read.exception()


@get(
    "/api/events/stream",
    tags=["timeline"],
    summary="Stream events",
    media_type="text/event-stream",
    responses={
        200: ResponseSpec(str, description="Events, until one side ends it", media_type="text/event-stream"),
        422: problem_spec(INVALID),
    },
    opt=takes(PROGRAM, "agreements:read"),
)
async def stream_events(
    actor: Actor,
    request: Request[Any, Any, Any],
    last_event_id: Annotated[
        UUID | None,
        HeaderParameter(name="Last-Event-ID", description="Resumes after this event; without it, from now on."),
    ] = None,
) -> ServerSentEvent:
    """Send the events of all agreements of the caller's broker as they are recorded.

    `id` is the event's id, `data` the event as `GET /api/events` has it. Who resumes gets every later event at least
    once: those of the 30 seconds before may come again. A comment comes every 15 seconds of silence. The last message
    is `event: end` with the `code` of the reason, such as `unauthenticated` once the credential is revoked.
    """
    now = await actor.run(queries.current_position)
    feed = Feed(actor, last_event_id or now)
    first = await feed.read()  # here a refusal still has a status
    if last_event_id is None:
        first = await _passed_over(feed)
    return ServerSentEvent(_messages(request, feed, first))


async def _passed_over(feed: Feed) -> list[TimelineEvent]:
    """Count what was recorded before as sent, so that what commits late among it still comes."""
    while feed.is_behind:
        await feed.read()
    return []


async def _messages(
    request: Request[Any, Any, Any], feed: Feed, events: list[TimelineEvent]
) -> AsyncIterator[ServerSentEventMessage]:
    state, bell, silence_ends, has_rung = request.app.state, asyncio.Event(), 0.0, False
    listener = asyncio.create_task(_ring(bell, state.database.listen("outbox")))
    try:
        while not listener.done():
            for event in events:
                yield ServerSentEventMessage(data=msgspec.json.encode(event), id=str(event.id))
            if not events and time.monotonic() >= silence_ends:
                yield ServerSentEventMessage(data=None, comment="keep-alive")
            if events or time.monotonic() >= silence_ends:
                silence_ends = time.monotonic() + KEEP_ALIVE
            if not feed.is_behind:
                patience = silence_ends - time.monotonic()
                has_rung = await _wait(bell, min(patience, LATE) if has_rung else patience)
            events = await feed.read()
        yield _end("closing")
    except Exception as error:  # noqa: BLE001 - the status is sent: what ends a stream is told within it
        yield _end(_reason(error, state.axioms))
    finally:
        listener.cancel()


async def _ring(bell: asyncio.Event, notices: AsyncIterator[str | None]) -> None:
    """Ring at every notice, and when there will be no more."""
    try:
        async for _ in notices:
            bell.set()
    finally:
        bell.set()


async def _wait(bell: asyncio.Event, seconds: float) -> bool:
    """Wait for the bell, so long at most, and tell whether it rang; what rings within a moment is one ring."""
    with suppress(TimeoutError):
        await asyncio.wait_for(bell.wait(), seconds)
        await asyncio.sleep(MOMENT)
    has_rung = bell.is_set()
    bell.clear()
    return has_rung


def _reason(error: Exception, axioms: Axioms) -> str:
    """Return the code of what ends a stream; a mistake of ours is logged, as it is of any request."""
    kind = refusal_of(error, axioms).kind
    if kind.status == 500:
        logger.error("failed", exc_info=error)
    return kind.code


def _end(code: str) -> ServerSentEventMessage:
    return ServerSentEventMessage(event="end", data=msgspec.json.encode({"code": code}))


handlers = [stream_events]
