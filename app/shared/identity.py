"""Who asks: the user, and the credential that proved him."""

from litestar import Response, get

from app.shared import queries
from app.shared.actor import Actor
from app.shared.credentials import ANY, PERSON, takes
from app.shared.queries import User, Whoami


@get("/api/me", tags=["identity"], summary="Who am I", opt=takes(PERSON))
async def me(actor: Actor) -> Response[User]:
    """Return the caller's user."""
    return await actor.answer(queries.me)


@get("/api/whoami", tags=["identity"], summary="What does this credential prove", opt=takes(ANY))
async def whoami(actor: Actor) -> Response[Whoami]:
    """Return the credential's kind, user, organization, role, environment and scopes; null scopes are all of them."""
    return await actor.answer(queries.whoami)


handlers = [me, whoami]
