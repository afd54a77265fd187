"""Invitations: an admin asks an address to join, and whoever is logged in with it answers."""

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.errors import found
from app.queries import Connection
from app.shared import queries
from app.shared.actor import Actor
from app.shared.credentials import PERSON, takes
from app.shared.members import Role
from app.shared.pagination import Items, Page
from app.shared.queries import Invitation, ReceivedInvitation

INVITATIONS = "/api/organizations/{organization_id:uuid}/invitations"


class NewInvitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to invite, and as what."""

    email: Annotated[
        str,
        Meta(
            max_length=254,
            description="In any case and Unicode form; whether anybody is registered with it is not told.",
            examples=["anna@north.example"],
        ),
    ]
    role: Role
    expires_in_days: Annotated[int, Meta(ge=1, le=30, examples=[7])] = 7


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the invited user says."""

    state: Annotated[Literal["accepted", "declined"], Meta(examples=["accepted"])]


@post(INVITATIONS, tags=["members"], summary="Invite a member", opt=takes(PERSON, "organizations:write"))
async def create_invitation(
    actor: Actor, organization_id: FromPath[UUID], data: JSONBody[NewInvitation]
) -> Response[Invitation]:
    """Invite an address, which a message tells of; this takes an admin, and an owner to invite an owner.

    The message holds no token: the invitation is accepted by whoever is logged in with the address.
    """
    lifetime = timedelta(days=data.expires_in_days)
    return await actor.answer(
        lambda db: queries.create_invitation(
            db, organization_id=organization_id, email=data.email, role=data.role, lifetime=lifetime
        )
    )


@get(INVITATIONS, tags=["members"], summary="List invitations", opt=takes(PERSON, "organizations:write"))
async def list_invitations(actor: Actor, organization_id: FromPath[UUID], page: Page) -> Items[Invitation]:
    """List the invitations of an organization and what came of them, newest first; this takes an admin."""
    before = page.after(UUID)

    async def invitations(db: Connection) -> list[Invitation]:
        rows = await queries.list_invitations(db, organization_id=organization_id, before=before, limit=page.fetch)
        if not rows:  # the end of a list, or not his to see
            await found(queries.get_organization(db, id=organization_id))
        return rows

    return page.of(await actor.run(invitations, several=True), position=lambda row: row.id)


@delete(
    f"{INVITATIONS}/{{invitation_id:uuid}}",
    tags=["members"],
    summary="Revoke an invitation",
    opt=takes(PERSON, "organizations:write"),
)
async def revoke_invitation(
    actor: Actor, organization_id: FromPath[UUID], invitation_id: FromPath[UUID]
) -> Response[None]:
    """Take an open invitation back; this takes an admin."""
    return await actor.effect(
        lambda db: found(queries.revoke_invitation(db, organization_id=organization_id, id=invitation_id))
    )


@get("/api/invitations", tags=["members"], summary="List one's invitations to organizations", opt=takes(PERSON))
async def list_received_invitations(actor: Actor, page: Page) -> Items[ReceivedInvitation]:
    """List the open invitations of the caller's email address, newest first."""
    before = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_received_invitations(db, before=before, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


@patch(
    "/api/invitations/{invitation_id:uuid}",
    tags=["members"],
    summary="Answer an invitation",
    opt=takes(PERSON, "organizations:write"),
)
async def answer_invitation(
    actor: Actor, invitation_id: FromPath[UUID], data: JSONBody[Answer]
) -> Response[Invitation]:
    """Accept an invitation of one's email address, and be a member from then on, or decline it."""
    return await actor.answer(lambda db: found(queries.answer_invitation(db, id=invitation_id, state=data.state)))


handlers = [create_invitation, list_invitations, revoke_invitation, list_received_invitations, answer_invitation]
