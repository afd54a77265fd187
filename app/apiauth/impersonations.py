"""Impersonation: a platform admin acts as a user for an hour at most, and is himself again, each under a new token."""

from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from litestar import Request, Response, delete, post
from litestar.params import JSONBody
from msgspec import Meta

from app.apiauth import queries
from app.apiauth.sessions import own, replace
from app.errors import FORBIDDEN, NOT_FOUND
from app.settings import Settings
from app.shared import tokens
from app.shared.actor import Actor
from app.shared.credentials import SESSION, session_cookie, takes
from app.shared.idempotency import NOT_REPLAYED
from app.shared.openapi import problem_spec
from app.shared.tokens import Prefix

T = TypeVar("T")

IMPERSONATIONS = "/api/impersonations"

Token = Annotated[str, Meta(examples=[tokens.example(Prefix.SESSION)])]


class NewImpersonation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As whom, why and for how long."""

    user_id: Annotated[UUID, Meta(examples=["019b3c5e-7d10-7a42-9c1f-5b8f0d6e2a11"])]
    reason: Annotated[
        str, Meta(description="At most 500 characters; the audit log keeps it.", examples=["ticket 4711"])
    ]
    minutes: Annotated[int, Meta(ge=1, le=60, examples=[30])] = 60


class Impersonation(msgspec.Struct, frozen=True):
    """An impersonation, and the token that acts as the user; it is shown here and never again."""

    id: Annotated[UUID, Meta(examples=["019b3c5e-7d10-7a42-9c1f-5b8f0d6e2a11"])]
    user_id: Annotated[UUID, Meta(examples=["019b3c5e-7d10-7a42-9c1f-5b8f0d6e2a11"])]
    started_at: Annotated[datetime, Meta(examples=["2026-11-22T09:00:00Z"])]
    ends_at: Annotated[datetime, Meta(examples=["2026-11-22T09:30:00Z"])]
    token: Token


class OwnSession(msgspec.Struct, frozen=True):
    """The session of the platform admin himself, with its end unmoved."""

    token: Token
    expires_at: Annotated[datetime, Meta(examples=["2026-12-22T09:00:00Z"])]


@post(
    IMPERSONATIONS,
    tags=["auth"],
    summary="Act as a user",
    opt={**takes(SESSION), **NOT_REPLAYED},
    responses={403: problem_spec(FORBIDDEN), 404: problem_spec(NOT_FOUND)},
)
async def start_impersonation(
    request: Request[Any, Any, Any], actor: Actor, data: JSONBody[NewImpersonation]
) -> Response[Impersonation]:
    """Act as a user, as a platform admin who says why. The answer and the cookie hold a new token; the old one ends.

    Contacts, secrets, credentials, members and votes stay closed, and whatever is written names both.
    """
    token, held = tokens.mint(Prefix.SESSION), own(request, actor)
    started = await actor.run(
        lambda db: queries.start_impersonation(
            db,
            user_id=data.user_id,
            reason=data.reason,
            lifetime=timedelta(minutes=data.minutes),
            digest=tokens.digest(token),
            ticket=held.ticket,
            half=held.half,
        )
    )
    await replace(request, held, token, started.ticket)
    answer = Impersonation(started.id, data.user_id, started.started_at, started.ends_at, token)
    return _with_cookie(request, Response(answer), token)


@delete(
    f"{IMPERSONATIONS}/current",
    tags=["auth"],
    summary="Be yourself again",
    status_code=200,
    opt={**takes(SESSION), **NOT_REPLAYED},
    responses={404: problem_spec(NOT_FOUND)},
)
async def stop_impersonation(request: Request[Any, Any, Any], actor: Actor) -> Response[OwnSession]:
    """Be the platform admin again. The answer and the cookie hold a new token; the one that acted as the user ends."""
    token, held = tokens.mint(Prefix.SESSION), own(request, actor)
    stopped = await actor.run(
        lambda db: queries.stop_impersonation(db, digest=tokens.digest(token), ticket=held.ticket, half=held.half)
    )
    await replace(request, held, token, stopped.ticket)
    return _with_cookie(request, Response(OwnSession(token, stopped.expires_at)), token)


def _with_cookie(request: Request[Any, Any, Any], response: Response[T], token: str) -> Response[T]:
    settings: Settings = request.app.state.settings
    cookie = session_cookie(token, max_age=settings.session_absolute, production=settings.is_production)
    response.set_cookie(cookie)
    return response


handlers = [start_impersonation, stop_impersonation]
