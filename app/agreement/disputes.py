"""Disputes: complaints of a party, which freeze the money until a judge of neither party decides."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response, get, patch, post
from litestar.params import FromPath, JSONBody

from app.agreement import queries
from app.agreement.queries import Dispute
from app.errors import NOT_FOUND, found
from app.shared.actor import Actor
from app.shared.credentials import PERSON, PROGRAM, takes
from app.shared.openapi import problem_spec
from app.shared.pagination import Items, Page


class NewDispute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is complained of."""

    agreement_id: Annotated[UUID, msgspec.Meta(examples=["019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23"])]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=4000, examples=["The fee was not paid"])]


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a dispute is decided, and why."""

    outcome: Annotated[Literal["upheld", "dismissed"], msgspec.Meta(examples=["dismissed"])]
    note: Annotated[str, msgspec.Meta(min_length=1, max_length=4000, examples=["The fee was paid in time"])]


@post(
    "/api/disputes",
    tags=["disputes"],
    summary="Open a dispute",
    responses={404: problem_spec(NOT_FOUND)},
    opt=takes(PERSON, "agreements:write"),
)
async def open_dispute(actor: Actor, data: JSONBody[NewDispute]) -> Response[Dispute]:
    """Open a dispute about an effective agreement, as its party; its unpaid invoices freeze.

    It ends by a verdict, or when the broker that opened it withdraws it: by moving the agreement to `closed`.
    """
    return await actor.answer(lambda db: queries.open_dispute(db, agreement_id=data.agreement_id, reason=data.reason))


@get("/api/disputes", tags=["disputes"], summary="List disputes", opt=takes(PROGRAM, "agreements:read"))
async def list_disputes(actor: Actor, page: Page) -> Items[Dispute]:
    """List the disputes about agreements of the caller's broker, or all for a platform admin, newest first.

    `outcome` is null until a judge upheld or dismissed the dispute, or `withdrawn` since the broker that opened it
    closed the agreement.
    """
    after = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_disputes(db, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


@patch(
    "/api/disputes/{dispute_id:uuid}",
    tags=["disputes"],
    summary="Decide a dispute",
    opt=takes(PERSON, "agreements:write"),
)
async def resolve_dispute(actor: Actor, dispute_id: FromPath[UUID], data: JSONBody[Verdict]) -> Response[Dispute]:
    """Decide a dispute, once, as a platform admin of neither party.

    `upheld` voids the agreement and invalidates its unpaid invoices, `dismissed` restores both. The third outcome,
    `withdrawn`, is no verdict: the broker that opened the dispute moves the agreement to `closed`, which restores the
    invoices alone.
    """
    return await actor.answer(
        lambda db: found(queries.resolve_dispute(db, id=dispute_id, outcome=data.outcome, note=data.note))
    )


handlers = [open_dispute, list_disputes, resolve_dispute]
