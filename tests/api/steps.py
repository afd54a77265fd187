"""The steps of a referral's way over HTTP, and the signing service."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import msgspec

from tests.api.conftest import Caller, Json, Look, created

REFERRAL: Json = {
    "region": ["Taipei", "Da'an"],
    "price_min": "12000000.00",
    "price_max": "15000000.00",
    "property_type": "apartment",
    "deal_type": "sale",
    "languages": ["zh", "en"],
    "sla_hours": 24,
}
CONTACT: Json = {"name": "Chen Mei-ling", "email": "mei@client.example", "phone": "+886 2 2345 6789"}


class SigningService(NamedTuple):
    """The foreign service that reports signatures, and a secret it shares with us."""

    client: httpx.Client
    secret: str

    def report(
        self, agreement: Json, *, envelope: str | None = None, signed_at: datetime | None = None
    ) -> httpx.Response:
        """Report an agreement as signed."""
        return self.send(completion(agreement, envelope=envelope, signed_at=signed_at))

    def send(self, body: bytes, **changes: str | None) -> httpx.Response:
        """Send any body with a good signature, but for the headers that are changed or left out (None)."""
        headers: dict[str, str | None] = {**signature(self.secret, body), "content-type": "application/json"}
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        kept = {name: value for name, value in headers.items() if value is not None}
        return self.client.post("/webhooks/esign", content=body, headers=kept)


def completion(agreement: Json, *, envelope: str | None = None, signed_at: datetime | None = None) -> bytes:
    """Encode what the signing service says of an agreement."""
    return msgspec.json.encode(
        {
            "agreement_id": agreement["id"],
            "signed_at": signed_at or datetime.now(UTC) - timedelta(seconds=1),
            "envelope_id": envelope or f"env_{agreement['id']}",
        }
    )


def signature(secret: str, body: bytes, *, at: float | None = None, message: str = "msg_1") -> dict[str, str]:
    """Sign a body as Standard Webhooks says."""
    timestamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def refer(caller: Caller, **changes: object) -> Json:
    """Open a referral."""
    return created(caller.post("/api/referrals", json={**REFERRAL, **changes}))


def invite(caller: Caller, referral: Json, candidate: Caller) -> Json:
    """Invite a candidate."""
    path = f"/api/referrals/{referral['id']}/matches"
    return created(caller.post(path, json={"candidate_user_id": candidate.user_id}))


def reply(caller: httpx.Client, invitation: Json, state: str, **options: Any) -> httpx.Response:
    """Answer an invitation."""
    path = f"/api/referrals/{invitation['referral_id']}/matches/{invitation['id']}"
    return caller.patch(path, json={"state": state}, **options)


def accept(caller: Caller, invitation: Json) -> Json:
    """Accept an invitation; returns the agreement."""
    response = reply(caller, invitation, "accepted")
    assert response.status_code == 200, response.text
    agreement: Json = response.json()["agreement"]
    return agreement


def draft(caller: Caller, referral: Json, to: Caller, **changes: object) -> httpx.Response:
    """Draft an agreement with another broker."""
    body = {"referral_id": referral["id"], "to_broker_id": to.broker_id, "fee_rate": "25.00", "protect_days": 90}
    return caller.post("/api/agreements", json={**body, **changes})


def agreement_of(caller: Caller, agreement_id: str) -> Json:
    """Return an agreement as it is now."""
    response = caller.get(f"/api/agreements/{agreement_id}")
    assert response.status_code == 200, response.text
    agreement: Json = response.json()
    return agreement


def move(caller: Caller, agreement: Json, status: str, **options: Any) -> httpx.Response:
    """Move an agreement to a status."""
    return caller.patch(f"/api/agreements/{agreement['id']}", json={"status": status}, **options)


def append(caller: Caller, agreement: Json, kind: str, **body: object) -> httpx.Response:
    """Append an event to an agreement's timeline."""
    return caller.post(f"/api/agreements/{agreement['id']}/events", json={"type": kind, **body})


def timeline(caller: Caller, agreement: Json) -> list[Json]:
    """Return the first hundred events of an agreement."""
    response = caller.get(f"/api/agreements/{agreement['id']}/events", params={"limit": 100})
    assert response.status_code == 200, response.text
    items: list[Json] = response.json()["items"]
    return items


def types(events: list[Json]) -> list[str]:
    """Return the types of events, in their order."""
    return [event["type"] for event in events]


def read_contact(caller: Caller, agreement: Json, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """Ask for the client's contact."""
    path = f"/api/agreements/{agreement['id']}/contact-reads"
    return caller.post(path, json={"purpose": "Arrange the first viewing"}, headers=headers)


def open_dispute(caller: Caller, agreement: Json) -> Json:
    """Open a dispute about an agreement."""
    body = {"agreement_id": agreement["id"], "reason": "The fee was not paid"}
    return created(caller.post("/api/disputes", json=body))


def resolve(judge: Caller, dispute: Json, outcome: str) -> httpx.Response:
    """Decide a dispute."""
    return judge.patch(f"/api/disputes/{dispute['id']}", json={"outcome": outcome, "note": "So it is"})


def issue(caller: Caller, agreement: Json, amount: object = "1500.00", currency: str = "TWD") -> httpx.Response:
    """Issue an invoice."""
    return caller.post(f"/api/agreements/{agreement['id']}/invoices", json={"amount": amount, "currency": currency})


def settle(caller: Caller, invoice: Json, status: str = "paid") -> httpx.Response:
    """Settle an invoice."""
    return caller.patch(f"/api/invoices/{invoice['id']}", json={"status": status})


def axiom_of(response: httpx.Response, status: int, axiom: str) -> Json:
    """Check that an answer is a refusal that names an axiom, and return it."""
    body: Json = response.json()
    assert (response.status_code, body.get("axiom")) == (status, axiom), response.text
    assert response.headers["content-type"] == "application/problem+json"
    return body


def count(look: Look, sql: str, *arguments: object) -> int:
    """Count what a superuser sees."""
    row = look.execute(sql.encode(), arguments).fetchone()
    assert row is not None
    return int(row[0])
