"""Verifies an exported timeline by itself: no service, no database, nothing to trust but SHA-256."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

FORMAT = "brokerflow-timeline-v1"


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event of a chain: its number, the exact text that was hashed, and the hash in hex."""

    seq: int
    body: str
    hash: str


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exported timeline, encoded as compact JSON with its keys in this order; a newline may follow."""

    format: str
    agreement_id: UUID
    genesis: str
    events: Sequence[Link]
    head: str


class Finding(msgspec.Struct, frozen=True):
    """What is wrong, and at which event; `seq` is None where it is no single event's fault."""

    seq: int | None
    message: str

    def __str__(self) -> str:
        """Say it in one line."""
        return self.message if self.seq is None else f"event {self.seq}: {self.message}"


class Verification(msgspec.Struct, frozen=True):
    """The result: the first finding, or None when every byte is as it was exported."""

    agreement_id: UUID | None
    events: int
    head: str | None
    finding: Finding | None

    @property
    def is_intact(self) -> bool:
        """Whether nothing was found."""
        return self.finding is None


class _Body(msgspec.Struct, frozen=True):
    """What a body says of itself; the rest of it is covered by its hash."""

    agreement_id: UUID
    seq: int
    recorded_at: datetime


def genesis_of(agreement_id: UUID) -> bytes:
    """Return what stands before the first event of an agreement's chain."""
    return hashlib.sha256(f"brokerflow timeline {agreement_id}".encode()).digest()


def proof_of(agreement_id: UUID, events: Sequence[Link]) -> Proof:
    """Return the document of a whole chain."""
    return Proof(FORMAT, agreement_id, genesis_of(agreement_id).hex(), events, events[-1].hash)


def verify(data: bytes, head: str | None = None) -> Verification:
    """Verify an exported timeline, and that it ends in `head` where one was kept from before.

    Without such a head, somebody who recomputes every hash can cut a chain short or write another: a document vouches
    for itself only.
    """
    try:
        proof = msgspec.json.decode(data, type=Proof)
    except (ValueError, RecursionError) as error:
        return Verification(None, 0, None, Finding(None, f"this is no exported timeline: {error}"))
    finding = next(_findings(data, proof, head), None)
    return Verification(proof.agreement_id, len(proof.events), proof.head, finding)


def _findings(data: bytes, proof: Proof, head: str | None) -> Iterator[Finding]:
    if proof.format != FORMAT:
        yield Finding(None, f"the format is {proof.format!r}, not {FORMAT!r}")
    if proof.genesis != genesis_of(proof.agreement_id).hex():
        yield Finding(None, "the genesis is not this agreement's")
    yield from _broken_links(proof)
    last = proof.events[-1].hash if proof.events else proof.genesis
    if proof.head != last:
        yield Finding(None, "the head is not the last event's hash")
    if head is not None and head.strip().lower() != proof.head:
        yield Finding(None, "the chain does not end in the head that was kept: it was cut short, continued or replaced")
    if data.removesuffix(b"\n") != msgspec.json.encode(proof):
        yield Finding(None, "the document is not encoded as it was exported")


def _broken_links(proof: Proof) -> Iterator[Finding]:
    previous = genesis_of(proof.agreement_id)
    recorded_at: datetime | None = None
    for number, link in enumerate(proof.events, start=1):
        if link.seq != number:
            yield Finding(link.seq, f"stands where event {number} belongs")
        previous = hashlib.sha256(previous + link.body.encode()).digest()
        if link.hash != previous.hex():
            yield Finding(link.seq, "its hash does not follow from its body and the events before it")
        try:
            body = msgspec.json.decode(link.body, type=_Body)
        except (ValueError, RecursionError) as error:
            yield Finding(link.seq, f"its body is not an event's: {error}")
            continue
        yield from _contradictions(proof, link, body, recorded_at)
        recorded_at = body.recorded_at


def _contradictions(proof: Proof, link: Link, body: _Body, recorded_at: datetime | None) -> Iterator[Finding]:
    if body.agreement_id != proof.agreement_id:
        yield Finding(link.seq, f"its body is of agreement {body.agreement_id}")
    if body.seq != link.seq:
        yield Finding(link.seq, f"its body is of event {body.seq}")
    if body.recorded_at.tzinfo is None or (recorded_at is not None and body.recorded_at < recorded_at):
        yield Finding(link.seq, "it was recorded before the event that it follows")
