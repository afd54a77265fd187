"""Gives every test a real PostgreSQL: the one of BROKERFLOW_TEST_URL, else Docker's, else the embedded one.

BROKERFLOW_TEST_POSTGRES names a major version to run them on, in place of Docker: one of the wheel, or the system's.
"""

import gc
import hashlib
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app import migrations
from app.binaries import find_binaries
from app.embedded import DEPLOYER, LOGIN, RUNTIME, Embedded, prepare_roles

# Machines are shared: how long an example takes says nothing about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

IMAGE = "postgres:18"
SYSTEMS = Path("/usr/lib/postgresql")
PREFIX = "brokerflow_test_"

Admin = psycopg.Connection[tuple[object, ...]]


class Database(NamedTuple):
    """One migrated database of a test's own, as the service, the deployer and a superuser reach it."""

    name: str
    app_url: str
    login_url: str
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
            owner_url=self.url(name, DEPLOYER),
            superuser_url=self.url(name),
        )

    def url(self, database: str, role: str | None = None) -> str:
        """Return the superuser's URL turned to another database, and to another role where one is given."""
        parts = {name: str(value) for name, value in conninfo_to_dict(self.superuser_url).items()}
        user, password = parts.pop("user", ""), parts.pop("password", "")
        if role is not None:
            user, password = role, self.passwords[role]
        parts.pop("dbname", None)
        login = quote(user, safe="") + (":" + quote(password, safe="") if password else "")
        return f"postgresql://{login}@/{database}?{urlencode(parts, quote_via=quote)}"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of this session, without what dead sessions left on it."""
    with _superuser_url() as url, psycopg.connect(url, autocommit=True) as admin:
        run = secrets.randbits(48)
        # Held to the end of the session, so that others see that its databases are in use.
        admin.execute("select pg_advisory_lock(%s)", [run])
        _drop_leftovers(admin)
        # Derived, so that sessions which share a server agree on them.
        roles = (DEPLOYER, RUNTIME, LOGIN)
        passwords = {role: hashlib.sha256(f"{role} {url}".encode()).hexdigest() for role in roles}
        with admin.transaction():
            admin.execute("select pg_advisory_xact_lock(hashtext('brokerflow roles'))")
            prepare_roles(admin, passwords)
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


@contextmanager
def _superuser_url() -> Iterator[str]:
    if url := os.environ.get("BROKERFLOW_TEST_URL"):
        yield url
    elif (major := os.environ.get("BROKERFLOW_TEST_POSTGRES")) is not None:
        with _embedded_url(_binaries(major)) as url:
            yield url
    elif _docker_answers():
        with _docker_url() as url:
            yield url
    else:
        with _embedded_url() as url:
            yield url


def _docker_answers() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import docker  # noqa: PLC0415 - slow to import, and not needed with a URL
        from docker.errors import DockerException  # noqa: PLC0415

        try:
            with closing(docker.from_env(timeout=3)) as client:
                client.ping()
        except DockerException:
            answers = False
        else:
            answers = True
        gc.collect()  # a client that failed leaves its socket open; the warning of that is ignored here only
        return answers


@contextmanager
def _docker_url() -> Iterator[str]:
    from testcontainers.postgres import PostgresContainer  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        container = PostgresContainer(IMAGE, username="postgres", dbname="postgres", driver=None)
        container.with_command("postgres -c fsync=off -c max_connections=300").start()
    try:
        yield container.get_connection_url()
    finally:
        container.stop()


def _binaries(major: str) -> Path:
    """Return the binaries of a major version: the wheel's, else where Debian puts the system's."""
    for folder in (*(find_binaries(each) for each in (16, 18) if str(each) == major), SYSTEMS / major / "bin"):
        if (folder / "postgres").exists():
            return folder
    raise pytest.UsageError(f"BROKERFLOW_TEST_POSTGRES is {major!r}, and there is no such PostgreSQL here.")


@contextmanager
def _embedded_url(binaries: Path | None = None) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="brokerflow-tests-"))
    folder.chmod(0o711)  # as root, the server's account must get through
    try:
        with Embedded(
            folder / "home", binaries=binaries, durable=False, settings={"max_connections": "300"}
        ) as embedded:
            yield embedded.superuser_url
    finally:
        shutil.rmtree(folder)


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
    admin.execute(
        sql.SQL("create database {} template {} owner {} encoding 'UTF8'").format(
            sql.Identifier(name), sql.Identifier(template), sql.Identifier(DEPLOYER)
        )
    )


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
