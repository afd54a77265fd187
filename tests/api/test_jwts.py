"""JWTs: minted by a secret key for less than itself, refused for every lie in them, and once if so minted."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import Caller, Json, Look, at_once, bearer, created, fields, problem

Enrol = Callable[..., Caller]


@pytest.fixture
def owner(enrol: Enrol) -> Caller:
    """The founder of the broker `north`."""
    return enrol("olga", organization="north", broker=True)


@pytest.fixture
def environment(owner: Caller) -> Json:
    """An environment of `north`, with its keys."""
    return new_environment(owner)


def new_environment(owner: Caller, type_: str = "PRODUCTION") -> Json:
    slug = uuid.uuid4().hex[:8]
    path = f"/api/organizations/{owner.organization['id']}/projects"
    project = created(owner.post(path, json={"name": "Web", "slug": slug}))
    path = f"/api/projects/{project['id']}/environments"
    return created(owner.post(path, json={"slug": "live", "type": type_}))


def mint(client: httpx.Client, environment: Json, key: str | None = None, **body: object) -> httpx.Response:
    return client.post(
        f"/api/environments/{environment['id']}/jwt",
        json={"scopes": ["agreements:read"]} | body,
        headers=bearer(key or environment["secret_key"]),
    )


def encoded(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def whoami(client: httpx.Client, token: str) -> httpx.Response:
    return client.get("/api/whoami", headers=bearer(token))


def test_a_minted_token_is_its_environment_for_less(client: httpx.Client, environment: Json) -> None:
    answer = created(mint(client, environment))
    told = whoami(client, answer["token"]).json()
    assert (told["kind"], told["user_id"], told["role"]) == ("jwt", None, None)
    assert (told["credential_id"], told["environment_id"]) == (answer["jti"], environment["id"])
    assert told["scopes"] == ["agreements:read"]
    assert client.get("/api/agreements", headers=bearer(answer["token"])).is_success


def test_its_claims_are_the_contracts(client: httpx.Client, environment: Json) -> None:
    header, claims, _ = created(mint(client, environment))["token"].split(".")
    assert decoded(header).keys() == {"alg", "kid", "typ"}
    claims = decoded(claims)
    assert claims.keys() == {"iss", "aud", "sub", "iat", "exp", "scopes", "one_time", "jti"}
    assert (claims["sub"], claims["scopes"], claims["one_time"]) == (environment["id"], ["agreements:read"], False)
    assert claims["exp"] - claims["iat"] == 15 * 60


def test_it_lives_for_a_second_to_thirty_days(client: httpx.Client, environment: Json) -> None:
    for seconds in (1, 30 * 24 * 3600):
        claims = decoded(created(mint(client, environment, expires_in=seconds))["token"].split(".")[1])
        assert claims["exp"] - claims["iat"] == seconds
    for wrong in (0, -1, 30 * 24 * 3600 + 1, 1.5, "60", None):
        assert fields(problem(mint(client, environment, expires_in=wrong), 422, "invalid")) == ["expires_in"]


def test_reserved_claims_are_not_the_callers(client: httpx.Client, environment: Json) -> None:
    for claim in ("iss", "aud", "sub", "iat", "exp", "jti", "claims"):
        assert fields(problem(mint(client, environment, **{claim: "x"}), 422, "invalid")) == [claim]


def test_only_an_environments_own_secret_key_mints(owner: Caller, client: httpx.Client, environment: Json) -> None:
    other = new_environment(owner)
    problem(mint(client, environment, other["secret_key"]), 404, "not_found")
    jwt = created(mint(client, environment, scopes=["tokens:write"]))["token"]
    for key in (owner.token, jwt, new_environment(owner, "STAGING")["public_key"]):
        problem(mint(client, environment, key), 401, "unauthenticated")
    for scope in ("organizations:write", "agreements:write", "everything"):
        problem(mint(client, environment, scopes=[scope]), 403, "insufficient_scope")


def test_it_does_no_more_than_its_scopes_say(client: httpx.Client, environment: Json) -> None:
    token = created(mint(client, environment, scopes=[]))["token"]
    assert whoami(client, token).json()["scopes"] == []
    problem(client.get("/api/agreements", headers=bearer(token)), 403, "insufficient_scope")
    problem(client.get("/api/organizations", headers=bearer(token)), 401, "unauthenticated")


def test_it_ends_with_the_key_that_minted_it(owner: Caller, client: httpx.Client, environment: Json) -> None:
    token = created(mint(client, environment))["token"]
    rotate = f"/api/environments/{environment['id']}/keys/rotate"
    created(owner.post(rotate, json={"grace_hours": 1}))
    assert whoami(client, token).is_success
    created(owner.post(rotate, json={"grace_hours": 0}))
    problem(whoami(client, token), 401, "unauthenticated")


def test_it_expires(client: httpx.Client, environment: Json) -> None:
    token = created(mint(client, environment, expires_in=1))["token"]
    patience_ends = time.monotonic() + 20
    while whoami(client, token).is_success:
        assert time.monotonic() < patience_ends
    problem(whoami(client, token), 401, "unauthenticated")


def lies(token: str, other: str, secret: str) -> dict[str, str]:
    """Return tokens that claim what nobody minted, by the name of the lie."""
    header, claims, signature = token.split(".")
    told, body = decoded(header), decoded(claims)
    foreign = other.split(".")

    def signed(head: object, key: bytes, payload: object = body) -> str:
        text = f"{encoded(head)}.{encoded(payload)}"
        return f"{text}.{encoded(hmac.digest(key, text.encode(), hashlib.sha256))}"

    flipped = base64.urlsafe_b64decode(signature + "=")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return {
        "none": f"{encoded(told | {'alg': 'none'})}.{claims}.",
        "none in capitals": f"{encoded(told | {'alg': 'NONE'})}.{claims}.{signature}",
        "no signature": f"{header}.{claims}.",
        "rs256": f"{encoded(told | {'alg': 'RS256'})}.{claims}.{signature}",
        "rs256 signed as hs256": signed(told | {"alg": "RS256"}, secret.encode()),
        "hs512": f"{encoded(told | {'alg': 'HS512'})}.{claims}.{signature}",
        "a key in the header": signed(told | {"jwk": {"kty": "oct", "k": encoded(b"x" * 32)}}, b"x" * 32),
        "crit": f"{encoded(told | {'crit': ['exp']})}.{claims}.{signature}",
        "foreign kid": f"{encoded(told | {'kid': decoded(foreign[0])['kid']})}.{claims}.{signature}",
        "unknown kid": f"{encoded(told | {'kid': str(uuid.uuid4())})}.{claims}.{signature}",
        "no kid": signed({"alg": "HS256", "typ": "JWT"}, secret.encode()),
        "the secret key signs": signed(told, secret.encode()),
        "its digest signs": signed(told, hashlib.sha256(secret.encode()).digest()),
        "its digest's digest signs": signed(told, hashlib.sha256(hashlib.sha256(secret.encode()).digest()).digest()),
        "nothing signs": signed(told, b""),
        "foreign claims": f"{header}.{foreign[1]}.{signature}",
        "foreign signature": f"{header}.{claims}.{foreign[2]}",
        "later": f"{header}.{encoded(body | {'exp': body['exp'] + 1})}.{signature}",
        "more": f"{header}.{encoded(body | {'scopes': ['secrets:write']})}.{signature}",
        "a changed byte": f"{header}.{claims}.{encoded(bytes([flipped[0] ^ 1]) + flipped[1:])}",
        "another spelling": f"{header}.{claims}.{signature[:-1]}{last[last.index(signature[-1]) ^ 1]}",
        "padded": f"{token}=",
        "spaces": f"{header}. {claims}.{signature}",
        "one part more": f"{token}.{signature}",
        "five parts": f"{header}..{claims}.{signature}.",
        "dots": "..",
        "long": f"{header}.{'A' * 10**5}.{signature}",
        "not ascii": f"{header[:-1]}\N{LATIN SMALL LETTER E WITH ACUTE}.{claims}.{signature}",
    }


def test_every_lie_is_the_same_401(owner: Caller, client: httpx.Client, environment: Json) -> None:
    token = created(mint(client, environment))["token"]
    other = created(mint(client, new_environment(owner)))["token"]
    for name, lie in lies(token, other, environment["secret_key"]).items():
        headers = {b"Authorization": f"Bearer {lie}".encode()}
        response = client.get("/api/whoami", headers=headers)
        assert response.status_code == 401, name
        problem(response, 401, "unauthenticated")
    assert whoami(client, token).is_success


def test_of_fifty_uses_at_once_exactly_one_succeeds(client: httpx.Client, environment: Json) -> None:
    token = created(mint(client, environment, one_time=True))["token"]
    statuses = at_once([lambda: whoami(client, token).status_code] * 50)
    assert sorted(statuses) == [200] + [401] * 49
    problem(whoami(client, token), 401, "unauthenticated")


def test_a_refusal_of_the_database_is_no_use_and_finding_nothing_is_one(
    client: httpx.Client, environment: Json
) -> None:
    token = created(mint(client, environment, one_time=True))["token"]
    problem(client.get(f"/api/agreements/{uuid.uuid4()}", headers=bearer(token)), 404, "not_found")
    problem(client.get("/api/agreements", headers=bearer(token)), 401, "unauthenticated")
    token = created(mint(client, environment, one_time=True))["token"]
    problem(client.get("/api/whoami", headers=bearer(token) | {"X-Organization": "west"}), 403, "forbidden")
    assert client.get("/api/agreements", headers=bearer(token)).is_success
    problem(client.get("/api/agreements", headers=bearer(token)), 401, "unauthenticated")


def test_one_request_is_one_use_however_many_transactions_it_takes(client: httpx.Client, environment: Json) -> None:
    token = created(mint(client, environment, one_time=True))["token"]
    with client.stream("GET", "/api/events/stream", headers=bearer(token)) as response:
        assert response.status_code == 200
        assert next(response.iter_lines()).startswith(":")
    problem(whoami(client, token), 401, "unauthenticated")


def test_a_dump_holds_neither_the_token_nor_the_service_s_half(
    client: httpx.Client, environment: Json, look: Look
) -> None:
    token = created(mint(client, environment, one_time=True))["token"]
    assert whoami(client, token).is_success
    _, claims, signature = token.split(".")
    tables = look.execute(
        "select oid::regclass::text from pg_class where relkind = 'r' "
        "and relnamespace::regnamespace::text in ('shared', 'apiauth', 'agreement', 'vote')"
    ).fetchall()
    raw = base64.urlsafe_b64decode(signature + "=").hex()
    for (table,) in tables:
        dump = str(look.execute(f"select t::text from {table} as t".encode()).fetchall())
        assert not any(part in dump for part in (claims, signature, raw)), table
