"""A PostgreSQL and a service of our own, with two brokers and their agreements, and a crowd of others."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.embedded import Addresses, locate
from app.serving import Service
from app.settings import Settings
from app.shared import tokens
from app.signing import Signer
from scripts.benchmark.crowd import Size, load

PASSWORD = "correct horse battery staple"  # noqa: S105 - of people who live for a minute
REFERRAL = {
    "region": ["Lakeside"],
    "price_min": "350000.00",
    "price_max": "520000.00",
    "property_type": "house",
    "deal_type": "purchase",
    "sla_hours": 48,
}
SIGNED = 16  # agreements made over HTTP
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
    """The service, the server behind it, and who and what is there.

    `signed` are agreements that were made over HTTP, each with a contact that opens; `agreements` says how many more
    the crowd has, and `organizations` how many there are. `token` is the referee's personal one.
    """

    url: str
    process: int
    database: Addresses
    referrer: Person
    referee: Person
    token: str
    signed: list[str]
    agreements: int
    organizations: int
    esign_key: bytes
    signer: Signer
    client: httpx.Client

    @property
    def token_digest(self) -> str:
        """What the entrance takes of the personal token."""
        return f"\\x{tokens.digest(self.token).hex()}"

    @property
    def superuser_url(self) -> str:
        """The database itself as the superuser reaches it, past every rule."""
        return make_conninfo(self.database.superuser_url, dbname=conninfo_to_dict(self.database.app_url)["dbname"])


@contextmanager
def built(home: Path, size: Size, progress: Progress, **settings: str) -> Iterator[World]:
    """Start both, durable as in production, let two brokers make agreements, add the crowd; all is gone afterwards."""
    progress("starting PostgreSQL and the service")
    with _serving(home, settings) as service, httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        database = locate(home)
        if database is None:
            raise RuntimeError(f"the service runs, and no server on {home}")
        key = Settings(home=home).esign_keys[0]
        referrer, referee = (_broker(client, name) for name in ("north", "south"))
        world = World(
            service.url, service.process, database, referrer, referee, _token(client, referee), [], size.agreements,
            size.organizations, key, Signer(key), client,
        )  # fmt: skip
        world.signed.extend(effective(world) for _ in range(SIGNED))
        for done in load(world.superuser_url, size):
            progress(f"loaded {done:,} of {size.agreements:,} agreements")
        yield world


@contextmanager
def _serving(home: Path, more: dict[str, str]) -> Iterator[Service]:
    # Without a line a request, as its peers are run.
    settings = {"BROKERFLOW_HOME": str(home), "BROKERFLOW_LOG_LEVEL": "error", "BROKERFLOW_LOGIN_LIMIT": "1000000"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BROKERFLOW_")}
    service = Service(inherited | settings | more)
    service.start()
    try:
        service.wait_until_ready()
        yield service
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


def signature(signer: Signer, agreement: str) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the webhook that makes an agreement effective."""
    now = time.time()
    signed_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 1))
    body = msgspec.json.encode({"agreement_id": agreement, "signed_at": signed_at, "envelope_id": agreement})
    return signer.headers(f"msg_{agreement}", int(now), body), body


def effective(world: World) -> str:
    """Have an agreement made and signed; return its id."""
    agreement = pending(world)
    headers, body = signature(world.signer, agreement)
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


def _token(client: httpx.Client, person: Person) -> str:
    body = {"name": "bench", "expires_in_days": 7, "scopes": ["agreements:read"]}
    return str(_call(client, person.headers, "POST", "/api/tokens", body)["token"])


def _call(client: httpx.Client, headers: dict[str, str], method: str, path: str, body: Any) -> Any:
    return client.request(method, path, headers=headers, json=body).raise_for_status().json()
