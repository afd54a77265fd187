"""Referrals: clients whom a broker offers to others."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from app.agreement import queries
from app.agreement.contacts import Contact, sealed
from app.agreement.queries import Candidate, Referral, ReferralStatus
from app.errors import found
from app.identifiers import uuid7
from app.queries import Connection
from app.sealing import Envelope
from app.shared.actor import Actor
from app.shared.credentials import PERSON, PROGRAM, takes
from app.shared.pagination import Items, Page

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Price = Annotated[Decimal, msgspec.Meta(examples=["12000000.00"])]
Sort = Literal["-created_at", "created_at", "price_min", "-price_min"]


class NewReferral(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a referral begins with; none of it changes later."""

    region: Annotated[list[Label], msgspec.Meta(min_length=1, max_length=10, examples=[["Taipei", "Da'an"]])]
    price_min: Price
    price_max: Price
    property_type: Annotated[Label, msgspec.Meta(examples=["apartment"])]
    deal_type: Annotated[Label, msgspec.Meta(examples=["sale"])]
    sla_hours: Annotated[
        int, msgspec.Meta(ge=1, le=720, description="Hours that a candidate has to answer.", examples=[24])
    ]
    languages: Annotated[list[Label], msgspec.Meta(max_length=20, examples=[["zh", "en"]])] = msgspec.field(
        default_factory=list
    )
    client: Contact | None = None


class Cancellation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a referral is cancelled."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1000, examples=["The client decided to stay"])]


@post("/api/referrals", tags=["referrals"], summary="Open a referral", opt=takes(PERSON, "agreements:write"))
async def create_referral(
    actor: Actor, request: Request[Any, Any, Any], data: JSONBody[NewReferral]
) -> Response[Referral]:
    """Open a referral for the caller's broker. The client's contact is sealed, and is in no answer."""
    referral_id = uuid7()
    envelope = sealed(request, referral_id, data.client) if data.client else None
    return await actor.answer(lambda db: _create(db, referral_id, data, envelope))


async def _create(db: Connection, referral_id: UUID, data: NewReferral, envelope: Envelope | None) -> Referral:
    return await queries.create_referral(
        db,
        id=referral_id,
        region=data.region,
        price_min=data.price_min,
        price_max=data.price_max,
        property_type=data.property_type,
        deal_type=data.deal_type,
        languages=data.languages,
        sla_hours=data.sla_hours,
        ciphertext=envelope.ciphertext if envelope else None,
        wrapped_key=envelope.wrapped_key if envelope else None,
    )


@get("/api/referrals", tags=["referrals"], summary="List referrals", opt=takes(PROGRAM, "agreements:read"))
async def list_referrals(  # noqa: PLR0913, PLR0917 - each is a query parameter
    actor: Actor,
    page: Page,
    status: FromQuery[ReferralStatus | None] = None,
    region: Annotated[str | None, QueryParameter(description="One of the referral's regions.", max_length=100)] = None,
    deal_type: Annotated[str | None, QueryParameter(description="Such as sale or rent.", max_length=100)] = None,
    language: Annotated[str | None, QueryParameter(description="One of its languages.", max_length=100)] = None,
    sort: Annotated[Sort, QueryParameter(description="With `-`, downwards.")] = "-created_at",
) -> Items[Referral]:
    """List the referrals of the caller's broker; filters add up."""
    price, after = page.after(tuple[Decimal, UUID]) or (None, None)
    select = partial(_sorted(sort, price), status=status, region=region, deal_type=deal_type, language=language)
    rows = await actor.run(lambda db: select(db, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: (row.price_min, row.id))


def _sorted(sort: Sort, price: Decimal | None) -> Callable[..., Awaitable[list[Referral]]]:
    match sort:
        case "-created_at":
            return queries.list_referrals_newest_first
        case "created_at":
            return queries.list_referrals_oldest_first
        case "price_min":
            return partial(queries.list_referrals_cheapest_first, after_price=price)
        case "-price_min":
            return partial(queries.list_referrals_dearest_first, after_price=price)


@get(
    "/api/referrals/{referral_id:uuid}",
    tags=["referrals"],
    summary="Get a referral",
    opt=takes(PROGRAM, "agreements:read"),
)
async def get_referral(actor: Actor, referral_id: FromPath[UUID]) -> Response[Referral]:
    """Return a referral of the caller's broker."""
    return await actor.answer(lambda db: found(queries.get_referral(db, id=referral_id)))


@get(
    "/api/referrals/{referral_id:uuid}/candidates",
    tags=["referrals"],
    summary="Rank candidates",
    opt=takes(PROGRAM, "agreements:read"),
)
async def rank_candidates(actor: Actor, referral_id: FromPath[UUID]) -> Items[Candidate]:
    """List up to fifty agents of other brokers for a referral, the likeliest first, each with score and reasons."""
    return Items(await actor.run(lambda db: queries.rank_candidates(db, referral_id=referral_id)), None)


@post(
    "/api/referrals/{referral_id:uuid}/cancel",
    status_code=200,
    tags=["referrals"],
    summary="Cancel a referral",
    opt=takes(PERSON, "agreements:write"),
)
async def cancel_referral(
    actor: Actor, referral_id: FromPath[UUID], data: JSONBody[Cancellation]
) -> Response[Referral]:
    """Cancel a referral that is not signed, as its creator or an admin of its broker; a pending agreement is void."""
    return await actor.answer(lambda db: queries.cancel_referral(db, id=referral_id, reason=data.reason))


handlers = [create_referral, list_referrals, get_referral, rank_candidates, cancel_referral]
