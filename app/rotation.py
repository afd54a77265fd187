"""Rotation of the master key: what older keys wrap is wrapped anew, in batches, while the service works."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from app.sealing import SealBroken

Row = TypeVar("Row")

BATCH = 500


class Rotation(msgspec.Struct):
    """How far a rotation came: keys wrapped anew, and those that no configured master key opens."""

    rewrapped: int = 0
    unopened: int = 0


@dataclass(frozen=True)
class Wrapped(Generic[Row]):
    """A kind of thing whose keys are wrapped: rows in an order, the new wrapping of one, and how a batch is written."""

    read: Callable[[Row | None, int], Awaitable[Sequence[Row]]]  # what follows a row; None: from the first
    renew: Callable[[Row], bytes | None]  # None: it is wrapped by the current key. Raises SealBroken
    write: Callable[[list[Row], list[bytes]], Awaitable[int]]


async def rotate(kind: Wrapped[Row], tell: Callable[[Rotation], None], batch: int = BATCH) -> Rotation:
    """Wrap every key with the current master key; each batch commits by itself.

    Whenever it stops, every key is wrapped by one master key or the other, whole; running it again goes on. What
    service processes with the old key first put in the meantime is found by another pass.
    """
    done = Rotation()
    while True:
        before = done.rewrapped
        done.unopened = 0
        await _pass(kind, done, tell, batch)
        if done.rewrapped == before:
            return done


async def _pass(kind: Wrapped[Row], done: Rotation, tell: Callable[[Rotation], None], batch: int) -> None:
    last: Row | None = None
    while rows := await kind.read(last, batch):
        last = rows[-1]
        renewed: list[tuple[Row, bytes]] = []
        for row in rows:
            try:
                key = kind.renew(row)
            except SealBroken:
                done.unopened += 1
                continue
            if key is not None:
                renewed.append((row, key))
        if renewed:
            done.rewrapped += await kind.write([row for row, _ in renewed], [key for _, key in renewed])
        tell(done)
