"""`brokerflow secret rotate-master`, killed again and again: everything opens at every moment, and it ends."""

import base64
import os
import random
import signal
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg.rows import class_row

from app.agreement.contacts import context_of as contact_context
from app.agreement.contacts import sealer_of
from app.database import Transaction
from app.queries import register_adapters
from app.rotation import rotate
from app.sealing import Envelope, Keyring
from app.secretstore.queries import Place, SealedVersion
from app.secretstore.rotation import wrapped_keys
from app.secretstore.values import PURPOSE, open_sealed, seal
from tests.cli.conftest import COMMAND, Variables, environment
from tests.conftest import Database

OLD, NEW = (bytes([number]) * 32 for number in (1, 2))
VERSIONS = int(os.environ.get("BROKERFLOW_TEST_VERSIONS", "3000"))
CONTACTS = VERSIONS // 10
KILLS = 10 if VERSIONS >= 20_000 else 4
KEYS = 100  # that the versions are of
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = 300  # seconds

SECRETS = """
select v.secret_id, s.organization_id, s.environment_id, s.key, v.version,
    secretstore.provenance_of(v.restores, v.expires_at, v.credential_kind, v.credential_id, v.created_by, v.created_at)
        as provenance, v.ciphertext, v.wrapped_key, v.master_key_id
from secretstore.secret_versions as v join secretstore.secrets as s on s.id = v.secret_id
"""

Look = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def look(database: Database) -> Iterator[Look]:
    """A superuser's connection to what stands there."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        yield connection


@contextmanager
def past_triggers(look: Look) -> Iterator[None]:
    """Put rows past the triggers, which take time."""
    look.execute("set session_replication_role to replica")
    yield
    look.execute("set session_replication_role to origin")


@pytest.fixture
def organization(look: Look) -> UUID:
    """The organization whose secrets these are."""
    organization = UUID(int=1)
    with past_triggers(look):
        look.execute("insert into shared.organizations (id, title, slug) values (%s, 'N', 'n')", [organization])
    return organization


def fill_secrets(look: Look, organization: UUID, versions: int, prefix: str = "k") -> None:
    """Put versions of a hundred secrets, sealed with the old key; each value is its key's number and its version."""
    keyring, each = Keyring([OLD], PURPOSE), versions // KEYS
    for number in range(KEYS):
        look.execute(
            "insert into secretstore.secrets (organization_id, key, version) values (%s, %s, %s)",
            [organization, f"{prefix}/{number}", each],
        )
    rows = look.execute("select id, key from secretstore.secrets where starts_with(key, %s)", [f"{prefix}/"]).fetchall()
    [[provenance]] = look.execute(
        "select secretstore.provenance_of(null, null, 'session', null, null, %s)", [MOMENT]
    ).fetchall()
    assert isinstance(provenance, bytes)
    columns = "secret_id, version, ciphertext, wrapped_key, master_key_id, credential_kind, created_at"
    with (
        look.cursor() as cursor,
        cursor.copy(f"copy secretstore.secret_versions ({columns}) from stdin".encode()) as copy,
    ):
        for secret, key in rows:
            assert isinstance(secret, UUID)
            for version in range(1, each + 1):
                place = Place(secret, organization, None, str(key), version, provenance)
                sealed = seal(keyring, place, value_of(str(key), version))
                copy.write_row(
                    [secret, version, sealed.ciphertext, sealed.wrapped_key, keyring.current, "session", MOMENT]
                )


def fill_contacts(look: Look) -> None:
    """Put contacts, sealed with the old key."""
    sealer = sealer_of([OLD])
    with (
        look.cursor() as cursor,
        cursor.copy(b"copy agreement.contacts (referral_id, ciphertext, wrapped_key) from stdin") as copy,
    ):
        for number in range(CONTACTS):
            referral = UUID(int=5000 + number)
            contact = sealer.enclose(b"%d" % number, contact_context(referral))
            copy.write_row([referral, contact.ciphertext, contact.wrapped_key])


def value_of(key: str, version: int) -> bytes:
    return b"%d" % (int(key.rpartition("/")[2]) * 1_000_000 + version)


def opens(look: Look, keys: list[bytes]) -> None:
    """Open every version and every contact, as they are in one snapshot each."""
    keyring, sealer = Keyring(keys, PURPOSE), sealer_of(keys)
    versions = look.cursor(row_factory=class_row(SealedVersion)).execute(SECRETS.encode()).fetchall()
    assert len(versions) == VERSIONS
    for each in versions:
        assert open_sealed(keyring, each).raw == value_of(each.key, each.version)
    contacts = look.execute("select referral_id, wrapped_key, ciphertext from agreement.contacts").fetchall()
    assert len(contacts) == CONTACTS
    for referral, wrapped, ciphertext in contacts:
        assert isinstance(referral, UUID)
        envelope = Envelope(bytes(wrapped), bytes(ciphertext))  # type: ignore[call-overload]
        assert sealer.disclose(envelope, contact_context(referral)) == b"%d" % (referral.int - 5000)


def renewed(look: Look) -> tuple[int, int]:
    """Count the keys of versions that the new master key wraps, and those of contacts, by the audit log."""
    row = look.execute(
        "select (select count(*) from secretstore.secret_versions where master_key_id = %s), "
        "(select coalesce(sum((detail ->> 'contacts')::int), 0) from shared.audit_log where action = 'contact.rewrap')",
        [Keyring([NEW], PURPOSE).current],
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])  # type: ignore[call-overload]


class Readers:
    """Who read secrets over HTTP all the while, from a service with the old key first and one with the new."""

    def __init__(self, urls: list[str], token: str) -> None:
        self.reads = 0
        self.failures: list[object] = []
        self._urls, self._token = urls, token
        self._ended = threading.Event()

    def read(self, number: int) -> None:
        """Read a version of a key, and the latest of a few keys, again and again."""
        chance = random.Random(number)  # noqa: S311 - for keys
        headers = {"Authorization": f"Bearer {self._token}"}
        with httpx.Client(base_url=self._urls[number], headers=headers, timeout=30, trust_env=False) as client:
            while not self._ended.is_set():
                keys, version = [f"k/{n}" for n in chance.sample(range(KEYS), 5)], chance.randint(1, VERSIONS // KEYS)
                one = client.get(f"/api/secrets/{keys[0]}", params={"version": version})
                batch = client.post("/api/secrets/batch", json={"keys": keys})
                self._look_at(one, {"key": keys[0], "version": version, "value": int(value_of(keys[0], version))})
                latest = VERSIONS // KEYS
                values = {key: {"key": key, "version": latest, "value": int(value_of(key, latest))} for key in keys}
                self._look_at(batch, {"values": values, "errors": {}})

    def _look_at(self, answer: httpx.Response, expected: object) -> None:
        self.reads += 1
        if not answer.is_success or answer.json() != expected:
            self.failures.append((answer.status_code, answer.text))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have them read until the block ends."""
        threads = [threading.Thread(target=self.read, args=[number]) for number in range(len(self._urls))]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def readers(organization: UUID, look: Look, variables: Variables, serve: Callable[[Variables], str]) -> Readers:
    """Readers of two services, one before and one after the step that puts the new master key first."""
    urls = [
        serve({**variables, "BROKERFLOW_MASTER_KEY": " ".join(base64.b64encode(key).decode() for key in keys)})
        for keys in ((OLD, NEW), (NEW, OLD))
    ]
    person = {"email": "nora@north.example", "password": "correct horse battery staple"}
    with httpx.Client(base_url=urls[0], trust_env=False) as client:
        user = client.post("/auth/register", json={**person, "full_name": "Nora"}).json()["id"]
        with past_triggers(look):
            look.execute(
                "insert into shared.memberships (organization_id, user_id, role) values (%s, %s, 'agent')",
                [organization, user],
            )
        return Readers(urls, str(client.post("/auth/login", json=person).json()["token"]))


@contextmanager
def held(database: Database, where: str, offset: int) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Lock a row that is still to be wrapped anew, so that the rotation waits in the midst of its batch."""
    with psycopg.connect(database.superuser_url) as connection:
        row = connection.execute(f"select ctid from {where} offset {offset} limit 1".encode()).fetchone()
        assert row is not None
        connection.execute(f"select from {where.split(maxsplit=1)[0]} where ctid = %s for update".encode(), row)
        yield connection


def is_waiting(look: Look) -> bool:
    """Tell whether the rotation waits for a lock."""
    return bool(
        look.execute(
            "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' "
            "and query like '%%.rewrap_%%'"
        ).fetchall()
    )


def kill(look: Look, database: Database, variables: Variables, where: str, offset: int, *, is_going_on: bool) -> None:
    """Kill the rotation in the midst of the batch that has a row, or as it goes on from there."""
    with (
        held(database, where, offset) as holder,
        subprocess.Popen(ROTATE, env=environment(variables), stderr=subprocess.PIPE) as process,
    ):
        deadline = time.monotonic() + PATIENCE
        while not is_waiting(look):
            assert process.poll() is None, "it ended and left something"
            assert time.monotonic() < deadline
        opens(look, [NEW, OLD])
        if is_going_on:
            holder.rollback()
        process.kill()
        assert process.wait() == -signal.SIGKILL
    opens(look, [NEW, OLD])


ROTATE = [*COMMAND, "secret", "rotate-master"]


def test_a_rotation_that_is_killed_leaves_all_readable_and_ends(
    look: Look, database: Database, organization: UUID, readers: Readers, variables: Variables
) -> None:
    with past_triggers(look):
        fill_secrets(look, organization, VERSIONS)
        fill_contacts(look)
    both = " ".join(base64.b64encode(key).decode() for key in (NEW, OLD))
    told = {**variables, "BROKERFLOW_MASTER_KEY": both}
    chance, old = random.Random(1), Keyring([OLD], PURPOSE).current  # noqa: S311 - for points in time
    with readers.at_work():
        for kills_left in range(KILLS, 1, -1):
            left = VERSIONS - renewed(look)[0]
            rows = f"secretstore.secret_versions where master_key_id = '{old}' order by secret_id, version"
            kill(
                look,
                database,
                told,
                rows,
                chance.randrange(2 * left // (kills_left + 1)),
                is_going_on=kills_left % 2 == 1,
            )
        kill(
            look,
            database,
            told,
            "agreement.contacts order by referral_id",
            chance.randrange(CONTACTS),
            is_going_on=False,
        )
        ended = subprocess.run(ROTATE, env=environment(told), capture_output=True, text=True, check=True)
    assert "contacts are wrapped anew" in ended.stdout
    assert renewed(look) == (VERSIONS, CONTACTS)
    opens(look, [NEW])
    assert (readers.failures, readers.reads > KILLS) == ([], True)


async def peak_of_a_rotation(database: Database) -> int:
    """Rotate in this process; returns the most bytes that it took at once."""
    connection = await psycopg.AsyncConnection.connect(
        database.owner_url, autocommit=True, options="-c role=brokerflow_vault", cursor_factory=psycopg.AsyncRawCursor
    )
    register_adapters(connection)
    async with connection:
        kind = wrapped_keys(Transaction(connection), Keyring([NEW, OLD], PURPOSE))
        tracemalloc.start()
        try:
            await rotate(kind, lambda _: None, batch=50)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


async def test_a_rotation_takes_no_more_memory_for_more_versions(
    look: Look, database: Database, organization: UUID
) -> None:
    peaks = []
    for prefix, versions in (("first", KEYS), ("few", 2 * KEYS), ("many", 20 * KEYS)):
        with past_triggers(look):
            fill_secrets(look, organization, versions, prefix)
        peaks.append(await peak_of_a_rotation(database))
    _, few, many = peaks  # the first makes what stays, such as codecs
    assert many < 1.2 * few
