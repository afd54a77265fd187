"""Brokers: organizations that refer and receive clients."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, get, put
from litestar.params import FromPath, JSONBody, QueryParameter

from app.agreement import queries
from app.agreement.queries import Broker
from app.errors import found
from app.shared.actor import Actor
from app.shared.credentials import PERSON, PROGRAM, takes
from app.shared.pagination import Items, Page


class Brokerage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes an organization a broker."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200, examples=["North Realty"])]
    fein: Annotated[
        str,
        msgspec.Meta(
            description="The federal employer identification number, which only members of the broker see.",
            max_length=10,
            examples=["12-3456789"],
        ),
    ]


@put(
    "/api/organizations/{organization_id:uuid}/brokerage",
    tags=["brokers"],
    summary="Make an organization a broker",
    opt=takes(PERSON, "organizations:write"),
)
async def register_broker(actor: Actor, organization_id: FromPath[UUID], data: JSONBody[Brokerage]) -> Response[Broker]:
    """Make an organization a broker, or rename it; its owner's right. The broker has the organization's id."""
    return await actor.answer(
        lambda db: queries.register_broker(db, organization_id=organization_id, name=data.name, fein=data.fein)
    )


@get("/api/brokers/{broker_id:uuid}", tags=["brokers"], summary="Get a broker", opt=takes(PROGRAM))
async def get_broker(actor: Actor, broker_id: FromPath[UUID]) -> Response[Broker]:
    """Return a broker; `fein` is null for who is not its member."""
    return await actor.answer(lambda db: found(queries.get_broker(db, id=broker_id)))


@get("/api/brokers", tags=["brokers"], summary="List brokers", opt=takes(PROGRAM))
async def list_brokers(
    actor: Actor,
    page: Page,
    q: Annotated[str | None, QueryParameter(description="A part of the name, in any case.", max_length=200)] = None,
) -> Items[Broker]:
    """List brokers in order of their making."""
    after = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_brokers(db, q=q, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


handlers = [register_broker, get_broker, list_brokers]
