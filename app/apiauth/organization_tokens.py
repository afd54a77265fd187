"""Organization access tokens: they act for an organization, in nobody's name, and outlive whoever made them."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.apiauth import queries
from app.apiauth.queries import OrganizationToken
from app.errors import NOT_FOUND, Refusal
from app.queries import Connection
from app.shared import tokens
from app.shared.actor import Actor
from app.shared.credentials import PERSON, takes
from app.shared.pagination import Items, Page
from app.shared.tokens import Prefix

TOKENS = "/api/organizations/{organization_id:uuid}/tokens"


class NewOrganizationToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that an admin wants for a program of the organization."""

    name: Annotated[str, Meta(description="What it is for, at most 100 characters.", examples=["deployment"])]
    scopes: Annotated[
        list[str],
        Meta(
            description="What it may do: accounts:read, accounts:write, agreements:read, organizations:write, "
            "secrets:read, secrets:write, tokens:write. What records a person takes a person, so agreements:write, "
            "contacts:read and votes:write are not among them.",
            examples=[["agreements:read"]],
        ),
    ]
    expires_in_days: Annotated[
        Annotated[int, Meta(ge=1, le=3650)] | None, Meta(description="Unless said, it does not expire.", examples=[90])
    ] = None


class CreatedOrganizationToken(msgspec.Struct, frozen=True):
    """An organization access token, which is shown here and never again."""

    id: UUID
    name: Annotated[str, Meta(examples=["deployment"])]
    token: Annotated[str, Meta(examples=[tokens.example(Prefix.ORGANIZATION)])]
    token_hint: Annotated[
        str, Meta(description="Its last four characters.", examples=[tokens.example(Prefix.ORGANIZATION)[-4:]])
    ]
    scopes: Annotated[list[str], Meta(examples=[["agreements:read"]])]
    created_at: datetime
    expires_at: datetime | None


@post(
    TOKENS,
    tags=["tokens"],
    summary="Create an organization access token",
    opt=takes(PERSON, "organizations:write", "tokens:write"),
)
async def create_organization_token(
    actor: Actor, organization_id: FromPath[UUID], data: JSONBody[NewOrganizationToken]
) -> Response[CreatedOrganizationToken]:
    """Make a token of an organization, with no scope that the caller lacks; this takes an admin."""
    token = tokens.mint(Prefix.ORGANIZATION)
    lifetime = None if data.expires_in_days is None else timedelta(days=data.expires_in_days)

    async def create(db: Connection) -> CreatedOrganizationToken:
        row = await queries.create_organization_token(
            db,
            organization_id=organization_id,
            name=data.name,
            digest=tokens.digest(token),
            token_hint=token[-4:],
            scopes=list(dict.fromkeys(data.scopes)),
            lifetime=lifetime,
        )
        return CreatedOrganizationToken(
            row.id, row.name, token, row.token_hint, row.scopes, row.created_at, row.expires_at
        )

    return await actor.answer(create)


@get(
    TOKENS,
    tags=["tokens"],
    summary="List organization access tokens",
    opt=takes(PERSON, "organizations:write"),
)
async def list_organization_tokens(
    actor: Actor, organization_id: FromPath[UUID], page: Page
) -> Items[OrganizationToken]:
    """List the tokens of an organization that are not revoked, newest first; this takes an admin."""
    after = page.after(UUID)
    rows = await actor.run(
        lambda db: queries.list_organization_tokens(db, organization_id=organization_id, after=after, limit=page.fetch)
    )
    return page.of(rows, position=lambda row: row.id)


@delete(
    f"{TOKENS}/{{token_id:uuid}}",
    tags=["tokens"],
    summary="Revoke an organization access token",
    opt=takes(PERSON, "organizations:write", "tokens:write"),
)
async def revoke_organization_token(
    actor: Actor, organization_id: FromPath[UUID], token_id: FromPath[UUID]
) -> Response[None]:
    """Revoke a token of an organization, from the next statement on; this takes an admin."""
    return await actor.effect(lambda db: _revoke(db, organization_id, token_id))


async def _revoke(db: Connection, organization_id: UUID, token_id: UUID) -> None:
    if not await queries.revoke_organization_token(db, organization_id=organization_id, id=token_id):
        raise Refusal(NOT_FOUND)


handlers = [create_organization_token, list_organization_tokens, revoke_organization_token]
