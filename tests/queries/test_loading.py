"""Query files are read as they stand, and refused where they are ambiguous."""

from collections.abc import Callable
from pathlib import Path

import pytest
from aiosql.types import SQLOperationType

from app.queries import QueryError, load

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the files of a domain; the last part of a name is the file."""

    def write(**files: str) -> Path:
        (tmp_path / "ledger").mkdir(exist_ok=True)
        for name, text in files.items():
            (tmp_path / "ledger" / f"{name}.sql").write_text(text)
        return tmp_path

    return write


def test_a_query_keeps_what_its_file_says(write: Write) -> None:
    root = write(
        accounts="""-- Accounts, and what is in them.

-- name: list_accounts(kind, cursor)
-- List accounts.
--
-- Newest first.
-- record: Account
-- optional: kind, cursor
-- role: brokerflow_auditor
select * from t  -- of :any kind, it's all
where kind = :kind and '100 %' <> ':kind' and at < :cursor and kind <> :kind;
"""
    )
    query = load("ledger", root)["list_accounts"]
    assert query.description == "List accounts.\n\nNewest first."
    assert (query.record, query.optional) == ("Account", frozenset({"kind", "cursor"}))
    assert query.role == "brokerflow_auditor"
    assert query.operation == SQLOperationType.SELECT
    assert query.parameters == ("kind", "cursor")
    assert query.sql == (
        "select * from t  -- of :any kind, it's all\nwhere kind = $1 and '100 %' <> ':kind' and at < $2 and kind <> $1"
    )
    assert str(query) == f"{root}/ledger/accounts.sql:3 list_accounts"


@pytest.mark.parametrize(
    ("suffix", "operation"),
    [
        ("", SQLOperationType.SELECT),
        ("^", SQLOperationType.SELECT_ONE),
        ("<!", SQLOperationType.INSERT_RETURNING),
        ("$", SQLOperationType.SELECT_VALUE),
        ("!", SQLOperationType.INSERT_UPDATE_DELETE),
    ],
)
def test_a_suffix_says_how_many_rows(write: Write, suffix: str, operation: SQLOperationType) -> None:
    root = write(a=f"-- name: q(){suffix}\n-- Do it.\nselect 1")
    assert load("ledger", root)["q"].operation == operation


def test_a_name_that_occurs_twice_in_a_domain_is_refused(write: Write) -> None:
    query = "-- name: q()\n-- Do it.\nselect 1;\n"
    root = write(a=query, b="\n" + query)
    with pytest.raises(QueryError, match=r"b\.sql:2 q: the name stands already at .*a\.sql:1"):
        load("ledger", root)


def test_a_name_that_occurs_twice_in_a_file_is_refused(write: Write) -> None:
    query = "-- name: q()\n-- Do it.\nselect 1;\n"
    with pytest.raises(QueryError, match=r"a\.sql:4 q: the name stands already at .*a\.sql:1"):
        load("ledger", write(a=query + query))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: q()\nselect 1", "needs a line below its name"),
        ("-- name: q()\n--\nselect 1", "needs a line below its name"),
        ("-- name: q()\n-- record: A\nselect 1", "needs a line below its name"),
        (f"-- name: q()\n-- {'x' * 101}\nselect 1", "longer than 100 characters"),
        ("-- name: q()\n-- Do it.\n-- recrod: A\nselect 1", "annotation recrod is unknown"),
        ("-- name: q()\n-- Do it.\n-- record: A\n-- record: B\nselect 1", "given twice"),
        ("-- name: q(a)\n-- Do it.\n-- optional: b\nselect :a", "optional names no parameter: b"),
        ("-- name: q()\n-- Do it.\nselect :a", "q uses undeclared parameter a"),
        ("-- name: q(a)\n-- Do it.\nselect ':a'", "q never uses parameter a"),
        ("-- name: q\n-- Do it.\nselect 1", "missing mandatory parameter list"),
        ("-- name: q()#\n-- Do it.\nselect 1", "its suffix is not one of"),
        ("-- name: q()*!\n-- Do it.\nselect 1", "its suffix is not one of"),
        ("-- name: q()\n-- Do it.\n", "empty"),
    ],
)
def test_a_query_against_the_conventions_is_refused(write: Write, text: str, complaint: str) -> None:
    with pytest.raises(QueryError, match=rf"ledger/a\.sql.*{complaint}"):
        load("ledger", write(a=text))
