"""Rotation of the master key: data keys are wrapped anew, in batches, while the service works."""

from collections.abc import Callable
from uuid import UUID

import msgspec

from app.queries import Connection
from app.sealing import Keyring, SealBroken
from app.secretstore import queries
from app.secretstore.queries import WrappedKey
from app.secretstore.values import context_of

BATCH = 500


class Rotation(msgspec.Struct):
    """How far a rotation came: data keys wrapped anew, and versions that no configured master key opens."""

    rewrapped: int = 0
    unopened: int = 0


async def rotate(db: Connection, keyring: Keyring, tell: Callable[[Rotation], None], batch: int = BATCH) -> Rotation:
    """Wrap every data key with the current master key; each batch commits by itself.

    Whenever it stops, every version is wrapped by one key or the other, whole; running it again goes on. What
    service processes with the old key first put in the meantime is found by another pass.
    """
    done = Rotation()
    while True:
        before = done.rewrapped
        done.unopened = 0
        await _pass(db, keyring, done, tell, batch)
        if done.rewrapped == before:
            return done


async def _pass(db: Connection, keyring: Keyring, done: Rotation, tell: Callable[[Rotation], None], batch: int) -> None:
    after, version = UUID(int=0), 0
    while wrapped := await queries.list_wrapped_keys(
        db, master_key_id=keyring.current, after_secret_id=after, after_version=version, limit=batch
    ):
        after, version = wrapped[-1].secret_id, wrapped[-1].version
        await _rewrap(db, keyring, wrapped, done)
        tell(done)


async def _rewrap(db: Connection, keyring: Keyring, wrapped: list[WrappedKey], done: Rotation) -> None:
    rewrapped = [(each, _rewrapped(keyring, each)) for each in wrapped]
    opened = [(each, key) for each, key in rewrapped if key is not None]
    done.unopened += len(wrapped) - len(opened)
    if opened:
        done.rewrapped += await queries.rewrap_keys(
            db,
            master_key_id=keyring.current,
            secret_ids=[each.secret_id for each, _ in opened],
            versions=[each.version for each, _ in opened],
            wrapped_keys=[each.wrapped_key for each, _ in opened],
            rewrapped_keys=[key for _, key in opened],
        )


def _rewrapped(keyring: Keyring, wrapped: WrappedKey) -> bytes | None:
    try:
        return keyring.rewrap(wrapped.wrapped_by, wrapped.wrapped_key, context_of(wrapped))
    except SealBroken:
        return None
