"""The application behind uvicorn, and people who talk to it."""

import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
import structlog
import uvicorn
from psycopg import sql
from pydantic import SecretStr
from structlog.testing import LogCapture

from app.apiauth import passwords
from app.main import create_app
from app.settings import Settings
from app.shared import health, tokens
from app.shared.tokens import Prefix
from tests.conftest import PREFIX, Database, Server, _copy_grants, _create, _drop
from tests.http import probe

EMPTIED = (
    "shared.audit_log",
    "shared.idempotency_keys",
    "shared.memberships",
    "shared.organizations",
    "apiauth.passwords",
    "apiauth.sessions",
    "shared.users",
)


class Person(NamedTuple):
    """Somebody with a session."""

    email: str
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        """His credential as a header."""
        return {"Authorization": f"Bearer {self.token}"}


@contextmanager
def serving(app_url: str, home: Path, **settings: object) -> Iterator[str]:
    """Serve the core and the probes; yields the address."""
    app = create_app(
        Settings(app_url=SecretStr(app_url), home=home, **settings),  # type: ignore[arg-type]
        handlers=[*health.handlers, *probe.handlers],
    )
    config = uvicorn.Config(app, port=0, loop="uvloop", http="httptools", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def enrolled(app_url: str) -> Person:
    """Register somebody with a session, as the service would."""
    person = Person(f"{secrets.token_hex(6)}@example.org", tokens.mint(Prefix.SESSION))
    key = secrets.token_bytes(32)
    with psycopg.connect(app_url, autocommit=True) as connection:
        connection.execute(
            "select apiauth.register(%s, %s, %s, %s, %s)",
            [person.email, "A B", secrets.token_bytes(16), key, passwords.COST.method],
        )
        connection.execute(
            "select apiauth.open_session(%s, %s, %s, '1 hour', '1 day')",
            [person.email, key, tokens.digest(person.token)],
        )
    return person


@pytest.fixture(scope="package")
def house(server: Server, template: str) -> Iterator[Database]:
    """One database for all of these tests: each finds it empty."""
    name = f"{PREFIX}{server.run}_http"
    _create(server.admin, name, template)
    _copy_grants(server.admin, template, name)
    yield server.database(name)
    _drop(server.admin, [name])


@pytest.fixture(scope="package")
def home() -> Iterator[Path]:
    """The service's home folder, with its keys."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="package")
def capture() -> Iterator[LogCapture]:
    """Keeps what the service logs."""
    capture = LogCapture()
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture
    structlog.configure(processors=before)


@pytest.fixture
def log(capture: LogCapture) -> list[MutableMapping[str, Any]]:
    """What the service logs during the test."""
    capture.entries.clear()
    return capture.entries


@pytest.fixture(scope="package")
def address(house: Database, home: Path, capture: LogCapture) -> Iterator[str]:
    """The address of the service."""
    with serving(house.app_url, home) as address:
        yield address


@pytest.fixture
def database(house: Database) -> Iterator[Database]:
    """The database of these tests, emptied afterwards."""
    yield house
    with psycopg.connect(house.superuser_url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")  # what is written once is emptied too
        for table in EMPTIED:
            connection.execute(sql.SQL("delete from {}").format(sql.Identifier(*table.split("."))))


@pytest.fixture
def anybody(address: str, database: Database) -> Iterator[httpx.Client]:
    """A client without a credential."""
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture
def person(database: Database) -> Person:
    """Somebody with a session."""
    return enrolled(database.app_url)


@pytest.fixture
def client(address: str, person: Person) -> Iterator[httpx.Client]:
    """A client with that session's token."""
    with httpx.Client(base_url=address, timeout=30, headers=person.bearer) as client:
        yield client


@pytest.fixture
def look(database: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A superuser's look at what was written."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        yield connection


def problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Check that an answer is this problem, whole, and return it."""
    body: dict[str, object] = response.json()
    assert (response.status_code, body["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "detail"} <= body.keys()
    return body
