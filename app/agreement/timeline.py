"""The timeline of an agreement: appended to, listed, proved."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody

from app.agreement import queries
from app.agreement.queries import EventType, TimelineEvent
from app.errors import ARCHIVED, Refusal
from app.queries import Connection
from app.shared.actor import Actor
from app.shared.credentials import PERSON, PROGRAM, takes
from app.shared.openapi import problem_spec
from app.shared.pagination import Items, Page
from app.verify import Link, Proof, proof_of

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Number = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class NewEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a party records."""

    type: Annotated[
        EventType,
        msgspec.Meta(
            description="A party appends CLIENT_CONTACTED, PROPERTY_SHOWN, OFFER_MADE, DEAL_CLOSED and "
            "CORRECTION_ADDED; what happens to an agreement writes the others.",
            examples=["PROPERTY_SHOWN"],
        ),
    ]
    payload: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    occurred_at: Annotated[
        Time | None,
        msgspec.Meta(
            description="Now when absent. Never later than now, and for what is shown, offered or closed not before "
            "the agreement was effective.",
            examples=["2026-11-22T10:15:00Z"],
        ),
    ] = None
    corrects_seq: Annotated[
        Number | None, msgspec.Meta(description="The event that a CORRECTION_ADDED corrects.", examples=[3])
    ] = None


@post(
    "/api/agreements/{agreement_id:uuid}/events",
    tags=["timeline"],
    summary="Append an event",
    opt=takes(PERSON, "agreements:write"),
)
async def append_event(actor: Actor, agreement_id: FromPath[UUID], data: JSONBody[NewEvent]) -> Response[TimelineEvent]:
    """Append an event to an agreement's timeline, as its party; number, time, actor and hash are the database's."""
    return await actor.answer(
        lambda db: queries.append_event(
            db,
            agreement_id=agreement_id,
            type=data.type,
            payload=data.payload,
            occurred_at=data.occurred_at,
            corrects_seq=data.corrects_seq,
        )
    )


@get(
    "/api/agreements/{agreement_id:uuid}/events",
    tags=["timeline"],
    summary="List an agreement's events",
    opt=takes(PROGRAM, "agreements:read"),
)
async def list_timeline(actor: Actor, agreement_id: FromPath[UUID], page: Page) -> Items[TimelineEvent]:
    """List the events of an agreement in their order; where its month was archived, those that came later."""
    after = page.after(int)
    rows = await actor.run(
        lambda db: queries.list_timeline(db, agreement_id=agreement_id, after=after, limit=page.fetch)
    )
    return page.of(rows, position=lambda row: row.seq)


@get("/api/events", tags=["timeline"], summary="List events", opt=takes(PROGRAM, "agreements:read"))
async def list_events(actor: Actor, page: Page) -> Items[TimelineEvent]:
    """List the events of all agreements of the caller's broker, in order of their ids.

    An event gets its id before it commits: one that took long may appear before the cursor of who reads along. Who
    must miss nothing follows the stream.
    """
    after = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_events(db, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


@get(
    "/api/agreements/{agreement_id:uuid}/proof",
    tags=["timeline"],
    summary="Export the hash chain",
    responses={410: problem_spec(ARCHIVED)},
    opt=takes(PROGRAM, "agreements:read"),
)
async def export_proof(actor: Actor, agreement_id: FromPath[UUID]) -> Response[Proof]:
    """Export the whole hash chain of an agreement, which `brokerflow verify` checks without the service.

    Each hash is the SHA-256 of the previous hash's bytes and the body in UTF-8; before the first stands the genesis,
    the SHA-256 of `brokerflow timeline <agreement_id>`. Keep `head` elsewhere, and no later export can be shortened
    or rewritten unnoticed. Of an agreement whose month was archived the operator exports it.
    """

    async def prove(db: Connection) -> Proof:
        return _proof(agreement_id, await queries.list_chain(db, agreement_id=agreement_id))

    return await actor.answer(prove)


def _proof(agreement_id: UUID, chain: list[queries.ChainLink]) -> Proof:
    if not chain or chain[0].seq != 1:  # every agreement begins with an event
        raise Refusal(ARCHIVED)
    return proof_of(agreement_id, [Link(link.seq, link.body, link.hash) for link in chain])


handlers = [append_event, list_timeline, list_events, export_proof]
