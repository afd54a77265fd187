"""How a credential enters PostgreSQL and a request runs there, and what happens when it does not answer."""

import asyncio
import os
import random
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.errors import DeadlockDetected, SerializationFailure
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from app.errors import DatabaseUnavailable
from app.pipelines import PATIENCE, SILENCE, Pipelines, Step
from app.queries import Connection, register_adapters
from app.shared.notices import Notices

T = TypeVar("T")
U = TypeVar("U")

# A client hears of a lost database within two seconds, so nothing here waits longer.
STATEMENT_TIMEOUT = 1.5  # seconds; PostgreSQL gives the statement up
LOCK_TIMEOUT = 1.0
SILENT_ENTRANCE = 1.0  # seconds without an answer to the entrance of a pooled connection; then another is tried
CONNECT_TIMEOUT = 2  # seconds; libpq knows no shorter one
ATTEMPTS = 3
READS_AHEAD = 16  # reads that a connection takes before the first is answered
# A statement of the service finds a page of rows by an index, in the index's order. A plan that reads a set and sorts
# it is cheaper for the average tenant and ruin for the greatest, and the planner knows the average only: so it is not
# to choose, nor to plan again for each value. tests/plans holds every query to it.
PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    "enable_incremental_sort": "off",
    "jit": "off",
}
COMMANDS_AHEAD = 2  # commands: one works while the next is on its way, and not more wait behind a lock

Kind: TypeAlias = Literal[
    "session", "ticket", "personal_token", "organization_token", "secret_key", "public_key", "jwt", "esign"
]

ENTRANCES: dict[Kind, str] = {
    "session": "select apiauth.enter_session($1, $2, $3)",
    "ticket": "select apiauth.enter_ticket($1, $2, $3, $4, $5)",
    "personal_token": "select apiauth.enter_token($1, $2, $3)",
    "organization_token": "select apiauth.enter_organization_token($1, $2, $3)",
    "secret_key": "select apiauth.enter_secret_key($1, $2, $3, $4)",
    "public_key": "select apiauth.enter_public_key($1, $2, $3, $4)",
    "jwt": "select apiauth.enter_jwt($1, $2, $3, $4, $5, $6, $7)",
    "esign": "select apiauth.enter_esign($1)",
}
OF_ENVIRONMENTS: frozenset[Kind] = frozenset({"secret_key", "public_key", "jwt"})  # these act in a branch, if any


class Credential(msgspec.Struct, frozen=True):
    """What an entrance proves: the SHA-256 of a token, where its bearer wants to act, and the scopes he needs.

    Of a JWT it is the SHA-256 of the signature, and `proof` holds what was signed, the service's half of the key that
    signs, and which request this is. Of a session in Redis `proof` holds its ticket, and the half that sealed it.
    """

    kind: Kind
    digest: bytes
    organization: str | None = None
    scopes: tuple[str, ...] = ()
    proof: tuple[str | bytes, ...] | None = None
    branch: str | None = None

    def __repr__(self) -> str:
        """Tell neither digest nor proof: representations end up in logs."""
        return f"Credential(kind={self.kind!r}, organization={self.organization!r}, scopes={self.scopes!r})"

    @property
    def arguments(self) -> tuple[object, ...]:
        """What the entrance of its kind takes."""
        branch = (self.branch,) if self.kind in OF_ENVIRONMENTS else ()
        return (self.digest, self.organization, list(self.scopes), *branch, *(self.proof or ()))


class _Question:
    """The connection of a body that makes one statement: entrance and statement travel together."""

    def __init__(self, pipelines: Pipelines, entrance: Sequence[Step]) -> None:
        self._pipelines = pipelines
        self._entrance = entrance
        self.is_asked = False

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run the one statement and return its rows, committed."""
        if self.is_asked:
            raise RuntimeError("one statement was promised, and this is the second: run them in a transaction")
        self.is_asked = True
        return await self._pipelines.run((*self._entrance, Step(sql, parameters)))

    async def enter(self) -> None:
        """Prove the credential for a body that needed no statement."""
        if not self.is_asked and self._entrance:
            await self._pipelines.run(self._entrance)


class _Spoken:
    """The connection of a body whose one statement travels with another's: it waits for both to be known."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.step: asyncio.Future[Step] = loop.create_future()
        self.rows: asyncio.Future[list[tuple[Any, ...]]] = loop.create_future()

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Say the statement, and return its rows once they are there."""
        self.step.set_result(Step(sql, parameters))
        return await self.rows


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
    """The service's connections to PostgreSQL: `size` of them at most, besides the one that listens.

    A transaction is one entrance and what its body runs. Nothing above this class knows of pools and pipelines.
    """

    def __init__(self, url: str, *, size: int = 10, queue: int = 512) -> None:
        reads, commands = max(1, size // 5), max(1, 2 * size // 5)
        connect = partial(_connected, url)
        self._reads = Pipelines(connect, connections=reads, depth=READS_AHEAD, queue=queue, reads=True)
        self._commands = Pipelines(connect, connections=commands, depth=COMMANDS_AHEAD, queue=queue)
        self._pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]] = AsyncConnectionPool(
            url,
            open=False,
            min_size=1,
            max_size=max(1, size - reads - commands),
            max_waiting=queue,
            name="app",
            configure=_configure,
            kwargs=_parameters("brokerflow"),
            timeout=PATIENCE,
            reconnect_timeout=PATIENCE,  # then give up, so that the next request tries at once
        )
        self._notices = Notices(url, _parameters("brokerflow notices"))

    async def open(self) -> None:
        """Start connecting, without waiting for it: the service starts while PostgreSQL is down."""
        await self._pool.open(wait=False)
        self._reads.open()
        self._commands.open()

    async def close(self) -> None:
        """Close every connection."""
        await self.stop_listening()
        await asyncio.gather(self._pool.close(), self._reads.close(), self._commands.close())

    async def stop_listening(self) -> None:
        """End every subscription to notices: a server that shuts down waits for the streams that hold them."""
        await self._notices.close()

    async def ask(
        self, credential: Credential | None, body: Callable[[Connection], Awaitable[T]], *, reads: bool = False
    ) -> T:
        """Run a body that makes one statement, and return once it is committed: the usual way.

        The statement is committed when the body sees its rows, so what the body raises then undoes nothing. `reads`
        says that it changes nothing, and need not queue with commands. Otherwise as `run`.
        """
        pipelines = self._reads if reads else self._commands
        entrance = () if credential is None else (_entrance(credential),)

        async def attempt() -> T:
            question = _Question(pipelines, entrance)
            value = await body(question)
            await question.enter()
            return value

        return await _repeated(attempt)

    async def run(self, credential: Credential | None, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run a body in a transaction that commits before this returns; what the body raises undoes it.

        The body runs again, three times at most, after a serialization failure or a deadlock. Without a
        credential it enters as nobody. Raises psycopg.Error and DatabaseUnavailable.
        """

        async def attempt() -> T:
            async with self.transaction(credential) as transaction:
                return await body(transaction)

        return await _repeated(attempt)

    @asynccontextmanager
    async def transaction(self, credential: Credential | None) -> AsyncIterator[Transaction]:
        """Enter, yield the transaction, commit; any exception rolls back."""
        connection = await self._entered(credential)
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

    async def ask_then(
        self,
        credential: Credential | None,
        first: Callable[[Connection], Awaitable[T]],
        then: Callable[[Connection], Awaitable[U]],
    ) -> tuple[T, U]:
        """Run two bodies of one statement each, in one round trip; when the second's runs, the first's is committed.

        Only the first enters: the second acts as nobody, and is run whatever becomes of the first. Never repeated.
        """
        one, two = _Spoken(), _Spoken()
        try:
            async with asyncio.TaskGroup() as group:
                values = group.create_task(_awaited(first(one))), group.create_task(_awaited(then(two)))
                entrance = () if credential is None else (_entrance(credential),)
                steps = (*entrance, await one.step), (await two.step,)
                for spoken, rows in zip((one, two), await self._commands.run_both(*steps), strict=True):
                    spoken.rows.set_result(rows)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return values[0].result(), values[1].result()

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

    async def _answers(self) -> bool:
        """Say whether the server answers those who are connected: then the pool is merely busy."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._reads.run((Step("select 1"),))
        except (psycopg.Error, DatabaseUnavailable, TimeoutError):
            return False
        return True

    async def _checked_out(self) -> AsyncConnection[tuple[Any, ...]]:
        """Wait for a connection: briefly when the server answers nobody, longer while the pool is merely busy."""
        while True:
            try:
                return await self._pool.getconn()
            except PoolTimeout as error:
                if not await self._answers():
                    raise DatabaseUnavailable from error
            except TooManyRequests as error:
                raise DatabaseUnavailable from error


def _entrance(credential: Credential) -> Step:
    """Return the call that proves a credential."""
    if credential.kind == "esign":
        return Step(ENTRANCES["esign"], (credential.digest,))
    return Step(ENTRANCES[credential.kind], credential.arguments)


async def _enter(connection: AsyncConnection[tuple[Any, ...]], credential: Credential | None) -> None:
    """Begin; prove the credential. Nobody proves nothing, but finds out whether the connection is alive."""
    sql, parameters = Step("") if credential is None else _entrance(credential)
    await connection.execute(sql.encode(), parameters)


async def _awaited(value: Awaitable[T]) -> T:
    return await value


async def _repeated(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try again what met another transaction, after a pause that differs between the two."""
    for number in range(1, ATTEMPTS):
        with suppress(SerializationFailure, DeadlockDetected):
            return await attempt()
        await asyncio.sleep(random.uniform(0, 0.02 * number))  # noqa: S311 - jitter
    return await attempt()


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
        **PLANNING,
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


async def _connected(url: str) -> AsyncConnection[tuple[Any, ...]]:
    connection = await AsyncConnection.connect(url, autocommit=True, **_parameters("brokerflow"))
    register_adapters(connection)
    return connection
