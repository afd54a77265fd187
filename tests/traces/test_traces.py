"""What a whole story leaves behind: nothing in a dump or a log lets anybody in, or tells who the client is."""

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest

from app.apiauth import passwords
from app.binaries import find_binaries
from app.embedded import Addresses, locate
from tests.api.conftest import (
    Caller,
    Json,
    found_organization,
    log_in,
    make_broker,
    register,
)
from tests.api.steps import (
    CONTACT,
    SigningService,
    accept,
    append,
    invite,
    issue,
    open_dispute,
    read_contact,
    refer,
    resolve,
)
from tests.embedded.conftest import _folder

COMMAND = [sys.executable, "-c", "from app.cli import main; main()"]
CANARY = "canary-Passw0rd-{}"


class Story:
    """A service with every log at its loudest, the people of one story, and what they would not want to be found."""

    def __init__(self, stack: ExitStack, home: Path) -> None:
        self.home = home
        self.service_log = home.with_name("service.log")
        self.secrets: dict[str, bytes] = {}
        self._stack = stack
        variables = {name: value for name, value in os.environ.items() if not name.startswith("BROKERFLOW_")}
        variables |= {"BROKERFLOW_HOME": str(home), "BROKERFLOW_LOG_LEVEL": "debug"}
        self.process = stack.enter_context(
            subprocess.Popen(
                [*COMMAND, "serve", "--port", "0"],
                env=variables,
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(self.service_log.open("w")),
                text=True,
            )
        )
        stack.callback(self.process.terminate)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.client = stack.enter_context(httpx.Client(base_url=self.url, timeout=30))

    @property
    def database(self) -> Addresses:
        """Where its PostgreSQL answers."""
        addresses = locate(self.home)
        assert addresses is not None
        return addresses

    def ask(self, statement: str, *arguments: object) -> bytes:
        """Ask as the superuser, in the service's database."""
        with psycopg.connect(self.database.superuser_url, dbname="brokerflow", autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), arguments)
            return bytes((cursor.fetchone() or (b"",))[0]) if cursor.description else b""

    def enrol(self, name: str, *, broker: str | None = None) -> Caller:
        """Make a person, remember everything that would let somebody else in as him."""
        email, password = f"{name}@{broker or 'nowhere'}.example", CANARY.format(name)
        user = register(self.client, email, password)
        token = log_in(self.client, email, password)
        organization = found_organization(self.client, token, broker) if broker else None
        if organization:
            make_broker(self.client, token, organization)
        self.remember(f"password of {name}", password.encode())
        self.remember(f"session of {name}", token.encode())
        self.remember(f"digest of {name}'s session", hashlib.sha256(token.encode()).digest())
        self.remember(f"stretched password of {name}", self._stretched(user, password))
        caller = Caller(self.url, email=email, token=token, user=user, organization=organization)
        return self._stack.enter_context(caller)

    def remember(self, name: str, secret: bytes) -> None:
        """Keep something that nobody may find."""
        self.secrets[name] = secret

    def _stretched(self, user: Json, password: str) -> bytes:
        salt = self.ask("select salt from apiauth.passwords where user_id = %s", user["id"])
        return asyncio.run(passwords.stretch(password, salt))


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """The whole story, played once with statements and durations logged, refusals included."""
    with ExitStack() as stack:
        place = stack.enter_context(_folder())
        told = Story(stack, place / "home")
        for setting in ("log_statement = 'all'", "log_min_duration_statement = 0", "log_error_verbosity = verbose"):
            told.ask(f"alter system set {setting}")
        told.ask("select pg_reload_conf() is null")
        _play(told)
        yield told


def _play(story: Story) -> None:
    referrer, referee = story.enrol("rita", broker="north"), story.enrol("seth", broker="south")
    judge = story.enrol("judith")
    story.ask("select shared.grant_platform_admin(%s)::int::text::bytea", judge.email)
    referral = refer(referrer, client=CONTACT)
    agreement = accept(referee, invite(referrer, referral, referee))
    secret = (story.home / "esign.secret").read_text()
    assert SigningService(story.client, secret).report(agreement).status_code == 200
    assert read_contact(referee, agreement).status_code == 201
    assert append(referee, agreement, "PROPERTY_SHOWN").status_code == 201
    assert issue(referrer, agreement).status_code == 201
    assert resolve(judge, open_dispute(referrer, agreement), "upheld").status_code == 200
    _keep_a_secret(story, referrer)
    _mint_twice(story, referrer)
    _be_refused(story, referrer, agreement)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    story.remember("webhook secret", key)
    story.remember("digest of the webhook secret", hashlib.sha256(key).digest())
    story.remember("master key", base64.b64decode((story.home / "master.key").read_text()))
    for field, value in CONTACT.items():
        story.remember(f"the client's {field}", value.encode())


def _keep_a_secret(story: Story, caller: Caller) -> None:
    """Put a secret in every way, read it alone and in a batch, be refused with it, and roll it back."""
    secret = "canary-secret-zaunkönig-4711"
    body = {"value": {"password": secret}}
    for headers in ({}, {"Idempotency-Key": "secret-1"}):
        assert caller.put("/api/secrets/db/main", json=body, headers=headers).status_code == 200
    assert caller.put("/api/secrets/db/main", json={**body, "expected_version": 7}).status_code == 412
    assert caller.put("/api/secrets/a b", json=body).status_code == 422
    assert secret in caller.get("/api/secrets/db/main").text
    assert secret in caller.post("/api/secrets/batch", json={"keys": ["db/main"]}).text
    assert caller.post("/api/secrets/db/main/rollback", json={"version": 1}).status_code == 200
    story.remember("a secret", secret.encode())
    story.remember("a secret in ASCII", json.dumps(secret)[1:-1].encode())


def _mint_twice(story: Story, caller: Caller) -> None:
    """Make a token with an Idempotency-Key, whose stored answer holds it, and have it repeated."""
    body = {"name": "ci", "expires_in_days": 30, "scopes": ["agreements:read"]}
    answers = [caller.post("/api/tokens", json=body, headers={"Idempotency-Key": "mint-1"}) for _ in range(2)]
    token = answers[0].json()["token"]
    assert answers[1].json()["token"] == token
    assert httpx.get(f"{story.url}/api/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    story.remember("personal token", token.encode())
    story.remember("digest of the personal token", hashlib.sha256(token.encode()).digest())


def _be_refused(story: Story, caller: Caller, agreement: Json) -> None:
    """Fail in ways whose errors PostgreSQL logs with values: unique, check, row security, a wrong password."""
    assert story.client.post("/auth/login", json={"email": caller.email, "password": CANARY}).status_code == 401
    body = {"email": caller.email, "password": CANARY.format("twin"), "full_name": "Twin"}
    assert story.client.post("/auth/register", json=body).status_code == 409
    assert caller.post("/api/tokens", json={"name": " ", "expires_in_days": 1}).status_code == 422
    assert refer_badly(caller).status_code == 422
    assert read_contact(caller, agreement).status_code == 409
    story.remember("a wrong password", CANARY.encode())
    story.remember("password of a twin", CANARY.format("twin").encode())


def refer_badly(caller: Caller) -> httpx.Response:
    """Send a contact along with a referral that the database refuses."""
    body = {"region": ["x"], "price_min": "2", "price_max": "1", "property_type": "flat", "deal_type": "sale"}
    return caller.post("/api/referrals", json={**body, "sla_hours": 1, "client": CONTACT})


def spellings(secret: bytes) -> Iterator[bytes]:
    """Yield the ways in which PostgreSQL and Python write bytes down."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield base64.b64encode(secret)
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    yield repr(secret)[2:-1].encode()
    yield secret.decode("latin-1").encode("unicode_escape")


def found_in(text: bytes, story: Story) -> list[str]:
    """Name the secrets that stand in a text, however spelt."""
    return [name for name, secret in story.secrets.items() if any(way in text for way in spellings(secret))]


def test_a_dump_lets_nobody_in_and_names_no_client(story: Story) -> None:
    url = story.database.superuser_url.replace("/postgres?", "/brokerflow?")
    dump = subprocess.run([find_binaries() / "pg_dump", "--dbname", url], capture_output=True, check=True).stdout
    stored = hashlib.sha256(story.secrets["digest of rita's session"]).hexdigest()
    assert stored.encode() in dump, "the dump is not of the story"
    assert found_in(dump, story) == []


def test_the_write_ahead_log_lets_nobody_in_and_names_no_client(story: Story) -> None:
    """What is backed up all along holds rows and pages as they were, values that are gone as well."""
    story.ask("checkpoint")
    segments = [path for path in (story.home / "data" / "pg_wal").iterdir() if path.is_file()]
    log = b"".join(path.read_bytes() for path in segments)
    assert b"rita@north.example" in log, "the log is not of the story"
    assert found_in(log, story) == []


def test_the_servers_log_holds_statements_and_no_secret(story: Story) -> None:
    log = (story.home / "server.log").read_bytes()
    assert log.count(b"apiauth.enter_session($1, $2, $3)") > 10, "statements were not logged"
    assert b"users_email_in_any_case" in log, "refusals were not logged"
    assert found_in(log, story) == []


def test_the_services_log_tells_of_requests_and_no_secret(story: Story) -> None:
    log = story.service_log.read_bytes()
    assert log.count(b"/api/") > 10, "requests were not logged"
    assert found_in(log, story) == []


def test_what_the_dump_holds_does_not_enter(story: Story) -> None:
    with psycopg.connect(story.database.app_url, autocommit=True) as connection:
        for entrance, table in (
            ("enter_session", "sessions"),
            ("enter_token", "personal_tokens"),
            ("enter_esign", "esign_keys"),
        ):
            stored = story.ask(f"select digest from apiauth.{table} limit 1")
            with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
                connection.execute(f"select apiauth.{entrance}(%s)".encode(), [stored])
