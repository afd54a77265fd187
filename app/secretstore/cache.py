"""Sealed values that this process has taken already: ciphertext, never what is in it.

PostgreSQL authorises and audits a read whether its value is held here or not, and says whether what is held is the very
version to be read. So a value that was superseded, deleted or destroyed is never answered, however late a notice comes;
a hit spares the grant, the second transaction and the way of the ciphertext, and nothing else.

Notices bound how long a sealed value stays in memory: until it changes, or its seconds are over. While the process does
not listen nothing is held.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple
from uuid import UUID

from prometheus_client import Counter

from app.database import Database
from app.secretstore.queries import SealedVersion

CHANNEL: Final = "secrets"
MAX_BYTES: Final = 32 * 1024 * 1024  # of ciphertext
MAX_VALUES: Final = 10_000

CACHED_READS = Counter("brokerflow_secret_cached_reads", "Reads that asked the cache.", ["result"])


class Asker(NamedTuple):
    """Who asks, where and for which version: a hint where to look, for PostgreSQL decides what he may read."""

    digest: bytes
    environment_id: UUID | None
    version: int | None


class Held(NamedTuple):
    """A sealed value, and the timer that ends its stay."""

    sealed: SealedVersion
    end: asyncio.TimerHandle


class SealedCache:
    """The sealed values of one process; those that were not asked for longest leave first."""

    def __init__(self, database: Database, seconds: int, *, max_bytes: int = MAX_BYTES) -> None:
        self._database = database
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._bytes = 0
        self._held: OrderedDict[tuple[Asker, str], Held] = OrderedDict()
        self._places: defaultdict[UUID, set[tuple[Asker, str]]] = defaultdict(set)
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow the notices of changed secrets, unless values are to stay for no second."""
        if self._seconds:
            self._following = asyncio.create_task(self._follow(), name="cache of secrets")

    async def stop(self) -> None:
        """Forget everything and hold nothing any more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
            self._following = None
        self.clear()

    @property
    def is_on(self) -> bool:
        """Whether values are held: the process listens."""
        return self._following is not None and self._database.is_listening(CHANNEL)

    @property
    def count(self) -> int:
        """How many values are held."""
        return len(self._held)

    def find(self, asker: Asker, keys: Iterable[str]) -> dict[str, SealedVersion]:
        """Return what is held of the keys; it counts only if PostgreSQL says that it is what is to be read."""
        if not self.is_on:
            self.clear()
        return {key: held.sealed for key in keys if (held := self._held.get((asker, key)))}

    def keep(self, asker: Asker, taken: Sequence[SealedVersion], hits: Mapping[str, SealedVersion]) -> None:
        """Hold what was taken for the next time, and remember what was of use."""
        if not self.is_on:
            return
        CACHED_READS.labels("hit").inc(len(hits))
        CACHED_READS.labels("miss").inc(len(taken))
        for key in hits:
            if (asker, key) in self._held:
                self._held.move_to_end((asker, key))
        for sealed in taken:
            self._hold((asker, sealed.key), sealed)

    def clear(self) -> None:
        """Forget everything."""
        for place in list(self._held):
            self._drop(place)

    def _hold(self, place: tuple[Asker, str], sealed: SealedVersion) -> None:
        self._drop(place)
        end = asyncio.get_running_loop().call_later(self._seconds, self._drop, place)
        self._held[place] = Held(sealed, end)
        self._places[sealed.secret_id].add(place)
        self._bytes += len(sealed.ciphertext)
        while self._bytes > self._max_bytes or len(self._held) > MAX_VALUES:
            self._drop(next(iter(self._held)))

    def _drop(self, place: tuple[Asker, str]) -> None:
        if (held := self._held.pop(place, None)) is None:
            return
        held.end.cancel()
        self._bytes -= len(held.sealed.ciphertext)
        places = self._places[held.sealed.secret_id]
        places.discard(place)
        if not places:
            del self._places[held.sealed.secret_id]

    async def _follow(self) -> None:
        async with aclosing(self._database.listen(CHANNEL)) as notices:
            async for payload in notices:
                self._forget(payload)

    def _forget(self, payload: str | None) -> None:
        """Forget the secret that a notice names, or all when notices may be missing."""
        try:
            secret_id = UUID(payload or "")
        except ValueError:
            self.clear()
            return
        for place in list(self._places.get(secret_id, ())):
            self._drop(place)
