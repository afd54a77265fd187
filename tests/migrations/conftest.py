"""An empty database that the deployer owns, and chapters to apply to it."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from app.embedded import DEPLOYER
from tests.conftest import PREFIX, Database, Server

Write = Callable[..., Path]


@pytest.fixture
def empty(server: Server) -> Iterator[Database]:
    """A database of the deployer, who is no superuser, without anything in it."""
    name = f"{PREFIX}{server.run}_empty_{secrets.token_hex(4)}"
    server.admin.execute(
        sql.SQL("create database {} template template0 owner {}").format(sql.Identifier(name), sql.Identifier(DEPLOYER))
    )
    yield server.database(name)
    server.admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a chapter; return their folder. The rollback drops the table of the same name, unless given."""
    folder = tmp_path / "a folder [with] brackets"
    folder.mkdir()

    def write(name: str, apply: str | None = None, rollback: str | None = None) -> Path:
        apply = f"create table {name} (id integer);" if apply is None else apply
        (folder / f"{name}.sql").write_text(apply)
        (folder / f"{name}.rollback.sql").write_text(f"drop table {name};" if rollback is None else rollback)
        return folder

    return write


def ask(url: str, question: str) -> list[tuple[object, ...]]:
    """Return the rows that a statement answers."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(question.encode())
        return cursor.fetchall() if cursor.description else []


def tables(url: str) -> set[str]:
    """Name the tables of schema public that are not yoyo's or ours."""
    rows = ask(url, "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace")
    return {str(name) for (name,) in rows if not str(name).startswith(("_", "yoyo"))}
