"""Members: who works for an organization, and in which role."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.errors import found
from app.queries import Connection
from app.shared import queries
from app.shared.actor import Actor
from app.shared.credentials import ORGANIZATION, PERSON, takes
from app.shared.pagination import Items, Page
from app.shared.queries import Member, MemberRole, Membership

MEMBERS = "/api/organizations/{organization_id:uuid}/members"
MEMBER = f"{MEMBERS}/{{user_id:uuid}}"

Role = Annotated[MemberRole, Meta(description="Only an owner makes owners.", examples=["agent"])]


class NewMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to add, and as what."""

    email: Annotated[str, Meta(max_length=254, description="Of a registered user.", examples=["anna@north.example"])]
    role: Role


class MemberChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a member becomes."""

    role: Role


@post(MEMBERS, tags=["members"], summary="Add a member", opt=takes(PERSON, "organizations:write"))
async def add_member(actor: Actor, organization_id: FromPath[UUID], data: JSONBody[NewMember]) -> Response[Membership]:
    """Add a registered user; this takes an admin, and an owner to add an owner."""
    return await actor.answer(
        lambda db: queries.add_member(db, organization_id=organization_id, email=data.email, role=data.role)
    )


@get(MEMBERS, tags=["members"], summary="List members", opt=takes(ORGANIZATION))
async def list_members(actor: Actor, organization_id: FromPath[UUID], page: Page) -> Items[Member]:
    """List the members of one of the caller's organizations."""
    after = page.after(UUID)

    async def members(db: Connection) -> list[Member]:
        rows = await queries.list_members(db, organization_id=organization_id, after=after, limit=page.fetch)
        if not rows:  # the end of a list, or not his to see
            await found(queries.get_organization(db, id=organization_id))
        return rows

    return page.of(await actor.run(members, several=True), position=lambda row: row.user_id)


@patch(MEMBER, tags=["members"], summary="Change a member's role", opt=takes(PERSON, "organizations:write"))
async def change_member(
    actor: Actor, organization_id: FromPath[UUID], user_id: FromPath[UUID], data: JSONBody[MemberChange]
) -> Response[Membership]:
    """Give a member another role; nobody changes his own, and the last owner stays one."""
    return await actor.answer(
        lambda db: found(queries.change_member(db, role=data.role, organization_id=organization_id, user_id=user_id))
    )


@delete(MEMBER, tags=["members"], summary="Remove a member", opt=takes(PERSON, "organizations:write"))
async def remove_member(actor: Actor, organization_id: FromPath[UUID], user_id: FromPath[UUID]) -> Response[None]:
    """Remove a member, or leave; the last owner cannot."""
    return await actor.effect(
        lambda db: found(queries.remove_member(db, organization_id=organization_id, user_id=user_id))
    )


handlers = [add_member, list_members, change_member, remove_member]
