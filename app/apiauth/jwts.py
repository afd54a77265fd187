"""JWTs: what an environment's secret key mints for less than itself, minted and verified inside PostgreSQL."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.apiauth import queries
from app.apiauth.queries import MintedJwt
from app.shared.actor import Actor
from app.shared.credentials import SECRET_KEY, takes

DEFAULT_SECONDS = 15 * 60


class NewJwt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a JWT may do, and for how long. Its other claims are not the caller's to choose."""

    scopes: Annotated[list[str], Meta(description="None that the secret key lacks.", examples=[["secrets:read"]])]
    expires_in: Annotated[int, Meta(ge=1, le=30 * 24 * 3600, description="Seconds.", examples=[900])] = DEFAULT_SECONDS
    one_time: Annotated[bool, Meta(description="Whether one request that is not refused uses it up.")] = False


@post(
    "/api/environments/{environment_id:uuid}/jwt",
    tags=["tokens"],
    summary="Mint a JWT",
    opt=takes(SECRET_KEY, "tokens:write"),
)
async def mint_jwt(
    request: Request[Any, Any, Any], actor: Actor, environment_id: FromPath[UUID], data: JSONBody[NewJwt]
) -> Response[MintedJwt]:
    """Mint a JWT of the environment whose secret key asks; it ends with that key at the latest, and is kept nowhere."""
    return await actor.answer(
        lambda db: queries.mint_jwt(
            db,
            environment_id=environment_id,
            scopes=list(dict.fromkeys(data.scopes)),
            lifetime=timedelta(seconds=data.expires_in),
            one_time=data.one_time,
            half=request.app.state.key_half,
        )
    )


handlers = [mint_jwt]
