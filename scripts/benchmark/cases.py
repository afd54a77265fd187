"""The rows of the table, and how BrokerFlow is asked for each."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from app.signing import Signer
from scripts.benchmark import crowd
from scripts.benchmark import world as made
from scripts.benchmark.client import Request
from scripts.benchmark.world import PASSWORD, World

NO_DATABASE = "no database"
GET = "GET an agreement"
GET_BY_TOKEN = "GET by personal token"  # noqa: S105 - a title
LIST = "list 20 agreements"
APPEND = "append an event"
ACCEPT = "accept a match"
WEBHOOK = "e-sign webhook"
CONTACT = "read a contact"
SECRET = "get a secret"  # noqa: S105 - a title
SECRETS = "get 10 secrets at once"
LOGIN = "log in"
ROWS = (NO_DATABASE, GET, GET_BY_TOKEN, LIST, APPEND, ACCEPT, WEBHOOK, CONTACT, SECRET, SECRETS, LOGIN)

KEYS = [f"bench/{number}" for number in range(10)]
PURPOSE = "to call her"
EVENT = {"type": "CLIENT_CONTACTED", "payload": {"by": "phone"}}
MOST = 64  # agreements that are asked for in turn


class Asked(NamedTuple):
    """How somebody is asked: with requests in turn, or with what can be done but once, made by its number."""

    requests: Sequence[Request] = ()
    once: Callable[[int], Request] | None = None
    most_connections: int = 10_000


def asked(world: World) -> dict[str, Asked]:
    """Return how BrokerFlow is asked for each row, and put the secrets there that it is asked for."""
    person = world.referee.headers
    for key in KEYS:
        made.call(world, world.referrer, "PUT", f"/api/secrets/{key}", {"value": {"host": "db.example"}})
    login = {"email": world.referee.email, "password": PASSWORD}
    contacts = [posted(f"/api/agreements/{each}/contact-reads", {"purpose": PURPOSE}, person) for each in world.signed]
    return {
        NO_DATABASE: Asked([Request("GET", "/livez", {})]),
        GET: Asked([got(each, person) for each in effective(world)]),
        GET_BY_TOKEN: Asked([got(each, {"Authorization": f"Bearer {world.token}"}) for each in effective(world)]),
        LIST: Asked([Request("GET", "/api/agreements", person)]),
        APPEND: Asked([posted(f"/api/agreements/{each}/events", EVENT, person) for each in effective(world)]),
        ACCEPT: Asked(once=lambda number: accepted(number, person)),
        WEBHOOK: Asked(once=lambda number: signed(world.signer, number)),
        CONTACT: Asked(contacts),
        SECRET: Asked([Request("GET", f"/api/secrets/{key}", world.referrer.headers) for key in KEYS]),
        SECRETS: Asked([posted("/api/secrets/batch", {"keys": KEYS}, world.referrer.headers)]),
        LOGIN: Asked([posted("/auth/login", login, {})], most_connections=2),  # argon2 takes a core
    }


def effective(world: World) -> list[str]:
    """Return effective agreements between the two brokers: of the crowd, else those that were made over HTTP."""
    found = min(MOST, world.agreements // crowd.EFFECTIVE_EVERY)
    return [str(crowd.effective_id(position)) for position in range(1, found + 1)] or list(world.signed)


def accepted(number: int, headers: dict[str, str]) -> Request:
    """Accept an invitation of the worklist."""
    referral, match = (crowd.row_id(kind, crowd.INVITED_FROM + number) for kind in (crowd.REFERRAL, crowd.MATCH))
    body = json.dumps({"state": "accepted"}).encode()
    return Request("PATCH", f"/api/referrals/{referral}/matches/{match}", {**headers, **_JSON}, body)


def posted(path: str, body: object, headers: dict[str, str], expects: bytes = b"") -> Request:
    """Make a request with a JSON body."""
    return Request("POST", path, {**headers, **_JSON}, json.dumps(body).encode(), expects)


def got(agreement: str, headers: dict[str, str]) -> Request:
    """Ask for an agreement."""
    return Request("GET", f"/api/agreements/{agreement}", headers, expects=agreement.encode())


def signed(signer: Signer, number: int) -> Request:
    """Report the signature of an agreement of the worklist."""
    headers, body = made.signature(signer, str(crowd.row_id(crowd.AGREEMENT, crowd.PENDING_FROM + number)))
    return Request("POST", "/webhooks/esign", headers, body)


_JSON = {"Content-Type": "application/json"}
