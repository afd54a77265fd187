"""Where a stress takes place: a database of its own on a server that was found, and a service of its own on it."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import psycopg
from psycopg import sql

from app import migrations
from app.embedded import DATABASE, DEPLOYER, RUNTIME, Embedded
from app.servers import found_server, prepare_logins, temporary_folder, turned
from app.serving import Service
from app.settings import PREFIX, Settings
from app.stress.ways import query_of

NAMES = "brokerflow_stress_"

Tell = Callable[[str], None]


class PlaceError(Exception):
    """The server is no place for a stress; the message says why."""


class Place(NamedTuple):
    """The URLs of the database; the server where it is ours to kill."""

    app_url: str
    superuser_url: str
    embedded: Embedded | None = None


@contextmanager
def found_place(dsn: str | None, tell: Tell) -> Iterator[Place]:
    """Yield a migrated database, dropped afterwards: on the server of a superuser's URL, of Docker, or embedded."""
    url = dsn or os.environ.get(f"{PREFIX}TEST_URL")
    tell("Looking for a server ..." if url is None else "Making a database of its own on the server ...")
    with found_server(url, durable=True, supervised=True) as (superuser_url, embedded):
        if embedded is not None:
            migrations.up(embedded.owner_url, tell)
            yield Place(embedded.app_url, turned(superuser_url, DATABASE), embedded)
        else:
            with _database(superuser_url, is_given=dsn is not None, tell=tell) as place:
                yield place


@contextmanager
def _database(url: str, *, is_given: bool, tell: Tell) -> Iterator[Place]:
    name = sql.Identifier(database := NAMES + secrets.token_hex(6))
    with psycopg.connect(url, autocommit=True) as admin:
        if is_given:
            _refuse_inhabited(admin)
        logins = prepare_logins(admin, url)
        admin.execute(
            sql.SQL("create database {} template template0 owner {} encoding 'UTF8'").format(
                name, sql.Identifier(DEPLOYER)
            )
        )
    try:
        migrations.up(turned(url, database, (DEPLOYER, logins[DEPLOYER])), tell)
        yield Place(turned(url, database, (RUNTIME, logins[RUNTIME])), turned(url, database))
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database if exists {} with (force)").format(name))


def _refuse_inhabited(admin: psycopg.Connection[tuple[object, ...]]) -> None:
    """Refuse a server where BrokerFlow lives: its logins belong to the whole server, and would get other passwords."""
    others = [str(name) for (name,) in admin.execute(query_of("inhabited").sql.encode()).fetchall()]
    if others:
        raise PlaceError(
            f"BrokerFlow lives on this server, in {', '.join(others)}: a stress would change the passwords of its "
            "logins. Give it a server for tests, or none: then it starts one."
        )


@contextmanager
def running_service(place: Place) -> Iterator[tuple[Service, Settings]]:
    """Yield a service of the place's own that was started, and what it is configured with; its log goes to a file."""
    with temporary_folder("service") as folder, (folder / "service.log").open("w") as log:
        environment = _environment(place, folder)
        service = Service(environment, log)
        service.start()
        try:
            service.wait_until_ready()
            yield service, Settings(home=folder)
        finally:
            service.stop()
            _tell_failures(folder / "service.log")


def _environment(place: Place, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {
        **kept,
        f"{PREFIX}APP_URL": place.app_url,
        f"{PREFIX}HOME": str(folder),
        f"{PREFIX}LOG_LEVEL": "error",
    }


def _tell_failures(log: Path, told: IO[str] = sys.stderr) -> None:
    """Repeat what the service logged as an error: it is expected to log none."""
    told.write(log.read_text())
