"""Asks a migrated database for the types of a query: what it takes, what it returns and what may be null."""

import keyword
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import psycopg
from aiosql.types import SQLOperationType
from psycopg import pq, sql

from app.queries import Query, QueryError
from scripts.generation import tree

_PYTHON: Final = {
    "bool": "bool",
    "int2": "int",
    "int4": "int",
    "int8": "int",
    "float4": "float",
    "float8": "float",
    "numeric": "Decimal",
    "text": "str",
    "varchar": "str",
    "bpchar": "str",
    "name": "str",
    "citext": "str",
    "xid8": "str",
    "uuid": "UUID",
    "timestamptz": "datetime",
    "date": "date",
    "interval": "timedelta",
    "bytea": "bytes",
    "json": "Raw",
    "jsonb": "Raw",
}
_UNNAMED: Final = "?column?"
_FIXES: Final = {
    "timestamp": "use timestamptz",
    "record": "select its columns",
    "void": "end the query's name with !",
}


class Enum(NamedTuple):
    """An enum of the database."""

    name: str
    labels: tuple[str, ...]


class Type(NamedTuple):
    """A type as Python writes it; `enum` is set where it is, or is an array of, an enum."""

    python: str
    enum: Enum | None = None

    @property
    def is_json(self) -> bool:
        """Whether values pass as JSON text."""
        return self.python == "Raw"


class Field(NamedTuple):
    """A parameter of a query or a column of its result."""

    name: str
    type: Type
    nullable: bool


class Description(NamedTuple):
    """What a query takes, in the order of its `$n`, and what it returns."""

    parameters: list[Field]
    columns: list[Field]


class Catalog:
    """The migrated database; remembers what it has asked."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._answers: dict[tuple[str, int], list[tuple[Any, ...]]] = {}

    def describe(self, query: Query) -> Description:
        """Describe a query.

        Raises QueryError, naming file and query, when PostgreSQL refuses it, or a type or name has no place in
        Python.
        """
        prepared = self._prepare(query)
        oids = [prepared.param_type(index) for index in range(prepared.nparams)]
        parameters = [
            Field(_identifier(query, name), self._type(query, f"parameter {name}", oid), name in query.optional)
            for name, oid in zip(query.parameters, oids, strict=True)
        ]
        has_result = prepared.nfields and query.operation != SQLOperationType.INSERT_UPDATE_DELETE
        nullable = self._nullable(query, oids) if has_result else []
        columns = [self._column(query, prepared, index, nullable=null) for index, null in enumerate(nullable)]
        names = [column.name for column in columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise QueryError(f"{query}: two columns are named {', '.join(twice)}")
        return Description(parameters, columns)

    def _prepare(self, query: Query) -> pq.abc.PGresult:
        """Have PostgreSQL parse a query and describe it, without running it."""
        server = self._connection.pgconn
        prepared = server.prepare(b"", query.sql.encode())
        if prepared.status == pq.ExecStatus.COMMAND_OK:
            return server.describe_prepared(b"")
        raise QueryError(f"{query}: {pq.error_message(prepared)}")

    def _column(self, query: Query, prepared: pq.abc.PGresult, index: int, *, nullable: bool) -> Field:
        name = (prepared.fname(index) or b"").decode()
        mark = name[-1] if name != _UNNAMED and name.endswith(("!", "?")) else ""
        name = name.removesuffix(mark)
        found = self._type(query, f"column {name}", prepared.ftype(index), returned=True)
        if query.operation != SQLOperationType.SELECT_VALUE:
            _identifier(query, name)
        if name == found.python:
            raise QueryError(f"{query}: column {name} hides its own type in Python; name it otherwise")
        return Field(name, found, {"!": False, "?": True, "": nullable}[mark])

    def _type(self, query: Query, what: str, oid: int, *, returned: bool = False) -> Type:
        """Translate a type of PostgreSQL, a domain by its base and an array by its elements."""
        schema, name, kind, base, element = self._row(_TYPE, oid)
        if kind == "d":
            return self._type(query, what, base, returned=returned)
        if kind == "e":
            enum = Enum(name, tuple(row[0] for row in self._rows(_LABELS, oid)))
            return Type("".join(word.capitalize() for word in name.split("_")), enum)
        if element:
            return self._array(query, what, element, returned=returned)
        if name == "citext" or (schema == "pg_catalog" and name in _PYTHON):
            return Type(_PYTHON[name])
        fix = "select its columns" if kind == "c" else _FIXES.get(name, "cast it, or teach scripts/generation the type")
        raise QueryError(f"{query}: {what} is of type {schema}.{name}; {fix}")

    def _array(self, query: Query, what: str, element: int, *, returned: bool) -> Type:
        found = self._type(query, what, element)
        schema = self._row(_TYPE, element)[0]
        if found.is_json or (returned and schema != "pg_catalog"):
            # psycopg reads arrays by the oid of the type, which it knows of PostgreSQL's own types only.
            raise QueryError(f"{query}: {what} is an array of an own type; cast it to an array of PostgreSQL's own")
        return found._replace(python=f"list[{found.python}]")

    def _nullable(self, query: Query, oids: Sequence[int]) -> list[bool]:
        """Parse a query once more, within a function, for that one keeps the parsed tree."""
        statement = sql.SQL(
            "create function pg_temp.query({}) returns setof record language sql begin atomic {}\n; end"
        ).format(
            sql.SQL(", ").join(sql.SQL(self._row(_TYPE_NAME, oid)[0]) for oid in oids),
            sql.SQL(query.sql),
        )
        with self._connection.transaction(force_rollback=True):
            try:
                self._connection.execute(statement)
            except psycopg.Error as error:
                raise QueryError(f"{query}: {error}") from error
            [text] = self._connection.execute(_TREE).fetchone() or [""]
        [[parsed]] = tree.parse(text)
        return tree.nullable_columns(parsed, self, [name in query.optional for name in query.parameters])

    def columns_not_null(self, relation: int) -> Sequence[bool]:
        """Tell for each column of a relation, by its number, whether it is never null."""
        return [row[0] for row in self._rows(_COLUMNS, relation)]

    def results_not_null(self, function: int) -> Sequence[bool]:
        """Tell for each column that a function returns whether it is never null."""
        relation, arguments = self._row(_FUNCTION, function)
        return self.columns_not_null(relation) if relation else arguments

    def type_not_null(self, oid: int) -> bool:
        """Tell whether a type is a domain that admits no null."""
        return bool(self._row(_TYPE_NOT_NULL, oid)[0])

    def builtin_function(self, oid: int) -> str | None:
        """Name a function of pg_catalog."""
        return next((row[0] for row in self._rows(_FUNCTION_NAME, oid)), None)

    def builtin_operator(self, oid: int) -> str | None:
        """Name an operator of pg_catalog."""
        return next((row[0] for row in self._rows(_OPERATOR_NAME, oid)), None)

    def _rows(self, question: str, oid: int) -> list[tuple[Any, ...]]:
        if (question, oid) not in self._answers:
            self._answers[question, oid] = self._connection.execute(question.encode(), [oid]).fetchall()
        return self._answers[question, oid]

    def _row(self, question: str, oid: int) -> tuple[Any, ...]:
        return self._rows(question, oid)[0]


def _identifier(query: Query, name: str) -> str:
    if name.isidentifier() and name.isascii() and not keyword.iskeyword(name) and name != "db":
        return name
    raise QueryError(f"{query}: {name or 'a column without name'} cannot be a name in Python; give it another")


_TYPE: Final = """
    select
        n.nspname, t.typname, t.typtype, t.typbasetype,
        case when t.typcategory = 'A' then t.typelem else 0 end
    from pg_catalog.pg_type t
    join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    where t.oid = %s
"""
_TYPE_NAME: Final = "select %s::pg_catalog.regtype::text"
_TYPE_NOT_NULL: Final = "select typnotnull from pg_catalog.pg_type where oid = %s"
_LABELS: Final = "select enumlabel from pg_catalog.pg_enum where enumtypid = %s order by enumsortorder"
_COLUMNS: Final = """
    select a.attnotnull or t.typnotnull
    from pg_catalog.pg_attribute a
    left join pg_catalog.pg_type t on t.oid = a.atttypid
    where a.attrelid = %s and a.attnum > 0
    order by a.attnum
"""
_FUNCTION: Final = """
    select
        t.typrelid,
        case when p.proargmodes is null then array[t.typnotnull]
        else array(
            select a.typnotnull
            from unnest(p.proallargtypes, p.proargmodes) with ordinality as argument (type, mode, position)
            join pg_catalog.pg_type a on a.oid = argument.type
            where argument.mode in ('o', 'b', 't')
            order by argument.position
        ) end
    from pg_catalog.pg_proc p
    join pg_catalog.pg_type t on t.oid = p.prorettype
    where p.oid = %s
"""
_FUNCTION_NAME: Final = """
    select proname from pg_catalog.pg_proc where oid = %s and pronamespace = 'pg_catalog'::regnamespace
"""
_OPERATOR_NAME: Final = """
    select oprname from pg_catalog.pg_operator where oid = %s and oprnamespace = 'pg_catalog'::regnamespace
"""
_TREE: Final = """
    select prosqlbody::text
    from pg_catalog.pg_proc
    where pronamespace = pg_my_temp_schema() and proname = 'query'
"""
