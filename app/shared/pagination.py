"""Pages: `limit`, and a cursor that only the service can make."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from app.errors import invalid
from app.sealing import Stamp

Row = TypeVar("Row")
Position = TypeVar("Position")

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_CURSOR = 1024


class Items(msgspec.Struct, Generic[Row], frozen=True):
    """One page of a list; `next_cursor` is null on the last."""

    items: Sequence[Row]
    next_cursor: str | None


class PageRequest:
    """What a request asked of a list."""

    def __init__(self, stamp: Stamp, route: str, limit: int, cursor: str | None) -> None:
        self._stamp = stamp
        self._route = route.encode()
        self._limit = limit
        self._cursor = cursor

    @property
    def fetch(self) -> int:
        """How many rows to ask for: one more than a page holds, which tells whether there is a next."""
        return self._limit + 1

    def after(self, kind: type[Position]) -> Position | None:
        """Return the position after which the page begins, None for the first page.

        Raises Refusal (422) on a cursor that was altered or made for another list.
        """
        if self._cursor is None:
            return None
        stamp, message = self._decoded(self._cursor)
        if stamp != self._stamp.of(self._route + b"\0" + message):
            raise invalid("cursor", "was not made by this list")
        return msgspec.json.decode(message, type=kind)

    def of(self, rows: Sequence[Row], position: Callable[[Row], object]) -> Items[Row]:
        """Make the page of the rows fetched; `position` of the last row is where the next page continues."""
        shown = rows[: self._limit]
        cursor = self._encoded(position(shown[-1])) if len(rows) > len(shown) else None
        return Items(shown, cursor)

    def _encoded(self, position: object) -> str:
        message = msgspec.json.encode(position)
        stamp = self._stamp.of(self._route + b"\0" + message)
        return base64.urlsafe_b64encode(stamp + message).decode().rstrip("=")

    def _decoded(self, cursor: str) -> tuple[bytes, bytes]:
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid("cursor", "was not made by this list") from error
        if base64.urlsafe_b64encode(raw).decode().rstrip("=") != cursor:  # one spelling a cursor
            raise invalid("cursor", "was not made by this list")
        return raw[: Stamp.LENGTH], raw[Stamp.LENGTH :]


Page: TypeAlias = NamedDependency[PageRequest]
"""`page: Page` in a handler of a list."""


def provide_page(
    request: Request[Any, Any, Any],
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="How many items to return.")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, QueryParameter(max_length=MAX_CURSOR, description="The `next_cursor` of the page before.")
    ] = None,
) -> PageRequest:
    """Provide `page: Page` to a handler."""
    return PageRequest(request.app.state.cursors, request.scope["path_template"], limit, cursor)
