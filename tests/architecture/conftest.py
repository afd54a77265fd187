"""The migrated catalog, and the sources, to be asked."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import PREFIX, Server, _create

Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="session")  # not the package: a process may leave it and come back
def catalog(server: Server, template: str) -> str:
    """The name of a migrated database that nobody changes."""
    name = f"{PREFIX}{server.run}_catalog"
    _create(server.admin, name, template)
    return name


@pytest.fixture
def ask(server: Server, catalog: str) -> Iterator[Ask]:
    """Ask a migrated database; `%(ours)s` in a question stands for our schemas."""

    def ask(question: str, **parameters: object) -> list[tuple[Any, ...]]:
        values = {"ours": ["shared", "apiauth", "secretstore", "agreement", "vote"], **parameters}
        return connection.execute(question.encode(), values).fetchall()

    with psycopg.connect(server.url(catalog), autocommit=True) as connection:
        yield ask
