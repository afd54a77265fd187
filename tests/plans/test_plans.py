"""What a query costs does not grow with what others have, nor with what its caller has: it reads a page by an index."""

import re
from collections.abc import Iterator

import pytest

from app import queries
from tests.plans.cases import CASES, Case
from tests.plans.conftest import FEW, Cost, cost
from tests.schema.stage import World

QUERIES = {
    f"{domain.name}.{query.name}": query
    for domain in sorted(queries.ROOT.iterdir())
    for query in queries.load(domain.name).values()
}
# A query that grows all the same says so, with what, and why that is right.
WAIVER = re.compile(r"-- (?:Asked (?P<how>.+?), it|It) grows with .+")
PAGE = 20  # rows, as the cases ask
FEW_ROWS = 5 * PAGE
FEW_PAGES = 100  # what the greater depth of the indexes may add


def growths(small: Cost, large: Cost) -> Iterator[str]:
    """Yield what a query does twenty times as often where there is twenty times as much."""
    for table, rows in large.scanned.items():
        if table not in FEW:
            yield f"reads {table} from end to end: {rows} rows"
    if large.pages > 2 * small.pages + FEW_PAGES:
        yield f"touches {small.pages} pages of the small database and {large.pages} of the large one"
    if large.sorted > 2 * small.sorted + FEW_ROWS:
        yield f"sorts {large.sorted:.0f} rows"
    for table, read in large.read.items():
        if read > 2 * small.read.get(table, 0) + FEW_ROWS:
            yield f"reads {read:.0f} rows of {table}"


def test_every_query_is_asked() -> None:
    assert {case.query for case in CASES} == QUERIES.keys()


@pytest.mark.parametrize("query", [query for query, text in QUERIES.items() if "limit" in text.parameters])
def test_every_list_is_asked_for_a_page_amid(query: str) -> None:
    """And what it asks for has a key, for there is no other way to turn a page."""
    assert not re.search(r"\boffset\b", QUERIES[query].sql, re.IGNORECASE)
    keys = {"after", "before", "after_secret_id"} & set(QUERIES[query].parameters)
    assert keys
    assert any(case.arguments[key] != "null" for case in CASES if case.query == query for key in keys)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_its_cost_is_flat(worlds: dict[str, World], case: Case) -> None:
    query = QUERIES[case.query]
    small, large = [await cost(worlds[size], query, case) for size in ("small", "large")]
    found = list(growths(small, large))
    assert found == [] or is_waived(case), f"{found}\n{large.text}"


def is_waived(case: Case) -> bool:
    """Tell whether the query says, where it stands, that it grows when it is asked so, and why that is right."""
    return any(waiver["how"] in (None, case.label) for waiver in WAIVER.finditer(QUERIES[case.query].sql))


@pytest.mark.parametrize(
    ("query", "how"),
    [(name, waiver["how"]) for name, query in QUERIES.items() for waiver in WAIVER.finditer(query.sql)],
)
async def test_a_waiver_is_needed(worlds: dict[str, World], query: str, how: str | None) -> None:
    """What was mended loses it."""
    cases = [case for case in CASES if case.query == query and how in (None, case.label)]
    costs = [[await cost(worlds[size], QUERIES[query], case) for size in ("small", "large")] for case in cases]
    assert any(list(growths(small, large)) for small, large in costs)
