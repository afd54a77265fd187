"""A run: everybody at work, chaos among them, oracles every two seconds, and the ledger after each crash."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, IsolationLevel

from app import oracles
from app import queries as running
from app.database import Credential, Transaction
from app.identifiers import uuid7
from app.oracles import Oracle
from app.queries import register_adapters
from app.serving import Service, ServiceError
from app.shared import queries
from app.signing import Signer
from app.stress import report as reports
from app.stress.actors import KINDS, Actor, Scene
from app.stress.board import Board
from app.stress.chaos import BLOWS, Chaos, ChaosError
from app.stress.deeds import DEEDS, follow
from app.stress.ledger import Complaint, Ledger
from app.stress.log import Decision, Head, Log, Replay, decisions
from app.stress.place import Place
from app.stress.report import Report
from app.stress.town import populate
from app.stress.ways import Http, query_of

T = TypeVar("T")

CHAOS: Final = "chaos"
BETWEEN_ORACLES = 2.0  # seconds
IDLE = 0.02  # seconds, when there was nothing to do it to
BREATH = 0.1  # seconds, after no answer
WARM = 2.0  # seconds before the first blow
OVERTIME = 60.0  # seconds, at most, until everybody had his part
RECOVERY = 60.0  # seconds that the database may be away
CATCHING_UP = 20.0  # seconds that followers get at the end

Tell = Callable[[str], None]


@dataclass
class Run:
    """One stress, from its plan to its report."""

    head: Head
    place: Place
    service: Service
    esign_key: bytes
    log: Log
    log_name: str
    tell: Tell
    replay: Replay | None = None
    has_chaos: bool = True
    overtime: float = OVERTIME
    asked: Sequence[Oracle] = field(default_factory=oracles.load)
    rounds: int = 0
    violations: list[oracles.Answer] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    calm: asyncio.Event = field(default_factory=asyncio.Event)  # then nothing is struck any more
    over: asyncio.Event = field(default_factory=asyncio.Event)  # then nobody begins anything more

    def __post_init__(self) -> None:
        self.chaos = Chaos(self.place.superuser_url, self.place.embedded, self.service)
        self.ledger = Ledger()

    async def play(self) -> Report:
        """Play it to its end, which is early when something is found; return the report."""
        began = time.monotonic()
        start = str(uuid7())  # before any event
        scene = self._scene()
        actors = await populate(scene, self.place.app_url, self.place.superuser_url, self.esign_key, start)
        self.tell(f"{len(actors)} actors, {self.head.concurrency} at once, seed {self.head.seed}.")
        try:
            await self._work(actors)
            await self._look_at_the_end(actors)
        finally:
            await scene.http.client.aclose()
            for actor in actors:
                await actor.sql.close()
        return await self._report(actors, time.monotonic() - began)

    def _scene(self) -> Scene:
        esign = Credential("esign", hashlib.sha256(self.esign_key).digest())
        http = Http(self.service.url, self.head.concurrency)
        return Scene(http, Board(), self.ledger, Signer(self.esign_key), esign)

    @property
    def has_found(self) -> bool:
        """Whether anything was found."""
        return bool(self.violations or self.complaints or self.findings)

    async def _work(self, actors: Sequence[Actor]) -> None:
        slots = asyncio.Semaphore(self.head.concurrency)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            striking = group.create_task(self._strike()) if self.has_chaos else None
            ending = group.create_task(self._end(actors))
            await asyncio.wait([group.create_task(self._act(actor, slots)) for actor in actors])
            self.over.set()  # a replay ends when all is done
            ending.cancel()
            if striking is not None:
                await striking
            await watching

    def _decisions(self, name: str, deeds: Any) -> Iterator[Decision]:
        if self.replay is not None:
            return self.replay.decisions(name)
        return decisions(self.head.seed, name, deeds)

    async def _act(self, actor: Actor, slots: asyncio.Semaphore) -> None:
        """Let an actor do what it decides, until all is over."""
        for decision in self._decisions(actor.name, KINDS[actor.kind].deeds):
            async with slots:
                if self.over.is_set():
                    return
                self.log.write(decision)
                answer = await DEEDS[decision.deed](actor, decision)
            if actor.scene.lies:
                self._found(findings=actor.scene.lies)
                return
            if answer is None or answer.verdict in {"aborted", "unknown"}:
                await asyncio.sleep(IDLE if answer is None else BREATH)

    async def _strike(self) -> None:
        await self._pause(WARM)
        for decision in self._decisions(CHAOS, BLOWS):
            if not self.chaos.can(decision):
                continue
            await self._pause(self.chaos.pause(decision))
            if self.calm.is_set() or self.over.is_set():
                return
            self.log.write(decision)
            try:
                await self.chaos.strike(decision)
            except (ChaosError, ServiceError) as error:
                self._found(findings=[str(error)])
                return
            self.tell(f"chaos: {decision.deed}")
            if decision.deed in {"crash", "kill"}:
                await self._reconcile(is_quiet=False)

    async def _end(self, actors: Sequence[Actor]) -> None:
        """End it in time, on a slow machine a little later, lest somebody had no part. A replay ends by itself."""
        if self.replay is not None:
            return
        await self._pause(self.head.duration)
        self.calm.set()
        began = time.monotonic()
        while reports.shortcomings(reports.lines(actors, {})) and time.monotonic() - began < self.overtime:
            await self._pause(BREATH)
        self.over.set()

    async def _pause(self, seconds: float) -> None:
        """Wait, unless all is over before."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    async def _watch(self) -> None:
        while not self.over.is_set():
            await self._ask()
            await self._pause(BETWEEN_ORACLES)

    async def _ask(self) -> None:
        answers = await self._as_auditor(partial(oracles.ask, oracles=self.asked))
        self.rounds += 1
        self._found(violations=[answer for answer in answers if answer.violations])

    async def _reconcile(self, *, is_quiet: bool) -> None:
        self._found(complaints=await self._as_auditor(partial(self.ledger.reconcile, is_quiet=is_quiet)))

    def _found(
        self,
        violations: Sequence[oracles.Answer] = (),
        complaints: Sequence[Complaint] = (),
        findings: Sequence[str] = (),
    ) -> None:
        """Remember what was found, each thing once; the run ends with the first."""
        self.violations += violations
        self.complaints += [each for each in complaints if each not in self.complaints]
        self.findings += [each for each in findings if each not in self.findings]
        if self.has_found:
            self.over.set()

    async def _as_auditor(self, question: Callable[[oracles.Connection], Any]) -> Any:
        """Ask on a connection of its own, again where that was cut. Raises psycopg.Error when it stays away."""
        deadline = time.monotonic() + RECOVERY
        while True:
            try:
                async with await connected(self.place.superuser_url) as connection:
                    return await question(connection)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(BREATH)

    async def _look_at_the_end(self, actors: Sequence[Actor]) -> None:
        """Look once more when everybody is done: followers have heard of everything, and nothing is there unasked."""
        if not self.violations:
            await self._ask()
        await self._reconcile(is_quiet=True)
        for actor in actors:
            if actor.kind == "follower" and not self.has_found:
                await self._catch_up(actor)

    async def _catch_up(self, actor: Actor) -> None:
        broker: dict[str, object] = {"organization_id": actor.person.broker_id}
        told = {str(id_) for (id_,) in await self._as_auditor(partial(_rows, name="events_of", arguments=broker))}
        deadline = time.monotonic() + CATCHING_UP
        anything = next(decisions(self.head.seed, actor.name, KINDS[actor.kind].deeds))
        while not told <= actor.seen and time.monotonic() < deadline:
            await follow(actor, anything)
        if missed := told - actor.seen:
            self.findings.append(f"{actor.name} was not told of {len(missed)} of {len(told)} events: {min(missed)} ...")
        if unknown := actor.seen - told:
            self.findings.append(f"{actor.name} was told of {len(unknown)} events that are not there: {min(unknown)}")

    async def _report(self, actors: Sequence[Actor], seconds: float) -> Report:
        causes = dict(await self._as_auditor(partial(_rows, name="refusals")))
        lines = reports.lines(actors, causes)
        if self.violations:
            self.findings.append(f"{sum(each.violations for each in self.violations)} violations of the axioms")
        if self.complaints:
            self.findings.append(f"{len(self.complaints)} differences between the database and what clients were told")
        last = {}
        if self.findings:
            last = {name: await self._as_auditor(partial(_last, name=name)) for name in ("timeline", "outbox", "audit")}
        else:
            self.findings += reports.shortcomings(lines)
        return Report(
            seed=self.head.seed,
            seconds=round(seconds, 1),
            concurrency=self.head.concurrency,
            server_version=await self._as_auditor(_version),
            lines=lines,
            chaos=self.chaos.struck,
            oracle_rounds=self.rounds,
            violations=self.violations,
            reconciliations=self.ledger.reconciliations,
            requests_compared=self.ledger.compared,
            complaints=self.complaints,
            findings=self.findings,
            log=self.log_name,
            last=last,
        )


async def connected(url: str) -> oracles.Connection:
    """Open a connection on which the auditor is asked. Raises psycopg.OperationalError."""
    connection = await AsyncConnection.connect(
        url, autocommit=True, cursor_factory=AsyncRawCursor, connect_timeout=5, application_name="brokerflow stress"
    )
    register_adapters(connection)
    return connection


async def _version(connection: oracles.Connection) -> str:
    return (connection.info.parameter_status("server_version") or "").partition(" ")[0]


async def _rows(
    connection: oracles.Connection, name: str, arguments: dict[str, object] | None = None
) -> list[tuple[Any, ...]]:
    return await _audited(connection, name, lambda *row: row, arguments or {})


async def _last(connection: oracles.Connection, name: str) -> list[dict[str, Any]]:
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
    async with connection.transaction():
        await queries.become_auditor(Transaction(connection))
        cursor = await connection.execute(query_of(name).sql.encode())
        columns = [column.name for column in cursor.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in await cursor.fetchall()]


async def _audited(
    connection: oracles.Connection, name: str, record: Callable[..., T], arguments: dict[str, object]
) -> list[T]:
    async with connection.transaction():
        db = Transaction(connection)
        await queries.become_auditor(db)
        return await running.many(db, query_of(name), record, arguments)
