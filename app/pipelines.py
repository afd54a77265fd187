"""Many requests on few connections: libpq's pipeline mode, one implicit transaction a request.

PostgreSQL runs what stands between two Syncs as one transaction, so a request needs neither BEGIN nor COMMIT, nor a
connection of its own: its statements are sent at once with a Sync behind them, and the next request's right after,
without waiting for an answer. A failure undoes its own request and nothing else. What takes several round trips
belongs into a pool.

libpq offers each Sync to the socket by itself (PQsendPipelineSync, which would not, has no binding), so that a server
at rest starts on a request while the next one is still being written.
"""

import asyncio
import os
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import AdminShutdown, FeatureNotSupported, InvalidSqlStatementName, error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

from app.errors import DatabaseUnavailable

logger = structlog.get_logger(__name__)

SILENCE: Final = 1.8  # seconds without an answer to the oldest request, after which the connection counts as dead
PATIENCE: Final = 0.8  # seconds that a request waits for its turn while the server answers nobody
SWEEP: Final = 0.1  # seconds between two looks at what waits
FIRST_PAUSE: Final = 0.05  # seconds until a lost connection is tried again; then twice as long, up to
LONGEST_PAUSE: Final = 1.0
MOST_PREPARED: Final = 500  # statements a connection; what comes later is parsed each time

# A statement that the connection knew is gone, or gives other columns than before.
STALE: Final = (InvalidSqlStatementName, FeatureNotSupported)

Row: TypeAlias = tuple[Any, ...]
Connect: TypeAlias = Callable[[], Any]


class Step(NamedTuple):
    """A statement with `$n` and its values."""

    sql: str
    parameters: Sequence[object] = ()


class _Segment:
    """What stands between two Syncs."""

    __slots__ = ("results",)

    def __init__(self) -> None:
        self.results: list[PGresult] = []

    def fail(self, error: psycopg.Error) -> None:
        """Take note that PostgreSQL refused, or that the connection is lost."""
        raise NotImplementedError


class _Statement(_Segment):
    """The preparation of a statement. It may fail: then so do those who were sent on its word."""

    __slots__ = ("error", "key", "name")

    def __init__(self, key: tuple[str, tuple[int, ...]], name: bytes) -> None:
        super().__init__()
        self.key = key
        self.name = name
        self.error: psycopg.Error | None = None

    def fail(self, error: psycopg.Error) -> None:
        self.error = error


class _Request(_Segment):
    """A request's steps, and who waits for the rows of the last. One in a chain is never sent again by itself."""

    __slots__ = ("future", "is_chained", "is_repeated", "since", "statements", "steps")

    def __init__(self, steps: Sequence[Step], *, is_chained: bool = False) -> None:
        super().__init__()
        self.steps = steps
        self.is_chained = is_chained
        self.statements: list[_Statement | None] = []
        self.future: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
        self.since = time.monotonic()
        self.is_repeated = False

    def fail(self, error: Exception) -> None:
        """Tell who waits, unless he went away."""
        if not self.future.done():
            self.future.set_exception(error)

    def leave(self) -> None:
        """Stop waiting, and take note of an error, lest asyncio complains that nobody did."""
        if self.future.done() and not self.future.cancelled():
            self.future.exception()
        self.future.cancel()


class Pipelines:
    """A few connections that share the requests in the order of their coming.

    `depth` is how many a connection takes ahead of its answers, `queue` how many wait beyond that. Reads and commands
    should have pipelines of their own: a command that waits for a lock holds up what was sent behind it. `reads` says
    that every request changes nothing, and may be sent again.
    """

    def __init__(self, connect: Connect, *, connections: int, depth: int, queue: int, reads: bool = False) -> None:
        self.last_answer = 0.0
        self._reads = reads
        self._depth = depth
        self._queue = queue
        self._waiting: deque[tuple[_Request, ...]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._pipelines = [_Pipeline(connect, self) for _ in range(connections)]

    def open(self) -> None:
        """Start connecting, and connect again whenever a connection is lost."""
        for pipeline in self._pipelines:
            pipeline.open()

    async def close(self) -> None:
        """Let what was sent finish, refuse what waits, close the connections."""
        while self._waiting:
            _refuse(self._waiting.popleft())
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*(pipeline.close() for pipeline in self._pipelines))

    async def run(self, steps: Sequence[Step]) -> list[Row]:
        """Run the steps as one transaction and return the rows of the last, once it is committed.

        Raises psycopg.Error, and DatabaseUnavailable when nothing was sent: the queue is full, or its turn did not
        come while the server was away. Whoever is cancelled stops waiting; what was sent is carried out.
        """
        request = _Request(steps)
        self._submit((request,))
        return await request.future

    async def run_both(self, first: Sequence[Step], then: Sequence[Step]) -> tuple[list[Row], list[Row]]:
        """Run two transactions, the second on the heels of the first: when it begins, the first has ended.

        Both run whatever becomes of the first; its error is the one that is raised.
        """
        chain = _Request(first, is_chained=True), _Request(then, is_chained=True)
        self._submit(chain)
        try:
            await asyncio.wait([request.future for request in chain])
            rows = chain[0].future.result()
        except STALE:
            return await self.run(first), await self.run(then)
        finally:
            for request in chain:
                request.leave()
        try:
            return rows, chain[1].future.result()
        except STALE:
            return rows, await self.run(then)

    def _submit(self, requests: tuple[_Request, ...]) -> None:
        if not self._waiting and (pipeline := self._shortest()) is not None:
            pipeline.send_all(requests)
        elif len(self._waiting) < self._queue:
            self._waiting.append(requests)
            self._sweep_soon()
        else:
            raise DatabaseUnavailable

    def proceed(self, pipeline: "_Pipeline") -> None:
        """Send what waits, as far as the connection takes it."""
        while self._waiting and pipeline.is_open and pipeline.length < self._depth:
            requests = self._waiting.popleft()
            if not requests[0].future.done():
                pipeline.send_all(requests)

    def repeat(self, request: _Request, error: psycopg.Error) -> bool:
        """Have a request whose connection was lost wait for another, where that does no harm.

        A read does none. Of a command PostgreSQL must have said that it ends the session (57P01), which it says
        instead of committing; mere silence may hide a commit.
        """
        is_harmless = not request.is_chained and (self._reads or isinstance(error, AdminShutdown))
        if not is_harmless or request.future.done() or time.monotonic() - request.since > PATIENCE:
            return False
        self.take_back(request)
        return True

    def take_back(self, request: _Request) -> None:
        """Have a request wait for another connection, before all others."""
        request.results.clear()
        self._waiting.appendleft((request,))
        self._sweep_soon()
        asyncio.get_running_loop().call_soon(self._proceed)

    def _proceed(self) -> None:
        for pipeline in self._pipelines:
            self.proceed(pipeline)

    def _shortest(self) -> "_Pipeline | None":
        pipeline = min(self._pipelines, key=lambda each: each.length if each.is_open else self._depth)
        return pipeline if pipeline.is_open and pipeline.length < self._depth else None

    def _sweep_soon(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)

    def _sweep(self) -> None:
        """Refuse who waited long enough while nobody was answered; being merely busy is worth waiting for."""
        self._sweeper = None
        now = time.monotonic()
        is_silent = now - self.last_answer > PATIENCE
        while self._waiting and (self._waiting[0][0].future.done() or (is_silent and self._is_late(now))):
            _refuse(self._waiting.popleft())
        if self._waiting:
            self._sweep_soon()

    def _is_late(self, now: float) -> bool:
        return now - self._waiting[0][0].since > PATIENCE


class _Pipeline:
    """One connection in pipeline mode; it connects again by itself."""

    def __init__(self, connect: Connect, group: Pipelines) -> None:
        self._connect = connect
        self._group = group
        self._connection: AsyncConnection[Any] | None = None
        self._sent: deque[_Segment] = deque()
        self._prepared: dict[tuple[str, tuple[int, ...]], _Statement] = {}
        self._names = 0
        self._is_writing = False
        self._oldest_since = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests may be sent."""
        return self._connection is not None

    @property
    def length(self) -> int:
        """How many requests were sent and not yet answered."""
        return len(self._sent)

    def open(self) -> None:
        """Start connecting."""
        self._task = asyncio.create_task(self._stay_connected(), name="pipeline")

    async def close(self) -> None:
        """Wait for the answers that are due, then close."""
        if self._task is None:
            return
        while self._sent:
            self._changed.clear()
            await self._changed.wait()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._lose(psycopg.OperationalError("the service is closing"))

    async def _stay_connected(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                self._begin(await self._connect())
            except psycopg.Error as error:
                logger.debug("pipeline not connected", error=type(error).__name__, pause=pause)
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._group.proceed(self)
            while self.is_open:
                self._changed.clear()
                await self._changed.wait()

    def _begin(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._transformer = Transformer(connection)
        self._line = connection.pgconn
        self._line.nonblocking = 1
        self._line.enter_pipeline_mode()
        self._prepared.clear()
        # libpq closes its descriptor as soon as it sees the end; the event loop's has to outlive that.
        self._socket = socket.socket(fileno=os.dup(self._line.socket))
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def send_all(self, requests: Sequence[_Request]) -> None:
        """Send requests one behind the other; their answers go to their futures."""
        for request in requests:
            if self.is_open:
                self.send(request)
            else:
                request.fail(psycopg.OperationalError("the connection was lost before this was sent"))

    def send(self, request: _Request) -> None:
        """Send a request; the answer goes to its future."""
        try:
            steps = [(sql, *self._dumped(parameters)) for sql, parameters in request.steps]
        except Exception as error:  # noqa: BLE001 - a value that PostgreSQL has no form for; nothing was sent
            request.fail(error)
            return
        try:
            request.statements = [self._statement(sql, types) for sql, _, types, _ in steps]
            for statement, (sql, values, types, formats) in zip(request.statements, steps, strict=True):
                if statement is None:
                    self._line.send_query_params(sql.encode(), values, types, formats)
                else:
                    self._line.send_query_prepared(statement.name, values, formats)
            self._sync(request)
        except psycopg.OperationalError as error:
            if not self._sent or self._sent[-1] is not request:  # then it did not leave whole
                self._group.take_back(request) if not request.is_chained else request.fail(error)
            self._lose(error)

    def _dumped(self, parameters: Sequence[object]) -> tuple[Sequence[Any], tuple[int, ...], Sequence[Any]]:
        transformer = self._transformer
        values = transformer.dump_sequence(parameters, [PyFormat.AUTO] * len(parameters))
        return values, tuple(transformer.types or ()), transformer.formats or ()

    def _statement(self, sql: str, types: tuple[int, ...]) -> _Statement | None:
        """Return a prepared statement; prepare it first, in a segment of its own.

        In the request's own it would be skipped, and the name never be made, whenever the entrance refuses.
        """
        key = (sql, types)
        if (known := self._prepared.get(key)) is not None or len(self._prepared) >= MOST_PREPARED:
            return known
        self._names += 1
        statement = self._prepared[key] = _Statement(key, b"bf_%d" % self._names)
        self._line.send_prepare(statement.name, sql.encode(), types)
        self._sync(statement)
        return statement

    def _sync(self, segment: _Segment) -> None:
        self._line.pipeline_sync()
        if not self._sent:
            self._oldest_since = time.monotonic()
        self._sent.append(segment)
        self._watch_soon()
        self._write()

    def _write(self) -> None:
        """Hand libpq's buffer to the socket; go on when it takes more."""
        loop = asyncio.get_running_loop()
        is_left = self._line.flush() == 1
        if is_left and not self._is_writing:
            loop.add_writer(self._socket, self._write_on)
        elif not is_left and self._is_writing:
            loop.remove_writer(self._socket)
        self._is_writing = is_left

    def _write_on(self) -> None:
        try:
            self._write()
        except psycopg.OperationalError as error:
            self._lose(error)

    def _read(self) -> None:
        """Take what the server has sent; each Sync answers the oldest request."""
        line, sent = self._line, self._sent
        try:
            line.consume_input()
            while sent and not line.is_busy() and line.status == ConnStatus.OK:
                result = line.get_result()
                if result is None:  # the end of a step
                    continue
                if result.status != ExecStatus.PIPELINE_SYNC:
                    sent[0].results.append(result)
                    continue
                self._oldest_since = self._group.last_answer = time.monotonic()
                self._answer(sent.popleft())
        except psycopg.OperationalError as error:
            self._lose(error)
        else:
            if line.status == ConnStatus.BAD:
                self._lose(psycopg.OperationalError(line.get_error_message()))
        self._changed.set()
        self._group.proceed(self)

    def _answer(self, segment: _Segment) -> None:
        refused = [result for result in segment.results if result.status == ExecStatus.FATAL_ERROR]
        if isinstance(segment, _Statement):
            if refused:
                segment.fail(self._error(refused[0]))
                self._prepared.pop(segment.key, None)
        elif isinstance(segment, _Request):
            if refused:
                self._refuse(segment, self._error(refused[0]))
            elif not segment.future.done():
                self._resolve(segment)

    def _resolve(self, request: _Request) -> None:
        result = request.results[-1]
        if result.status != ExecStatus.TUPLES_OK:
            request.future.set_result([])
            return
        self._transformer.set_pgresult(result)
        try:
            request.future.set_result(self._transformer.load_rows(0, result.ntuples, tuple))
        except psycopg.DataError as error:  # a value that Python has no form for
            request.fail(error)

    def _error(self, result: PGresult) -> psycopg.Error:
        return error_from_result(result, self._transformer.encoding)

    def _refuse(self, request: _Request, error: psycopg.Error) -> None:
        """Fail a request; where only a statement was gone, prepare it anew and send the request once more.

        That is so after a DISCARD by whoever stands between, and after DDL: nothing of the request was carried out.
        """
        is_gone = isinstance(error, STALE)
        causes = [each.error for each in request.statements if each is not None and each.error is not None]
        if is_gone and causes:
            request.fail(causes[0])
            return
        if is_gone:
            self._prepared.clear()
        if not is_gone or request.is_repeated or request.is_chained or request.future.done():
            request.fail(error)
            return
        request.is_repeated = True
        request.results.clear()
        self.send(request)

    def _lose(self, error: psycopg.OperationalError) -> None:
        """Give the connection up; who was sent and not answered goes to another, or is told that nobody knows."""
        if self._connection is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.remove_writer(self._socket)
        self._is_writing = False
        self._line.finish()
        self._socket.close()
        self._connection = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._changed.set()
        lost, self._sent = self._sent, deque()
        for segment in lost:
            last_words = [result for result in segment.results if result.status == ExecStatus.FATAL_ERROR]
            cause = self._error(last_words[0]) if last_words else error
            if not (isinstance(segment, _Request) and self._group.repeat(segment, cause)):
                segment.fail(cause)

    def _watch_soon(self) -> None:
        if self._watch is None:
            due = self._oldest_since + SILENCE - time.monotonic()
            self._watch = asyncio.get_running_loop().call_later(max(due, 0.01), self._look)

    def _look(self) -> None:
        """Cut a connection whose server is silent: the kernel may keep it for hours."""
        self._watch = None
        if not self._sent:
            return
        if time.monotonic() - self._oldest_since >= SILENCE:
            self._lose(psycopg.OperationalError("the server is silent"))
        else:
            self._watch_soon()


def _refuse(requests: Sequence[_Request]) -> None:
    for request in requests:
        request.fail(DatabaseUnavailable())
