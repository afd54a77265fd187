"""Two services on one database: what one ends, the other knows with its next request."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import Look, bearer, created, found_organization, log_in, problem, register, register_and_login
from tests.conftest import Database
from tests.redis import running_redis

COMMAND = [sys.executable, "-c", "from app.cli import main; main()", "serve", "--port", "0"]


@contextmanager
def worker(database: Database, home: Path, session_url: str) -> Iterator[httpx.Client]:
    """Run `brokerflow serve` as a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BROKERFLOW_")}
    variables = {"APP_URL": database.app_url, "OWNER_URL": database.owner_url, "HOME": str(home),
                 "SESSION_URL": session_url, "LOG_LEVEL": "warning", "LOGIN_LIMIT": "100000"}  # fmt: skip
    environment = {**kept, **{f"BROKERFLOW_{name}": value for name, value in variables.items()}}
    with subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = re.findall(r"http://\S+", process.stdout.readline())[0]
            with httpx.Client(base_url=address, timeout=30) as client:
                yield client
        finally:
            process.terminate()


@pytest.fixture(params=["postgresql", "redis"])
def workers(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[httpx.Client, ...]]:
    """Two processes that share a home, a database and, in one of two runs, a Redis."""
    with ExitStack() as stack:
        url = stack.enter_context(running_redis()).url if request.param == "redis" else ""
        yield tuple(stack.enter_context(worker(database, tmp_path, url)) for _ in range(2))


def me(client: httpx.Client, token: str) -> int:
    return client.get("/api/me", headers=bearer(token)).status_code


def test_a_session_that_one_ends_the_other_refuses(workers: tuple[httpx.Client, httpx.Client]) -> None:
    """By logging out, one by one, and everywhere."""
    here, there = workers
    email = "rita@north.example"
    register(here, email)
    token = log_in(here, email)
    assert me(there, token) == 200
    assert there.post("/auth/logout", headers=bearer(token)).status_code == 204
    assert me(here, token) == 401

    first, second = log_in(here, email), log_in(there, email)
    items = here.get("/api/sessions", headers=bearer(first)).json()["items"]
    [other] = [item["id"] for item in items if not item["is_current"]]
    assert me(here, second) == 200
    assert here.delete(f"/api/sessions/{other}", headers=bearer(first)).status_code == 204
    assert me(there, second) == 401

    others = [log_in(client, email) for client in (here, there, here)]
    assert there.delete("/api/sessions", headers=bearer(first)).status_code == 204
    assert {me(client, token) for client in workers for token in (*others, first)} == {401}


def test_what_is_revoked_both_refuse(workers: tuple[httpx.Client, httpx.Client], look: Look) -> None:
    here, there = workers
    session = register_and_login(here, "rita@north.example")
    body = {"name": "x", "expires_in_days": 1}
    token = created(here.post("/api/tokens", json=body, headers=bearer(session)))
    assert me(there, token["token"]) == 200
    assert here.delete(f"/api/tokens/{token['id']}", headers=bearer(session)).status_code == 204
    assert me(there, token["token"]) == 401
    assert me(there, session) == 200
    look.execute("set role brokerflow_guard; select apiauth.revoke_all('rita@north.example')")
    assert {me(client, session) for client in workers} == {401}


class Adam:
    """A member of an organization, whose owner changes his role on one worker while he acts on the other."""

    def __init__(self, here: httpx.Client, there: httpx.Client) -> None:
        email = "adam@north.example"
        self._here, self._there = here, there
        self._owner = register_and_login(here, "olga@north.example")
        north = found_organization(here, self._owner, "north")["id"]
        user, self.token = register(here, email), log_in(here, email)
        members = f"/api/organizations/{north}/members"
        created(here.post(members, json={"email": email, "role": "admin"}, headers=bearer(self._owner)))
        self._member, self._projects = f"{members}/{user['id']}", f"/api/organizations/{north}/projects"

    def build(self, slug: str) -> httpx.Response:
        """Do what takes an admin."""
        return self._there.post(self._projects, json={"name": slug, "slug": slug}, headers=bearer(self.token))

    def become(self, role: str) -> None:
        """Be given another role."""
        assert self._here.patch(self._member, json={"role": role}, headers=bearer(self._owner)).is_success


def test_a_demotion_holds_for_the_next_request_of_a_live_session(workers: tuple[httpx.Client, httpx.Client]) -> None:
    adam = Adam(*workers)
    assert adam.build("one").status_code == 201
    adam.become("viewer")
    problem(adam.build("two"), 403, "forbidden")
    assert me(workers[1], adam.token) == 200
    adam.become("admin")
    assert adam.build("three").status_code == 201, "its user has just logged in"


@pytest.mark.parametrize("workers", ["postgresql"], indirect=True)
def test_a_session_that_is_older_than_its_users_rise_ends(
    workers: tuple[httpx.Client, httpx.Client], look: Look
) -> None:
    adam = Adam(*workers)
    adam.become("viewer")
    aged = "created_at = created_at - interval '6 minutes', expires_at = expires_at - interval '6 minutes'"
    look.execute(f"update apiauth.sessions set {aged}".encode())
    adam.become("admin")
    problem(adam.build("one"), 401, "unauthenticated")
    adam.token = log_in(workers[0], "adam@north.example")
    assert adam.build("two").status_code == 201
