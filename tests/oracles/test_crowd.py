"""Many agreements at once, as they are made to measure how long the oracles take."""

from pathlib import Path

import psycopg
from psycopg import AsyncConnection

from app import oracles
from tests.conftest import Database

CROWD = Path(__file__).with_name("crowd.sql").read_text()


async def test_the_crowd_that_time_is_measured_on_is_legal(database: Database) -> None:
    with psycopg.connect(database.superuser_url) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("set brokerflow.crowd = 30")
        connection.execute(CROWD.encode())
        assert connection.execute("select count(*) from agreement.timeline_events").fetchone() == (300,)
    async with await AsyncConnection.connect(database.owner_url, autocommit=True) as asking:
        answers = await oracles.ask(asking, oracles.load())
    assert [(answer.oracle, answer.rows) for answer in answers if answer.violations] == []
