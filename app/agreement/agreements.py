"""Agreements: what two brokers agreed on about one referral."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody

from app.agreement import queries
from app.agreement.queries import Agreement, AgreementStatus
from app.errors import NOT_FOUND, found, invalid
from app.shared.actor import Actor, ExpectedVersion
from app.shared.credentials import PERSON, PROGRAM, takes
from app.shared.openapi import problem_spec
from app.shared.pagination import Items, Page


class NewAgreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agreement begins with; none of it changes later."""

    referral_id: Annotated[UUID, msgspec.Meta(examples=["019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23"])]
    to_broker_id: Annotated[UUID, msgspec.Meta(examples=["019a9d2c-5071-7b02-9d14-2f8a7c6e5b40"])]
    fee_rate: Annotated[Decimal, msgspec.Meta(description="Percent of the commission.", examples=["25.00"])]
    protect_days: Annotated[int, msgspec.Meta(ge=0, le=3650, examples=[90])]


class AgreementChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to move an agreement."""

    status: Annotated[
        AgreementStatus | None,
        msgspec.Meta(
            description="A party moves it to pending_signature, success, void or closed; the signing service makes it "
            "effective, a dispute makes it disputed. To close what is disputed withdraws the dispute.",
            examples=["pending_signature"],
        ),
    ] = None
    region: Annotated[
        list[str] | None,
        msgspec.Meta(
            description="Never changes: another region than the agreement's is refused with axiom A8, and the attempt "
            "is recorded.",
            examples=[["Taipei"]],
        ),
    ] = None


@post(
    "/api/agreements",
    tags=["agreements"],
    summary="Draft an agreement",
    responses={404: problem_spec(NOT_FOUND)},
    opt=takes(PERSON, "agreements:write"),
)
async def draft_agreement(actor: Actor, data: JSONBody[NewAgreement]) -> Response[Agreement]:
    """Draft an agreement with another broker about a referral of the caller's own."""
    return await actor.answer(
        lambda db: queries.draft_agreement(
            db,
            referral_id=data.referral_id,
            to_broker_id=data.to_broker_id,
            fee_rate=data.fee_rate,
            protect_days=data.protect_days,
        )
    )


@get("/api/agreements", tags=["agreements"], summary="List agreements", opt=takes(PROGRAM, "agreements:read"))
async def list_agreements(
    actor: Actor, page: Page, status: FromQuery[AgreementStatus | None] = None
) -> Items[Agreement]:
    """List the agreements that the caller's broker is a party of, newest first."""
    after = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_agreements(db, status=status, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


@get(
    "/api/agreements/{agreement_id:uuid}",
    tags=["agreements"],
    summary="Get an agreement",
    opt=takes(PROGRAM, "agreements:read"),
)
async def get_agreement(actor: Actor, agreement_id: FromPath[UUID]) -> Response[Agreement]:
    """Return an agreement that the caller's broker is a party of; its ETag is for If-Match."""
    return await actor.answer(lambda db: found(queries.get_agreement(db, id=agreement_id)))


@patch(
    "/api/agreements/{agreement_id:uuid}",
    tags=["agreements"],
    summary="Move an agreement",
    opt=takes(PERSON, "agreements:write"),
)
async def change_agreement(
    actor: Actor, agreement_id: FromPath[UUID], data: JSONBody[AgreementChange], expected_version: ExpectedVersion
) -> Response[Agreement]:
    """Move an agreement along its states; what the state machine does not allow is refused with axiom A8.

    A disputed agreement waits for the verdict. Only the broker that opened the dispute may move it meanwhile, to
    `closed`: that withdraws the dispute, and frozen invoices are issued as before. To the other party it is refused
    with axiom A12.
    """
    if data.status is None and data.region is None:
        raise invalid("status", "is required")
    return await actor.answer(
        lambda db: queries.change_agreement(
            db, id=agreement_id, status=data.status, region=data.region, version=expected_version
        )
    )


handlers = [draft_agreement, list_agreements, get_agreement, change_agreement]
