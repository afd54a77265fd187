"""Invoices: what one party of an agreement owes the other."""

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response, get, patch, post
from litestar.params import FromPath, JSONBody

from app.agreement import queries
from app.agreement.queries import Invoice
from app.errors import found
from app.shared.actor import Actor
from app.shared.credentials import PERSON, PROGRAM, takes
from app.shared.pagination import Items, Page


class NewInvoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is owed."""

    amount: Annotated[Decimal, msgspec.Meta(description="More than zero, with two decimals.", examples=["1500.00"])]
    currency: Annotated[
        str, msgspec.Meta(description="ISO 4217, in capitals.", min_length=3, max_length=3, examples=["TWD"])
    ]


class Settlement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an invoice ends."""

    status: Annotated[Literal["paid", "written_off"], msgspec.Meta(examples=["paid"])]


@post(
    "/api/agreements/{agreement_id:uuid}/invoices",
    tags=["invoices"],
    summary="Issue an invoice",
    opt=takes(PERSON, "agreements:write"),
)
async def issue_invoice(actor: Actor, agreement_id: FromPath[UUID], data: JSONBody[NewInvoice]) -> Response[Invoice]:
    """Issue an invoice under an agreement that is effective or successful."""
    return await actor.answer(
        lambda db: queries.issue_invoice(db, agreement_id=agreement_id, amount=data.amount, currency=data.currency)
    )


@get(
    "/api/agreements/{agreement_id:uuid}/invoices",
    tags=["invoices"],
    summary="List invoices",
    opt=takes(PROGRAM, "agreements:read"),
)
async def list_invoices(actor: Actor, agreement_id: FromPath[UUID], page: Page) -> Items[Invoice]:
    """List the invoices under an agreement."""
    after = page.after(UUID)
    rows = await actor.run(
        lambda db: queries.list_invoices(db, agreement_id=agreement_id, after=after, limit=page.fetch)
    )
    return page.of(rows, position=lambda row: row.id)


@patch(
    "/api/invoices/{invoice_id:uuid}",
    tags=["invoices"],
    summary="Settle an invoice",
    opt=takes(PERSON, "agreements:write"),
)
async def settle_invoice(actor: Actor, invoice_id: FromPath[UUID], data: JSONBody[Settlement]) -> Response[Invoice]:
    """Record that an invoice is paid or written off, once; while its agreement is disputed it waits."""
    return await actor.answer(lambda db: found(queries.settle_invoice(db, id=invoice_id, status=data.status)))


handlers = [issue_invoice, list_invoices, settle_invoice]
