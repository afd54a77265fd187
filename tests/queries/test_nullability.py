"""A column may be null where PostgreSQL may make it so, and nowhere else that it can be known."""

from pathlib import Path

import pytest

from app.queries import load
from scripts.generation.catalog import Catalog
from tests.queries.conftest import Connection

JOINED = "from ledger.accounts a {} join ledger.entries e on e.account_id = a.id"


def nullable(ledger: Connection, folder: Path, sql: str, parameters: str = "", notes: str = "") -> str:
    """Write for each column + where it may be null and - where it never is."""
    (folder / "ledger").mkdir()
    (folder / "ledger" / "q.sql").write_text(f"-- name: q({parameters})\n-- Do it.\n{notes}{sql};")
    query = load("ledger", folder)["q"]
    return "".join("+" if column.nullable else "-" for column in Catalog(ledger).describe(query).columns)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        # tables
        ("select id, title, code, amount, note from ledger.accounts, lateral (select null as note) n", "-+--+"),
        ("select a.id from ledger.accounts as a", "-"),
        ("select id from ledger.open_accounts", "+"),
        ('select title as "title!", id as "id?" from ledger.accounts', "-+"),
        # joins
        ("select a.id, e.id as entry, e.note " + JOINED.format(""), "--+"),
        ("select a.id, e.id as entry " + JOINED.format("left"), "-+"),
        ("select a.id, e.id as entry " + JOINED.format("right"), "+-"),
        ("select a.id, e.id as entry " + JOINED.format("full"), "++"),
        ("select id from ledger.accounts left join (select id as id, 1 as n from ledger.entries) e using (id)", "-"),
        ("select id from ledger.accounts full join ledger.entries e using (id)", "+"),
        (
            ("select a.id, e.id as entry, f.id as other from ledger.accounts a left join"
            " (ledger.entries e join ledger.entries f on true) on true"),
            "-++",
        ),
        ("select s.entry from (select e.id as entry " + JOINED.format("left") + ") s", "+"),
        ("select e.id from ledger.accounts a left join lateral ledger.find_entry(a.id) e on true", "+"),
        # functions
        ("select * from ledger.find_entry(gen_random_uuid())", "---+"),
        ("select e.note, e.id from ledger.find_entries() as e", "+-"),
        ("select * from ledger.find_entries() with ordinality", "---+-"),
        ("select * from rows from (ledger.find_entries(), ledger.summary())", "---+-+"),
        ("select * from ledger.summary()", "-+"),
        ("select code from ledger.code_of(gen_random_uuid()) as code", "-"),
        ("select ledger.code_of(gen_random_uuid()), ledger.find_entry(null) is null as gone", "--"),
        ("select unnest(tags) as tag, x from ledger.accounts, unnest(tags) as x", "++"),
        # expressions
        ("select count(*), count(title) as c, sum(amount), max(id::text) from ledger.accounts", "--++"),
        ("select row_number() over () as n, lag(id) over () as l from ledger.accounts", "-+"),
        ("select amount + 1 as a, amount > 0 as b, normal + 1 as c, title is null as d from ledger.accounts", "--+-"),
        ("select coalesce(title, 'x') as a, coalesce(title, due::text) as b from ledger.accounts", "-+"),
        ("select greatest(normal, 1) as a, nullif(big, 1) as b from ledger.accounts", "-+"),
        ("select case when is_open then 1 else 2 end as a from ledger.accounts", "-"),
        ("select case when is_open then 1 end as a from ledger.accounts", "+"),
        ("select not is_open as a, is_open and normal > 1 as b from ledger.accounts", "-+"),
        ("select normal is distinct from 1 as a from ledger.accounts", "-"),
        ("select id::text as a, kind::text as b, tags::varchar[] as c, normal::text as d from ledger.accounts", "---+"),
        ("select exists (select) as a, array(select 1) as b, (select 1) as c, 1 in (select 1) as d", "--++"),
        ("select now() as a, lower(code) as b, upper(title) as c, array[normal] as d from ledger.accounts", "--+-"),
        ("select details -> 'a' as a, details || '{}' as b, to_jsonb(amount) as c from ledger.accounts", "+--"),
        ("select tags[1] as a, 'x' as b, null::text as c, kind::text collate \"C\" as d from ledger.accounts", "+-+-"),
        # with, union, values, groups
        ("with w as (select id, note from ledger.entries) select w.note, w.id from w", "+-"),
        (("with w as (insert into ledger.entries (account_id, amount) select id, 1 from ledger.accounts"
         " returning id, note) select * from w"), "-+"),
        (("with recursive w as (select 1 as n, null::text as t union all select n + 1, t from w where n < 3)"
         " select n, t from w"), "-+"),
        ("select id from ledger.accounts union all select account_id from ledger.entries", "-"),
        ("select code as c from ledger.accounts union select note from ledger.entries", "+"),
        ("select * from (values (1, 'a'), (2, null)) as v (n, t)", "-+"),
        ("select kind, count(*) from ledger.accounts group by kind", "--"),
        ("select kind, lower(code) as c from ledger.accounts group by kind, lower(code)", "--"),
        ("select kind, count(*) from ledger.accounts group by rollup (kind)", "++"),
        ("select (select e.id from ledger.entries e where e.id = a.id) as e from ledger.accounts a", "+"),
        ("select l.id from ledger.accounts a, lateral (select a.id) l", "-"),
        # changes
        ("insert into ledger.entries (account_id, amount) values (gen_random_uuid(), 1) returning id, note", "-+"),
        ("update ledger.entries set note = 'x' returning *", "---+"),
        (("update ledger.entries e set note = 'x' from ledger.accounts a where a.id = e.account_id"
         " returning e.id, a.title, a.id as account"), "-+-"),
        ("delete from ledger.entries returning id, amount * 2 as doubled", "--"),
    ],
)  # fmt: skip
def test_a_column_may_be_null(ledger: Connection, tmp_path: Path, sql: str, expected: str) -> None:
    assert nullable(ledger, tmp_path, sql) == expected


def test_a_parameter_comes_back_null_only_when_it_is_optional(ledger: Connection, tmp_path: Path) -> None:
    columns = "select :a::text as a, :b::text as b"
    assert nullable(ledger, tmp_path, columns, "a, b", "-- optional: a\n") == "+-"
