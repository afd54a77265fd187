"""`brokerflow admin`: what the owner of the database does, with no secret among the arguments."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql

from tests.cli.conftest import Finished, Variables, run
from tests.conftest import Database

EMAIL = "nora@north.example"
PASSWORD = "correct horse battery staple"

Admin = Callable[..., Finished]


@pytest.fixture
def admin(variables: Variables) -> Admin:
    """Run `brokerflow admin` on a database of the test's own."""

    def call(*arguments: str, stdin: str | None = None, **more: str) -> Finished:
        return run({**variables, **more}, "admin", *arguments, stdin=stdin)

    return call


def refused(finished: Finished, status: int, sentence: str) -> None:
    assert (finished.returncode, finished.stdout) == (status, ""), finished.stderr
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_user_is_made_who_logs_in_and_loses_all_he_has(
    admin: Admin, variables: Variables, serve: Callable[[Variables], str]
) -> None:
    made = admin("create-user", EMAIL, "--name", "Nora", stdin=f"{PASSWORD}\n")
    assert made.stdout.startswith(f"{EMAIL} is registered, as 0"), made.stderr
    with httpx.Client(base_url=serve(variables)) as client:
        session = client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD}).json()
        client.cookies.clear()
        assert session["user"]["full_name"] == "Nora"
        headers = {"Authorization": f"Bearer {session['token']}"}
        assert client.post("/api/tokens", json={"name": "x", "expires_in_days": 1}, headers=headers).is_success
        ended = admin("revoke-all", EMAIL.upper())
        assert ended.stdout == "Ended: sessions 1, tokens 1, logins that were approved 0.\n", ended.stderr
        assert client.get("/api/me", headers=headers).status_code == 401


def test_users_and_judges_that_cannot_be_are_told_in_a_sentence(admin: Admin) -> None:
    assert admin("create-user", EMAIL, stdin=PASSWORD).returncode == 0
    refused(admin("create-user", EMAIL.upper(), stdin=PASSWORD), 1, "email is taken")
    refused(admin("create-user", "nora", stdin=PASSWORD), 1, "email must hold: email is an address")
    refused(admin("create-user", EMAIL, stdin="short"), 2, "password: Expected `str` of length >= 8")
    refused(admin("create-user", EMAIL, PASSWORD), 2, "unexpected extra argument")
    for action in ("grant", "revoke", "revoke-all"):
        refused(admin(action, "nobody@north.example"), 1, "nothing to change for nobody@north.example")
    assert admin("grant", EMAIL).stdout == f"{EMAIL} is a platform admin.\n"
    assert admin("revoke", EMAIL).stdout == f"{EMAIL} is no platform admin.\n"


def test_webhook_secrets_are_replaced_from_the_environment_or_a_file(admin: Admin, database: Database) -> None:
    secrets = [base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]

    def trusted() -> set[bytes]:
        with psycopg.connect(database.superuser_url) as connection:
            rows = connection.execute("select digest from apiauth.esign_keys where revoked_at is null").fetchall()
        return {bytes(digest) for (digest,) in rows}

    def stored(secret: str) -> bytes:
        return hashlib.sha256(hashlib.sha256(base64.b64decode(secret)).digest()).digest()

    done = admin("replace-esign-keys", BROKERFLOW_ESIGN_SECRET=f"whsec_{secrets[0]}")
    assert (done.returncode, trusted()) == (0, {stored(secrets[0])}), done.stderr
    done = admin("replace-esign-keys", "--file", "-", stdin=f"whsec_{secrets[1]}\n")
    assert (done.returncode, trusted()) == (0, {stored(secrets[1])}), done.stderr
    refused(admin("replace-esign-keys", "--file", "-", stdin="secret"), 2, "should be whsec_ and 24 to 64 bytes")
    refused(admin("replace-esign-keys", "--file", "-", stdin=""), 2, "holds no secret")


@pytest.mark.parametrize(
    "arguments", [["grant", EMAIL], ["revoke-all", EMAIL], ["create-user", EMAIL], ["export-proof", str(UUID(int=1))]]
)
def test_a_database_without_the_schema_says_what_to_do(
    admin: Admin, variables: Variables, arguments: list[str]
) -> None:
    assert run(variables, "migrate", "down", "--all", "--yes").returncode == 0
    refused(admin(*arguments, stdin=PASSWORD), 2, "does not exist): run brokerflow migrate up.")


def test_a_server_without_the_roles_says_what_to_do(home: Path) -> None:
    told = 'the login may not do this (role "brokerflow_owner" does not exist): set BROKERFLOW_OWNER_URL to '
    finished = run({"BROKERFLOW_HOME": str(home)}, "admin", "grant", EMAIL)
    refused(finished, 2, f"{told}the login that owns the database, and run brokerflow migrate up.")


def test_who_is_not_the_owner_is_told_so(admin: Admin, database: Database) -> None:
    told = 'the login may not do this (permission denied to set role "brokerflow_owner"): set BROKERFLOW_OWNER_URL'
    refused(admin("grant", EMAIL, BROKERFLOW_OWNER_URL=database.app_url), 2, told)


def test_what_nobody_foresaw_is_told_in_the_words_of_postgresql(admin: Admin, database: Database) -> None:
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute(
            "create or replace function shared.grant_platform_admin(email text) returns boolean language plpgsql "
            "as $$ begin raise 'the index is corrupt' using errcode = 'index_corrupted'; end $$"
        )
    refused(admin("grant", EMAIL), 1, "brokerflow: PostgreSQL refuses it: the index is corrupt.\n")


def test_a_database_that_is_busy_is_not_said_to_be_silent(admin: Admin, database: Database) -> None:
    with psycopg.connect(database.superuser_url) as other:
        impatient = sql.SQL("alter database {} set lock_timeout = '100ms'").format(sql.Identifier(database.name))
        other.execute(impatient)
        other.commit()
        other.execute("lock table shared.platform_admins")
        refused(admin("grant", EMAIL), 2, "the database cannot be used: canceling statement due to lock timeout\n")
