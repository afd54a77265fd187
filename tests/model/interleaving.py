"""Transactions on several connections that interleave at statement granularity, each statement judged by the model.

A schedule is data: who takes which step. It is drawn whole before it is run, since what waits for what, and whom a
deadlock ends, is the server's to say: a machine that drew as it went would draw something else the next time.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import psycopg
from hypothesis import note
from psycopg import AsyncConnection, IsolationLevel

from tests.model.brokerage import Forbidden, Referral
from tests.model.deeds import DEEDS, HABITS, STATES, Books, Command
from tests.schema.stage import Rows, Stage, World

# What else PostgreSQL may raise is no refusal, and fails the test.
REFUSALS = (psycopg.IntegrityError, psycopg.errors.InsufficientPrivilege, psycopg.errors.NoDataFound)
LOST = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
PATIENCE = 30  # seconds for a statement that neither ends nor waits for another
LONGEST = 3  # deeds of a transaction

# From what a schedule begins: who does what to what, where deed n makes the thing "n" and "R" is the referral.
OPEN = [("referrer", "invite the referee", "R"), ("referrer", "invite the rival", "R"), ("referrer", "draft", "R")]
PENDING = [*OPEN, ("referee", "accept", "1")]
SIGNED = [*PENDING, ("esign", "sign", "4"), ("referrer", "invoice", "4")]
DISPUTED = [*SIGNED, ("referee", "dispute", "4")]
SCENES = {"open": OPEN, "pending": PENDING, "signed": SIGNED, "disputed": DISPUTED}
# Who has something to do there, the busiest twice.
CASTS = {
    "open": ["referrer", "referee", "referrer", "referee", "rival", "colleague", "esign"],
    "pending": ["referrer", "referee", "referrer", "esign", "rival", "colleague"],
    "signed": ["referrer", "referee", "referrer", "referee", "esign", "judge"],
    "disputed": ["referrer", "referee", "judge", "judge", "colleague", "partisan"],
}


class Step(NamedTuple):
    """What one connection does next; the number picks the deed and what it is done to."""

    connection: int
    act: str  # do, commit or roll back
    number: int = 0


class Schedule(NamedTuple):
    """Who takes part, how isolated, and in which order they act."""

    scene: str
    people: list[str]
    levels: list[IsolationLevel]
    steps: list[Step]


@dataclass
class Transaction:
    """What a transaction has done so far, and the books as its snapshot shows them."""

    snapshot: Books
    others: int  # transactions that ended before it began
    done: list[Command] = field(default_factory=list)


class Answer(NamedTuple):
    """What the database said: rows, what refused it, or how the whole transaction was lost."""

    rows: Rows | None = None
    refusal: str | None = None
    loss: psycopg.Error | None = None


class Player:
    """One connection of the service's role, on which one person acts."""

    def __init__(self, connection: AsyncConnection, world: World, person: str, level: IsolationLevel) -> None:
        self.connection = connection
        self.stage = Stage(connection, world)
        self.person = person
        self.level = level
        self.pid = connection.info.backend_pid
        self.transaction: Transaction | None = None
        self.pending: tuple[Command, asyncio.Task[Answer]] | None = None

    async def begin(self, snapshot: Books, others: int) -> None:
        """Begin a transaction: entering takes the snapshot."""
        await getattr(self.stage, f"as_{self.person}").enter()
        self.transaction = Transaction(deepcopy(snapshot), others)

    async def attempt(self, command: Command, parameters: dict[str, object]) -> Answer:
        """Run a command in a savepoint."""
        try:
            async with self.connection.transaction():
                cursor = await self.connection.execute(DEEDS[command.deed].statement.encode(), parameters)
                rows = await cursor.fetchall()
                return Answer(rows) if rows else Answer(refusal="invisibility")
        except REFUSALS as error:
            return Answer(refusal=error.diag.constraint_name or str(error.sqlstate))
        except LOST as error:
            return Answer(loss=error)

    async def leave(self) -> None:
        """Roll back."""
        await self.connection.rollback()
        self.transaction = None


class Game:
    """Runs one schedule against the database and the model, and compares them after each commit."""

    def __init__(self, observer: AsyncConnection, players: list[Player], tally: Counter[str]) -> None:
        self.observer = observer
        self.players = players
        self.tally = tally
        self.committed = Books()
        self.ids: dict[str, UUID] = {}
        self.commands = 0
        self.ended = 0
        self.cycle: list[Player] = []
        self.people = {name: person.user_id for name, person in players[0].stage.people.items()}
        self.south = players[0].stage.people["referee"].organization_id

    async def prepare(self, scene: str) -> None:
        """Open a referral and bring it to a scene, one transaction a deed."""
        stage = self.players[0].stage
        await stage.connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        self.committed.things["R"] = Referral()
        self.ids["R"] = await stage.given.referral()
        await stage.connection.commit()
        for person, deed, target in SCENES[scene]:
            player = Player(stage.connection, stage.world, person, IsolationLevel.READ_COMMITTED)
            await player.begin(self.committed, self.ended)
            command = self.command(person, deed, target)
            answer = await player.attempt(command, self.parameters(command))
            self.judge(player, command, answer)
            await self.commit(player)
        for player in self.players:
            await player.connection.set_isolation_level(player.level)

    async def play(self, steps: list[Step]) -> None:
        """Take the steps, then end what is still open."""
        for step in steps:
            await self.take(self.players[step.connection], step)
        while left := [player for player in self.players if player.transaction is not None]:
            await self.commit(next(player for player in left if player.pending is None))
        await self.settle()

    async def take(self, player: Player, step: Step) -> None:
        """Take one step, if the connection does not wait for another."""
        if player.pending is not None:
            return
        if step.act == "commit" and player.transaction is not None:
            await self.commit(player)
        elif step.act == "roll back" and player.transaction is not None:
            note(f"{player.person} rolls back")
            await player.leave()
            self.ended += 1
        elif step.act == "do":
            await self.do(player, step.number)
        await self.settle()

    async def do(self, player: Player, number: int) -> None:
        """Send a statement; whether it ends now is seen later."""
        if player.transaction is None:
            await player.begin(self.committed, self.ended)
        command = self.choose(player, number)
        if command is not None:
            note(f"{player.level.name}  {command}")
            task = asyncio.create_task(player.attempt(command, self.parameters(command)))
            player.pending = command, task

    def choose(self, player: Player, number: int) -> Command | None:
        """Return what is done next: of ten deeds nine are such as the model allows now, if there are any."""
        view = self.view(player)
        ways = [(deed, name) for deed in HABITS[player.person] for name in view.named(DEEDS[deed].to)]
        allowed = [way for way in ways if self.allows(view, Command(0, player.person, *way))]
        number, digit = divmod(number, 10)
        ways = ways if digit == 9 else allowed or ways
        return self.command(player.person, *ways[number % len(ways)]) if ways else None

    async def settle(self) -> None:
        """Return once each pending statement waits for a transaction that only a later step can end."""
        deadline = time.monotonic() + PATIENCE
        self.cycle = []
        while waiting := [player for player in self.players if player.pending is not None]:
            for player in waiting:
                await self.look(player)
            waiting = [player for player in waiting if player.pending is not None]
            if await self.is_stuck():
                self.tally["waits"] += len(waiting)
                return
            assert time.monotonic() < deadline, f"{[str(player.pending) for player in waiting]} neither end nor wait"

    async def look(self, player: Player) -> None:
        """Judge a player's statement if it has ended."""
        assert player.pending is not None
        command, task = player.pending
        if task.done():
            player.pending = None
            self.judge(player, command, task.result())
            if task.result().loss is not None:
                await player.leave()
                self.ended += 1

    async def is_stuck(self) -> bool:
        """Whether all that is pending is blocked, and none of it by a deadlock, which the server is about to end."""
        pending = {player.pid: player for player in self.players if player.pending is not None}
        cursor = await self.observer.execute(
            "select pid, pg_blocking_pids(pid) from unnest(%s::integer[]) as p (pid)", [list(pending)]
        )
        blockers: dict[int, list[int]] = dict(await cursor.fetchall())
        cycle = find_cycle(blockers)
        if cycle:
            self.cycle = [pending[pid] for pid in cycle]
        return not cycle and all(blockers.values())

    def judge(self, player: Player, command: Command, answer: Answer) -> None:
        """Compare what the database said with what the model says."""
        assert player.transaction is not None
        if answer.loss is not None:
            self.excuse(player, answer.loss)
            return
        allowed = self.allows(self.view(player), command)
        if answer.rows is not None:
            assert allowed, f"the model forbids what the database did: {command}"
            player.transaction.done.append(command)
            if str(command.number) in self.made(player):
                self.ids[str(command.number)] = answer.rows[0][0]
            self.tally["done"] += 1
            return
        note(f"    {command.number} refused by {answer.refusal}")
        self.tally[f"refused by {answer.refusal}"] += 1
        if allowed and player.level is not IsolationLevel.READ_COMMITTED:
            # A unique index sees what a snapshot does not.
            allowed = self.allows(self.view(player, self.committed), command)
        assert not allowed, f"the model allows what {answer.refusal} refuses: {command}"

    def excuse(self, player: Player, loss: psycopg.Error) -> None:
        """Accept that a transaction was lost, if another can have been the reason."""
        assert player.transaction is not None
        note(f"    {player.person} lost: {loss}")
        self.tally[f"{player.level.name}: {type(loss).__name__}"] += 1
        others = [each for each in self.players if each is not player and each.transaction is not None]
        assert others or self.ended > player.transaction.others, f"nobody was in the way, and yet: {loss}"
        if isinstance(loss, psycopg.errors.DeadlockDetected):
            holders = [each for each in self.cycle if each.transaction is not None and each.transaction.done]
            assert holders or not self.cycle, f"transactions of one statement deadlock: {loss}"
        else:
            assert player.level is not IsolationLevel.READ_COMMITTED, f"at READ COMMITTED: {loss}"

    async def commit(self, player: Player) -> None:
        """Commit: from now on the books are what the database says."""
        assert player.transaction is not None
        note(f"{player.person} commits")
        done = player.transaction.done
        try:
            await player.connection.commit()
        except psycopg.errors.SerializationFailure as error:
            self.excuse(player, error)
            await player.connection.rollback()
        else:
            for command in done:
                assert self.allows(self.committed, command), f"another commit came first, and forbids {command}"
                self.committed.apply(command)
            self.tally["committed"] += 1
        player.transaction = None
        self.ended += 1
        await self.compare()
        await self.settle()

    async def compare(self) -> None:
        """Compare every state."""
        cursor = await self.observer.execute(STATES.encode(), {"referral": self.ids["R"]})
        assert dict(await cursor.fetchall()) == self.committed.states(self.ids)

    def view(self, player: Player, since: Books | None = None) -> Books:
        """Return the books as a transaction sees them: what is or was committed, and what it did itself."""
        assert player.transaction is not None
        if since is None:
            is_fresh = player.level is IsolationLevel.READ_COMMITTED
            since = self.committed if is_fresh else player.transaction.snapshot
        books = deepcopy(since)
        for command in player.transaction.done:
            with suppress(Forbidden):
                books.apply(command)
        return books

    def made(self, player: Player) -> dict[str, object]:
        """Return the things a transaction sees."""
        return dict(self.view(player).things)

    def allows(self, books: Books, command: Command) -> bool:
        """Whether the model allows a command."""
        try:
            deepcopy(books).apply(command)
        except Forbidden:
            return False
        return True

    def command(self, person: str, deed: str, target: str) -> Command:
        """Return a numbered command."""
        self.commands += 1
        return Command(self.commands, person, deed, target)

    def parameters(self, command: Command) -> dict[str, object]:
        """Return what its statement takes."""
        return {**self.people, "south": self.south, "id": self.ids[command.target]}


def find_cycle(blockers: dict[int, list[int]]) -> list[int]:
    """Return processes that wait for each other in a ring, or none."""

    def walk(path: list[int]) -> Iterator[list[int]]:
        for blocker in blockers.get(path[-1], []):
            if blocker in path:
                yield path[path.index(blocker) :]
            else:
                yield from walk([*path, blocker])

    return next((cycle for pid in blockers for cycle in walk([pid])), [])
