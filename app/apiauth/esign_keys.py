"""Makes the service's webhook secrets known to the database, which trusts them on the word of an earlier one."""

import hashlib
from collections.abc import Sequence

import psycopg
import structlog
from psycopg.errors import InvalidAuthorizationSpecification

from app.apiauth import queries
from app.database import Database
from app.errors import DatabaseUnavailable

logger = structlog.get_logger(__name__)


class EsignTrust:
    """The introduction of the configured secrets: once, at start or as soon as PostgreSQL answers."""

    def __init__(self, database: Database, keys: Sequence[bytes]) -> None:
        self._database = database
        self._digests = [hashlib.sha256(key).digest() for key in keys]
        self._is_settled = False

    async def establish(self) -> None:
        """Introduce the secrets, unless that is settled; a refusal is logged, and webhooks are answered 401."""
        if self._is_settled:
            return
        try:
            await self._database.run(None, lambda db: queries.trust_esign_keys(db, digests=self._digests))
        except InvalidAuthorizationSpecification:
            logger.error(  # noqa: TRY400 - the refusal says it all
                "webhook secrets not trusted: BROKERFLOW_ESIGN_SECRET holds none that this database trusts, so every "
                "webhook is refused. List a trusted secret beside the new ones, or run brokerflow admin "
                "replace-esign-keys."
            )
        except (psycopg.Error, DatabaseUnavailable) as error:
            logger.warning("webhook secrets not introduced yet", error=type(error).__name__)
            return
        self._is_settled = True
