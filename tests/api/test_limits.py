"""Limits on logging in and registering by address, and on requests by credential, with the headers that say so."""

import hashlib
import uuid
from pathlib import Path

import httpx
import pytest

from app.apiauth.limits import _network
from tests.api.conftest import PASSWORD, Look, at_once, bearer, problem, register, serving
from tests.api.conftest import log_in as token_of
from tests.conftest import Database


def log_in(client: httpx.Client, email: str = "rita@north.example", password: str = PASSWORD) -> httpx.Response:
    return client.post("/auth/login", json={"email": email, "password": password})


def test_one_more_than_the_limit_is_429(database: Database, tmp_path: Path) -> None:
    with serving(database, tmp_path, login_limit=6) as address, httpx.Client(base_url=address) as client:
        register(client, "rita@north.example")
        first = log_in(client)
        assert first.status_code == 200
        assert first.headers["RateLimit-Limit"] == "1"
        refused = log_in(client)
        problem(refused, 429, "too_many_requests")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.headers["RateLimit-Remaining"] == "0"
        for number in range(4):
            assert log_in(client, f"nobody{number}@north.example").status_code == 401
        refused = log_in(client, "nobody5@north.example")
        problem(refused, 429, "too_many_requests")
        assert 1 <= int(refused.headers["Retry-After"]) <= 10
        assert refused.headers["RateLimit-Limit"] == "6"


def test_registering_has_a_limit_of_its_own(database: Database, tmp_path: Path) -> None:
    with serving(database, tmp_path, login_limit=2) as address, httpx.Client(base_url=address) as client:
        for number in range(2):
            register(client, f"rita{number}@north.example")
        body = {"email": "rita9@north.example", "password": PASSWORD, "full_name": "Rita"}
        problem(client.post("/auth/register", json=body), 429, "too_many_requests")
        assert log_in(client, "rita0@north.example").status_code == 200


def test_two_processes_together_let_no_more_through(database: Database, tmp_path: Path) -> None:
    with (
        serving(database, tmp_path / "one", login_limit=20) as one,
        serving(database, tmp_path / "two", login_limit=20) as two,
        httpx.Client(base_url=one, timeout=30) as first,
        httpx.Client(base_url=two, timeout=30) as second,
    ):
        calls = [
            lambda client=client, number=number: log_in(client, f"nobody{number}@north.example").status_code
            for number in range(20)
            for client in (first, second)
        ]
        statuses = at_once(calls)
        # A third of a second fills one again; the calls take a few of them at most.
        assert 20 <= statuses.count(401) <= 24
        assert set(statuses) == {401, 429}


def test_an_attempt_counts_whatever_becomes_of_it(database: Database, tmp_path: Path, look: Look) -> None:
    with serving(database, tmp_path, login_limit=12) as address, httpx.Client(base_url=address) as client:
        register(client, "rita@north.example")
        statuses = [log_in(client, password="wrong password").status_code for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert log_in(client).status_code == 429, "also with the right one"
        look.execute("update apiauth.rate_buckets set filled_at = filled_at - interval '1 minute'")
        assert log_in(client).status_code == 200


def test_an_account_has_its_attempts_once_in_whatever_spelling(database: Database, tmp_path: Path) -> None:
    """A spelling that the database takes for the account gives nobody attempts of its own."""
    spellings = ("rita@north.example", "RITA@north.example", "\uff32ita@north.example", "r\u0131ta@north.example")
    with serving(database, tmp_path, login_limit=12) as address, httpx.Client(base_url=address) as client:
        register(client, spellings[0])
        statuses = [log_in(client, email, "wrong password").status_code for email in spellings]
    assert statuses == [401, 401, 429, 401], "the last is another's"


def test_a_credential_has_so_many_requests_a_minute(database: Database, tmp_path: Path, look: Look) -> None:
    with serving(database, tmp_path, rate_limit=4) as address, httpx.Client(base_url=address) as client:
        register(client, "rita@north.example")
        first, second = (bearer(token_of(client, "rita@north.example")) for _ in range(2))
        told = [client.get("/api/me", headers=first).headers for _ in range(2)]
        assert [each["RateLimit-Limit"] for each in told] == ["4", "4"]
        assert [each["RateLimit-Remaining"] for each in told] == ["3", "2"]
        assert [each["RateLimit-Reset"] for each in told] == ["15", "30"]
        # What is refused counts as well: it was a request.
        problem(client.get(f"/api/agreements/{uuid.uuid4()}", headers=first), 404, "not_found")
        problem(client.post("/api/organizations", json={"title": "", "slug": "/"}, headers=first), 422, "invalid")
        refused = client.get("/api/me", headers=first)
        problem(refused, 429, "too_many_requests")
        assert 1 <= int(refused.headers["Retry-After"]) <= 15
        assert refused.headers["RateLimit-Remaining"] == "0"
        assert client.get("/api/me", headers=second).headers["RateLimit-Remaining"] == "3"
        look.execute("update apiauth.rate_buckets set filled_at = filled_at - interval '15 seconds'")
        assert client.get("/api/me", headers=first).is_success
        problem(client.get("/api/me", headers=first), 429, "too_many_requests")
        assert "RateLimit-Limit" not in client.get("/healthz").headers


def test_credentials_are_not_limited_unless_it_is_said(client: httpx.Client) -> None:
    register(client, "rita@north.example")
    token = bearer(token_of(client, "rita@north.example"))
    assert "RateLimit-Limit" not in client.get("/api/me", headers=token).headers


def test_no_bucket_lets_anybody_in(database: Database, tmp_path: Path, look: Look) -> None:
    with serving(database, tmp_path, rate_limit=4) as address, httpx.Client(base_url=address) as client:
        register(client, "rita@north.example")
        token = token_of(client, "rita@north.example")
        assert client.get("/api/me", headers=bearer(token)).is_success
        digest = hashlib.sha256(token.encode()).digest()
        buckets = look.execute("select key from apiauth.rate_buckets").fetchall()
        assert buckets
        assert not {digest, hashlib.sha256(digest).digest()} & {bytes(key) for (key,) in buckets}


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("", ""),
    ],
)
def test_an_ipv6_site_is_one_address(host: str, network: str) -> None:
    assert _network(host) == network
