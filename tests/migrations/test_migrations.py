"""Migrations are applied once, whole and unaltered, whoever runs them and however a run ends."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.migrations import (
    LOCK,
    SCHEMA,
    MigrationError,
    MigrationsAltered,
    MigrationsLocked,
    down,
    status,
    up,
    verify,
)
from tests.conftest import Database
from tests.migrations.catalog import snapshot
from tests.migrations.conftest import Write, ask, tables

ROOT = Path(__file__).parents[2]
RUN = """
import sys
from pathlib import Path
from app.migrations import up
print(*up(sys.argv[1], lambda line: print(line, file=sys.stderr, flush=True), source=Path(sys.argv[2])))
"""


def states(url: str, source: Path) -> dict[str, str]:
    return {each.name: each.state for each in status(url, source=source)}


def start(url: str, source: Path) -> subprocess.Popen[str]:
    """Apply migrations in a process of its own."""
    command = [sys.executable, "-c", RUN, url, str(source)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def yoyo(url: str, scheme: str, verb: str, source: str) -> None:
    """Run yoyo's own command with a backend."""
    address = url.replace("postgresql://", scheme, 1)
    command = [sys.executable, "-m", "yoyo", verb, "--batch", "--no-config-file", "-d", address, source]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes find what pyproject.toml registers, whether BrokerFlow is installed or not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "installed" / "registered-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: registered\nVersion: 0\n")
    lines = [f"{name} = {target}" for name, target in project["entry-points"]["yoyo.backends"].items()]
    (folder / "entry_points.txt").write_text("\n".join(["[yoyo.backends]", *lines]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder.parent), str(ROOT)]))


class Reader:
    """A connection as generated queries take it."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        self.connection = connection

    async def fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        return await (await self.connection.execute(sql.encode(), parameters)).fetchall()


def test_up_applies_what_is_pending_in_the_order_of_dependencies(empty: Database, write: Write) -> None:
    write("a", "-- depends: b\ncreate table a (id integer references b);", "drop table a;")
    source = write("b", "create table b (id integer primary key);")
    lines: list[str] = []
    assert up(empty.owner_url, lines.append, source=source) == ["b", "a"]
    assert lines == ["applying b (1 of 2)", "applying a (2 of 2)"]
    assert up(empty.owner_url, source=source) == []
    write("c")
    assert states(empty.owner_url, source) == {"a": "applied", "b": "applied", "c": "pending"}
    assert up(empty.owner_url, source=source) == ["c"]


def test_down_rolls_back_the_last_ones_first(empty: Database, write: Write) -> None:
    write("a")
    write("b", "-- depends: a\ncreate table b (id integer);")
    source = write("c", "-- depends: b\ncreate table c (id integer);")
    up(empty.owner_url, source=source)
    assert down(empty.owner_url, source=source) == ["c"]
    assert tables(empty.owner_url) == {"a", "b"}
    assert down(empty.owner_url, None, source=source) == ["b", "a"]
    assert states(empty.owner_url, source) == {"a": "pending", "b": "pending", "c": "pending"}
    assert down(empty.owner_url, None, source=source) == []


def test_the_schema_comes_back_identical_after_down_and_up(empty: Database) -> None:
    before = snapshot(empty.superuser_url)
    up(empty.owner_url)
    first = snapshot(empty.superuser_url)
    down(empty.owner_url, None)
    bare = [line for line in snapshot(empty.superuser_url) if not is_bookkeeping(line)]
    assert bare == before
    up(empty.owner_url)
    assert snapshot(empty.superuser_url) == first


def is_bookkeeping(line: str) -> bool:
    _, _, identity = line.partition(" ")
    return "public._yoyo" in identity or "public.yoyo_lock" in identity or "public._brokerflow_checksums" in identity


def test_a_snapshot_sees_every_kind_of_change(empty: Database) -> None:
    seen = [snapshot(empty.superuser_url)]
    for change in (
        "create schema s",
        "create table s.t (a integer not null)",
        "comment on column s.t.a is 'a'",
        "comment on schema s is 's'",
        "alter table s.t alter a drop not null",
        "alter table s.t add constraint t_a check (a > 0) not valid",
        "alter table s.t validate constraint t_a",
        "comment on constraint t_a on s.t is 'c'",
        "create index t_a_idx on s.t (a)",
        "comment on index s.t_a_idx is 'i'",
        "create function s.f() returns trigger language plpgsql as 'begin return new; end'",
        "alter function s.f() security definer",
        "revoke execute on function s.f() from public",
        "comment on function s.f() is 'f'",
        "create trigger g before insert on s.t for each row execute function s.f()",
        "alter table s.t disable trigger g",
        "comment on trigger g on s.t is 'g'",
        "alter table s.t enable row level security",
        "create policy p on s.t for select using (a = 1)",
        "alter policy p on s.t using (a = 2)",
        "comment on policy p on s.t is 'p'",
        "grant select (a) on s.t to brokerflow_app",
        "create type s.e as enum ('x')",
        "alter type s.e add value 'y'",
        "create domain s.d as text check (value <> '')",
        "comment on domain s.d is 'd'",
        "create sequence s.n",
        "create view s.v as select 1 as a",
        "alter default privileges in schema s grant select on tables to brokerflow_app",
        "alter schema s owner to brokerflow_deployer",
        f'revoke connect on database "{empty.name}" from public',
    ):
        ask(empty.superuser_url, change)
        seen.append(snapshot(empty.superuser_url))
        assert seen[-1] != seen[-2], change


def test_a_failed_chapter_leaves_nothing_and_is_named(empty: Database, write: Write) -> None:
    write("a")
    source = write("b", "-- depends: a\ncreate table b (id integer); select 1 / 0;")
    with pytest.raises(MigrationError, match="b: division by zero"):
        up(empty.owner_url, source=source)
    assert tables(empty.owner_url) == {"a"}
    assert states(empty.owner_url, source) == {"a": "applied", "b": "pending"}
    write("b", "-- depends: a\ncreate table b (id integer);")
    assert up(empty.owner_url, source=source) == ["b"]


def test_a_chapter_and_the_record_of_it_are_one_transaction(empty: Database, write: Write) -> None:
    source = write("a")
    up(empty.owner_url, source=source)
    ask(
        empty.owner_url,
        "create function refuse() returns trigger language plpgsql as 'begin raise exception ''no record''; end';"
        "create trigger refuse before insert or delete on _yoyo_migration for each row execute function refuse()",
    )
    write("b")
    with pytest.raises(MigrationError, match="b: no record"):
        up(empty.owner_url, source=source)
    with pytest.raises(MigrationError, match="a: no record"):
        down(empty.owner_url, source=source)
    assert tables(empty.owner_url) == {"a"}


def test_a_chapter_leaves_its_role_and_settings_behind(empty: Database, write: Write) -> None:
    write("a", "set search_path to pg_catalog; set local role brokerflow_deployer; create table public.a (id integer);")
    source = write("b", "-- depends: a\ncreate table b (id integer);")
    up(empty.owner_url, source=source)
    assert tables(empty.owner_url) == {"a", "b"}


def test_concurrent_runs_apply_each_once(empty: Database, write: Write) -> None:
    write("a", "create table a (id integer); create table runs (name text); insert into runs values ('a');")
    write("b", "-- depends: a\n-- transactional: false\ncreate index concurrently b on a (id);", "drop index b;")
    source = write("c", "-- depends: b\ninsert into runs values ('c');", "delete from runs where name = 'c';")
    runs = [start(empty.owner_url, source) for _ in range(5)]
    answers = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0] * 5, answers
    assert sorted(out.split() for out, _ in answers) == [[], [], [], [], ["a", "b", "c"]]
    assert ask(empty.owner_url, "select name from runs order by 1") == [("a",), ("c",)]


def test_a_killed_run_is_taken_up_where_it_stood(empty: Database, write: Write) -> None:
    ask(empty.owner_url, "create table blocked (id integer)")
    write("a")
    source = write("b", "-- depends: a\ncreate table b (id integer); alter table blocked add name text;")
    with psycopg.connect(empty.owner_url) as blocker:
        blocker.execute("lock table blocked")
        run = start(empty.owner_url, source)
        session = wait_for_blocked_session(empty.superuser_url)
        run.kill()
        run.communicate()
        wait_for_end_of_session(empty.superuser_url, session)
        assert tables(empty.owner_url) == {"a", "blocked"}
        assert ask(empty.owner_url, "select pid from yoyo_lock") == [(-session,)]
    assert states(empty.owner_url, source) == {"a": "applied", "b": "pending"}
    assert up(empty.owner_url, source=source) == ["b"]
    assert ask(empty.owner_url, "select pid from yoyo_lock") == []


def wait_for_blocked_session(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "select pid from pg_stat_activity where datname = current_database() and pg_blocking_pids(pid) <> '{}'"
            ).fetchone()
            if row:
                return int(row[0])


def wait_for_end_of_session(url: str, session: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute("select from pg_stat_activity where pid = %s", [session]).fetchone() is not None:
            pass


def test_a_run_waits_for_another_and_gives_up(empty: Database, write: Write) -> None:
    source = write("a")
    with psycopg.connect(empty.owner_url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", [LOCK])
        with pytest.raises(MigrationsLocked, match="another run of migrations has not ended within 0 seconds"):
            up(empty.owner_url, source=source, patience=0)
    assert up(empty.owner_url, source=source) == ["a"]


def test_a_plain_yoyo_at_work_is_not_disturbed(empty: Database, write: Write) -> None:
    source = write("a")
    down(empty.owner_url, source=source)
    with psycopg.connect(empty.owner_url, autocommit=True) as other:
        other.execute("insert into yoyo_lock (locked, ctime, pid) values (1, now() at time zone 'utc', 4711)")
        with pytest.raises(MigrationsLocked, match=r"yoyo holds the lock, as process 4711 since .*yoyo break-lock"):
            up(empty.owner_url, source=source)
    assert tables(empty.owner_url) == set()


def test_the_row_of_a_plain_yoyo_that_died_is_broken(empty: Database, write: Write) -> None:
    source = write("a")
    down(empty.owner_url, source=source)
    ask(
        empty.owner_url,
        "insert into yoyo_lock (locked, ctime, pid) values (1, now() at time zone 'utc' - interval '1 hour', 4711)",
    )
    assert up(empty.owner_url, source=source) == ["a"]


@pytest.mark.parametrize("edited", ["a.sql", "a.rollback.sql"])
async def test_an_edited_chapter_is_found(empty: Database, write: Write, edited: str) -> None:
    source = write("a")
    up(empty.owner_url, source=source)
    with (source / edited).open("a") as file:
        file.write("-- afterthought\n")
    write("b")
    assert states(empty.owner_url, source) == {"a": "altered", "b": "pending"}
    with pytest.raises(MigrationsAltered, match="edited since applied: a; restore them, or migrate down first"):
        up(empty.owner_url, source=source)
    assert tables(empty.owner_url) == {"a"}
    async with await psycopg.AsyncConnection.connect(empty.app_url) as connection:
        verdict = await verify(Reader(connection), source=source)
    assert (verdict.pending, verdict.altered, verdict.is_current) == (["b"], ["a"], False)
    assert down(empty.owner_url, source=source) == ["a"]
    assert up(empty.owner_url, source=source) == ["a", "b"]


async def test_the_service_can_tell_where_the_schema_stands(empty: Database, write: Write) -> None:
    source = write("a")
    async with await psycopg.AsyncConnection.connect(empty.app_url, autocommit=True) as connection:
        assert (await verify(Reader(connection), source=source)).pending == ["a"]
        up(empty.owner_url, source=source)
        assert (await verify(Reader(connection), source=source)).is_current
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("delete from public._brokerflow_checksums")
    assert states(empty.app_url, source) == {"a": "applied"}


def test_a_chapter_without_a_file_is_unknown(empty: Database, write: Write) -> None:
    source = write("a")
    up(empty.owner_url, source=source)
    (source / "a.sql").unlink()
    assert states(empty.owner_url, source) == {"a": "unknown"}
    assert up(empty.owner_url, source=source) == []


def test_what_a_plain_yoyo_applied_is_unverified_until_adopted(empty: Database, write: Write) -> None:
    source = write("a").rename(write("a").with_name("plain"))  # yoyo takes a folder for a pattern
    yoyo(empty.owner_url, "postgresql+psycopg://", "apply", str(source))
    assert states(empty.owner_url, source) == {"a": "unverified"}
    with pytest.raises(MigrationError, match="may not read what is applied: let the owner run brokerflow migrate up"):
        status(empty.app_url, source=source)
    assert up(empty.owner_url, source=source) == []
    assert states(empty.app_url, source) == {"a": "applied"}
    yoyo(empty.owner_url, "postgresql+psycopg://", "rollback", str(source))
    assert states(empty.owner_url, source) == {"a": "pending"}
    assert up(empty.owner_url, source=source) == ["a"]


@pytest.mark.usefixtures("installed")
def test_yoyo_with_our_backend_records_what_it_applies(empty: Database, write: Write) -> None:
    source = write("a").rename(write("a").with_name("plain"))
    yoyo(empty.owner_url, "brokerflow:/postgresql://", "apply", str(source))
    assert states(empty.app_url, source) == {"a": "applied"}
    yoyo(empty.owner_url, "brokerflow:/postgresql+psycopg://", "rollback", str(source))
    assert states(empty.app_url, source) == {"a": "pending"}
    assert tables(empty.owner_url) == set()


@pytest.mark.usefixtures("installed")
def test_yoyo_works_at_the_root(empty: Database) -> None:
    variables = os.environ | {"BROKERFLOW_OWNER_URL": empty.owner_url}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "yoyo", *arguments]
        return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True).stdout

    assert "U         0010_roles" in run("list")
    run("apply", "--batch")
    assert "A         0010_roles" in run("list")
    assert up(empty.owner_url) == []
    assert set(states(empty.app_url, SCHEMA).values()) == {"applied"}
    run("rollback", "--batch", "--all")
    assert set(states(empty.app_url, SCHEMA).values()) == {"pending"}


@pytest.mark.parametrize(
    ("name", "apply", "complaint"),
    [
        ("a", "select 'é';", "a: is not ASCII"),
        ("a", "-- depends: nobody\nselect 1;", "Could not resolve dependencies in .*a.sql"),
    ],
)
def test_a_chapter_that_cannot_be_read_is_refused(
    empty: Database, write: Write, name: str, apply: str, complaint: str
) -> None:
    source = write(name, apply)
    with pytest.raises(MigrationError, match=complaint):
        up(empty.owner_url, source=source)


def test_a_chapter_without_a_rollback_is_refused(empty: Database, write: Write) -> None:
    source = write("a")
    (source / "a.rollback.sql").unlink()
    with pytest.raises(MigrationError, match=r"a: has no rollback, a\.rollback\.sql"):
        up(empty.owner_url, source=source)


def test_every_chapter_of_the_schema_can_be_read() -> None:
    assert all(path.with_suffix(".rollback.sql").exists() for path in SCHEMA.glob("????_*[!k].sql"))
