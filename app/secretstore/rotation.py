"""The data keys of secrets, for the rotation of the master key."""

from uuid import UUID

from app.queries import Connection
from app.rotation import Wrapped
from app.sealing import Keyring
from app.secretstore import queries
from app.secretstore.queries import WrappedKey
from app.secretstore.values import context_of


def wrapped_keys(db: Connection, keyring: Keyring) -> Wrapped[WrappedKey]:
    """Tell how data keys that another master key wraps than the current one are read, renewed and written."""

    async def read(last: WrappedKey | None, limit: int) -> list[WrappedKey]:
        after, version = (UUID(int=0), 0) if last is None else (last.secret_id, last.version)
        return await queries.list_wrapped_keys(
            db, master_key_id=keyring.current, after_secret_id=after, after_version=version, limit=limit
        )

    def renew(row: WrappedKey) -> bytes:
        return keyring.rewrap(row.wrapped_by, row.wrapped_key, context_of(row))

    async def write(rows: list[WrappedKey], keys: list[bytes]) -> int:
        return await queries.rewrap_keys(
            db,
            master_key_id=keyring.current,
            secret_ids=[row.secret_id for row in rows],
            versions=[row.version for row in rows],
            wrapped_keys=[row.wrapped_key for row in rows],
            rewrapped_keys=keys,
        )

    return Wrapped(read, renew, write)
