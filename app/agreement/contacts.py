"""Clients' contacts: sealed here, kept by the vault, read once per grant."""

from collections.abc import Sequence
from typing import Annotated, Any, cast
from uuid import UUID

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.params import FromPath, JSONBody

from app.agreement import queries
from app.agreement.queries import ContactRead, SealedContact
from app.errors import CONFLICT, CONTACT_INTEGRITY, CONTACT_READ_CONSUMED, INTERNAL, Refusal
from app.sealing import Envelope, SealBroken, Sealer
from app.shared.actor import Actor
from app.shared.credentials import PERSON, takes
from app.shared.openapi import problem_spec
from app.shared.pagination import Items, Page


class Contact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who a client is."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200, examples=["Chen Mei-ling"])]
    email: Annotated[str, msgspec.Meta(min_length=1, max_length=254, examples=["mei@example.org"])]
    phone: Annotated[str, msgspec.Meta(min_length=1, max_length=50, examples=["+886 2 2345 6789"])]


class Purpose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a contact is read."""

    purpose: Annotated[str, msgspec.Meta(min_length=1, max_length=500, examples=["Arrange the first viewing"])]


class DisclosedContact(msgspec.Struct, frozen=True):
    """A client's contact, and the read that is on record for it."""

    id: UUID
    name: str
    email: str
    phone: str


class _Granted(msgspec.Struct, frozen=True):
    id: UUID


@put(
    "/api/referrals/{referral_id:uuid}/contact",
    status_code=204,
    tags=["contacts"],
    summary="Give a client's contact",
    opt=takes(PERSON, "agreements:write"),
)
async def seal_contact(
    actor: Actor, request: Request[Any, Any, Any], referral_id: FromPath[UUID], data: JSONBody[Contact]
) -> Response[None]:
    """Put a client's contact to a referral of the caller's broker; nobody reads it before an agreement is effective."""
    envelope = sealed(request, referral_id, data)
    return await actor.effect(
        lambda db: queries.seal_contact(
            db, referral_id=referral_id, ciphertext=envelope.ciphertext, wrapped_key=envelope.wrapped_key
        )
    )


@delete(
    "/api/referrals/{referral_id:uuid}/contact",
    tags=["contacts"],
    summary="Shred a client's contact",
    opt=takes(PERSON, "agreements:write"),
)
async def shred_contact(actor: Actor, referral_id: FromPath[UUID]) -> Response[None]:
    """Destroy a contact's key for good, with a receipt in the timeline of every agreement of the referral."""
    return await actor.effect(lambda db: queries.shred_contact(db, referral_id=referral_id))


@post(
    "/api/agreements/{agreement_id:uuid}/contact-reads",
    tags=["contacts"],
    summary="Read a client's contact",
    responses={
        409: problem_spec(CONFLICT, CONTACT_READ_CONSUMED),
        500: problem_spec(INTERNAL, CONTACT_INTEGRITY),
    },
    opt=takes(PERSON, "contacts:read"),
)
async def read_contact(
    actor: Actor, request: Request[Any, Any, Any], agreement_id: FromPath[UUID], data: JSONBody[Purpose]
) -> Response[DisclosedContact]:
    """Read the client's contact, as a party of an effective agreement.

    That it was read, by whom and why is committed before the contact leaves. The contact is in no stored answer: a
    repetition with the same Idempotency-Key uses up the same grant, and is refused with `contact_read_consumed`
    when the contact was handed out already or a minute has passed; a new key makes a new read.
    """
    granted = await actor.answer(
        lambda db: queries.grant_contact_read(db, agreement_id=agreement_id, purpose=data.purpose)
    )
    read_id = msgspec.json.decode(cast("bytes", granted.content), type=_Granted).id
    contact = opened(request, await actor.run(lambda db: queries.consume_contact_read(db, id=read_id)))
    return Response(DisclosedContact(read_id, contact.name, contact.email, contact.phone), status_code=201)


@get(
    "/api/agreements/{agreement_id:uuid}/contact-reads",
    tags=["contacts"],
    summary="List reads of a contact",
    opt=takes(PERSON, "agreements:read"),
)
async def list_contact_reads(actor: Actor, agreement_id: FromPath[UUID], page: Page) -> Items[ContactRead]:
    """List who was granted a read of the contact, when and why, newest first; both parties see it."""
    after = page.after(UUID)
    rows = await actor.run(
        lambda db: queries.list_contact_reads(db, agreement_id=agreement_id, after=after, limit=page.fetch)
    )
    return page.of(rows, position=lambda row: row.id)


def sealed(request: Request[Any, Any, Any], referral_id: UUID, contact: Contact) -> Envelope:
    """Seal a contact to its referral."""
    return _sealer(request).enclose(msgspec.json.encode(contact), context_of(referral_id))


def opened(request: Request[Any, Any, Any], contact: SealedContact) -> Contact:
    """Open a contact that the vault handed out; raises Refusal (500) where it was altered."""
    envelope = Envelope(contact.wrapped_key, contact.ciphertext)
    try:
        opened = _sealer(request).disclose(envelope, context_of(contact.referral_id))
    except SealBroken:
        raise Refusal(CONTACT_INTEGRITY, axiom="A2") from None
    return msgspec.json.decode(opened, type=Contact)


def sealer_of(master_keys: Sequence[bytes]) -> Sealer:
    """Return what seals contacts and opens them."""
    current, *older = master_keys
    return Sealer(current, "contacts", older)


def _sealer(request: Request[Any, Any, Any]) -> Sealer:
    return sealer_of(request.app.state.settings.master_keys)


def context_of(referral_id: UUID) -> bytes:
    """Write down what a contact is sealed to."""
    return b"contact\0" + referral_id.bytes


handlers = [seal_contact, shred_contact, read_contact, list_contact_reads]
