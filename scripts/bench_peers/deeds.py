"""What both Python peers do in the database, in the session of a request: who asks, and the four commands."""

import base64
import hashlib
import hmac
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from models import Agreement, Event, Match, Outbox, Referral, Token, User
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

URL = os.environ.get("BENCH_DATABASE_URL", "")
POOL_SIZE = int(os.environ.get("BENCH_POOL_SIZE", "10"))
SECRET = base64.b64decode(os.environ.get("BENCH_ESIGN_SECRET", "whsec_").removeprefix("whsec_"))
TOLERANCE = 300  # seconds


class Problem(Exception):  # noqa: N818 - it names what happened
    """A request that is refused, with its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


async def find_user(session: AsyncSession, authorization: str) -> User:
    """Return the user whose bearer token this is; raises Problem."""
    digest = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
    user = await session.scalar(
        select(User)
        .join(Token, Token.user_id == User.id)
        .where(Token.digest == digest, Token.expires_at > func.now(), Token.revoked_at.is_(None))
    )
    if user is None:
        raise Problem(401, "unauthenticated")
    return user


async def get_agreement(session: AsyncSession, user: User, agreement_id: uuid.UUID) -> Agreement:
    """Return an agreement that the user's broker is a party of; raises Problem."""
    agreement = await session.scalar(select(Agreement).where(Agreement.id == agreement_id, _is_party(user)))
    if agreement is None:
        raise Problem(404, "not found")
    return agreement


async def list_agreements(session: AsyncSession, user: User, limit: int) -> Sequence[Agreement]:
    """Return the newest agreements of the user's broker."""
    newest = select(Agreement).where(_is_party(user)).order_by(Agreement.id.desc()).limit(limit)
    return (await session.scalars(newest)).all()


async def append_event(
    session: AsyncSession, user: User, agreement_id: uuid.UUID, kind: str, payload: dict[str, Any]
) -> Event:
    """Append an event under the lock of its agreement, with its message."""
    found = select(Agreement).where(Agreement.id == agreement_id, _is_party(user)).with_for_update()
    agreement = await session.scalar(found)
    if agreement is None:
        raise Problem(404, "not found")
    event = _told(session, agreement, kind, payload, user)
    await session.commit()
    return event


async def accept_match(session: AsyncSession, user: User, referral_id: uuid.UUID, match_id: uuid.UUID) -> Agreement:
    """Accept an invitation: its referral is matched, and an agreement awaits its signature."""
    match = await session.scalar(
        select(Match).where(Match.id == match_id, Match.candidate_user_id == user.id).with_for_update()
    )
    if match is None or match.referral_id != referral_id:
        raise Problem(404, "not found")
    referral = await session.scalar(select(Referral).where(Referral.id == referral_id).with_for_update())
    if match.state != "invited" or referral is None or referral.status != "open":
        raise Problem(409, "conflict")
    match.state, match.responded_at, referral.status = "accepted", datetime.now(UTC), "matched"
    agreement = Agreement(
        id=uuid.uuid4(),
        referral_id=referral.id,
        match_id=match.id,
        from_broker_id=referral.broker_id,
        to_broker_id=match.candidate_broker_id,
        region=referral.region,
        status="pending_signature",
        created_by=user.id,
        last_seq=0,
    )
    session.add(agreement)
    _told(session, agreement, "AGREEMENT_CREATED", {"status": agreement.status, "referral_id": str(referral.id)}, user)
    await session.commit()
    return agreement


async def complete_signature(
    session: AsyncSession, agreement_id: uuid.UUID, envelope_id: str, signed_at: datetime
) -> Agreement:
    """Make an agreement effective that awaits its signature; its referral is signed."""
    agreement = await session.scalar(select(Agreement).where(Agreement.id == agreement_id).with_for_update())
    if agreement is None:
        raise Problem(404, "not found")
    if agreement.envelope_id == envelope_id:
        return agreement
    if agreement.status != "pending_signature":
        raise Problem(409, "conflict")
    agreement.status, agreement.effective_at = "effective", datetime.now(UTC)
    agreement.envelope_id, agreement.signed_at = envelope_id, signed_at
    agreement.version += 1
    referral = await session.get_one(Referral, agreement.referral_id, with_for_update=True)
    referral.status = "signed"
    _told(session, agreement, "ESIGN_COMPLETED", {"from": "pending_signature", "to": "effective"}, None)
    await session.commit()
    return agreement


def check_signature(headers: Mapping[str, str], body: bytes) -> None:
    """Raise Problem unless a webhook carries a Standard Webhooks signature of the last minutes."""
    number, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not moment.isdigit() or abs(time.time() - int(moment)) > TOLERANCE:
        raise Problem(401, "unauthenticated")
    signed = hmac.new(SECRET, f"{number}.{moment}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(signed).decode()
    if not any(hmac.compare_digest(expected, each) for each in headers.get("webhook-signature", "").split()):
        raise Problem(401, "unauthenticated")


def _is_party(user: User) -> Any:
    return or_(Agreement.from_broker_id == user.broker_id, Agreement.to_broker_id == user.broker_id)


def _told(session: AsyncSession, agreement: Agreement, kind: str, payload: dict[str, Any], user: User | None) -> Event:
    """Add the next event of an agreement and its message."""
    agreement.last_seq += 1
    now = datetime.now(UTC)
    event = Event(
        agreement_id=agreement.id,
        seq=agreement.last_seq,
        id=uuid.uuid4(),
        type=kind,
        payload=payload,
        occurred_at=now,
        recorded_at=now,
        user_id=user.id if user else None,
        broker_id=user.broker_id if user else None,
    )
    told = {"agreement_id": str(agreement.id), "seq": event.seq, "id": str(event.id), "type": kind, "payload": payload}
    session.add_all([event, Outbox(topic="agreement.timeline", event_id=event.id, payload=told)])
    return event
