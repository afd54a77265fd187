"""The migrated catalog, and the sources, to be asked."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import PREFIX, Server, _create


class Ask:
    """Asks a migrated database; `%(ours)s` in a question stands for our schemas."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.connection = connection

    def __call__(self, question: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of an answer."""
        values = {"ours": ["shared", "apiauth", "secretstore", "agreement", "vote"], **parameters}
        return self.connection.execute(question.encode(), values).fetchall()


@pytest.fixture(scope="session")  # not the package: a process may leave it and come back
def catalog(server: Server, template: str) -> str:
    """The name of a migrated database that nobody changes."""
    name = f"{PREFIX}{server.run}_catalog"
    _create(server.admin, name, template)
    return name


@pytest.fixture
def ask(server: Server, catalog: str) -> Iterator[Ask]:
    """Whom to ask; nothing outlives the test."""
    with psycopg.connect(server.url(catalog)) as connection:
        yield Ask(connection)
        connection.rollback()
