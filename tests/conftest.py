"""Gives every test a real PostgreSQL: the one of BROKERFLOW_TEST_URL, else Docker's, else the embedded one.

BROKERFLOW_TEST_POSTGRES names a major version to run them on, in place of Docker: one of the wheel, or the system's.
"""

import os
import secrets
from collections.abc import Iterator
from typing import NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from app import migrations
from app.embedded import DEPLOYER, LOGIN, RUNTIME, WORKER
from app.servers import Admin, found_server, prepare_logins, turned

# Machines are shared: how long an example takes says nothing about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

PREFIX = "brokerflow_test_"


class Database(NamedTuple):
    """One migrated database of a test's own, as the service, the deployer and a superuser reach it."""

    name: str
    app_url: str
    login_url: str
    worker_url: str
    owner_url: str
    superuser_url: str


class Server(NamedTuple):
    """A PostgreSQL whose login roles are ready; `run` is this session's number in the names of its databases."""

    superuser_url: str
    passwords: dict[str, str]
    admin: Admin
    run: int

    def database(self, name: str) -> Database:
        """Return the URLs of one of its databases."""
        return Database(
            name,
            app_url=self.url(name, RUNTIME),
            login_url=self.url(name, LOGIN),
            worker_url=self.url(name, WORKER),
            owner_url=self.url(name, DEPLOYER),
            superuser_url=self.url(name),
        )

    def url(self, database: str, role: str | None = None) -> str:
        """Return the superuser's URL turned to another database, and to another role where one is given."""
        return turned(self.superuser_url, database, None if role is None else (role, self.passwords[role]))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of this session, without what dead sessions left on it."""
    with (
        found_server(os.environ.get("BROKERFLOW_TEST_URL"), version=os.environ.get("BROKERFLOW_TEST_POSTGRES")) as (
            url,
            _,
        ),
        psycopg.connect(url, autocommit=True) as admin,
    ):
        run = secrets.randbits(48)
        # Held to the end of the session, so that others see that its databases are in use.
        admin.execute("select pg_advisory_lock(%s)", [run])
        _drop_leftovers(admin)
        passwords = prepare_logins(admin, url)
        try:
            yield Server(url, passwords, admin, run)
        finally:
            _drop(admin, _databases(admin, f"{PREFIX}{run}_"))


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """The name of the database that was migrated once, by a deployer who is no superuser."""
    name = f"{PREFIX}{server.run}_template"
    _create(server.admin, name, "template0")
    migrations.up(server.database(name).owner_url)
    return name


@pytest.fixture
def database(server: Server, template: str) -> Iterator[Database]:
    """A fresh copy of the template for one test that commits."""
    name = f"{PREFIX}{server.run}_{secrets.token_hex(4)}"
    _create(server.admin, name, template)
    _copy_grants(server.admin, template, name)
    try:
        yield server.database(name)
    finally:
        _drop(server.admin, [name])


def _drop_leftovers(admin: Admin) -> None:
    for name in _databases(admin, PREFIX):
        run = int(name.removeprefix(PREFIX).partition("_")[0])
        row = admin.execute("select pg_try_advisory_lock(%s)", [run]).fetchone()
        if row == (True,):  # nobody holds it, or this session does and has no database yet
            _drop(admin, [name])
            admin.execute("select pg_advisory_unlock(%s)", [run])


def _databases(admin: Admin, prefix: str) -> list[str]:
    rows = admin.execute("select datname from pg_database where starts_with(datname, %s)", [prefix])
    return [str(name) for (name,) in rows]


def _create(admin: Admin, name: str, template: str) -> None:
    # Where nothing is durable, a checkpoint and a copy of the files take half as long as the log of every page.
    row = admin.execute(
        "select case current_setting('fsync') when 'off' then 'file_copy' else 'wal_log' end"
    ).fetchone()
    assert row is not None
    create = sql.SQL("create database {} template {} owner {} encoding 'UTF8' strategy {}")
    names = [sql.Identifier(each) for each in (name, template, DEPLOYER)]
    admin.execute(create.format(*names, sql.Literal(row[0])))


def _copy_grants(admin: Admin, template: str, name: str) -> None:
    """Repeat the grants on the database itself, which a copy does not inherit."""
    grants = admin.execute(
        "select privilege_type, grantee::regrole::text from pg_database, aclexplode(datacl) "
        "where datname = %s and grantee <> 0 and grantee <> datdba",
        [template],
    ).fetchall()
    admin.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(name)))
    for privilege, grantee in grants:
        admin.execute(
            sql.SQL("grant {} on database {} to {}").format(
                sql.SQL(str(privilege)), sql.Identifier(name), sql.Identifier(str(grantee))
            )
        )


def _drop(admin: Admin, names: list[str]) -> None:
    for name in names:
        admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
