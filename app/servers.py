"""The PostgreSQL that tests and stress run on: the one of a URL, else Docker's, else the embedded one; never none."""

import gc
import hashlib
import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app.binaries import find_binaries
from app.embedded import DEPLOYER, ROLES, RUNTIME, Embedded, prepare_roles

IMAGE = "postgres:18"
MANY = "300"  # connections

Admin = psycopg.Connection[tuple[object, ...]]


class Found(NamedTuple):
    """A server as its superuser reaches it; `embedded` where it is ours, to kill and to start again."""

    superuser_url: str
    embedded: Embedded | None = None


@contextmanager
def found_server(
    url: str | None, *, version: str | None = None, durable: bool = False, supervised: bool = False
) -> Iterator[Found]:
    """Yield the server of a URL, else one of Docker's, else an embedded one; what was started is stopped afterwards.

    The embedded one is quick, and forgets what was committed when it is killed, unless it is to be `durable`. It is
    also what runs a major `version` that is asked for. Raises EmbeddedError where there is no such PostgreSQL.
    """
    if url:
        yield Found(url)
    elif version is None and _docker_answers():
        with _docker_url() as docker_url:
            yield Found(docker_url)
    else:
        with _embedded(version, durable=durable, supervised=supervised) as server:
            yield Found(server.superuser_url, server)


def prepare_logins(admin: Admin, url: str) -> dict[str, str]:
    """Make the login roles on a server, as its superuser; return their passwords.

    They are derived from its URL, so that sessions which share a server agree on them.
    """
    passwords = {role: hashlib.sha256(f"{role} {url}".encode()).hexdigest() for role in ROLES}
    with admin.transaction():
        admin.execute("select pg_advisory_xact_lock(hashtext('brokerflow roles'))")
        prepare_roles(admin, passwords)
    return passwords


class Urls(NamedTuple):
    """A database as the service, its deployer and a superuser reach it."""

    app_url: str
    owner_url: str
    superuser_url: str


@contextmanager
def own_database(url: str, name: str) -> Iterator[Urls]:
    """Yield an empty database on a superuser's server, dropped afterwards."""
    identifier, owner = sql.Identifier(name), sql.Identifier(DEPLOYER)
    with psycopg.connect(url, autocommit=True) as admin:
        logins = {role: (role, password) for role, password in prepare_logins(admin, url).items()}
        create = "create database {} template template0 owner {} encoding 'UTF8'"
        admin.execute(sql.SQL(create).format(identifier, owner))
    try:
        yield Urls(turned(url, name, logins[RUNTIME]), turned(url, name, logins[DEPLOYER]), turned(url, name))
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database if exists {} with (force)").format(identifier))


def turned(url: str, database: str, login: tuple[str, str] | None = None) -> str:
    """Return a URL turned to another database, and to another role with its password where they are given."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    user, password = parts.pop("user", ""), parts.pop("password", "")
    if login is not None:
        user, password = login
    parts.pop("dbname", None)
    who = quote(user, safe="") + (":" + quote(password, safe="") if password else "")
    return f"postgresql://{who}@/{database}?{urlencode(parts, quote_via=quote)}"


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Yield a folder with a short path that the server's account gets through, also when this runs as root."""
    folder = Path(tempfile.mkdtemp(prefix=f"brokerflow-{purpose}-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _docker_answers() -> bool:
    if importlib.util.find_spec("testcontainers") is None:  # it comes with what is for development
        return False
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
        container.with_command(f"postgres -c fsync=off -c max_connections={MANY}").start()
    try:
        yield container.get_connection_url()
    finally:
        container.stop()


@contextmanager
def _embedded(version: str | None, *, durable: bool, supervised: bool) -> Iterator[Embedded]:
    binaries = find_binaries() if version is None else find_binaries(version)
    settings = {"max_connections": MANY}
    with (
        temporary_folder("server") as folder,
        Embedded(
            folder / "home", binaries=binaries, durable=durable, supervised=supervised, settings=settings
        ) as embedded,
    ):
        yield embedded
