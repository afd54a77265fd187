"""Makes what the service holds known to the database, which trusts it on the word of what it trusts already."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import psycopg
import structlog
from psycopg.errors import InvalidAuthorizationSpecification

from app.apiauth import queries
from app.database import Database
from app.errors import DatabaseUnavailable
from app.queries import Connection
from app.sealing import half_of

logger = structlog.get_logger(__name__)

PAUSE = 1.0  # seconds between two attempts while PostgreSQL does not answer

UNTRUSTED_SECRETS = (
    "webhook secrets not trusted: BROKERFLOW_ESIGN_SECRET holds none that this database trusts, so every webhook is "
    "refused. List a trusted secret beside the new ones, or run brokerflow admin replace-esign-keys."
)
UNTRUSTED_HALVES = (
    "master keys not trusted: BROKERFLOW_MASTER_KEY holds none that this database trusts, so JWTs, and sessions in "
    "Redis, are refused. List a trusted key beside the new ones, or run brokerflow secret rotate-master --lost."
)


class Introduction:
    """One introduction: at start, or as soon as PostgreSQL answers. A refusal is logged, and final."""

    def __init__(self, database: Database, words: Callable[[Connection], Awaitable[None]], refused: str) -> None:
        self._database = database
        self._words = words
        self._refused = refused
        self._is_settled = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Introduce now; where PostgreSQL is away, go on trying beside the service's work."""
        await self.establish()
        if not self._is_settled:
            self._task = asyncio.create_task(self._persist(), name="introduction")

    async def stop(self) -> None:
        """Stop trying."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def establish(self) -> None:
        """Introduce, unless that is settled."""
        if self._is_settled:
            return
        try:
            await self._database.ask(None, self._words)
        except InvalidAuthorizationSpecification:
            logger.error(self._refused)  # noqa: TRY400 - the refusal says it all
        except (psycopg.Error, DatabaseUnavailable) as error:
            logger.warning("not introduced to the database yet", error=type(error).__name__)
            return
        self._is_settled = True

    async def _persist(self) -> None:
        while not self._is_settled:
            await asyncio.sleep(PAUSE)
            await self.establish()


def of_esign_keys(database: Database, keys: Sequence[bytes]) -> Introduction:
    """Return what introduces the secrets of the e-sign webhook."""
    digests = [hashlib.sha256(key).digest() for key in keys]
    return Introduction(database, partial(queries.trust_esign_keys, digests=digests), UNTRUSTED_SECRETS)


def of_key_halves(database: Database, master_keys: Sequence[bytes]) -> Introduction:
    """Return what introduces the service's halves of the keys of JWTs and tickets."""
    halves = [half_of(key) for key in master_keys]
    return Introduction(database, partial(queries.trust_key_halves, halves=halves), UNTRUSTED_HALVES)
