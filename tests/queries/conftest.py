"""A database with a small schema of its own, and the module that is generated from queries on it."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from app.queries import load
from scripts.generation.catalog import Catalog
from scripts.generation.module import render, tidy
from tests.conftest import PREFIX, Server

ROOT = Path(__file__).parents[2]

SCHEMA = """
create schema ledger;
create type ledger.kind as enum ('cash', 'credit');
create domain ledger.title as text check (value <> '');
create domain ledger.code as ledger.title not null;
create table ledger.accounts (
    id uuid primary key default gen_random_uuid(),
    kind ledger.kind not null default 'cash',
    title ledger.title,
    code ledger.code default 'x',
    small smallint,
    normal integer,
    big bigint not null default 1,
    ratio double precision,
    amount numeric(12, 2) not null default 0,
    is_open boolean not null default true,
    opened_at timestamptz not null default now(),
    due date,
    grace interval,
    digest bytea,
    tags text[] not null default '{}',
    numbers bigint[],
    kinds ledger.kind[],
    details jsonb not null default '{}',
    raw json,
    transaction xid8 not null default pg_current_xact_id()
);
create table ledger.entries (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references ledger.accounts on delete cascade,
    amount numeric not null,
    note text
);
create view ledger.open_accounts as select id, amount from ledger.accounts where is_open;
create function ledger.find_entry(id uuid) returns ledger.entries
    language sql as 'select * from ledger.entries e where e.id = find_entry.id';
create function ledger.find_entries() returns setof ledger.entries language sql as 'select * from ledger.entries';
create function ledger.summary() returns table (code ledger.code, total numeric)
    language sql as 'select code, amount from ledger.accounts';
create function ledger.code_of(id uuid) returns ledger.code language sql as 'select ''x''::ledger.code';
create function ledger.touch() returns void language sql as 'select';
"""

Connection = psycopg.Connection[tuple[Any, ...]]
Generate = Callable[[str], str]


@pytest.fixture(scope="package")
def ledger_url(server: Server) -> Iterator[str]:
    """A superuser's URL of a database that holds SCHEMA."""
    name = f"{PREFIX}{server.run}_ledger_{secrets.token_hex(4)}"
    server.admin.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        connection.execute(SCHEMA)
    yield server.url(name)
    server.admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Connection]:
    """A superuser's transaction in it, which does not last."""
    with psycopg.connect(ledger_url, autocommit=True) as connection, connection.transaction(force_rollback=True):
        yield connection


@pytest.fixture
def generate(ledger: Connection, tmp_path: Path) -> Generate:
    """Generate the module of a query file's text."""

    def generate(text: str) -> str:
        (tmp_path / "ledger").mkdir(exist_ok=True)
        (tmp_path / "ledger" / "queries.sql").write_text(text)
        load.cache_clear()
        queries = load("ledger", tmp_path).values()
        return tidy(render("ledger", queries, Catalog(ledger)), ROOT / "app" / "ledger" / "queries.py")

    return generate
