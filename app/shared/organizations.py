"""Organizations: the tenants that people found and work for."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.errors import found
from app.shared import queries
from app.shared.actor import Actor
from app.shared.credentials import ORGANIZATION, PERSON, takes
from app.shared.pagination import Items, Page
from app.shared.queries import Organization


class NewOrganization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an organization begins with."""

    title: Annotated[str, Meta(description="At most 200 characters.", examples=["North Realty"])]
    slug: Annotated[
        str,
        Meta(
            description="Lowercase letters, digits and single hyphens, at most 63; unique.", examples=["north-realty"]
        ),
    ]


@post(
    "/api/organizations",
    tags=["organizations"],
    summary="Found an organization",
    opt=takes(PERSON, "organizations:write"),
)
async def create_organization(actor: Actor, data: JSONBody[NewOrganization]) -> Response[Organization]:
    """Create an organization that the caller owns."""
    return await actor.answer(lambda db: queries.create_organization(db, title=data.title, slug=data.slug))


@get("/api/organizations", tags=["organizations"], summary="List organizations", opt=takes(ORGANIZATION))
async def list_organizations(actor: Actor, page: Page) -> Items[Organization]:
    """List the caller's organizations, the oldest first."""
    after = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_organizations(db, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


@get(
    "/api/organizations/{organization_id:uuid}",
    tags=["organizations"],
    summary="Read an organization",
    opt=takes(ORGANIZATION),
)
async def get_organization(actor: Actor, organization_id: FromPath[UUID]) -> Response[Organization]:
    """Return one of the caller's organizations."""
    return await actor.answer(lambda db: found(queries.get_organization(db, id=organization_id)))


handlers = [create_organization, list_organizations, get_organization]
