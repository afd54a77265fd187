"""Applies sql/schema through yoyo: one run at a time, one transaction a chapter, and no chapter edited unnoticed.

yoyo commits a migration and its own record of it apart, so that a kill between the two leaves a chapter that is applied
and not known to be; its lock is a row that a killed holder leaves behind; and it knows a migration by name only.
`Backend` mends the three for our commands and, named in yoyo.ini, for `yoyo apply` and `yoyo rollback` alike.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
import psycopg
from yoyo import default_migration_table, read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from app.queries import Connection

SCHEMA: Final = Path(__file__).resolve().parent.parent / "sql" / "schema"
READERS: Final = ("brokerflow_app",)
PATIENCE: Final = 60.0  # seconds

# Advisory keys are 64 bits wide; this one is the start of sha256("brokerflow migrations").
LOCK: Final = int.from_bytes(hashlib.sha256(b"brokerflow migrations").digest()[:8], "big", signed=True)
_POLL: Final = 0.1  # seconds

_CREATE_CHECKSUMS: Final = """
    create table if not exists public._brokerflow_checksums (
        migration_id text primary key,
        apply_sha256 text not null,
        rollback_sha256 text not null,
        recorded_at timestamptz not null default now()
    )
"""
_COMMENT: Final = """
    comment on table public._brokerflow_checksums is
        'What the applied migrations read like: yoyo knows them by name only.'
"""
_RECORD: Final = """
    insert into public._brokerflow_checksums (migration_id, apply_sha256, rollback_sha256)
    values (:id, :apply_sha256, :rollback_sha256)
    on conflict (migration_id) do update set
        apply_sha256 = excluded.apply_sha256,
        rollback_sha256 = excluded.rollback_sha256,
        recorded_at = excluded.recorded_at
"""
_FORGET: Final = "delete from public._brokerflow_checksums where migration_id = :id"
# None where no such table is.
_READABLE: Final = """
    select
        has_table_privilege(to_regclass('public._yoyo_migration'), 'select'),
        has_table_privilege(to_regclass('public._brokerflow_checksums'), 'select')
"""
_APPLIED: Final = """
    select migration_id, applied_at_utc at time zone 'utc', null, null
    from public._yoyo_migration
    order by applied_at_utc, migration_id
"""
_RECORDED: Final = """
    select m.migration_id, m.applied_at_utc at time zone 'utc', c.apply_sha256, c.rollback_sha256
    from public._yoyo_migration as m
    left join public._brokerflow_checksums as c using (migration_id)
    order by m.applied_at_utc, m.migration_id
"""
# yoyo itself writes the row with its process id, which is positive. It is alive while a session lasts that was there
# when the row was written; the minute allows for clocks that differ.
_HELD_BY_YOYO: Final = """
    select l.pid, l.ctime from yoyo_lock as l
    where l.pid > 0 and exists (
        select from pg_catalog.pg_stat_activity as a
        where a.datname = current_database()
            and a.pid <> pg_backend_pid()
            and a.backend_type = 'client backend'
            and a.backend_start < l.ctime at time zone 'utc' + interval '1 minute'
    )
"""
_TAKE_ROW: Final = "insert into yoyo_lock (locked, ctime, pid) values (1, now() at time zone 'utc', -pg_backend_pid())"

State: TypeAlias = Literal["applied", "pending", "altered", "unverified", "unknown"]


class MigrationError(Exception):
    """A migration that cannot be read, applied or rolled back; the message names it."""


class MigrationsLocked(MigrationError):  # noqa: N818 - a state, not a mistake
    """Another run holds the lock and did not end in time."""


class MigrationsAltered(MigrationError):  # noqa: N818 - a state, not a mistake
    """A file was edited after it had been applied."""


class Chapter(msgspec.Struct, frozen=True):
    """A migration and what the database knows of it.

    `unverified` was applied by a plain yoyo, so nothing says from which text; `unknown` is applied and has no file.
    """

    name: str
    state: State
    applied_at: datetime | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What keeps a service from starting on a schema: migrations not applied, and those edited since."""

    pending: list[str]
    altered: list[str]

    @property
    def is_current(self) -> bool:
        """Whether the schema is what the files say."""
        return not self.pending and not self.altered


class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc] # yoyo has no types
    """yoyo's PostgreSQL with a lock that dies with its holder, whole migrations and checksums.

    Its address is `brokerflow:/` before any URL that libpq understands: yoyo's own reading of a URL knows neither
    several hosts nor an encoded socket folder, and would pick another driver for a plain one.
    """

    _is_locked: bool

    def connect(self, dburi: DatabaseURI) -> psycopg.Connection[tuple[Any, ...]]:
        """Open the only session: it holds the lock and runs the migrations, so that neither outlives the other."""
        connection = psycopg.connect(_plain(dburi.database), autocommit=True, **dburi.args)
        _settle(connection)
        return connection

    def init_database(self) -> None:
        """Create yoyo's lock table, which yoyo itself tries, and fails, on every run."""
        if self.lock_table not in self.list_tables():
            self.create_lock_table()

    @contextmanager
    def lock(self, timeout: float = PATIENCE) -> Iterator[None]:
        """Hold the lock; raises MigrationsLocked after `timeout` seconds."""
        if self._is_locked:
            yield
            return
        self._wait_for_lock(timeout)
        try:
            self._take_row()
            self._is_locked = True
            self._prepare()
            yield
            self._admit_readers()
        finally:
            self._is_locked = False
            self.execute("delete from yoyo_lock where pid = -pg_backend_pid()")
            self.execute(f"select pg_advisory_unlock({LOCK})")

    def apply_one(self, migration: Any, force: bool = False, mark: bool = True) -> None:  # noqa: FBT001, FBT002
        """Apply a migration and record it, in one transaction unless it asks for none."""
        with self._named(migration), self._whole(migration):
            migration.process_steps(self, "apply", force=force)
            with self._recording(migration, "apply"):
                if mark:
                    self.mark_one(migration, log=False)
                    self.execute(_RECORD, {"id": migration.id, **digests(Path(migration.path))})

    def rollback_one(self, migration: Any, force: bool = False) -> None:  # noqa: FBT001, FBT002
        """Roll a migration back and forget it, in one transaction unless it asks for none."""
        with self._named(migration), self._whole(migration):
            migration.process_steps(self, "rollback", force=force)
            with self._recording(migration, "rollback"):
                self.unmark_one(migration, log=False)
                self.execute(_FORGET, {"id": migration.id})

    def recorded(self) -> list[tuple[Any, ...]]:
        """Return what is applied, with the checksums known of it."""
        return list(self.execute(_RECORDED).fetchall())

    def adopt(self, files: Mapping[str, Path]) -> None:
        """Record the files of migrations that a plain yoyo applied."""
        with self.transaction():
            for id_, _, checksum, _ in self.recorded():
                if checksum is None and id_ in files:
                    self.execute(_RECORD, {"id": id_, **digests(files[id_])})

    def _wait_for_lock(self, timeout: float) -> None:
        # Asking again instead of waiting inside PostgreSQL, for a waiting statement's snapshot would
        # block a `create index concurrently` of the holder.
        ends = time.monotonic() + timeout
        while not self.execute(f"select pg_try_advisory_lock({LOCK})").fetchone()[0]:
            if time.monotonic() > ends:
                raise MigrationsLocked(f"another run of migrations has not ended within {timeout:g} seconds")
            time.sleep(_POLL)

    def _take_row(self) -> None:
        """Keep plain yoyo out; under the advisory lock a row of ours can only be a dead run's."""
        if holder := self.execute(_HELD_BY_YOYO).fetchone():
            raise MigrationsLocked(
                f"yoyo holds the lock, as process {holder[0]} since {holder[1]} UTC; "
                "if that process has ended, run yoyo break-lock"
            )
        with self.transaction():
            self.execute("delete from yoyo_lock")
            self.execute(_TAKE_ROW)

    def _prepare(self) -> None:
        self.ensure_internal_schema_updated()
        if "_brokerflow_checksums" not in self.list_tables():
            with self.transaction():
                self.execute(_CREATE_CHECKSUMS)
                self.execute(_COMMENT)

    def _admit_readers(self) -> None:
        """Let the service tell where the schema stands; its role is itself the work of a migration."""
        question = "select rolname from pg_catalog.pg_roles where rolname = any(:readers)"
        for (reader,) in self.execute(question, {"readers": list(READERS)}).fetchall():
            self.execute(f'grant select on _yoyo_migration, _brokerflow_checksums to "{reader}"')

    @contextmanager
    def _whole(self, migration: Any) -> Iterator[None]:
        """Open the transaction of a migration; one that is `transactional: false` runs bare and must bear a repeat."""
        if migration.use_transactions:
            with self.transaction():
                yield
        else:
            yield

    @contextmanager
    def _recording(self, migration: Any, operation: str) -> Iterator[None]:
        """Shed what the migration set, and write what happened to it."""
        with self.transaction():
            _settle(self.connection)
            self.log_migration(migration, operation)
            yield

    @contextmanager
    def _named(self, migration: Any) -> Iterator[None]:
        """Name the migration in whatever goes wrong within."""
        try:
            yield
        except Exception as error:
            raise MigrationError(f"{migration.id}: {error}") from error


def up(
    url: str,
    report: Callable[[str], None] = lambda _: None,
    *,
    source: Path = SCHEMA,
    patience: float = PATIENCE,
) -> list[str]:
    """Apply what is pending, in order, and return its names; concurrent calls wait, and apply each once.

    Migrations that a plain yoyo applied are recorded as they are on disk. `report` gets a line before each.
    Raises MigrationsAltered, MigrationsLocked after `patience` seconds, and MigrationError.
    """
    migrations = read(source)
    with _open(url) as backend, backend.lock(patience):
        files = _files(source)
        backend.adopt(files)
        if altered := [each.name for each in _compare(files, backend.recorded()) if each.state == "altered"]:
            raise MigrationsAltered(f"edited since applied: {', '.join(altered)}; restore them, or migrate down first")
        return _run("applying", backend.apply_one, list(backend.to_apply(migrations)), report)


def down(
    url: str,
    count: int | None = 1,
    report: Callable[[str], None] = lambda _: None,
    *,
    source: Path = SCHEMA,
    patience: float = PATIENCE,
) -> list[str]:
    """Roll back the last `count` migrations, None for all, and return their names.

    Raises MigrationsLocked after `patience` seconds, and MigrationError.
    """
    migrations = read(source)
    with _open(url) as backend, backend.lock(patience):
        return _run("rolling back", backend.rollback_one, list(backend.to_rollback(migrations))[:count], report)


def status(url: str, *, source: Path = SCHEMA) -> list[Chapter]:
    """Tell the state of every migration, in order; changes nothing, and needs no right but to read the records.

    Raises MigrationError when the login may not even do that.
    """
    with psycopg.connect(_plain(url), autocommit=True) as connection:
        question = _question(*connection.execute(_READABLE.encode()).fetchall())
        rows = connection.execute(question.encode()).fetchall() if question else []
    return _compare(_files(source), rows)


async def verify(db: Connection, *, source: Path = SCHEMA) -> Verdict:
    """Tell the same over a connection of the service, as what keeps it from starting."""
    question = _question(*await db.fetch(_READABLE, []))
    chapters = _compare(_files(source), await db.fetch(question, []) if question else [])
    return Verdict(
        pending=[each.name for each in chapters if each.state == "pending"],
        altered=[each.name for each in chapters if each.state == "altered"],
    )


def _question(readable: tuple[bool | None, bool | None]) -> str | None:
    """Choose how to ask for what is applied; None where nothing ever was."""
    if False in readable:
        raise MigrationError("the login may not read what is applied: let the owner run brokerflow migrate up")
    applied, checksums = readable
    return None if applied is None else _APPLIED if checksums is None else _RECORDED


def read(source: Path) -> Any:
    """Read the migrations of a folder through yoyo.

    Raises MigrationError for one without a rollback, one that is not ASCII, and one that yoyo cannot read.
    """
    for id_, path in _files(source).items():
        if not path.with_suffix(".rollback.sql").exists():
            raise MigrationError(f"{id_}: has no rollback, {id_}.rollback.sql")
        if not path.read_bytes().isascii():
            raise MigrationError(f"{id_}: is not ASCII, so yoyo would read it in the encoding of the locale")
    migrations = read_migrations(escape(str(source)))
    try:
        for migration in migrations:
            migration.load()
    except Exception as error:
        raise MigrationError(str(error)) from error
    return migrations


def digests(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a migration's file and of its rollback's."""
    files = {"apply_sha256": path, "rollback_sha256": path.with_suffix(".rollback.sql")}
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "" for name, file in files.items()
    }


def _settle(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Give a session the settings that a run needs, whatever a chapter left in it."""
    connection.execute("reset role")
    connection.execute("reset all")
    connection.execute("set search_path to public")
    # Else a killed run's session would go on waiting, with its locks, for whatever blocks its statement.
    connection.execute("set client_connection_check_interval to '1s'")


def _open(url: str) -> Any:
    address = DatabaseURI("brokerflow", None, None, None, None, url, {})
    backend = Backend(address, default_migration_table)
    backend.init_database()
    return backend


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _run(verb: str, act: Callable[[Any], None], migrations: Sequence[Any], report: Callable[[str], None]) -> list[str]:
    for number, migration in enumerate(migrations, 1):
        report(f"{verb} {migration.id} ({number} of {len(migrations)})")
        act(migration)
    return [migration.id for migration in migrations]


def _files(source: Path) -> dict[str, Path]:
    files = sorted(path for path in source.glob("*.sql") if not path.name.endswith(".rollback.sql"))
    return {path.stem: path for path in files}


def _compare(files: Mapping[str, Path], recorded: Sequence[tuple[Any, ...]]) -> list[Chapter]:
    """Hold the files against the database's records of them."""
    records = {row[0]: row for row in recorded}
    gone = [Chapter(id_, "unknown", row[1]) for id_, row in records.items() if id_ not in files]
    return gone + [_judge(id_, path, records.get(id_)) for id_, path in files.items()]


def _judge(id_: str, path: Path, record: tuple[Any, ...] | None) -> Chapter:
    match record:
        case None:
            return Chapter(id_, "pending")
        case (_, applied_at, None, _):
            return Chapter(id_, "unverified", applied_at)
        case (_, applied_at, *checksums):
            same = checksums == list(digests(path).values())
            return Chapter(id_, "applied" if same else "altered", applied_at)
        case _:
            raise AssertionError(record)
