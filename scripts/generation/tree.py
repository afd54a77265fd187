"""Finds which columns of a query may be null, from the tree that PostgreSQL's own parser made of it.

Describe names a column's table, but not what an outer join, a set operation, a function or an expression does to
it; the parsed tree (pg_proc.prosqlbody of a function around the query) says all of that, and has resolved every
name to an oid. What is not known here counts as nullable.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias

Node: TypeAlias = dict[str, Any]

_TOKEN: Final = re.compile(r"[(){}\[\]]|(?:\\.|[^\s(){}\[\]\\])+")
_CLOSING: Final = {"(": ")", "[": "]"}
_COMMAND_SELECT, _COMMAND_MERGE = "1", "5"


_JOIN_LEFT, _JOIN_FULL, _JOIN_RIGHT = "1", "2", "3"
_CAST_FORMATS: Final = {"1", "2"}
_SUBLINK_NEVER_NULL: Final = {"0", "6"}  # exists(...), array(...)
_OPERATORS: Final = {"=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "+", "-", "*", "/", "%", "||"}
_NEVER_NULL: Final = {
    *("count", "row_number", "rank", "dense_rank", "now", "clock_timestamp", "gen_random_uuid"),
    *("concat", "json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array"),
}
_TOTAL: Final = {
    *("abs", "btrim", "ceil", "date_trunc", "encode", "floor", "length", "lower", "round", "sha256", "upper"),
    *("to_json", "to_jsonb"),
}


class Facts(Protocol):
    """What the catalog knows about the objects that a tree names by oid."""

    def columns_not_null(self, relation: int) -> Sequence[bool]:
        """Tell for each column of a relation, by its number, whether it is never null."""

    def results_not_null(self, function: int) -> Sequence[bool]:
        """Tell for each column that a function returns whether it is never null."""

    def type_not_null(self, oid: int) -> bool:
        """Tell whether a type is a domain that admits no null."""

    def builtin_function(self, oid: int) -> str | None:
        """Name a function of pg_catalog."""

    def builtin_operator(self, oid: int) -> str | None:
        """Name an operator of pg_catalog."""


def parse(text: str) -> Any:
    """Read a pg_node_tree: nodes become dictionaries, their label under '', lists lists and the rest strings."""
    tokens = iter(_TOKEN.findall(text))
    return _value(next(tokens), tokens)


def _value(first: str, rest: Iterator[str]) -> Any:
    if first == "{":
        return _node(rest)
    if first in _CLOSING:
        return [_value(item, rest) for item in iter(lambda: next(rest), _CLOSING[first])]
    return None if first == "<>" else re.sub(r"\\(.)", r"\1", first)


def _node(tokens: Iterator[str]) -> Node:
    node: Node = {"": next(tokens)}
    field = ""
    for token in iter(lambda: next(tokens), "}"):
        if token.startswith(":"):
            field = token[1:]
        else:  # a datum is several values; its first, the length, is enough
            node.setdefault(field, _value(token, tokens))
    return node


def nullable_columns(query: Node, facts: Facts, nullable_parameters: Sequence[bool]) -> list[bool]:
    """Tell for each result column of a parsed query whether it may be null."""
    return _Reader(facts, nullable_parameters).columns(query, ())


class _Reader:
    """Walks the expressions of a query; `scopes` holds the query and, before it, those around it."""

    def __init__(self, facts: Facts, nullable_parameters: Sequence[bool]) -> None:
        self._facts = facts
        self._nullable_parameters = nullable_parameters

    def columns(self, query: Node, around: tuple[Node, ...]) -> list[bool]:
        """Tell for each column that a query yields whether it may be null."""
        scopes = (*around, query)
        if query.get("setOperations"):
            branches = [self.columns(entry["subquery"], scopes) for entry in query["rtable"] if entry.get("subquery")]
            return [any(column) for column in zip(*branches, strict=True)]
        entries = query["targetList" if query["commandType"] == _COMMAND_SELECT else "returningList"] or []
        expressions = [entry["expr"] for entry in entries if entry["resjunk"] == "false"]
        return [bool(query["groupingSets"]) or self._nullable(each, scopes) for each in expressions]

    def _nullable(self, node: Node | None, scopes: tuple[Node, ...]) -> bool:
        rule = _RULES.get(node[""]) if node else None
        return node is None or rule is None or rule(self, node, scopes)

    def never(self, _: Node, __: tuple[Node, ...]) -> bool:
        return False

    def constant(self, node: Node, _: tuple[Node, ...]) -> bool:
        return bool(node["constisnull"] == "true")

    def parameter(self, node: Node, _: tuple[Node, ...]) -> bool:
        return self._nullable_parameters[int(node["paramid"]) - 1]

    def aggregate(self, node: Node, _: tuple[Node, ...]) -> bool:
        function = node["aggfnoid"] if node[""] == "AGGREF" else node["winfnoid"]
        return self._facts.builtin_function(int(function)) not in _NEVER_NULL

    def sublink(self, node: Node, _: tuple[Node, ...]) -> bool:
        return node["subLinkType"] not in _SUBLINK_NEVER_NULL

    def argument(self, node: Node, scopes: tuple[Node, ...]) -> bool:
        return self._nullable(node["arg"], scopes)

    def any_argument(self, node: Node, scopes: tuple[Node, ...]) -> bool:
        return any(self._nullable(each, scopes) for each in node["args"] or [])

    def every_argument(self, node: Node, scopes: tuple[Node, ...]) -> bool:
        return all(self._nullable(each, scopes) for each in node["args"])

    def case(self, node: Node, scopes: tuple[Node, ...]) -> bool:
        results = [when["result"] for when in node["args"]]
        return any(self._nullable(each, scopes) for each in [*results, node["defresult"]])

    def operator(self, node: Node, scopes: tuple[Node, ...]) -> bool:
        return self._facts.builtin_operator(int(node["opno"])) not in _OPERATORS or self.any_argument(node, scopes)

    def function(self, node: Node, scopes: tuple[Node, ...]) -> bool:
        name = self._facts.builtin_function(int(node["funcid"]))
        if name in _NEVER_NULL or self._facts.type_not_null(int(node["funcresulttype"])):
            return False
        total = name in _TOTAL or (name is not None and node["funcformat"] in _CAST_FORMATS)
        return not total or self.any_argument(node, scopes)

    def variable(self, node: Node, scopes: tuple[Node, ...]) -> bool:
        scopes = scopes[: len(scopes) - int(node["varlevelsup"])]
        query, index, column = scopes[-1], int(node["varno"]), int(node["varattno"])
        of_old_or_new = node.get("varreturningtype", "0") != "0"
        unmatched = query["commandType"] == _COMMAND_MERGE and query["resultRelation"] != node["varno"]
        if column < 1 or of_old_or_new or unmatched or index in _nulled(query["jointree"]):
            return True
        return self._column(query["rtable"][index - 1], column, scopes)

    def _column(self, entry: Node, number: int, scopes: tuple[Node, ...]) -> bool:
        """Tell whether a column of an entry of the range table may be null."""
        kind = _KINDS.get(entry["rtekind"])
        return kind is None or kind(self, entry, number, scopes)

    def of_relation(self, entry: Node, number: int, _: tuple[Node, ...]) -> bool:
        return not self._facts.columns_not_null(int(entry["relid"]))[number - 1]

    def of_subquery(self, entry: Node, number: int, scopes: tuple[Node, ...]) -> bool:
        return self.columns(entry["subquery"], scopes)[number - 1]

    def of_join(self, entry: Node, number: int, scopes: tuple[Node, ...]) -> bool:
        return self._nullable(entry["joinaliasvars"][number - 1], scopes)

    def of_values(self, entry: Node, number: int, scopes: tuple[Node, ...]) -> bool:
        return any(self._nullable(row[number - 1], scopes) for row in entry["values_lists"])

    def of_group(self, entry: Node, number: int, scopes: tuple[Node, ...]) -> bool:
        return self._nullable(entry["groupexprs"][number - 1], scopes)

    def of_function(self, entry: Node, number: int, _: tuple[Node, ...]) -> bool:
        for item in entry["functions"]:
            if number <= int(item["funccolcount"]):
                known = item["funcexpr"][""] == "FUNCEXPR"
                return not (known and self._facts.results_not_null(int(item["funcexpr"]["funcid"]))[number - 1])
            number -= int(item["funccolcount"])
        return bool(entry["funcordinality"] != "true")

    def of_cte(self, entry: Node, number: int, scopes: tuple[Node, ...]) -> bool:
        if entry["self_reference"] == "true":  # null only where another branch or an expression made it so
            return False
        scopes = scopes[: len(scopes) - int(entry["ctelevelsup"])]
        named = next(cte for cte in scopes[-1]["cteList"] if cte["ctename"] == entry["ctename"])
        return self.columns(named["ctequery"], scopes)[number - 1]


def _nulled(node: Node | None) -> set[int]:
    """Collect the entries of the range table that an outer join may fill with nulls."""
    match node:
        case {"": "FROMEXPR", "fromlist": parts}:
            return set[int]().union(*map(_nulled, parts or []))
        case {"": "JOINEXPR", "larg": left, "rarg": right, "jointype": kind}:
            nulled = _nulled(left) | _nulled(right)
            nulled |= _entries(right) if kind in {_JOIN_LEFT, _JOIN_FULL} else set()
            return nulled | (_entries(left) if kind in {_JOIN_RIGHT, _JOIN_FULL} else set())
        case _:
            return set()


def _entries(node: Node) -> set[int]:
    """Collect the entries of the range table below a node of the join tree."""
    if node[""] == "JOINEXPR":
        return _entries(node["larg"]) | _entries(node["rarg"]) | {int(node["rtindex"])}
    return {int(node["rtindex"])}


# PostgreSQL 15 names some nodes shorter than later versions do.
_RULES: Final = {
    "VAR": _Reader.variable,
    "CONST": _Reader.constant,
    "PARAM": _Reader.parameter,
    "AGGREF": _Reader.aggregate,
    "WINDOWFUNC": _Reader.aggregate,
    "FUNCEXPR": _Reader.function,
    "OPEXPR": _Reader.operator,
    "SUBLINK": _Reader.sublink,
    "BOOLEXPR": _Reader.any_argument,
    **dict.fromkeys(("DISTINCTEXPR", "NULLTEST", "BOOLEANTEST", "ARRAYEXPR", "ARRAY"), _Reader.never),
    **dict.fromkeys(("COALESCEEXPR", "COALESCE", "MINMAXEXPR", "MINMAX"), _Reader.every_argument),
    **dict.fromkeys(("CASEEXPR", "CASE"), _Reader.case),
    **dict.fromkeys(("RELABELTYPE", "COERCEVIAIO", "ARRAYCOERCEEXPR"), _Reader.argument),
    **dict.fromkeys(("COERCETODOMAIN", "COLLATEEXPR", "COLLATE"), _Reader.argument),
}
# By the number of the RTEKind; a column of any other (a table function, a result) counts as nullable.
_KINDS: Final = {
    "0": _Reader.of_relation,
    "1": _Reader.of_subquery,
    "2": _Reader.of_join,
    "3": _Reader.of_function,
    "5": _Reader.of_values,
    "6": _Reader.of_cte,
    "9": _Reader.of_group,
}
