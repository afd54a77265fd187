"""A stranger over HTTP: every id of every route with each credential of another tenant, and crooked requests."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.conftest import Caller, Look, at_once, bearer, created
from tests.api.steps import REFERRAL, accept, invite, refer
from tests.api.test_every_route import Organization, Route, live, routes

# What everybody may know of a broker.
SHARED = {"GET /api/brokers/{broker_id:uuid}"}


@pytest.fixture
def belongings(referrer: Caller, referee: Caller) -> dict[str, list[str]]:
    """What belongs to the referrer and the referee: ids, by table."""
    organization = Organization(referrer)
    environment = organization.environment("PREVIEW")
    referral = refer(referrer)
    match = invite(referrer, referral, referee)
    agreement = accept(referee, match)
    people = f"/api/organizations/{referrer.broker_id}"
    asked = created(referrer.post(f"{people}/invitations", json={"email": "x@y.example", "role": "agent"}))
    account = {"identifier": "user_1", "metadata": {}}
    kept = created(referrer.post(f"/api/environments/{environment['id']}/external-accounts", json=account))
    token = {"name": "x", "expires_in_days": 1, "scopes": ["agreements:read"]}
    return {
        "branch_id": [organization.branch(environment, "main")["id"]],
        "environment_id": [environment["id"]],
        "project_id": [environment["project_id"]],
        "organization_id": [referrer.broker_id],
        "user_id": [referrer.user_id],
        "invitation_id": [asked["id"]],
        "account_id": [kept["id"]],
        "token_id": [created(referrer.post("/api/tokens", json=token))["id"]],
        "session_id": [referrer.get("/api/sessions").json()["items"][0]["id"]],
        "referral_id": [referral["id"]],
        "match_id": [match["id"]],
        "agreement_id": [agreement["id"]],
    }


def filled(route: Route, belongings: dict[str, list[str]]) -> str:
    """Put another's id wherever the path takes one; of what the other has none, an id of another thing of his."""
    parts = []
    for part in route.path.split("/"):
        name = part.strip("{}").partition(":")[0]
        ids = belongings.get(name, belongings["agreement_id"])
        parts.append(
            ids[0] if part.startswith("{") and part.endswith(":uuid}") else "x" if part.startswith("{") else part
        )
    return "/".join(parts)


def rows(look: Look, belongings: dict[str, list[str]]) -> list[tuple[object, ...]]:
    """Return all that is the others', but for what tells who was refused."""
    tables = look.execute(
        "select c.oid::regclass::text from pg_class as c where c.relkind in ('r', 'p') and not c.relispartition "
        "and c.relowner::regrole::text ~ '^brokerflow_' and c.oid::regclass::text <> 'shared.audit_log' order by 1"
    ).fetchall()
    ids = "|".join(each for group in belongings.values() for each in group)
    every = " union all ".join(f"select '{table}', x::text from {table} as x" for (table,) in tables)
    return look.execute(f"select * from ({every}) as r (t, x) where x ~ %s order by 1, 2".encode(), [ids]).fetchall()


def test_every_id_of_every_route_is_nothing_to_a_stranger(
    belongings: dict[str, list[str]], stranger: Caller, client: httpx.Client, look: Look, tmp_path: Path
) -> None:
    held = [each for each in live(Organization(stranger)) if "6" not in each.name.split()[-1:]]
    before, wrong = rows(look, belongings), []
    named = [r for r in routes(tmp_path / "described") if ":uuid}" in r.path and str(r) not in SHARED]
    assert len(named) > 30
    for route in named:
        for credential in held:
            path = filled(route, belongings)
            headers = {**bearer(credential.token), **credential.headers}
            answer = client.request(route.method, path, json=route.body, headers=headers)
            if answer.status_code not in {401, 403, 404}:
                wrong.append((str(route), credential.name, answer.status_code, answer.text[:200]))
    assert wrong == []
    assert rows(look, belongings) == before


def test_no_body_takes_a_field_that_it_does_not_name(referrer: Caller, tmp_path: Path) -> None:
    """Nobody assigns what the database decides: an owner, a status, a time."""
    smuggled = {
        "id": "01a20395-0000-7000-8000-000000000000", "status": "effective", "created_at": "2001-01-01T00:00:00Z",
        "organization_id": referrer.broker_id, "user_id": referrer.user_id, "is_platform_admin": True, "version": 9,
        "__class__": "x", "from_broker_id": referrer.broker_id,
    }  # fmt: skip
    wrong = []
    for route in routes(tmp_path / "described"):
        if not isinstance(route.body, dict) or "session" not in route.taken.kinds:
            continue
        path = "/".join(str(smuggled["id"]) if part.startswith("{") else part for part in route.path.split("/"))
        for name in smuggled.keys() - route.body.keys():
            answer = referrer.request(route.method, path, json={**route.body, name: smuggled[name]})
            told = {error["field"] for error in answer.json().get("errors", [])}
            if answer.status_code != 422 or name not in told:
                wrong.append((str(route), name, answer.status_code, answer.text[:200]))
    assert wrong == []


def test_a_key_is_each_tenants_own_also_at_once(referrer: Caller, stranger: Caller, look: Look) -> None:
    """Parallel retries of one request with one key: each gets his own answer, and there is one effect for each."""
    key = {"Idempotency-Key": "the-very-same"}

    def ask(caller: Caller) -> httpx.Response:
        with httpx.Client(base_url=caller.base_url, headers=caller.headers, timeout=30) as client:
            while (answer := client.post("/api/referrals", json=REFERRAL, headers=key)).status_code == 409:
                assert answer.json()["code"] == "idempotency_in_flight"
            return answer

    people = [referrer, stranger] * 4
    answers = at_once([lambda caller=caller: ask(caller) for caller in people])  # type: ignore[misc]
    told = {
        (caller.broker_id, answer.json()["id"], answer.json()["broker_id"])
        for caller, answer in zip(people, answers, strict=True)
    }
    assert {answer.status_code for answer in answers} == {201}
    assert len(told) == 2
    assert all(broker == own for own, _, broker in told)
    assert look.execute("select count(*) from agreement.referrals").fetchone() == (2,)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "GETT"])
def test_no_other_verb_does_anything(referrer: Caller, look: Look, method: str) -> None:
    """Nor does a header that names another one."""
    answer = referrer.request(method, "/api/referrals", headers={"X-HTTP-Method-Override": "POST"})
    assert answer.status_code in {200, 204, 400, 405}
    assert answer.status_code >= 400 or method in {"OPTIONS", "get"}
    refer(referrer)
    override = {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST"}
    assert referrer.get("/api/referrals", headers=override).status_code == 200
    assert look.execute("select count(*) from agreement.referrals").fetchone() == (1,)


PATHS = [
    "/api/../api/referrals/%2e%2e/whoami", "/api/referrals/..%2f..%2fwhoami", "/api/referrals/%00",
    "/api/referrals/%252e%252e", "/schema/assets/../../pyproject.toml", "/schema/assets/%2e%2e/%2e%2e/app/main.py",
    "/schema/assets/..%2f..%2f..%2fetc%2fpasswd", "/schema/assets/%252e%252e%252fetc/passwd",
    "/schema/assets//etc/passwd",
    "/device/../../etc/passwd", "/api/referrals;x=y", "/api/referrals/\\..\\x", "/%c0%ae%c0%ae/etc/passwd",
]  # fmt: skip
CROOKED = {
    "two lengths": [b"content-length: 5", b"content-length: 6"],
    "length and chunks": [b"content-length: 5", b"transfer-encoding: chunked"],
    "a negative length": [b"content-length: -1"],
    "a length with a sign": [b"content-length: +5"],
    "two lengths in one": [b"content-length: 5, 6"],
    "chunked twice": [b"transfer-encoding: chunked, chunked"],
    "an unknown encoding": [b"transfer-encoding: xchunked"],
    "a folded header": [b"x-one: a", b" transfer-encoding: chunked"],
    "a space before the colon": [b"content-length : 5"],
    "a nul": [b"x-one: a\x00b"],
    "a lone return": [b"x-one: a\rtransfer-encoding: chunked"],
    "no host": [],
    "a header of 200 kB": [b"x-one: " + b"a" * 200_000],
    "ten thousand headers": [b"x-%d: a" % number for number in range(10_000)],
}


@contextmanager
def wire(address: str) -> Iterator[socket.socket]:
    """Open a connection on which anything may be said."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        yield connection


def said(connection: socket.socket) -> bytes:
    """Read until the service ends it."""
    heard = b""
    try:
        while chunk := connection.recv(65_536):
            heard += chunk
    except ConnectionResetError:
        pass
    return heard


def test_a_crooked_path_leads_nowhere(address: str, referrer: Caller) -> None:
    for path in PATHS:
        with wire(address) as connection:
            request = (
                f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {referrer.token}\r\nconnection: close\r\n\r\n"
            )
            connection.sendall(request.encode())
            status, _, body = said(connection).partition(b"\r\n")
            assert (path, status.split()[1] in {b"400", b"404", b"405"}) == (path, True)
            assert not any(word in body for word in (b"root:", b"[project]", b"import"))


@pytest.mark.parametrize("trick", CROOKED)
def test_a_crooked_request_is_one_refused_request(address: str, referrer: Caller, look: Look, trick: str) -> None:
    """What stands behind it on the connection is never taken for a request of its own that does something."""
    inner = json.dumps(REFERRAL).encode()
    hidden = (
        b"POST /api/referrals HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer %b\r\n"
        b"content-length: %d\r\n\r\n%b" % (referrer.token.encode(), len(inner), inner)
    )
    with wire(address) as connection:
        head = [b"POST /auth/login HTTP/1.1", b"host: x", b"content-type: application/json", *CROOKED[trick]]
        connection.sendall(b"\r\n".join(head) + b"\r\n\r\n0\r\n\r\n" + hidden)
        connection.settimeout(5)
        connection.shutdown(socket.SHUT_WR)
        heard = said(connection)
    assert heard[9:10] in {b"4", b""}, heard[:200]
    assert heard.count(b"HTTP/1.1 2") == 0
    assert look.execute("select count(*) from agreement.referrals").fetchone() == (0,)


def test_slow_bodies_hold_up_nobody(address: str, referrer: Caller) -> None:
    """Fifty clients that never finish what they say, and one who does."""
    slow = [socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) for _ in range(50)]
    try:
        for number, connection in enumerate(slow):
            credential = f"authorization: Bearer {referrer.token}\r\n" if number % 2 else ""
            connection.sendall(
                f"POST /api/referrals HTTP/1.1\r\nhost: x\r\n{credential}content-type: application/json\r\n"
                'content-length: 1000\r\n\r\n{"region":'.encode()
            )
        assert refer(referrer)["status"] == "open"
    finally:
        for connection in slow:
            connection.close()
    assert referrer.get("/api/whoami").status_code == 200
