"""Where a stress takes place: a database of its own on a server that was found, and a service of its own on it."""

import base64
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from app import migrations
from app.embedded import DATABASE, Embedded
from app.servers import found_server, own_database, temporary_folder, turned
from app.serving import Service
from app.settings import ESIGN_PREFIX, PREFIX
from app.stress.ways import query_of

NAMES = "brokerflow_stress_"
ERROR = '"level": "error"'

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
            tell("The server is ours: it is killed as well.")
            migrations.up(embedded.owner_url, tell)
            yield Place(embedded.app_url, turned(superuser_url, DATABASE), embedded)
        else:
            if dsn is not None:
                _refuse_inhabited(superuser_url)
            with own_database(superuser_url, NAMES + secrets.token_hex(6)) as (app_url, owner_url, whole_url):
                migrations.up(owner_url, tell)
                yield Place(app_url, whole_url)


def _refuse_inhabited(url: str) -> None:
    """Refuse a server where BrokerFlow lives: its logins belong to the whole server, and would get other passwords."""
    with psycopg.connect(url, autocommit=True) as admin:
        others = [str(name) for (name,) in admin.execute(query_of("inhabited").sql.encode()).fetchall()]
    if others:
        raise PlaceError(
            f"BrokerFlow lives on this server, in {', '.join(others)}: a stress would change the passwords of its "
            "logins. Give it a server for tests, or none: then it starts one."
        )


@contextmanager
def running_service(place: Place) -> Iterator[tuple[Service, bytes]]:
    """Yield a service of the place's own, started, and the key that signs its webhooks.

    Raises ServiceError. What it said as an error is repeated on standard error in the end.
    """
    key = os.urandom(32)
    with temporary_folder("service") as folder, (folder / "service.log").open("w+") as log:
        service = Service(_environment(place, folder, key), log)
        try:
            service.start()
            service.wait_until_ready()
            yield service, key
        finally:
            service.stop()
            log.seek(0)
            sys.stderr.writelines(line for line in log if ERROR in line or not line.startswith("{"))


def _environment(place: Place, folder: Path, key: bytes) -> dict[str, str]:
    """Configure the service, by nothing of this process's own configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    chosen = {
        "APP_URL": place.app_url,
        "HOME": str(folder),
        "ESIGN_SECRET": ESIGN_PREFIX + base64.b64encode(key).decode(),
        "LOG_LEVEL": "error",
    }
    return {**kept, **{f"{PREFIX}{name}": value for name, value in chosen.items()}}
