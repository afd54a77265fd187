"""How deeds are done: over HTTP to the service, or over SQL as the service's role, in both cases by a credential."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import httpx
import msgspec
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor

from app.database import ENTRANCES, Credential
from app.queries import Json, Query, load, register_adapters

SQL: Final = Path(__file__).resolve().parent.parent.parent / "sql"
PATIENCE = 15.0  # seconds, after which an answer is not awaited any more
LOCK_TIMEOUT = "2s"

Verdict = Literal["committed", "refused", "aborted", "unknown"]

# SQLSTATEs by which PostgreSQL says no, by class: data, integrity, authorization, privileges and syntax, no row, state.
_REFUSALS = {"22", "23", "28", "42", "P0", "55"}
_UNAVAILABLE = {"55P03"}  # a lock that was not to be had in time


class Answer(msgspec.Struct, frozen=True):
    """What came back. `refused` and `aborted` left nothing behind, the one by a rule, the other by circumstance.

    `unknown` is a connection that was cut, or a 5xx: what was asked may have happened or not. `settled` says that it
    was unknown until the same was asked again.
    """

    verdict: Verdict
    reason: str = ""  # the constraint or the code of a refusal
    body: Mapping[str, Any] = {}
    status: int | None = None
    request_id: str | None = None
    settled: bool = False

    @property
    def is_committed(self) -> bool:
        """Whether it was done, and said to be."""
        return self.verdict == "committed"


class Call(NamedTuple):
    """A request to the service; `content` is a body that was signed as it is."""

    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] = {}
    content: bytes | None = None


class Statement(NamedTuple):
    """A query of sql/stress/deeds.sql and its parameters."""

    name: str
    parameters: Mapping[str, object]


def statement(name: str, **parameters: object) -> Statement:
    """Name a query and its parameters."""
    return Statement(name, parameters)


class Http:
    """The service's clients."""

    def __init__(self, url: str, at_once: int) -> None:
        limits = httpx.Limits(max_connections=4 * at_once)
        self.client = httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False, limits=limits)

    async def send(self, call: Call, token: str | None, key: str | None = None) -> Answer:
        """Send a request, once."""
        headers = {**call.headers}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if key is not None:
            headers["Idempotency-Key"] = key
        try:
            response = await self.client.request(
                call.method, call.path, json=call.body, content=call.content, headers=headers
            )
        except httpx.TransportError as error:
            return Answer("unknown", type(error).__name__)
        return _answer(response)


def _answer(response: httpx.Response) -> Answer:
    body = msgspec.json.decode(response.content) if response.content else {}
    verdict: Verdict = "committed" if response.is_success else "refused" if response.is_client_error else "unknown"
    reason = "" if response.is_success else body.get("code", "")
    return Answer(verdict, reason, body, response.status_code, response.headers.get("X-Request-Id"))


class Sql:
    """One connection as the service's role, opened when it is needed, and anew when it was lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AsyncConnection[tuple[Any, ...]] | None = None

    async def run(self, credential: Credential | None, *statements: Statement) -> Answer:
        """Enter, run statements and commit. The body of the answer is the first row of each, in one.

        A last statement without a row found nothing that the actor may see or touch: that is a refusal.
        """
        committing, row, body = False, dict[str, Any](), dict[str, Any]()
        try:
            async with asyncio.timeout(PATIENCE):
                connection = await self._connected()
                await _enter(connection, credential)
                for each in statements:
                    row = await _first(connection, each)
                    body |= row
                if not row:
                    await connection.rollback()
                    return Answer("refused", "row security")
                committing = True
                await connection.commit()
        except (psycopg.Error, TimeoutError) as error:
            await self._give_up()
            return _failure(error, committing=committing)
        return Answer("committed", body=body)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connected(self) -> AsyncConnection[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(
                self._url,
                cursor_factory=AsyncRawCursor,
                prepare_threshold=0,
                application_name="brokerflow stress",
                connect_timeout=5,
                options=f"-c lock_timeout={LOCK_TIMEOUT}",
            )
            register_adapters(self._connection)
        return self._connection

    async def _give_up(self) -> None:
        """Leave the transaction; a connection that does not let go of it is closed."""
        if self._connection is None:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connection.rollback()
        except (psycopg.Error, TimeoutError):
            await self.close()


async def _enter(connection: AsyncConnection[tuple[Any, ...]], credential: Credential | None) -> None:
    if credential is None:
        return
    arguments: list[object] = [credential.digest] if credential.kind == "esign" else [credential.digest, None, []]
    await connection.execute(ENTRANCES[credential.kind].encode(), arguments)


async def _first(connection: AsyncConnection[tuple[Any, ...]], wanted: Statement) -> dict[str, Any]:
    """Run a statement; return its first row by column, empty where it has none."""
    query = query_of(wanted.name)
    values = [_encodable(wanted.parameters.get(name)) for name in query.parameters]
    cursor = await connection.execute(query.sql.encode(), values)
    row = await cursor.fetchone()
    columns = [column.name for column in cursor.description or ()]
    return {} if row is None else dict(zip(columns, row, strict=True))


def query_of(name: str) -> Query:
    """Return a query of sql/stress."""
    return load("stress", SQL)[name]


def _encodable(value: object) -> object:
    return Json(value) if isinstance(value, dict) else value


def _failure(error: Exception, *, committing: bool) -> Answer:
    """Judge an error: who says no has refused; before COMMIT is sent nothing can have happened."""
    state = getattr(error, "sqlstate", None) or ""
    reason = state or type(error).__name__
    if state[:2] in _REFUSALS and state not in _UNAVAILABLE and isinstance(error, psycopg.Error):
        return Answer("refused", error.diag.constraint_name or reason)
    return Answer("unknown" if committing and state[:2] != "40" else "aborted", reason)
