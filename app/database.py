"""Pools and transactions: how a credential enters PostgreSQL, and what happens when it does not answer."""

import asyncio
import os
import random
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.errors import DeadlockDetected, SerializationFailure
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from app.errors import DatabaseUnavailable
from app.queries import register_adapters
from app.shared.notices import Notices

T = TypeVar("T")
U = TypeVar("U")

# A client hears of a lost database within two seconds, so nothing here waits longer.
STATEMENT_TIMEOUT = 1.5  # seconds; PostgreSQL gives the statement up
LOCK_TIMEOUT = 1.0
PATIENCE = 0.8  # seconds to wait for a connection while the server answers nobody
# Seconds of a server's silence after which its connection counts as dead, whatever the kernel says of it.
SILENT_ENTRANCE = 1.0
SILENCE = 1.8
CONNECT_TIMEOUT = 2  # seconds; libpq knows no shorter one
ATTEMPTS = 3

Kind: TypeAlias = Literal["session", "personal_token", "organization_token", "secret_key", "public_key", "jwt", "esign"]

ENTRANCES: dict[Kind, str] = {
    "session": "select apiauth.enter_session($1, $2, $3)",
    "personal_token": "select apiauth.enter_token($1, $2, $3)",
    "organization_token": "select apiauth.enter_organization_token($1, $2, $3)",
    "secret_key": "select apiauth.enter_secret_key($1, $2, $3, $4)",
    "public_key": "select apiauth.enter_public_key($1, $2, $3, $4)",
    "jwt": "select apiauth.enter_jwt($1, $2, $3, $4, $5, $6, $7)",
    "esign": "select apiauth.enter_esign($1)",
}
OF_ENVIRONMENTS: frozenset[Kind] = frozenset({"secret_key", "public_key", "jwt"})  # these act in a branch, if any


@dataclass(frozen=True, slots=True)
class Credential:
    """What an entrance proves: the SHA-256 of a token, where its bearer wants to act, and the scopes he needs.

    Of a JWT it is the SHA-256 of the signature, and `proof` holds what was signed, the service's half of the key that
    signs, and which request this is.
    """

    kind: Kind
    digest: bytes = field(repr=False)
    organization: str | None = None
    scopes: tuple[str, ...] = ()
    proof: tuple[str, bytes, bytes] | None = field(default=None, repr=False)
    branch: str | None = None

    @property
    def arguments(self) -> tuple[object, ...]:
        """What the entrance of its kind takes."""
        branch = (self.branch,) if self.kind in OF_ENVIRONMENTS else ()
        return (self.digest, self.organization, list(self.scopes), *branch, *(self.proof or ()))


class Transaction:
    """An open transaction that has entered: the connection that queries take."""

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        self._connection = connection

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement with `$1` parameters and return its rows."""
        cursor = await self._connection.execute(sql.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    @property
    def server_version(self) -> str:
        """PostgreSQL's version, as it told on connecting."""
        return (self._connection.info.parameter_status("server_version") or "").partition(" ")[0]


class Database:
    """The service's connections to PostgreSQL.

    A transaction is one entrance and what its body runs. Nothing above this class knows of pools.
    """

    def __init__(self, url: str, *, size: int = 10) -> None:
        self._pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]] = AsyncConnectionPool(
            url,
            open=False,
            min_size=2,
            max_size=size,
            name="app",
            configure=_configure,
            kwargs=_parameters("brokerflow"),
            timeout=PATIENCE,
            reconnect_timeout=PATIENCE,  # then give up, so that the next request tries at once
        )
        self._notices = Notices(url, _parameters("brokerflow notices"))
        self._last_answer = 0.0

    async def open(self) -> None:
        """Start connecting, without waiting for it: the service starts while PostgreSQL is down."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self.stop_listening()
        await self._pool.close()

    async def stop_listening(self) -> None:
        """End every subscription to notices: a server that shuts down waits for the streams that hold them."""
        await self._notices.close()

    async def run(self, credential: Credential | None, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run a body in a transaction that commits before this returns.

        The body runs again, three times at most, after a serialization failure or a deadlock. Without a
        credential it enters as nobody. Raises psycopg.Error and DatabaseUnavailable.
        """
        for attempt in range(1, ATTEMPTS):
            with suppress(SerializationFailure, DeadlockDetected):
                return await self._run_once(credential, body)
            await asyncio.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311 - jitter
        return await self._run_once(credential, body)

    async def _run_once(self, credential: Credential | None, body: Callable[[Transaction], Awaitable[T]]) -> T:
        async with self.transaction(credential) as transaction:
            return await body(transaction)

    @asynccontextmanager
    async def transaction(self, credential: Credential | None) -> AsyncIterator[Transaction]:
        """Enter, yield the transaction, commit; any exception rolls back."""
        connection = await self._entered(credential)
        self._last_answer = time.monotonic()
        guard = _guarded(connection, SILENCE)
        try:
            yield Transaction(connection)
            await connection.commit()
        except BaseException:
            await _roll_back(connection)
            raise
        finally:
            guard.cancel()
            await self._pool.putconn(connection)

    async def run_then(
        self,
        credential: Credential | None,
        body: Callable[[Transaction], Awaitable[T]],
        then: Callable[[Transaction, T], Awaitable[U]],
    ) -> U:
        """Run a body in a transaction, once; when it is committed, go on with its value on the same connection.

        What goes on acts as nobody, and each of its statements commits by itself.
        """
        connection = await self._entered(credential)
        guard = _guarded(connection, SILENCE)
        try:
            value = await body(Transaction(connection))
            await connection.commit()
            self._last_success = time.monotonic()
            await connection.set_autocommit(True)
            return await then(Transaction(connection), value)
        except BaseException:
            await _roll_back(connection)
            raise
        finally:
            guard.cancel()
            if not connection.closed:
                await connection.set_autocommit(False)
            await self._pool.putconn(connection)

    async def server_version(self) -> str:
        """Return PostgreSQL's version, such as 18.4; raises when it does not answer."""
        async with self.transaction(None) as transaction:
            return transaction.server_version

    def listen(self, channel: str) -> AsyncGenerator[str | None, None]:
        """Iterate over the payloads notified on a channel; None says that some may be missing: read again."""
        return self._notices.subscribe(channel)

    def is_listening(self, channel: str) -> bool:
        """Tell whether what is notified on a channel comes now."""
        return self._notices.is_listening(channel)

    async def end_notices(self) -> None:
        """End every subscription: a server that finishes its responses first would wait for streams for ever."""
        await self._notices.close()

    async def _entered(self, credential: Credential | None) -> AsyncConnection[tuple[Any, ...]]:
        """Check a connection out and enter; one that died while idle is replaced by the next."""
        patience_ends = time.monotonic() + PATIENCE
        while True:
            connection = await self._checked_out()
            guard = _guarded(connection, SILENT_ENTRANCE)
            try:
                await _enter(connection, credential)
            except BaseException as error:
                lost = isinstance(error, psycopg.OperationalError) and connection.broken
                await _roll_back(connection)
                await self._pool.putconn(connection)
                if not lost:
                    raise
                if time.monotonic() > patience_ends:
                    raise DatabaseUnavailable from error
            else:
                return connection
            finally:
                guard.cancel()

    async def _checked_out(self) -> AsyncConnection[tuple[Any, ...]]:
        """Wait for a connection: briefly when the server answers nobody, longer while the pool is merely busy."""
        while True:
            try:
                return await self._pool.getconn()
            except PoolTimeout as error:
                if time.monotonic() - self._last_answer > PATIENCE:
                    raise DatabaseUnavailable from error


async def _enter(connection: AsyncConnection[tuple[Any, ...]], credential: Credential | None) -> None:
    """Begin; prove the credential. Nobody proves nothing, but finds out whether the connection is alive."""
    match credential:
        case None:
            await connection.execute(b"")
        case Credential(kind="esign"):
            await connection.execute(ENTRANCES["esign"].encode(), (credential.digest,))
        case _:
            entrance = ENTRANCES[credential.kind].encode()
            await connection.execute(entrance, credential.arguments)


async def _roll_back(connection: AsyncConnection[tuple[Any, ...]]) -> None:
    if not connection.closed:
        with suppress(psycopg.OperationalError):  # then the pool discards it
            await connection.rollback()


def _guarded(connection: AsyncConnection[tuple[Any, ...]], seconds: float) -> asyncio.TimerHandle:
    """Sever the connection unless the guard is cancelled in time."""
    return asyncio.get_running_loop().call_later(seconds, _sever, connection)


def _sever(connection: AsyncConnection[tuple[Any, ...]]) -> None:
    """Cut a connection whose server is silent, so that whoever waits for it hears of it now.

    Cancelling would wait for the server once more.
    """
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as line, suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)


def _parameters(application_name: str) -> dict[str, Any]:
    settings = {
        "timezone": "UTC",
        "statement_timeout": f"{STATEMENT_TIMEOUT * 1000:.0f}",
        "lock_timeout": f"{LOCK_TIMEOUT * 1000:.0f}",
        "idle_in_transaction_session_timeout": "5000",
    }
    return {
        "prepare_threshold": 0,
        "cursor_factory": AsyncRawCursor,
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }


async def _configure(connection: AsyncConnection[tuple[Any, ...]]) -> None:
    register_adapters(connection)
