"""Sessions: how one begins, in PostgreSQL or in Redis; where a user is logged in, and how he ends it.

In Redis a session is a ticket (app/tickets.py). What becomes of one is committed by the database first.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from app.apiauth import queries
from app.apiauth.queries import Session
from app.errors import NOT_FOUND, Refusal
from app.queries import Connection
from app.shared import tokens
from app.shared.actor import Actor, Caller
from app.shared.credentials import SESSION, session_cookie, takes
from app.shared.pagination import Items, Page

if TYPE_CHECKING:
    from app.tickets import Held, Tickets

SESSIONS = "/api/sessions"


async def keep(request: Request[Any, Any, Any], caller: Caller, token: str) -> None:
    """Take a session that was just opened to Redis, if sessions live there; its token works once this returns."""
    tickets: Tickets | None = request.app.state.tickets
    if tickets is not None:
        digest, half = tokens.digest(token), tickets.half
        ticket = await caller.run(lambda db: queries.exchange_session(db, digest=digest, half=half))
        await tickets.keep(digest, ticket, request.app.state.settings.session_idle)


class Elsewhere(NamedTuple):
    """What Redis holds of a user's sessions, for the database to judge; nothing where they live in PostgreSQL."""

    store: "Tickets | None" = None
    sessions: "Sequence[Held]" = ()

    @property
    def tickets(self) -> list[str]:
        """The tickets, in the order of `seen_at`."""
        return [held.ticket for held in self.sessions]

    @property
    def seen_at(self) -> list[datetime]:
        """When each was last seen."""
        return [held.seen_at for held in self.sessions]

    @property
    def ticket(self) -> str | None:
        """The one ticket, where it is of one session."""
        return next(iter(self.tickets), None)

    @property
    def half(self) -> bytes | None:
        """The service's half of the key that seals tickets."""
        return self.store.half if self.store else None

    async def forget(self, session_id: UUID | None = None) -> None:
        """Forget one session, or all of these, which the database has ended."""
        if self.store:
            await self.store.forget(held for held in self.sessions if session_id in {None, held.session_id})


async def _all_of(request: Request[Any, Any, Any], actor: Caller) -> Elsewhere:
    """Look up the caller's sessions in Redis."""
    store: Tickets | None = request.app.state.tickets
    if store is None or actor.credential is None:
        return Elsewhere()
    return Elsewhere(store, await store.of_owner(actor.credential))


def own(request: Request[Any, Any, Any], actor: Caller) -> Elsewhere:
    """Take the session that asks as it was found in Redis."""
    store: Tickets | None = request.app.state.tickets
    if store is None or actor.credential is None:
        return Elsewhere()
    return Elsewhere(store, [store.own(actor.credential)])


async def replace(request: Request[Any, Any, Any], old: Elsewhere, token: str, ticket: str | None) -> None:
    """Keep the session that came in the place of another, if sessions live in Redis; its token works now."""
    if old.store and ticket is not None:
        await old.store.keep(tokens.digest(token), ticket, request.app.state.settings.session_idle)
        await old.forget()


@post("/auth/logout", tags=["auth"], summary="Log out", status_code=204, opt=takes(SESSION))
async def log_out(request: Request[Any, Any, Any], actor: Actor) -> Response[None]:
    """End the session that asks, from the next statement on, and take its cookie back."""
    held = own(request, actor)
    response = await actor.effect(lambda db: queries.close_session(db, tickets=held.tickets, half=held.half))
    await held.forget()
    return _without_cookie(request, response)


@get(SESSIONS, tags=["auth"], summary="List sessions", opt=takes(SESSION))
async def list_sessions(request: Request[Any, Any, Any], actor: Actor, page: Page) -> Items[Session]:
    """List where the caller is logged in, the latest first; only a session may ask."""
    after, held = page.after(UUID), await _all_of(request, actor)
    rows = await actor.run(
        lambda db: queries.list_sessions(
            db, tickets=held.tickets, seen_at=held.seen_at, half=held.half, after=after, limit=page.fetch
        )
    )
    return page.of(rows, position=lambda row: row.id)


@delete(f"{SESSIONS}/{{session_id:uuid}}", tags=["auth"], summary="End a session", opt=takes(SESSION))
async def end_session(request: Request[Any, Any, Any], actor: Actor, session_id: FromPath[UUID]) -> Response[None]:
    """End one of the caller's sessions, from the next statement on."""
    held = await _all_of(request, actor)

    async def end(db: Connection) -> None:
        if not await queries.revoke_sessions(db, id=session_id, tickets=held.tickets, half=held.half):
            raise Refusal(NOT_FOUND)

    response = await actor.effect(end)
    await held.forget(session_id)
    return response


@delete(SESSIONS, tags=["auth"], summary="Log out everywhere", opt=takes(SESSION))
async def end_sessions(request: Request[Any, Any, Any], actor: Actor) -> Response[None]:
    """End all of the caller's sessions, this one too, and take its cookie back. Tokens stay."""
    held = await _all_of(request, actor)
    response = await actor.effect(lambda db: queries.revoke_sessions(db, tickets=held.tickets, half=held.half))
    await held.forget()
    return _without_cookie(request, response)


def _without_cookie(request: Request[Any, Any, Any], response: Response[None]) -> Response[None]:
    response.set_cookie(session_cookie("", max_age=0, production=request.app.state.production))
    return response


handlers = [log_out, list_sessions, end_session, end_sessions]
