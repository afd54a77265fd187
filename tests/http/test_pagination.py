"""Pages follow one another without a gap, and only the service makes cursors."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Refusal
from app.sealing import Stamp
from app.shared.pagination import PageRequest
from tests.http.conftest import problem

STAMP = Stamp(bytes(32), "cursors")


def page(cursor: str | None = None, limit: int = 2, route: str = "/r") -> PageRequest:
    return PageRequest(STAMP, route, limit, cursor)


@given(st.lists(st.integers(), max_size=30), st.integers(1, 10))
def test_pages_hold_every_row_once(rows: list[int], limit: int) -> None:
    rows = sorted(set(rows))
    seen: list[int] = []
    cursor = None
    while True:
        current = page(cursor, limit)
        after = current.after(int)
        rest = [row for row in rows if after is None or row > after]
        items = current.of(rest[: current.fetch], position=lambda row: row)
        seen += items.items
        if (cursor := items.next_cursor) is None:
            break
    assert seen == rows


def test_a_position_of_several_columns_comes_back_as_it_was() -> None:
    position = (datetime.now(UTC), Decimal("1.50"), None, uuid4())
    cursor = page().of([position] * 3, position=lambda row: row).next_cursor
    assert page(cursor).after(tuple[datetime, Decimal, str | None, UUID]) == position


@given(st.data())
def test_a_cursor_altered_by_hand_is_refused(data: st.DataObject) -> None:
    cursor = page().of([UUID(int=7)] * 3, position=lambda row: row).next_cursor
    assert cursor
    place = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters(exclude_characters=cursor[place]))
    with pytest.raises(Refusal):
        page(cursor[:place] + other + cursor[place + 1 :]).after(UUID)


@given(st.text(max_size=60))
def test_any_text_is_refused_as_a_cursor(text: str) -> None:
    with pytest.raises(Refusal):
        page(text).after(UUID)


def test_a_cursor_of_another_list_or_another_key_is_refused() -> None:
    cursor = page().of([1, 2, 3], position=lambda row: row).next_cursor
    for stranger in (page(cursor, route="/s"), PageRequest(Stamp(bytes(31) + b"1", "cursors"), "/r", 2, cursor)):
        with pytest.raises(Refusal):
            stranger.after(int)


def test_a_list_is_walked_over_http(client: httpx.Client) -> None:
    made = [
        client.post("/probe/organizations", json={"title": "T", "slug": f"slug-{n}"}).json()["id"] for n in range(5)
    ]
    seen, cursor = [], None
    while True:
        got = client.get("/probe/organizations", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert len(got["items"]) <= 2
        seen += [item["id"] for item in got["items"]]
        if (cursor := got["next_cursor"]) is None:
            break
        problem(client.get("/probe/others", params={"cursor": cursor}), 422, "invalid")
    assert seen == sorted(made)


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1.5", "99999999999999999999"])
def test_a_limit_out_of_range_is_refused_by_name(client: httpx.Client, limit: str) -> None:
    refused = problem(client.get("/probe/organizations", params={"limit": limit}), 422, "invalid")
    assert [error["field"] for error in refused["errors"]] == ["limit"]  # type: ignore[attr-defined]
