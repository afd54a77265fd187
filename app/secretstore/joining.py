"""Reads of one caller that come while others of his are under way: they travel together.

A read commits its row of the audit log before its value leaves; that commit, and the entrance before it, is most of
what a read costs. So whoever asks while as many reads as FLIGHTS are under way waits for one to end, and goes with all
who wait too: one entrance and one commit, with a row of the audit log for each. Who asks alone waits for nobody.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from operator import methodcaller
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

from app.database import Credential

W = TypeVar("W")
F = TypeVar("F")

FLIGHTS: Final = 2  # of one caller at once: one is on its way while the other commits
TOGETHER: Final = 16  # most reads of a flight; a value may have a megabyte
TURNS: Final = 4  # of the event loop, in which a flight that may depart is sent


class Caller(NamedTuple):
    """Who reads, where and which version: those for whom it is all the same may travel together."""

    credential: Credential | None
    environment_id: UUID | None
    version: int | None


Send: TypeAlias = Callable[[Sequence[W]], Awaitable[F]]


class _Waiting(NamedTuple, Generic[W, F]):
    wanted: W
    send: Send[W, F]
    found: asyncio.Future[F]


class Joining(Generic[W, F]):
    """The reads of one process. What refuses a flight refuses everyone in it."""

    def __init__(self) -> None:
        self._flights: defaultdict[Caller, int] = defaultdict(int)
        self._waiting: defaultdict[Caller, deque[_Waiting[W, F]]] = defaultdict(deque)
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, caller: Caller, wanted: W, send: Send[W, F]) -> F:
        """Send what is wanted, alone or with what others want; returns what was found for all of them."""
        if self._flights[caller] < FLIGHTS:
            self._flights[caller] += 1
            try:
                return await send([wanted])
            finally:
                self._land(caller)
        found: asyncio.Future[F] = asyncio.get_running_loop().create_future()
        self._waiting[caller].append(_Waiting(wanted, send, found))
        return await found

    def _land(self, caller: Caller) -> bool:
        """Let those who wait depart; where nobody does, the caller has a flight less. Tell whether one departs."""
        queue = self._waiting.pop(caller, deque())
        group: list[_Waiting[W, F]] = []
        while queue and len(group) < TOGETHER:
            if not (first := queue.popleft()).found.done():  # else he went away
                group.append(first)
        if queue:
            self._waiting[caller] = queue
        if group:
            task = asyncio.create_task(self._fly(caller, group), name="reads of secrets")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif self._flights[caller] > 1:
            self._flights[caller] -= 1
        else:
            del self._flights[caller]
        return bool(group)

    async def _fly(self, caller: Caller, group: list[_Waiting[W, F]]) -> None:
        try:
            tell = methodcaller("set_result", await group[0].send([each.wanted for each in group]))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            tell = methodcaller("set_exception", error)
        finally:
            is_followed = self._land(caller)
        if is_followed:  # what those on board do now keeps the loop busy; PostgreSQL is to have work meanwhile
            for _ in range(TURNS):
                await asyncio.sleep(0)
        for each in group:
            if not each.found.done():
                tell(each.found)
