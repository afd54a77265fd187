"""Sessions in Redis: tickets that only the database believes, in a store that may be lost, read and turned back."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from app.settings import Settings
from app.shared import tokens
from app.shared.tokens import Prefix
from tests.api.conftest import Caller, Look, bearer, created, log_in, problem, register, register_and_login, serving
from tests.conftest import Database
from tests.redis import RedisServer, running_redis

Enrol = Callable[..., Caller]


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def redis(running: RedisServer) -> RedisServer:
    """A Redis that holds nothing."""
    with running.client as client:
        client.flushall()
    return running


@pytest.fixture
def address(database: Database, tmp_path: Path, redis: RedisServer) -> Iterator[str]:
    """The address of a service whose sessions live in Redis."""
    with serving(database, tmp_path, session_url=redis.url) as address:
        yield address


def whoami(client: httpx.Client, token: str) -> httpx.Response:
    return client.get("/api/whoami", headers=bearer(token))


def refused(client: httpx.Client, token: str) -> None:
    problem(whoami(client, token), 401, "unauthenticated")


def key_of(token: str) -> str:
    return f"brokerflow:session:{hashlib.sha256(tokens.digest(token)).hexdigest()}"


def test_a_session_lives_in_redis_and_in_no_table(enrol: Enrol, redis: RedisServer, look: Look) -> None:
    rita = enrol("rita")
    told = rita.get("/api/whoami").json()
    assert (told["kind"], told["user_id"], told["scopes"]) == ("session", rita.user_id, None)
    assert look.execute("select count(*) from apiauth.sessions").fetchone() == (0,)
    with redis.client as client:
        assert client.exists(key_of(rita.token))
    [[detail]] = look.execute("select detail from shared.audit_log where action = 'session.open'").fetchall()
    assert detail["session_id"] == told["credential_id"]


def test_the_cookie_carries_it_too(client: httpx.Client, address: str) -> None:
    register(client, "rita@north.example")
    body = {"email": "rita@north.example", "password": "correct horse battery staple"}
    with httpx.Client(base_url=address, timeout=30) as browser:
        assert browser.post("/auth/login", json=body).is_success
        assert browser.get("/api/me").is_success
        problem(browser.delete("/api/sessions"), 403, "forbidden")
        assert browser.post("/auth/logout", headers={"Origin": address}).status_code == 204
        assert browser.get("/api/me").status_code == 401


def test_an_unknown_token_and_one_of_a_clients_choice_are_401(client: httpx.Client, redis: RedisServer) -> None:
    for _ in range(2):
        refused(client, tokens.mint(Prefix.SESSION))
    with redis.client as look:
        assert look.dbsize() == 0, "asking made a session"


def test_what_redis_holds_enters_with_its_token_only(enrol: Enrol, client: httpx.Client, redis: RedisServer) -> None:
    rita, seth = enrol("rita"), enrol("seth")
    thief = tokens.mint(Prefix.SESSION)
    with redis.client as store:
        held = store.hgetall(key_of(rita.token))
        assert not [part for part in (rita.token, tokens.digest(rita.token).hex()) if part in f"{store.keys()}{held}"]
        store.hset(key_of(thief), mapping=held)  # rita's ticket under a token of the thief's
        refused(client, thief)
        store.hset(key_of(seth.token), "ticket", held["ticket"])
        refused(client, seth.token)
        ticket = held["ticket"].replace(rita.user_id, seth.user_id)
        assert ticket != held["ticket"]
        store.hset(key_of(rita.token), "ticket", ticket)  # the digest is right, the seal is not
        refused(client, rita.token)
        store.hset(key_of(rita.token), "ticket", held["ticket"])
    assert whoami(client, rita.token).json()["user_id"] == rita.user_id


def test_logging_out_ends_it_for_the_database_too(enrol: Enrol, client: httpx.Client, redis: RedisServer) -> None:
    rita = enrol("rita")
    with redis.client as store:
        held = store.hgetall(key_of(rita.token))
        assert rita.post("/auth/logout").status_code == 204
        refused(client, rita.token)
        assert not store.exists(key_of(rita.token))
        store.hset(key_of(rita.token), mapping=held)  # from an older copy of Redis
    refused(client, rita.token)


def test_sessions_are_listed_and_ended_one_by_one(enrol: Enrol, client: httpx.Client) -> None:
    rita, seth = enrol("rita"), enrol("seth")
    later = log_in(client, rita.email)
    items = rita.get("/api/sessions").json()["items"]
    assert [item["is_current"] for item in items] == [False, True]
    assert items[0].keys() == {"id", "created_at", "last_seen_at", "expires_at", "is_current"}
    assert items[1]["created_at"] <= items[1]["last_seen_at"] < items[1]["expires_at"]
    problem(seth.delete(f"/api/sessions/{items[0]['id']}"), 404, "not_found")
    assert whoami(client, later).is_success
    assert rita.delete(f"/api/sessions/{items[0]['id']}").status_code == 204
    refused(client, later)
    [left] = rita.get("/api/sessions").json()["items"]
    assert left == {**items[1], "last_seen_at": left["last_seen_at"]}
    problem(rita.delete(f"/api/sessions/{items[0]['id']}"), 404, "not_found")


def test_logging_out_everywhere_ends_also_what_redis_did_not_list(
    enrol: Enrol, client: httpx.Client, redis: RedisServer, look: Look
) -> None:
    rita, seth = enrol("rita"), enrol("seth")
    others = [log_in(client, rita.email) for _ in range(2)]
    token = created(rita.post("/api/tokens", json={"name": "x", "expires_in_days": 1}))["token"]
    with redis.client as store:
        store.delete(f"brokerflow:sessions-of:{rita.user_id}")
        assert rita.delete("/api/sessions").status_code == 204
        assert store.exists(key_of(others[0])), "it was to be unlisted"
    for ended in (rita.token, *others):
        refused(client, ended)
    assert whoami(client, token).is_success
    assert seth.get("/api/me").is_success
    assert whoami(client, log_in(client, rita.email)).is_success, "a login after it counts"
    [[detail]] = look.execute("select detail from shared.audit_log where action = 'session.revoke'").fetchall()
    assert len(detail["session_ids"]) == 1


def test_a_deleted_user_is_nobody(enrol: Enrol, client: httpx.Client, look: Look) -> None:
    rita = enrol("rita")
    look.execute("delete from shared.users where id = %s", [rita.user_id])
    refused(client, rita.token)


@contextmanager
def ending(database: Database, home: Path, redis: RedisServer, **ends: int) -> Iterator[tuple[httpx.Client, str]]:
    """Serve with sessions that end after so many seconds; yields a client and the token of one."""
    with (
        serving(database, home, session_url=redis.url, **ends) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield client, register_and_login(client, "rita@north.example")


def test_an_idle_session_ends(database: Database, tmp_path: Path, redis: RedisServer) -> None:
    with ending(database, tmp_path, redis, session_idle=1000) as (client, token), redis.client as store:
        key = key_of(token)
        assert 990_000 < store.pttl(key) <= 1_000_000
        store.pexpire(key, 5_000)  # as if it had been idle for long
        assert whoami(client, token).is_success
        assert 990_000 < store.pttl(key) <= 1_000_000, "who is seen is not idle"
        store.pexpire(key, 1)
        _until(lambda: not store.exists(key))
        refused(client, token)
        assert not store.exists(key)


def test_no_activity_moves_the_absolute_end(database: Database, tmp_path: Path, redis: RedisServer) -> None:
    with ending(database, tmp_path, redis, session_absolute=60) as (client, token), redis.client as store:
        ends = store.pexpiretime(key_of(token))
        assert 50_000 < store.pttl(key_of(token)) <= 60_000
        assert whoami(client, token).is_success
        assert store.pexpiretime(key_of(token)) == ends


def test_the_database_ends_what_redis_keeps_too_long(database: Database, tmp_path: Path, redis: RedisServer) -> None:
    with ending(database, tmp_path, redis, session_absolute=1) as (client, token), redis.client as store:
        store.hincrby(key_of(token), "ends", 3_600_000)
        store.persist(key_of(token))
        _until(lambda: whoami(client, token).status_code == 401)
        assert store.exists(key_of(token)), "it was Redis that ended it"


def test_what_is_deleted_while_its_request_runs_stays_deleted(
    enrol: Enrol, client: httpx.Client, redis: RedisServer, database: Database
) -> None:
    rita = enrol("rita")
    with psycopg.connect(database.superuser_url) as blocker, redis.client as store:
        blocker.execute("lock table shared.users in access exclusive mode")
        answers: list[int] = []
        request = threading.Thread(target=lambda: answers.append(rita.get("/api/me").status_code))
        request.start()
        _until(lambda: _is_waiting(database))
        assert store.delete(key_of(rita.token)) == 1
        blocker.rollback()
        request.join()
        assert answers == [200]
        assert not store.exists(key_of(rita.token))
    refused(client, rita.token)


def _is_waiting(database: Database) -> bool:
    with psycopg.connect(database.superuser_url) as connection:
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return connection.execute(waiting.encode()).fetchone() != (0,)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def health(client: httpx.Client) -> tuple[int, str | None]:
    response = client.get("/healthz")
    assert response.elapsed.total_seconds() < 2
    if not response.is_success:
        assert problem(response, 503, "session_store_unavailable")["database"] == "ok"
    return response.status_code, response.json().get("session_store")


def unavailable(response: httpx.Response) -> None:
    problem(response, 503, "session_store_unavailable")
    assert response.headers["retry-after"] == "1"
    assert response.elapsed.total_seconds() < 2


def test_a_killed_redis_is_503_and_comes_back(enrol: Enrol, client: httpx.Client, redis: RedisServer) -> None:
    rita = enrol("rita")
    token = created(rita.post("/api/tokens", json={"name": "x", "expires_in_days": 1}))["token"]
    assert health(client) == (200, "ok")
    redis.end()
    try:
        unavailable(rita.get("/api/me"))
        unavailable(rita.post("/auth/logout"))
        body = {"email": rita.email, "password": "correct horse battery staple"}
        unavailable(client.post("/auth/login", json=body))
        assert health(client) == (503, "unavailable")
        told = problem(client.get("/api/system/health"), 503, "session_store_unavailable")
        assert (told["database"], told["schema"], told["session_store"]) == ("ok", "ok", "unavailable")
        assert whoami(client, token).is_success, "a token is no session"
    finally:
        redis.start()
    _until(lambda: health(client) == (200, "ok"))
    assert rita.get("/api/me").is_success


def test_a_frozen_redis_is_503_and_comes_back(enrol: Enrol, client: httpx.Client, redis: RedisServer) -> None:
    rita = enrol("rita")
    with redis.frozen():
        unavailable(rita.get("/api/me"))
        assert health(client) == (503, "unavailable")
    _until(lambda: health(client) == (200, "ok"))
    assert rita.get("/api/me").is_success


def test_a_session_of_postgresql_is_none_of_redis(
    database: Database, tmp_path: Path, redis: RedisServer, client: httpx.Client
) -> None:
    with serving(database, tmp_path / "postgresql") as address, httpx.Client(base_url=address, timeout=30) as other:
        token = register_and_login(other, "rita@north.example")
        assert whoami(other, token).is_success
        refused(client, token)
        refused(other, log_in(client, "rita@north.example"))


def test_redis_is_imported_where_it_is_used_only() -> None:
    told = "import sys, app.main, app.cli; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert Settings().session_url is None
