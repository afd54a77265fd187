"""Register, log in, and the personal access tokens of a user."""

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath, JSONBody

from app.apiauth import passwords, queries
from app.apiauth.limits import limit
from app.apiauth.models import CreatedToken, Login, NewToken, OpenedSession, Registration
from app.apiauth.queries import PersonalToken, RegisteredUser
from app.apiauth.sessions import keep
from app.errors import CONFLICT, NOT_FOUND, TOO_MANY_REQUESTS, UNAUTHENTICATED, Refusal
from app.queries import Connection
from app.settings import Settings
from app.shared import tokens
from app.shared.actor import Actor, Visitor
from app.shared.credentials import PERSON, session_cookie, takes
from app.shared.openapi import problem_spec
from app.shared.pagination import Items, Page
from app.shared.tokens import Prefix


@post(
    "/auth/register",
    tags=["auth"],
    summary="Register",
    responses={409: problem_spec(CONFLICT), 429: problem_spec(TOO_MANY_REQUESTS)},
)
async def register(
    request: Request[Any, Any, Any], visitor: Visitor, data: JSONBody[Registration]
) -> Response[RegisteredUser]:
    """Register a person, who has no role until an organization gives one. An email counts once, in whatever case."""
    await limit(request, visitor, "register")
    salt, cost = passwords.new_salt(), passwords.COST
    key = await passwords.stretch(data.password, salt, cost)
    return await visitor.answer(
        lambda db: queries.register(
            db, email=data.email, full_name=data.full_name, salt=salt, key=key, method=cost.method
        )
    )


@post(
    "/auth/login",
    tags=["auth"],
    summary="Log in",
    status_code=200,
    responses={401: problem_spec(UNAUTHENTICATED), 429: problem_spec(TOO_MANY_REQUESTS)},
)
async def log_in(request: Request[Any, Any, Any], visitor: Visitor, data: JSONBody[Login]) -> Response[OpenedSession]:
    """Open a session: its token is in the answer and in a cookie. A wrong password and an unknown email are one 401."""
    settings: Settings = request.app.state.settings
    await limit(request, visitor, "login", data.email)
    told = await visitor.run(lambda db: queries.find_stretching(db, email=data.email))
    cost = passwords.Cost.of(told.method) if told.method else passwords.COST
    key = await passwords.stretch(data.password, told.salt, cost)
    token = tokens.mint(Prefix.SESSION)
    response = await visitor.answer(lambda db: _open_session(db, settings, data.email, key, token))
    if cost != passwords.COST:
        await _stretch_anew(visitor, data, key)
    await keep(request, visitor, token)
    cookie = session_cookie(token, max_age=settings.session_absolute, production=settings.is_production)
    response.set_cookie(cookie)
    return response


async def _stretch_anew(visitor: Visitor, data: Login, proved: bytes) -> None:
    """Keep a proved password as a new one would be kept; a crowd of others puts it off to the next login."""
    salt, cost = passwords.new_salt(), passwords.COST
    with suppress(Refusal):
        key = await passwords.stretch(data.password, salt, cost)
        await visitor.run(
            lambda db: queries.restretch_password(
                db, email=data.email, key=proved, salt=salt, stretched=key, method=cost.method
            )
        )


async def _open_session(db: Connection, settings: Settings, email: str, key: bytes, token: str) -> OpenedSession:
    session = await queries.open_session(
        db,
        email=email,
        key=key,
        digest=tokens.digest(token),
        idle=timedelta(seconds=settings.session_idle),
        lifetime=timedelta(seconds=settings.session_absolute),
    )
    user = RegisteredUser(session.user_id, session.email, session.full_name, session.created_at)
    return OpenedSession(token, session.expires_at, user)


@post(
    "/api/tokens",
    tags=["tokens"],
    summary="Create a personal access token",
    opt=takes(PERSON, "tokens:write"),
)
async def create_token(actor: Actor, data: JSONBody[NewToken]) -> Response[CreatedToken]:
    """Make a token of the caller's user. It is shown once; a token mints no scope that it lacks."""
    token = tokens.mint(Prefix.PERSONAL)

    async def create(db: Connection) -> CreatedToken:
        row = await queries.create_personal_token(
            db,
            name=data.name,
            digest=tokens.digest(token),
            token_hint=token[-4:],
            scopes=list(dict.fromkeys(data.scopes)),
            lifetime=timedelta(days=data.expires_in_days),
        )
        return CreatedToken(row.id, row.name, token, row.token_hint, row.scopes, row.created_at, row.expires_at)

    return await actor.answer(create)


@get("/api/tokens", tags=["tokens"], summary="List personal access tokens", opt=takes(PERSON))
async def list_tokens(actor: Actor, page: Page) -> Items[PersonalToken]:
    """List the caller's tokens that are not revoked, newest first, each by its hint."""
    after = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_personal_tokens(db, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


@delete(
    "/api/tokens/{token_id:uuid}",
    tags=["tokens"],
    summary="Revoke a personal access token",
    opt=takes(PERSON, "tokens:write"),
)
async def revoke_token(actor: Actor, token_id: FromPath[UUID]) -> Response[None]:
    """Revoke a token of the caller's user, from the next statement on."""
    return await actor.effect(lambda db: _revoke(db, token_id))


@delete("/api/tokens/current", tags=["tokens"], summary="Revoke the token that asks", opt=takes(("personal_token",)))
async def revoke_own_token(actor: Actor) -> Response[None]:
    """Revoke the personal access token that asks, from the next statement on, whatever its scopes."""
    return await actor.effect(queries.revoke_own_token)


async def _revoke(db: Connection, token_id: UUID) -> None:
    if not await queries.revoke_personal_token(db, id=token_id):
        raise Refusal(NOT_FOUND)


handlers = [register, log_in, create_token, list_tokens, revoke_token, revoke_own_token]
