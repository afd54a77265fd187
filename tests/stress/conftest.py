"""Short stresses on a database of the test's own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.serving import Service
from app.stress.log import Decision, Head, Log, Replay
from app.stress.place import Place, running_service
from app.stress.report import Report
from app.stress.run import Run
from tests.conftest import PREFIX, Database, Server, _copy_grants, _create, _drop

SECONDS = 4.0
PATIENCE = 60.0  # seconds until something is found, which ends a run

Superuser = psycopg.Connection[tuple[Any, ...]]


class Stage:
    """A database and a service for one stress of some seconds, without chaos unless it is said."""

    def __init__(self, place: Place, service: Service, key: bytes, folder: Path) -> None:
        self.place = place
        self.log = folder / "decisions.jsonl"
        self._service = service
        self._key = key

    def play(
        self, seed: int = 1, replay: Replay | None = None, seconds: float = SECONDS, **options: Any
    ) -> tuple[Run, Report]:
        """Play; return the run and what it told. A database is for one run."""
        head = replay.head if replay else Head(seed, concurrency=8, duration=seconds)
        options = {"has_chaos": False, "overtime": 0.0, "tell": lambda _: None, **options}
        with self.log.open("wb") as file:
            run = Run(
                head, self.place, self._service, self._key, Log(file, head), str(self.log), replay=replay, **options
            )
            report = asyncio.run(run.play())
        return run, report

    def decided(self) -> dict[str, list[Decision]]:
        """Return what each actor decided in the last run."""
        decided: dict[str, list[Decision]] = {}
        for each in Replay.of(self.log).decided:
            decided.setdefault(each.actor, []).append(each)
        return decided


@pytest.fixture
def stage(database: Database, tmp_path: Path) -> Iterator[Stage]:
    """A place for one short stress."""
    with staged(database, tmp_path / "stage") as stage:
        yield stage


@pytest.fixture
def other_stage(server: Server, template: str, tmp_path: Path) -> Iterator[Stage]:
    """A place for another."""
    name = f"{PREFIX}{server.run}_other_stage"
    _create(server.admin, name, template)
    _copy_grants(server.admin, template, name)
    try:
        with staged(server.database(name), tmp_path / "other_stage") as stage:
            yield stage
    finally:
        _drop(server.admin, [name])


@contextmanager
def staged(database: Database, folder: Path) -> Iterator[Stage]:
    folder.mkdir()
    place = Place(database.app_url, database.superuser_url)
    with running_service(place) as (service, key):
        yield Stage(place, service, key, folder)


@pytest.fixture
def superuser(database: Database) -> Iterator[Superuser]:
    """Somebody whom no trigger and no foreign key stops."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("set session_replication_role to replica")
        yield connection
