"""Chaos: what ends connections, the service and the server while everybody is at work."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor

from app.embedded import Embedded
from app.queries import register_adapters
from app.serving import Service
from app.stress.log import Decision
from app.stress.ways import query_of

BLOWS: Final[Mapping[str, int]] = {
    "terminate": 4,  # a backend, by pg_terminate_backend
    "stop": 2,  # a backend: it holds its locks and answers nobody, and then goes on
    "kill": 2,  # the service, by SIGKILL; it is started again
    "crash": 1,  # the server, by SIGKILL of its postmaster; it starts again and recovers
}
OURS: Final = {"stop", "crash"}  # only where the server is a child of this process
SHORTEST, LONGEST = 0.6, 2.6  # seconds between blows
RECOVERY = 60.0  # seconds that the server may take to answer again


class ChaosError(Exception):
    """The server or the service did not come back."""


class Chaos:
    """Strikes as it was decided, one blow after another."""

    def __init__(self, superuser_url: str, embedded: Embedded | None, service: Service) -> None:
        self.struck = Counter[str]()
        self._superuser_url = superuser_url
        self._embedded = embedded
        self._service = service
        self._blows: Mapping[str, Callable[[Decision], Awaitable[None]]] = {
            "terminate": self._terminate, "stop": self._stop, "kill": self._kill, "crash": self._crash,
        }  # fmt: skip

    def can(self, decision: Decision) -> bool:
        """Whether a blow is in its power: of a server elsewhere it has no more than a connection."""
        return self._embedded is not None or decision.deed not in OURS

    @staticmethod
    def pause(decision: Decision) -> float:
        """How long it waits before a blow, in seconds."""
        return SHORTEST + (LONGEST - SHORTEST) * decision.pick

    async def strike(self, decision: Decision) -> None:
        """Strike; return when what was struck has come back. Raises ChaosError where it does not."""
        await self._blows[decision.deed](decision)
        self.struck[decision.deed] += 1

    async def _terminate(self, decision: Decision) -> None:
        if (process := await self._backend(decision)) is not None:
            await self._ask("terminate", process)

    async def _stop(self, decision: Decision) -> None:
        if (process := await self._backend(decision)) is None:
            return
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
            try:
                await asyncio.sleep(0.3 + decision.chance % 1200 / 1000)
            finally:
                os.kill(process, signal.SIGCONT)

    async def _kill(self, _decision: Decision) -> None:
        self._service.kill()
        await asyncio.sleep(0.1)
        self._service.start()  # here, in the thread that lasts
        await asyncio.to_thread(self._service.wait_until_ready)

    async def _crash(self, _decision: Decision) -> None:
        assert self._embedded is not None  # noqa: S101 - can() said so
        process = self._embedded.process
        os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + RECOVERY
        while time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            if self._embedded.process != process:
                with suppress(psycopg.OperationalError):
                    await self._ask("backends")
                    return
        raise ChaosError("the server that was killed does not answer again")

    async def _backend(self, decision: Decision) -> int | None:
        """Pick a connection of the service's role."""
        processes = await self._ask("backends")
        return processes[decision.chance % len(processes)] if processes else None

    async def _ask(self, name: str, *parameters: object) -> list[int]:
        async with await AsyncConnection.connect(
            self._superuser_url, autocommit=True, cursor_factory=AsyncRawCursor, connect_timeout=5
        ) as connection:
            register_adapters(connection)
            cursor = await connection.execute(query_of(name).sql.encode(), parameters)
            return [value for (value,) in await cursor.fetchall()]
