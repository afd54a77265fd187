"""The actors: who they are, whom they work for, and how what they decided becomes a request."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from app.database import Credential
from app.shared import tokens
from app.signing import Signer
from app.stress.board import Board
from app.stress.ledger import Ledger
from app.stress.log import Decision
from app.stress.ways import Answer, Call, Http, Sql, Statement

SETTLED_WITHIN = 30.0  # seconds that an unknown answer is asked for again
PAUSE = 0.2
PASSING = {"idempotency_in_flight", "contention"}  # refusals that say: ask again
OWN = "the actor's own"


class Kind(NamedTuple):
    """A kind of actor: where it works, as what, and what it does how often."""

    broker: str | None  # `either`: the one or the other by its number
    role: str
    deeds: Mapping[str, int]
    commits: bool = True


KINDS: Mapping[str, Kind] = {
    "creator": Kind("north", "agent", {"refer": 4, "invite": 6, "draft": 1, "send": 1}),
    "accepter": Kind("south", "agent", {"accept": 8, "decline": 1}),
    "signer": Kind(None, "", {"sign": 1}),
    "reader": Kind("either", "agent", {"read": 1}),
    "writer": Kind("either", "agent", {"append": 6, "correct": 1}),
    "disputer": Kind("either", "agent", {"dispute": 4, "invoice": 3, "settle": 2}),
    "judge": Kind(None, "", {"judge": 1}),
    "canceller": Kind("north", "admin", {"cancel": 1, "move": 1}),
    "follower": Kind("either", "agent", {"follow": 3, "page": 1}),
    "retrier": Kind("either", "agent", {"repeat": 4, "reuse": 1}),
    "keeper": Kind("either", "admin", {"put": 2, "get": 1}),
    "voter": Kind(None, "", {"vote": 1}),
    "stranger": Kind("west", "agent", {"trespass": 1}, commits=False),
    "forger": Kind(None, "", {"forge": 1}, commits=False),
}
EACH = 2  # of a kind, so that they race


@dataclass(frozen=True)
class Person:
    """Who an actor is to the service."""

    id: str
    token: str
    broker_id: str | None

    @property
    def credential(self) -> Credential:
        """What the database is shown."""
        return Credential("session", tokens.digest(self.token))


@dataclass
class Tally:
    """What an actor was answered."""

    attempted: int = 0
    committed: int = 0
    aborted: int = 0
    unknown: int = 0
    settled: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    requests: dict[str, str] = field(default_factory=dict)  # refused ones by number: the audit log knows the cause


@dataclass
class Scene:
    """What the actors share."""

    http: Http
    board: Board
    ledger: Ledger
    signer: Signer
    esign: Credential
    accepters: list[str] = field(default_factory=list)  # ids of users
    brokers: dict[str, str] = field(default_factory=dict)  # ids by name
    lies: list[str] = field(default_factory=list)  # answers that cannot be, in sentences


@dataclass
class Actor:
    """Somebody who does one thing after another."""

    name: str
    index: int
    person: Person
    scene: Scene
    sql: Sql
    tally: Tally = field(default_factory=Tally)
    seen: set[str] = field(default_factory=set)  # events, of a follower
    newest: str = ""

    @property
    def kind(self) -> str:
        """The kind of actor."""
        return self.name.partition("-")[0]

    @property
    def board(self) -> Board:
        """What everybody knows of."""
        return self.scene.board

    async def do(
        self, decision: Decision, kind: str, mark: str, call: Call, said: Statement | None, *more: Statement
    ) -> Answer:
        """Ask for something with an effect, the way that was decided; the ledger knows it from before it is sent."""
        entry = self.scene.ledger.open(kind, mark, self.name)
        if decision.over == "sql" and said is not None:
            answer = await self.ask_sql(self.person.credential, said, *more)
        else:
            answer = await self.ask_http(call, decision.mark if decision.keyed else None)
        entry.close(answer)
        return answer

    async def ask_sql(self, credential: Credential | None, *statements: Statement) -> Answer:
        """Run statements in a transaction, once."""
        return self.count(await self.sql.run(credential, *statements))

    async def ask_http(
        self, call: Call, key: str | None = None, *, token: str | None = OWN, again: bool = False
    ) -> Answer:
        """Send a request; with a key, or where doing it twice is doing it once, `again` until its answer is known."""
        keyed = None if key is None else self.scene.ledger.open("answered", key, self.name)
        bearer = self.person.token if token == OWN else token
        answer = await self._send(call, bearer, key)
        if answer.verdict == "unknown" and (again or key is not None):
            answer = await self._settled(call, bearer, key) or answer
        if keyed is not None:
            keyed.close(answer)
        return answer

    async def _send(self, call: Call, bearer: str | None, key: str | None) -> Answer:
        answer = self.count(await self.scene.http.send(call, bearer, key))
        if answer.status is not None and answer.status >= 500 and answer.reason != "database_unavailable":
            self.scene.lies.append(f"{call.method} {call.path} answered {answer.status} {answer.reason}")
        return answer

    async def _settled(self, call: Call, bearer: str | None, key: str | None) -> Answer | None:
        """Ask again until it is known what happened; None where that takes too long."""
        patience_ends = time.monotonic() + SETTLED_WITHIN
        while time.monotonic() < patience_ends:
            await asyncio.sleep(PAUSE)
            answer = await self._send(call, bearer, key)
            if answer.verdict != "unknown" and answer.reason not in PASSING:
                self.tally.settled += 1
                return answer
        return None

    def count(self, answer: Answer) -> Answer:
        """Count an answer."""
        tally = self.tally
        tally.attempted += 1
        match answer.verdict:
            case "committed":
                tally.committed += 1
            case "aborted":
                tally.aborted += 1
            case "unknown":
                tally.unknown += 1
            case "refused":
                tally.refused[answer.reason] += 1
                if answer.request_id is not None:
                    tally.requests[answer.request_id] = answer.reason
        return answer
