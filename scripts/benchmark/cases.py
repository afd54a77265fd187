"""What is measured: requests, and the statements that PostgreSQL alone is measured with."""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from app.queries import load
from scripts.benchmark import world as made
from scripts.benchmark.world import PASSWORD, Person, World


class Request(NamedTuple):
    """One HTTP request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class Limit(NamedTuple):
    """A script for pgbench and the variables in it: the request's statements in one transaction."""

    script: str
    variables: dict[str, str]


class Case(NamedTuple):
    """A row of the table.

    `requests` of which each can be made but once are as many as a round takes; a single one is repeated for as long
    as a round lasts.
    """

    name: str
    requests: Sequence[Request]
    limit: Limit | None = None
    is_repeatable: bool = True
    most_connections: int = 10_000


def repeatable(world: World) -> list[Case]:
    """Make the cases whose one request may be sent again and again."""
    person, agreement = world.referee, world.agreement
    made.call(world, world.referrer, "PUT", "/api/secrets/bench", {"value": {"host": "db.example", "port": 5432}})
    login = {"email": person.email, "password": PASSWORD}
    event = {"type": "CLIENT_CONTACTED", "payload": {"by": "phone"}}
    return [
        Case("no database", [Request("GET", "/livez", {})]),
        Case(
            "GET an agreement",
            [Request("GET", f"/api/agreements/{agreement}", person.headers)],
            _limit(person, "get_agreement", id=agreement),
        ),
        Case(
            "list 20 agreements",
            [Request("GET", "/api/agreements", person.headers)],
            _limit(person, "list_agreements", status=None, after=None, limit=21),
        ),
        Case(
            "append an event",
            [_posted(person, f"/api/agreements/{agreement}/events", event)],
            _limit(
                person,
                "append_event",
                agreement_id=agreement,
                type=event["type"],
                payload=json.dumps(event["payload"]),
                occurred_at=None,
                corrects_seq=None,
            ),
        ),
        Case(
            "read a contact",
            [_posted(person, f"/api/agreements/{agreement}/contact-reads", {"purpose": "to call her"})],
        ),
        Case("get a secret", [Request("GET", "/api/secrets/bench", world.referrer.headers)]),
        Case("batch of 100 secrets", [_posted(world.referrer, "/api/secrets/batch", {"keys": _hundred(world)})]),
        Case("log in", [_posted(None, "/auth/login", login)], most_connections=2),  # argon2 takes a core
    ]


def _hundred(world: World) -> list[str]:
    keys = [f"batch/{number}" for number in range(100)]
    for key in keys:
        made.call(world, world.referrer, "PUT", f"/api/secrets/{key}", {"value": {"host": "db.example", "port": 5432}})
    return keys


def accepting(world: World, count: int) -> Case:
    """Make a round of acceptances; each makes an agreement."""
    invited = [made.invitation(world) for _ in range(count)]
    paths = [f"/api/referrals/{referral}/matches/{match}" for referral, match in invited]
    accepted = json.dumps({"state": "accepted"}).encode()
    headers = {**world.referee.headers, "Content-Type": "application/json"}
    return Case("accept a match", [Request("PATCH", path, headers, accepted) for path in paths], is_repeatable=False)


def signing(world: World, count: int) -> Case:
    """Make a round of webhooks; each makes an agreement effective."""
    signed = [made.signature(world, made.pending(world)) for _ in range(count)]
    webhooks = [Request("POST", "/webhooks/esign", headers, body) for headers, body in signed]
    return Case("e-sign webhook", webhooks, is_repeatable=False)


def _posted(person: Person | None, path: str, body: object) -> Request:
    headers = {"Content-Type": "application/json"} | (person.headers if person else {})
    return Request("POST", path, headers, json.dumps(body).encode())


def _limit(person: Person, name: str, **values: object) -> Limit:
    """Write the request's transaction for pgbench: the entrance, then the very text that the service sends."""
    query = load("agreement")[name]
    text = query.sql
    for number, parameter in reversed(list(enumerate(query.parameters, 1))):
        text = text.replace(f"${number}", _literal(values[parameter]))
    scope = "agreements:read" if name.startswith(("get", "list")) else "agreements:write"
    variables = {"digest": person.digest, "scopes": f"{{{scope}}}"}
    for literal in set(re.findall(r"'\w+:\w+'", text)):  # pgbench takes a colon for a variable's, in literals too
        variable = literal.strip("'").replace(":", "_")
        variables[variable] = literal.strip("'")
        text = text.replace(literal, f":{variable}")
    return Limit(f"begin;\nselect apiauth.enter_session(:digest, null, :scopes);\n{text};\ncommit;\n", variables)


def _literal(value: object) -> str:
    match value:
        case None:
            return "null"
        case int():
            return str(value)
        case UUID() | str():
            return "'" + str(value).replace("'", "''") + "'"
    raise TypeError(f"no literal for {value!r}")
