"""The axioms as the catalog tells them: which object enforces which rule."""

from collections.abc import Iterator, Mapping

import psycopg
import structlog

from app.database import Database
from app.errors import Axiom, DatabaseUnavailable
from app.shared import queries

logger = structlog.get_logger(__name__)


class AxiomTable(Mapping[str, Axiom]):
    """The enforcing object's name to its axiom; empty until `load` has reached the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._axioms: dict[str, Axiom] = {}
        self._is_loaded = False

    async def load(self) -> None:
        """Read the comments of the catalog, once."""
        if self._is_loaded:
            return
        try:
            objects = await self._database.ask(None, queries.list_enforcing_objects, reads=True)
        except (psycopg.Error, DatabaseUnavailable) as error:
            logger.warning("axioms not loaded", error=type(error).__name__)
            return
        self._axioms = {each.object: Axiom(each.axiom, each.rule, each.why) for each in objects}
        self._is_loaded = True

    def __getitem__(self, name: str) -> Axiom:
        return self._axioms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._axioms)

    def __len__(self) -> int:
        return len(self._axioms)
