"""Sessions: where a user is logged in, and how he ends it, there or everywhere."""

from typing import Any
from uuid import UUID

from litestar import Request, Response, delete, get
from litestar.params import FromPath

from app.apiauth import queries
from app.apiauth.queries import Session
from app.errors import NOT_FOUND, Refusal
from app.queries import Connection
from app.shared.actor import Actor
from app.shared.credentials import SESSION, session_cookie, takes
from app.shared.pagination import Items, Page

SESSIONS = "/api/sessions"


@get(SESSIONS, tags=["auth"], summary="List sessions", opt=takes(SESSION))
async def list_sessions(actor: Actor, page: Page) -> Items[Session]:
    """List where the caller is logged in, the latest first; only a session may ask."""
    after = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_sessions(db, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


@delete(f"{SESSIONS}/{{session_id:uuid}}", tags=["auth"], summary="End a session", opt=takes(SESSION))
async def end_session(actor: Actor, session_id: FromPath[UUID]) -> Response[None]:
    """End one of the caller's sessions, from the next statement on."""

    async def end(db: Connection) -> None:
        if not await queries.revoke_sessions(db, id=session_id):
            raise Refusal(NOT_FOUND)

    return await actor.effect(end)


@delete(SESSIONS, tags=["auth"], summary="Log out everywhere", opt=takes(SESSION))
async def end_sessions(request: Request[Any, Any, Any], actor: Actor) -> Response[None]:
    """End all of the caller's sessions, this one too, and take its cookie back. Tokens stay."""
    response = await actor.effect(queries.revoke_sessions)
    response.set_cookie(session_cookie("", max_age=0, production=request.app.state.production))
    return response


handlers = [list_sessions, end_session, end_sessions]
