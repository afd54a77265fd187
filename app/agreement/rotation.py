"""The keys of clients' contacts, for the rotation of the master key."""

from uuid import UUID

from app.agreement import queries
from app.agreement.contacts import context_of
from app.agreement.queries import WrappedContact
from app.queries import Connection
from app.rotation import Wrapped
from app.sealing import Sealer


def wrapped_contacts(db: Connection, sealer: Sealer) -> Wrapped[WrappedContact]:
    """Tell how the keys of contacts are read, renewed and written; which master key wraps one is found by trying."""

    async def read(last: WrappedContact | None, limit: int) -> list[WrappedContact]:
        after = UUID(int=0) if last is None else last.referral_id
        return await queries.list_wrapped_contacts(db, after=after, limit=limit)

    def renew(row: WrappedContact) -> bytes | None:
        return sealer.renew(row.wrapped_key, context_of(row.referral_id))

    async def write(rows: list[WrappedContact], keys: list[bytes]) -> int:
        return await queries.rewrap_contacts(
            db,
            referral_ids=[row.referral_id for row in rows],
            wrapped_keys=[row.wrapped_key for row in rows],
            rewrapped_keys=keys,
        )

    return Wrapped(read, renew, write)
