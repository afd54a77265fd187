"""Loads sql/queries through aiosql, refuses what is ambiguous in it, and runs what generated modules ask for.

A query file, sql/queries/<domain>/<entity>.sql, is plain aiosql:

    -- name: list_agreements(status)
    -- List the agreements of the caller's broker, newest first.
    -- record: Agreement
    -- optional: status
    select ... where status = coalesce(:status, status);

The line below the name becomes the docstring's first, further lines its body. Of the annotations, `record`
names the Struct of a row, which the queries of a domain that name it share; `optional` lists the parameters
that may be None and left out; `role` is the database role that asks, where it is not the service's. The suffix of
the name says how many rows there are:

    (none)  any number      list[Record]
    ^       none or one     Record | None
    <!      exactly one     Record; none raises RowMissing
    $       a single value  its type; no row raises RowMissing, or is None where the value may be null
    !       no result       None

A row of nothing but NULLs counts as none: so answers a function that returns a row type and found nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from inspect import Signature
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import msgspec
from aiosql.query_loader import QueryLoader
from aiosql.types import DriverAdapterProtocol, QueryDatum, SQLOperationType
from aiosql.utils import SQLParseException
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper, Loader

ROOT: Final = Path(__file__).resolve().parent.parent / "sql" / "queries"

T = TypeVar("T")


class Connection(Protocol):
    """What a generated query needs of the database: rows of tuples for a text with `$n` and its values."""

    async def fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Run one statement and return all of its rows."""
        ...


class QueryError(Exception):
    """A query file that breaks the conventions; the message names file, line and query."""


class RowMissing(Exception):  # noqa: N818 - it names what happened, not a mistake of the code
    """A query that promises a row had none; the message names the query."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One query of a file: its text with `$n` and, in that order, the names of its parameters."""

    domain: str
    name: str
    path: Path
    line: int
    operation: SQLOperationType
    description: str
    record: str | None
    role: str | None
    optional: frozenset[str]
    parameters: tuple[str, ...]
    sql: str

    def __str__(self) -> str:
        """Say where the query stands, as an editor can open it."""
        return f"{self.path}:{self.line} {self.name}"


# What PostgreSQL's lexer takes as one piece: a colon inside is no parameter. A word is among them lest a `$`
# within it opens a dollar quote, or its last e an escape string.
_PIECE: Final = re.compile(
    r"""
      --[^\n]*
    | (?P<block>/\*)
    | [eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$).*?(?P=dollar)
    | [^\W\d][\w$]*
    | \d[\w.]*
    | \$\d+
    | ::
    | :(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE: Final = re.compile(r"/\*|\*/")


def _block_end(sql: str, start: int) -> int:
    """Find where a block comment ends; PostgreSQL lets them nest."""
    depth = 0
    for edge in _BLOCK_EDGE.finditer(sql, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


def placeholders(sql: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and name of each `:name` that PostgreSQL would not read as something else."""
    position = 0
    while piece := _PIECE.search(sql, position):
        position = _block_end(sql, piece.start()) if piece["block"] else piece.end()
        if piece["name"]:
            yield piece.start(), piece.end(), piece["name"]


def number(sql: str) -> tuple[str, tuple[str, ...]]:
    """Rewrite `:name` to `$n`, the same name to the same number; return the text and the names by number."""
    names: list[str] = []
    text: list[str] = []
    done = 0
    for start, end, name in placeholders(sql):
        if name not in names:
            names.append(name)
        text += sql[done:start], f"${names.index(name) + 1}"
        done = end
    return "".join([*text, sql[done:]]), tuple(names)


class _Adapter:
    """The driver adapter whom aiosql asks for the final text of a query; running it is ours."""

    def __init__(self) -> None:
        self.parameters: dict[str, tuple[str, ...]] = {}

    def process_sql(self, name: str, _operation: SQLOperationType, sql: str) -> str:
        """Write `$n` for each `:name` and remember the names."""
        text, self.parameters[name] = number(sql)
        return text


class _Loader(QueryLoader):
    """aiosql's reader of query files, with PostgreSQL's lexical rules in place of its approximations."""

    def _get_sql_doc(self, lines: Sequence[str]) -> tuple[str, str]:
        """Take the comment below the name as its documentation; later comments stay in the SQL."""
        top = next((index for index, line in enumerate(lines) if not line.lstrip().startswith("--")), len(lines))
        doc = "\n".join(line.lstrip().removeprefix("--").strip() for line in lines[:top])
        return "\n".join(lines[top:]).strip().removesuffix(";"), doc

    def _build_signature(self, sql: str, qname: str, sig: list[str] | None) -> Signature:
        """Hold the declared parameters against the used ones, which excludes literals and comments."""
        used, declared = set(number(sql)[1]), set(sig or ())
        for problem, names in (("uses undeclared", used - declared), ("never uses", declared - used)):
            if names:
                raise SQLParseException(f"{qname} {problem} parameter {', '.join(sorted(names))}")
        return Signature()


_NAME: Final = re.compile(r"--\s*name\s*:")
_ANNOTATION: Final = re.compile(r"([a-z_]+):(?: (.*))?")
_ANNOTATIONS: Final = ("record", "optional", "role")
_LONGEST: Final = 100
_UNSUPPORTED: Final = {SQLOperationType.SCRIPT, SQLOperationType.INSERT_UPDATE_DELETE_MANY}


def _annotations(where: str, doc: str) -> tuple[str, dict[str, str]]:
    """Split the comment below a name into its sentence and its annotations."""
    notes: dict[str, str] = {}
    lines: list[str] = []
    for line in doc.splitlines():
        if (note := _ANNOTATION.fullmatch(line)) is None:
            lines.append(line)
        elif note[1] not in _ANNOTATIONS or note[1] in notes:
            known = ", ".join(_ANNOTATIONS)
            raise QueryError(f"{where}: annotation {note[1]} is unknown or given twice; there are {known}")
        else:
            notes[note[1]] = (note[2] or "").strip()
    if not lines or not lines[0]:
        raise QueryError(f"{where}: needs a line below its name that says what it is for")
    if len(lines[0]) > _LONGEST:
        raise QueryError(f"{where}: the line below its name is longer than {_LONGEST} characters")
    return "\n".join(lines).rstrip(), notes


def _optional(where: str, notes: Mapping[str, str], parameters: Sequence[str]) -> frozenset[str]:
    optional = frozenset(notes.get("optional", "").replace(",", " ").split())
    if unknown := optional.difference(parameters):
        raise QueryError(f"{where}: optional names no parameter: {', '.join(sorted(unknown))}")
    return optional


def _query(path: Path, line: int, datum: QueryDatum, parameters: tuple[str, ...]) -> Query:
    """Turn what aiosql read into a Query, or refuse it."""
    domain, name = datum.query_name.split(".")
    where = f"{path}:{line} {name}"
    description, notes = _annotations(where, datum.doc_comments)
    if datum.operation_type in _UNSUPPORTED:
        raise QueryError(f"{where}: its suffix is not one of ^ <! $ !")
    return Query(
        domain=domain,
        name=name,
        path=path,
        line=line,
        operation=datum.operation_type,
        description=description,
        record=notes.get("record"),
        role=notes.get("role"),
        optional=_optional(where, notes, parameters),
        parameters=parameters,
        sql=datum.sql,
    )


def _read(path: Path) -> Iterator[Query]:
    """Read the queries of one file, in their order."""
    source = path.read_text(encoding="utf-8")
    adapter = _Adapter()
    loader = _Loader(cast("DriverAdapterProtocol", adapter), None, attribute=None)
    try:
        data = loader.load_query_data_from_sql(source, [path.parent.name], path)
    except SQLParseException as error:
        raise QueryError(f"{path}: {error}") from error
    lines = [source.count("\n", 0, match.start()) + 1 for match in _NAME.finditer(source)]
    for line, datum in zip(lines, data, strict=True):
        yield _query(path, line, datum, adapter.parameters[datum.query_name])


@cache
def load(domain: str, root: Path = ROOT) -> Mapping[str, Query]:
    """Read every query of a domain by its name, once.

    Raises QueryError for a name that occurs twice, a query without a description and whatever aiosql refuses.
    """
    queries: dict[str, Query] = {}
    for path in sorted((root / domain).glob("*.sql")):
        for query in _read(path):
            if earlier := queries.get(query.name):
                raise QueryError(f"{query}: the name stands already at {earlier.path}:{earlier.line}")
            queries[query.name] = query
    return queries


async def _first(db: Connection, query: Query, arguments: Mapping[str, object]) -> tuple[Any, ...] | None:
    rows = await _rows(db, query, arguments)
    return rows[0] if rows and any(column is not None for column in rows[0]) else None


async def _rows(db: Connection, query: Query, arguments: Mapping[str, object]) -> list[tuple[Any, ...]]:
    return await db.fetch(query.sql, [arguments[name] for name in query.parameters])


async def many(db: Connection, query: Query, record: Callable[..., T], arguments: Mapping[str, object]) -> list[T]:
    """Run a query for all of its rows, each made a record."""
    return [record(*row) for row in await _rows(db, query, arguments)]


async def maybe_one(
    db: Connection, query: Query, record: Callable[..., T], arguments: Mapping[str, object]
) -> T | None:
    """Run a query for its first row, or None."""
    row = await _first(db, query, arguments)
    return None if row is None else record(*row)


async def one(db: Connection, query: Query, record: Callable[..., T], arguments: Mapping[str, object]) -> T:
    """Run a query for the row that it promises; raises RowMissing."""
    row = await _first(db, query, arguments)
    if row is None:
        raise RowMissing(f"{query.domain}.{query.name} promises a row and had none")
    return record(*row)


async def maybe_value(db: Connection, query: Query, arguments: Mapping[str, object]) -> Any:
    """Run a query for its single value, or None."""
    row = await _first(db, query, arguments)
    return None if row is None else row[0]


async def value(db: Connection, query: Query, arguments: Mapping[str, object]) -> Any:
    """Run a query for the single value that it promises; raises RowMissing."""
    row = await _first(db, query, arguments)
    if row is None:
        raise RowMissing(f"{query.domain}.{query.name} promises a value and had none")
    return row[0]


async def execute(db: Connection, query: Query, arguments: Mapping[str, object]) -> None:
    """Run a query for its effect."""
    await _rows(db, query, arguments)


class Json(msgspec.Struct, frozen=True):
    """Marks a parameter as JSON: anything that msgspec encodes."""

    value: object


class _JsonDumper(Dumper):
    """Writes a Json as text of unknown type, so that PostgreSQL takes it for json and jsonb alike."""

    def dump(self, obj: Json) -> Buffer:
        return msgspec.json.encode(obj.value)


class _IntDumper(Dumper):
    """Writes an int as text of unknown type.

    psycopg's own picks smallint, integer or bigint by size: one query would be prepared three times, and a
    number too large for a function's argument be reported as a function that does not exist.
    """

    def dump(self, obj: int) -> Buffer:
        return str(obj).encode()


class _RawLoader(Loader):
    """Hands JSON on as the bytes that PostgreSQL wrote, for an answer needs no decoding."""

    def load(self, data: Buffer) -> msgspec.Raw:
        return msgspec.Raw(bytes(data))


def register_adapters(context: AdaptContext) -> None:
    """Teach a connection, or psycopg.adapters for all to come, what generated queries send and expect."""
    context.adapters.register_dumper(Json, _JsonDumper)
    context.adapters.register_dumper(int, _IntDumper)
    for name in ("json", "jsonb"):
        context.adapters.register_loader(name, _RawLoader)
