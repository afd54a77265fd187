"""A PostgreSQL and a service of our own, with two brokers, their agreements and a secret."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec

from app.embedded import Addresses, locate
from app.serving import Service
from app.settings import Settings
from app.shared import tokens
from app.signing import Signer

PASSWORD = "correct horse battery staple"  # noqa: S105 - of people who live for a minute
REFERRAL = {
    "region": ["Lakeside"],
    "price_min": "350000.00",
    "price_max": "520000.00",
    "property_type": "house",
    "deal_type": "purchase",
    "sla_hours": 48,
}
CONTACT = {"name": "Nora Client", "email": "nora@client.example", "phone": "+1 555 0100"}

Progress = Callable[[str], None]


class Person(NamedTuple):
    """Somebody who is logged in, and his broker."""

    email: str
    token: str
    user_id: str
    organization: str

    @property
    def headers(self) -> dict[str, str]:
        """What he sends with a request."""
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def digest(self) -> str:
        """What the entrance takes of his token."""
        return f"\\x{tokens.digest(self.token).hex()}"


class World(NamedTuple):
    """The service, the server behind it, and who and what is there."""

    url: str
    database: Addresses
    referrer: Person
    referee: Person
    agreement: str
    signer: Signer
    client: httpx.Client


@contextmanager
def built(home: Path, agreements: int, progress: Progress) -> Iterator[World]:
    """Start both, durable as in production, and let two brokers make agreements; all is gone afterwards."""
    progress("starting PostgreSQL and the service")
    with _serving(home) as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        database = locate(home)
        if database is None:
            raise RuntimeError(f"the service runs, and no server on {home}")
        referrer, referee = (_broker(client, name) for name in ("north", "south"))
        signer = Signer(Settings(home=home).esign_keys[0])
        world = World(url, database, referrer, referee, "", signer, client)
        progress(f"making {agreements} agreements")
        signed = [effective(world) for _ in range(agreements)]
        yield world._replace(agreement=signed[-1])


@contextmanager
def _serving(home: Path) -> Iterator[str]:
    settings = {"BROKERFLOW_HOME": str(home), "BROKERFLOW_LOG_LEVEL": "error", "BROKERFLOW_LOGIN_LIMIT": "1000000"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BROKERFLOW_")}
    service = Service(inherited | settings)
    service.start()
    try:
        yield service.wait_until_ready()
    finally:
        service.stop()


def call(world: World, person: Person, method: str, path: str, body: Any = None) -> Any:
    """Ask the service and return what it answers; raises httpx.HTTPStatusError."""
    return _call(world.client, person.headers, method, path, body)


def invitation(world: World) -> tuple[str, str]:
    """Open a referral and invite the other broker's agent; return the ids of referral and match."""
    referral = call(world, world.referrer, "POST", "/api/referrals", {**REFERRAL, "client": CONTACT})["id"]
    matches = f"/api/referrals/{referral}/matches"
    return referral, call(world, world.referrer, "POST", matches, {"candidate_user_id": world.referee.user_id})["id"]


def pending(world: World) -> str:
    """Have an invitation accepted; return the id of the agreement that awaits its signature."""
    referral, match = invitation(world)
    accepted = call(world, world.referee, "PATCH", f"/api/referrals/{referral}/matches/{match}", {"state": "accepted"})
    return str(accepted["agreement"]["id"])


def signature(world: World, agreement: str) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the webhook that makes an agreement effective."""
    now = time.time()
    signed_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 1))
    body = msgspec.json.encode({"agreement_id": agreement, "signed_at": signed_at, "envelope_id": agreement})
    return world.signer.headers(f"msg_{agreement}", int(now), body), body


def effective(world: World) -> str:
    """Have an agreement made and signed; return its id."""
    agreement = pending(world)
    headers, body = signature(world, agreement)
    world.client.post("/webhooks/esign", headers=headers, content=body).raise_for_status()
    return agreement


def _broker(client: httpx.Client, name: str) -> Person:
    email = f"{name}@broker.example"
    _call(client, {}, "POST", "/auth/register", {"email": email, "password": PASSWORD, "full_name": name})
    session = _call(client, {}, "POST", "/auth/login", {"email": email, "password": PASSWORD})
    client.cookies.clear()
    bearer = {"Authorization": f"Bearer {session['token']}"}
    organization = _call(client, bearer, "POST", "/api/organizations", {"title": name, "slug": name})["id"]
    brokerage = {"name": name, "fein": "12-3456789"}
    _call(client, bearer, "PUT", f"/api/organizations/{organization}/brokerage", brokerage)
    return Person(email, session["token"], session["user"]["id"], organization)


def _call(client: httpx.Client, headers: dict[str, str], method: str, path: str, body: Any) -> Any:
    return client.request(method, path, headers=headers, json=body).raise_for_status().json()
