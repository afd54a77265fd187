"""The whole service behind uvicorn on a database of the test's own, and the people who call it."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import psycopg
import pytest
import structlog
import uvicorn
from pydantic import SecretStr

from app.apiauth import passwords
from app.main import create_app
from app.settings import Settings
from tests.conftest import Database

T = TypeVar("T")

PASSWORD = "correct horse battery staple"
FAST = passwords.Cost(rounds=1, kibibytes=8)

Json = dict[str, Any]
Look = psycopg.Connection[tuple[Any, ...]]


class Caller(httpx.Client):
    """An HTTP client that calls as one person, who may work for an organization."""

    def __init__(self, address: str, *, email: str, token: str, user: Json, organization: Json | None = None) -> None:
        super().__init__(base_url=address, timeout=30, headers={"Authorization": f"Bearer {token}"})
        self.email = email
        self.token = token
        self.user = user
        self._organization = organization

    @property
    def user_id(self) -> str:
        """His id."""
        return str(self.user["id"])

    @property
    def organization(self) -> Json:
        """The organization that he came with; whose id is the broker's."""
        assert self._organization is not None
        return self._organization

    @property
    def broker_id(self) -> str:
        """The id of his broker."""
        return str(self.organization["id"])


class Broker(NamedTuple):
    """A broker's organization, and the tokens of those who work there."""

    organization: Json
    owner: str
    agents: list[str]


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Spare the tests the work that makes guessing dear; one test measures the real cost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "COST", FAST)
        yield


@pytest.fixture(scope="session", autouse=True)
def quiet_logs() -> Iterator[None]:
    """Send the service's logs where caplog reads them: printing from its thread races with pytest's capture."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    yield
    structlog.reset_defaults()


@contextmanager
def serving(database: Database, home: Path, **settings: object) -> Iterator[str]:
    """Serve every route on a database; yields the address. People log in more often here than anybody would."""
    chosen: dict[str, Any] = {"login_limit": 100_000, **settings}
    app = create_app(Settings(app_url=SecretStr(database.app_url), home=home, **chosen))
    config = uvicorn.Config(app, port=0, loop="uvloop", http="httptools", ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def address(database: Database, tmp_path: Path) -> Iterator[str]:
    """The address of a service on a database of the test's own."""
    with serving(database, tmp_path) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """A client without a credential."""
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture
def look(database: Database) -> Iterator[Look]:
    """A superuser's look at what was written, and his hand to make time pass."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def enrol(client: httpx.Client) -> Iterator[Callable[..., Caller]]:
    """Make a person who is logged in, by his name; he may found an organization or a broker."""
    with ExitStack() as stack:

        def enrolled(name: str, *, organization: str | None = None, broker: bool = False) -> Caller:
            email = f"{name}@{organization or 'nowhere'}.example".lower()
            user, token = register(client, email), log_in(client, email)
            founded = found_organization(client, token, organization) if organization else None
            if broker and founded:
                make_broker(client, token, founded)
            address = str(client.base_url)
            return stack.enter_context(Caller(address, email=email, token=token, user=user, organization=founded))

        yield enrolled


@pytest.fixture
def referrer(enrol: Callable[..., Caller]) -> Caller:
    """The owner of the broker `north`, who refers clients."""
    return enrol("rita", organization="north", broker=True)


@pytest.fixture
def referee(enrol: Callable[..., Caller]) -> Caller:
    """The owner of the broker `south`, to whom clients are referred."""
    return enrol("seth", organization="south", broker=True)


@pytest.fixture
def stranger(enrol: Callable[..., Caller]) -> Caller:
    """The owner of the broker `west`, who has no part in it."""
    return enrol("wanda", organization="west", broker=True)


@pytest.fixture
def owner(enrol: Callable[..., Caller]) -> Caller:
    """The owner of the organization `north`, which is no broker."""
    return enrol("nora", organization="north")


@pytest.fixture
def other(enrol: Callable[..., Caller]) -> Caller:
    """The owner of the organization `south`, which is none either."""
    return enrol("sam", organization="south")


@pytest.fixture
def judge(enrol: Callable[..., Caller], look: Look) -> Caller:
    """A platform admin, who belongs to no organization."""
    caller = enrol("judith")
    look.execute("select shared.grant_platform_admin(%s)", [caller.email])
    return caller


def bearer(token: str) -> dict[str, str]:
    """Return a token as the header that carries it."""
    return {"Authorization": f"Bearer {token}"}


def register(client: httpx.Client, email: str, password: str = PASSWORD) -> Json:
    """Register somebody; returns the user."""
    body = {"email": email, "password": password, "full_name": email.partition("@")[0].title()}
    return created(client.post("/auth/register", json=body))


def log_in(client: httpx.Client, email: str, password: str = PASSWORD) -> str:
    """Open a session; returns its token. The client keeps no cookie of it."""
    response = client.post("/auth/login", json={"email": email, "password": password})
    client.cookies.clear()
    assert response.status_code == 200, response.text
    return str(response.json()["token"])


def register_and_login(client: httpx.Client, email: str) -> str:
    """Register somebody and open a session; returns its token."""
    register(client, email)
    return log_in(client, email)


def found_organization(client: httpx.Client, token: str, name: str) -> Json:
    """Create an organization whose owner is the token's user."""
    body = {"title": name.title(), "slug": name}
    return created(client.post("/api/organizations", json=body, headers=bearer(token)))


def make_broker(client: httpx.Client, token: str, organization: Json) -> Json:
    """Make an organization a broker, with a tax number of its own."""
    body = {"name": f"{organization['title']} Realty", "fein": f"{secrets.randbelow(10**9):09}"}
    response = client.put(f"/api/organizations/{organization['id']}/brokerage", json=body, headers=bearer(token))
    assert response.is_success, response.text
    answer: Json = response.json()
    return answer


def add_member(client: httpx.Client, token: str, organization: Json, email: str, role: str) -> Json:
    """Add somebody registered to an organization."""
    path = f"/api/organizations/{organization['id']}/members"
    return created(client.post(path, json={"email": email, "role": role}, headers=bearer(token)))


def broker(client: httpx.Client, name: str, *, agents: int = 1) -> Broker:
    """Make a broker of this slug with an owner and agents, all logged in."""
    owner = register_and_login(client, f"owner@{name}.example")
    organization = found_organization(client, owner, name)
    make_broker(client, owner, organization)
    emails = [f"agent{number}@{name}.example" for number in range(1, agents + 1)]
    tokens = [register_and_login(client, email) for email in emails]
    for email in emails:
        add_member(client, owner, organization, email, "agent")
    return Broker(organization, owner, tokens)


def created(response: httpx.Response) -> Json:
    """Check that something was created, and return it."""
    assert response.status_code == 201, response.text
    body: Json = response.json()
    return body


def problem(response: httpx.Response, status: int, code: str) -> Json:
    """Check that an answer is this problem, whole and without a word of SQL, and return it."""
    body: Json = response.json()
    assert (response.status_code, body["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "detail"} <= body.keys()
    assert not any(word in response.text for word in ("SELECT", "select ", "psycopg", "Traceback", "relation"))
    return body


def fields(problem: Json) -> list[str]:
    """Return the fields that a problem names, sorted."""
    return sorted(error["field"] for error in problem.get("errors", []))


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make calls at the same time, each in a thread; returns what they returned, in their order."""
    gate = threading.Barrier(len(calls))

    def call(act: Callable[[], T]) -> T:
        gate.wait()
        return act()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))
