"""`brokerflow secret rotate-master`, killed again and again: everything opens at every moment, and it ends."""

import base64
import os
import random
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import class_row

from app.agreement.contacts import context_of as contact_context
from app.agreement.contacts import sealer_of
from app.sealing import Envelope, Keyring
from app.secretstore.queries import Place, SealedVersion
from app.secretstore.values import PURPOSE, open_sealed, seal
from tests.cli.conftest import COMMAND, Variables, environment
from tests.conftest import Database

OLD, NEW = (bytes([number]) * 32 for number in (1, 2))
VERSIONS = int(os.environ.get("BROKERFLOW_TEST_VERSIONS", "3000"))
CONTACTS = VERSIONS // 10
KILLS = 10 if VERSIONS >= 20_000 else 4
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)

SECRETS = """
select v.secret_id, s.organization_id, s.environment_id, s.key, v.version, v.ciphertext, v.wrapped_key, v.master_key_id,
    v.created_at, s.expires_at
from secretstore.secret_versions as v join secretstore.secrets as s on s.id = v.secret_id
"""

Look = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def look(database: Database) -> Iterator[Look]:
    """A superuser's connection to what stands there."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        yield connection


def fill(look: Look) -> None:
    """Put versions of a hundred secrets and contacts, sealed with the old key, past the triggers that take time."""
    keyring, sealer = Keyring([OLD], PURPOSE), sealer_of([OLD])
    look.execute("set session_replication_role to replica")
    organization = UUID(int=1)
    look.execute("insert into shared.organizations (id, title, slug) values (%s, 'N', 'n')", [organization])
    secrets = [UUID(int=1000 + number) for number in range(100)]
    for number, secret in enumerate(secrets):
        look.execute(
            "insert into secretstore.secrets (id, organization_id, key, version) values (%s, %s, %s, %s)",
            [secret, organization, f"k/{number}", VERSIONS // 100],
        )
    with look.cursor() as cursor:
        columns = "secret_id, version, ciphertext, wrapped_key, master_key_id, credential_kind, created_at"
        with cursor.copy(f"copy secretstore.secret_versions ({columns}) from stdin".encode()) as copy:
            for number, version in ((n, v) for n in range(100) for v in range(1, VERSIONS // 100 + 1)):
                place = Place(secrets[number], organization, None, f"k/{number}", version)
                sealed = seal(keyring, place, b"%d" % (number * 1000 + version))
                copy.write_row(
                    [
                        secrets[number],
                        version,
                        sealed.ciphertext,
                        sealed.wrapped_key,
                        keyring.current,
                        "session",
                        MOMENT,
                    ]
                )
        with cursor.copy(b"copy agreement.contacts (referral_id, ciphertext, wrapped_key) from stdin") as copy:
            for number in range(CONTACTS):
                referral = UUID(int=5000 + number)
                contact = sealer.enclose(b"%d" % number, contact_context(referral))
                copy.write_row([referral, contact.ciphertext, contact.wrapped_key])
    look.execute("set session_replication_role to origin")


def opens(look: Look, keys: list[bytes]) -> None:
    """Open every version and every contact, as they are in one snapshot each."""
    keyring, sealer = Keyring(keys, PURPOSE), sealer_of(keys)
    versions = look.cursor(row_factory=class_row(SealedVersion)).execute(SECRETS.encode()).fetchall()
    assert len(versions) == VERSIONS
    for each in versions:
        expected = int(each.key.removeprefix("k/")) * 1000 + each.version
        assert open_sealed(keyring, each).raw == b"%d" % expected
    contacts = look.execute("select referral_id, wrapped_key, ciphertext from agreement.contacts").fetchall()
    assert len(contacts) == CONTACTS
    for referral, wrapped, ciphertext in contacts:
        assert isinstance(referral, UUID)
        envelope = Envelope(bytes(wrapped), bytes(ciphertext))  # type: ignore[call-overload]
        assert sealer.disclose(envelope, contact_context(referral)) == b"%d" % (referral.int - 5000)


def renewed(look: Look) -> int:
    """Count the keys that the new master key wraps; of contacts, by the audit log."""
    row = look.execute(
        "select (select count(*) from secretstore.secret_versions where master_key_id = %s) + "
        "(select coalesce(sum((detail ->> 'contacts')::int), 0) from shared.audit_log where action = 'contact.rewrap')",
        [Keyring([NEW], PURPOSE).current],
    ).fetchone()
    assert row is not None
    return int(row[0])  # type: ignore[call-overload, no-any-return]


def test_a_rotation_that_is_killed_leaves_all_readable_and_ends(
    look: Look, database: Database, variables: Variables
) -> None:
    fill(look)
    both = " ".join(base64.b64encode(key).decode() for key in (NEW, OLD))
    command = [*COMMAND, "secret", "rotate-master"]
    told = environment({**variables, "BROKERFLOW_MASTER_KEY": both})
    chance = random.Random(1)  # noqa: S311 - for points in time
    deadline = time.monotonic() + 300
    for _ in range(KILLS):
        target = chance.randint(renewed(look), VERSIONS + CONTACTS)
        with subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while process.poll() is None and renewed(look) < target:
                assert time.monotonic() < deadline
            opens(look, [NEW, OLD])
            process.kill()
        opens(look, [NEW, OLD])
    ended = subprocess.run(command, env=told, capture_output=True, text=True, check=True)
    assert "contacts are wrapped anew" in ended.stdout
    assert renewed(look) == VERSIONS + CONTACTS
    opens(look, [NEW])
