"""The secret store for code in the service: what a caller may read and write, by key."""

import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload
from uuid import UUID

import msgspec

from app.database import Credential, Database
from app.queries import Connection
from app.sealing import Keyring
from app.secretstore import metrics, queries, values
from app.secretstore.cache import Asker, SealedCache
from app.secretstore.joining import Caller, Joining
from app.secretstore.paths import is_key
from app.secretstore.queries import Place, ReadGrant, SealedVersion, Secret
from app.secretstore.values import SecretAltered, SecretNotFound, Value

T = TypeVar("T")

NOTHING = UUID(int=0)
INTEGRITY = "secret_integrity"  # as the database calls it where it notices by itself


class Origin(msgspec.Struct, frozen=True):
    """From where a secret is asked for, as the audit log keeps it."""

    request_id: str
    address: str | None = None


class Wanted(NamedTuple):
    """A key that is to be read, and from where it is asked for."""

    key: str
    origin: Origin


class Found(NamedTuple):
    """Refusals by key, None where there is none, and the sealed values of what was granted."""

    refusals: dict[str, str | None]
    sealed: list[SealedVersion]


Reads: TypeAlias = Joining[Wanted, Found]


class Reading(msgspec.Struct, frozen=True):
    """What came of a read: values by key, and why there is none, by key too."""

    values: Mapping[str, Value]
    refusals: Mapping[str, str]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a write says beside the value."""

    expected_version: int | None = None
    restores: int | None = None
    expires_at: datetime | None = None
    max_versions: int | None = None


class SecretStore:
    """The secrets of one credential's organization, or of one of its environments.

    Every read, write and denial leaves a row in the audit log before anything is returned. Methods raise
    psycopg.Error for what PostgreSQL refuses: the scope, the role, an unexpected version.
    """

    def __init__(  # noqa: PLR0913 - who, from where, in what, and with which keys
        self,
        database: Database,
        keyring: Keyring,
        credential: Credential | None,
        origin: Origin,
        *,
        environment_id: UUID | None = None,
        cache: SealedCache | None = None,
        reads: Reads | None = None,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._credential = credential
        self._origin = origin
        self.environment_id = environment_id
        self._cache = cache
        self._reads = reads or Joining()

    @overload
    async def get(self, key: str) -> Any: ...

    @overload
    async def get(self, key: str, kind: type[T]) -> T | None: ...

    async def get(self, key: str, kind: Any = Any) -> Any:
        """Return a secret's value decoded into a type, such as a Struct; None where there is none.

        Raises SecretMismatch, SecretAltered.
        """
        try:
            return await self.get_or_raise(key, kind)
        except SecretNotFound:
            return None

    @overload
    async def get_or_raise(self, key: str) -> Any: ...

    @overload
    async def get_or_raise(self, key: str, kind: type[T]) -> T: ...

    async def get_or_raise(self, key: str, kind: Any = Any) -> Any:
        """Return a secret's value decoded into a type; raises SecretNotFound, SecretMismatch, SecretAltered."""
        return (await self.read_one(key)).decode(kind)

    async def set(self, key: str, value: object, *, expected_version: int | None = None) -> Secret:
        """Put a value, anything that msgspec encodes, as a new version; 0 expects that there is none."""
        raw = values.sealable(msgspec.Raw(msgspec.json.encode(value)))
        change = Change(expected_version=expected_version)
        return await self.run(lambda db: self.put(db, key, raw, change))

    async def run(self, body: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a body in a transaction that has entered."""
        return await self._database.run(self._credential, body)

    async def read_one(self, key: str, version: int | None = None) -> Value:
        """Read a secret as it is now or was in a version; raises SecretNotFound, SecretAltered."""
        reading = await self.read([key], version)
        if (value := reading.values.get(key)) is not None:
            return value
        if reading.refusals[key] == INTEGRITY:
            raise SecretAltered(f"secret {key} does not open")
        raise SecretNotFound(key)

    async def read(self, keys: Sequence[str], version: int | None = None) -> Reading:
        """Read up to a hundred secrets; what one key is refused does not keep the others.

        The audit rows are committed before the sealed values leave PostgreSQL.
        """
        with metrics.failures(metrics.POSTGRESQL, metrics.READ, len(keys)):
            refusals, sealed = await self._found(list(dict.fromkeys(keys)), version)
        opened = {row.key: self._opened(row) for row in sealed}
        altered = [key for key, value in opened.items() if value is None]
        if altered:
            await self.record_denials("secret.read", altered, INTEGRITY)
        told = {key: refusal or "destroyed" for key, refusal in refusals.items() if key not in opened}
        reading = Reading(
            {key: value for key, value in opened.items() if value is not None},
            {**told, **dict.fromkeys(altered, INTEGRITY)},
        )
        _count(reading)
        return reading

    async def _found(self, keys: Sequence[str], version: int | None) -> Found:
        """Have reads granted and taken; that of one key with what this caller reads otherwise."""
        caller = Caller(self._credential, self.environment_id, version)

        async def send(wanted: Sequence[Wanted]) -> Found:
            return await self._sealed(wanted, version)

        if len(keys) > 1 or not is_key(keys[0]):  # what is none might have no form for PostgreSQL
            return await send([Wanted(key, self._origin) for key in keys])
        refusals, sealed = await self._reads.read(caller, Wanted(keys[0], self._origin), send)
        return Found({keys[0]: refusals[keys[0]]}, [row for row in sealed if row.key == keys[0]][:1])

    async def _sealed(self, wanted: Sequence[Wanted], version: int | None) -> Found:
        """Have reads granted and take what the process does not hold."""
        number, digest = os.urandom(32), self._credential.digest if self._credential else b""
        asker = Asker(digest, self.environment_id, version)
        held = {} if self._cache is None else self._cache.find(asker, [each.key for each in wanted])

        async def grant(db: Connection) -> list[ReadGrant]:
            return await self._granted(db, number, wanted, version, held)

        async def take(db: Connection) -> list[SealedVersion]:
            return await queries.take_reads(db, number=number)

        if all(each.key in held for each in wanted):
            grants = await self._database.ask(self._credential, grant)
            is_granted = any(grant.refusal is None and not grant.is_held for grant in grants)
            taken = await self._database.ask(None, take) if is_granted else []
        else:  # the taking follows on the grant's heels, and finds what that committed
            grants, taken = await self._database.ask_then(self._credential, grant, take)
        hits = {grant.key: held[grant.key] for grant in grants if grant.is_held and grant.refusal is None}
        if self._cache is not None:
            self._cache.keep(asker, taken, hits)
        return Found({grant.key: grant.refusal for grant in grants}, [*taken, *hits.values()])

    async def grant(self, number: bytes, key: str, version: int) -> str | None:
        """Have the read of a version audited and, unless it is refused, granted; returns why it is refused.

        It is committed on a connection of its own, whatever transaction the caller is in.
        """
        wanted = [Wanted(key, self._origin)]
        [told] = await self._database.ask(self._credential, lambda db: self._granted(db, number, wanted, version, {}))
        return told.refusal

    async def _granted(
        self,
        db: Connection,
        number: bytes,
        wanted: Sequence[Wanted],
        version: int | None,
        held: Mapping[str, SealedVersion],
    ) -> list[ReadGrant]:
        found = [held.get(each.key) for each in wanted] if held else []
        return await queries.grant_reads(
            db,
            digest=hashlib.sha256(number).digest(),
            keys=[each.key for each in wanted],
            environment_id=self.environment_id,
            version=version,
            request_ids=[each.origin.request_id for each in wanted],
            addresses=[each.origin.address or "" for each in wanted],
            held_ids=[each.secret_id if each else NOTHING for each in found],
            held_versions=[each.version if each else 0 for each in found],
        )

    async def put(self, db: Connection, key: str, raw: bytes, change: Change) -> Secret:
        """Put a value in a transaction that has entered."""
        place = await self.reserve(db, key, change)
        envelope = values.seal(self._keyring, place, raw)
        return await queries.put_version(
            db,
            secret_id=place.secret_id,
            version=place.version,
            ciphertext=envelope.ciphertext,
            wrapped_key=envelope.wrapped_key,
            master_key_id=self._keyring.current,
            restores=change.restores,
            expires_at=change.expires_at,
            max_versions=change.max_versions,
            **self._told,
        )

    async def reserve(self, db: Connection, key: str, change: Change) -> Place:
        """Lock a secret, and learn what its next value is sealed to."""
        return await queries.reserve_version(
            db,
            key=key,
            environment_id=self.environment_id,
            expected_version=change.expected_version,
            restores=change.restores,
            expires_at=change.expires_at,
        )

    async def roll_back(self, db: Connection, number: bytes, key: str, change: Change) -> Secret:
        """Put what a committed grant reads once more, as a new version, in a transaction that has entered."""
        sealed = await queries.take_reads(db, number=number)
        if not sealed:
            raise SecretNotFound(key)
        value = values.open_sealed(self._keyring, sealed[0])
        return await self.put(db, key, value.raw, change)

    async def delete(self, db: Connection, key: str, expected_version: int | None) -> None:
        """Hide a secret, in a transaction that has entered."""
        await queries.delete_secret(
            db, key=key, environment_id=self.environment_id, expected_version=expected_version, **self._told
        )

    async def undelete(self, db: Connection, key: str, expected_version: int | None) -> Secret:
        """Bring a deleted secret back, in a transaction that has entered."""
        return await queries.undelete_secret(
            db, key=key, environment_id=self.environment_id, expected_version=expected_version, **self._told
        )

    async def destroy(self, db: Connection, key: str, version: int, expected_version: int | None) -> None:
        """Destroy a version for good, in a transaction that has entered."""
        await queries.destroy_version(
            db,
            key=key,
            environment_id=self.environment_id,
            version=version,
            expected_version=expected_version,
            **self._told,
        )

    async def record_denials(self, action: str, keys: Sequence[str], reason: str) -> None:
        """Write down that the caller was refused keys, a hundred at most."""
        await self._database.run(
            self._credential,
            lambda db: queries.record_secret_denials(
                db, action=action, keys=list(keys), environment_id=self.environment_id, reason=reason, **self._told
            ),
        )

    @property
    def _told(self) -> dict[str, Any]:
        return {"request_id": self._origin.request_id, "address": self._origin.address}

    def _opened(self, sealed: SealedVersion) -> Value | None:
        try:
            return values.open_sealed(self._keyring, sealed)
        except SecretAltered:
            return None


def _count(reading: Reading) -> None:
    altered = sum(refusal == INTEGRITY for refusal in reading.refusals.values())
    results: dict[metrics.Result, int] = {
        "done": len(reading.values),
        "altered": altered,
        "denied": len(reading.refusals) - altered,
    }
    for result, times in results.items():
        if times:
            metrics.count(metrics.POSTGRESQL, metrics.READ, result, times)
