"""The stage of tests/schema and the service of tests/api, for attacks on both."""

import pytest

from tests.api.conftest import (
    address,
    client,
    enrol,
    look,
    quick_passwords,
    quiet_logs,
    referee,
    referrer,
    stranger,
)
from tests.conftest import Server
from tests.schema.conftest import as_nobody, build_world, enter_from_outside, given, refused, stage, warm
from tests.schema.stage import World


@pytest.fixture(scope="session")
def world(server: Server, template: str) -> World:
    """The people of tests/schema, in a database for these attacks."""
    return build_world(server, template, "adversary")


__all__ = [
    "address", "as_nobody", "client", "enrol", "enter_from_outside", "given", "look", "quick_passwords", "quiet_logs",
    "referee", "referrer", "refused", "stage", "stranger", "warm",
]  # fmt: skip
