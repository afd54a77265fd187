"""Secrets in PostgreSQL, as one credential may use them: sealed here, audited there."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec
import psycopg

from app.errors import (
    DATABASE_UNAVAILABLE,
    FORBIDDEN,
    INSUFFICIENT_SCOPE,
    NOT_FOUND,
    UNAUTHENTICATED,
    VERSION_MISMATCH,
    DatabaseUnavailable,
    Refusal,
    refusal_of,
)
from app.secretstore import metrics, queries
from app.secretstore.providers.protocol import ProviderRefused, ProviderUnavailable, SecretConflict, Version
from app.secretstore.queries import SecretVersion
from app.secretstore.store import INTEGRITY, Change, SecretStore
from app.secretstore.values import MAX_BYTES, SecretAltered, SecretNotFound, Value
from app.shared.denials import RECORDED

PAGE = 1000
REFUSED = (FORBIDDEN, INSUFFICIENT_SCOPE, UNAUTHENTICATED)


class PostgreSQL:
    """The secret store of this service."""

    name = "postgresql"
    largest = MAX_BYTES
    lacks: ClassVar[Mapping[str, str]] = {}

    def __init__(self, store: SecretStore | None) -> None:
        self._given = store

    @property
    def _store(self) -> SecretStore:
        if self._given is None:
            raise ProviderRefused("postgresql lets nobody read or write here: set BROKERFLOW_SECRET_TOKEN")
        return self._given

    @asynccontextmanager
    async def _commanding(self, action: str, key: str) -> AsyncIterator[None]:
        with metrics.counted(self.name, action):
            async with self._acting(key, action):
                yield

    @asynccontextmanager
    async def _acting(self, key: str, action: str | None = None) -> AsyncIterator[None]:
        """Refuse as any provider does; a denied action leaves its trace, as that of a request does."""
        try:
            yield
        except (psycopg.Error, DatabaseUnavailable) as error:
            refusal = refusal_of(error, {})
            if action and refusal.kind.status in RECORDED:
                await self._store.record_denials(action, [key], refusal.source)
            raise _translated(error, refusal, key) from None

    async def read(self, key: str, version: int | None = None) -> Value:
        """Return a value; the store counts the read."""
        async with self._acting(key, metrics.READ):
            return await self._store.read_one(key, version)

    async def put(self, key: str, raw: bytes, expected_version: int | None = None) -> int:
        """Put JSON as a new version."""
        async with self._commanding("secret.write", key):
            return (await self._store.set(key, msgspec.Raw(raw), expected_version=expected_version)).version

    async def delete(self, key: str) -> None:
        """Hide a secret."""
        async with self._commanding("secret.delete", key):
            await self._store.run(lambda db: self._store.delete(db, key, None))

    async def undelete(self, key: str) -> int:
        """Bring a deleted secret back."""
        async with self._commanding("secret.undelete", key):
            return (await self._store.run(lambda db: self._store.undelete(db, key, None))).version

    async def roll_back(self, key: str, version: int) -> int:
        """Put the value of an earlier version once more."""
        number = os.urandom(32)
        async with self._commanding("secret.rollback", key):
            refusal = await self._store.grant(number, key, version)
            if refusal is not None:
                raise SecretAltered(f"secret {key} does not open") if refusal == INTEGRITY else SecretNotFound(key)
            change = Change(restores=version)
            return (await self._store.run(lambda db: self._store.roll_back(db, number, key, change))).version

    async def destroy(self, key: str, version: int) -> None:
        """Destroy the data key of one version."""
        async with self._commanding("secret.destroy", key):
            await self._store.run(lambda db: self._store.destroy(db, key, version, None))

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of the organization or environment."""
        found: list[str] = []
        async with self._acting("", "secret.list"):
            while page := await self._page(prefix, found[-1] if found else None):
                found += page
        return found

    async def _page(self, prefix: str, after: str | None) -> list[str]:
        rows = await self._store.run(
            lambda db: queries.list_secrets(
                db, environment_id=self._store.environment_id, prefix=prefix, after=after, limit=PAGE
            )
        )
        return [row.key for row in rows]

    async def versions(self, key: str) -> list[Version]:
        """Return the latest thousand versions."""
        async with self._acting(key, "secret.versions"):
            rows = await self._store.run(
                lambda db: queries.list_versions(
                    db, key=key, environment_id=self._store.environment_id, before=None, limit=PAGE
                )
            )
        return [_version(row) for row in rows]


def _version(row: SecretVersion) -> Version:
    created_by = None if row.created_by is None else str(row.created_by)
    return Version(row.version, row.created_at, created_by, row.destroyed_at is not None)


def _translated(error: Exception, refusal: Refusal, key: str) -> Exception:
    """Return what a caller of any provider knows a refusal of PostgreSQL as; others stay as they are."""
    match refusal.kind:
        case kind if kind is NOT_FOUND:
            return SecretNotFound(key)
        case kind if kind is VERSION_MISMATCH:
            return SecretConflict(f"secret {key}: {refusal.detail}")
        case kind if kind is DATABASE_UNAVAILABLE:
            return ProviderUnavailable("postgresql does not answer")
        case kind if kind in REFUSED:
            return ProviderRefused(f"postgresql: {refusal.detail}")
        case _:
            return error
