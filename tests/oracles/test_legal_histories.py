"""The oracles are silent where nothing is wrong."""

import psycopg
import pytest
from psycopg import AsyncConnection

from app import oracles
from tests.conftest import Database
from tests.oracles.conftest import ORACLES, Ask
from tests.schema.stage import Stage


@pytest.mark.parametrize("name", ORACLES)
async def test_no_oracle_finds_fault_with_a_legal_history(ask: Ask, name: str) -> None:
    assert await ask(name) == []


async def test_the_history_has_everything_in_it(stage: Stage) -> None:
    """Else silence would say nothing."""
    for column, type_ in (
        ("agreement.agreements status", "agreement_status"), ("agreement.referrals status", "referral_status"),
        ("agreement.matches state", "match_state"), ("agreement.timeline_events type", "event_type"),
        ("agreement.invoices status", "invoice_status"),
    ):  # fmt: skip
        table, _, name = column.partition(" ")
        missing = await stage.as_postgres(
            f"select unnest(enum_range(null::agreement.{type_})) except select {name} from {table}"
        )
        assert missing == [], column
    outcomes = await stage.as_postgres("select distinct outcome from agreement.disputes")
    assert {outcome for (outcome,) in outcomes} == {None, "upheld", "dismissed", "withdrawn"}


async def test_a_fresh_database_is_silent(database: Database) -> None:
    async with await AsyncConnection.connect(database.owner_url, autocommit=True) as connection:
        answers = await oracles.ask(connection, oracles.load())
    assert [(answer.oracle, answer.rows) for answer in answers if answer.violations] == []


async def test_the_whole_suite_sees_one_snapshot(database: Database) -> None:
    """What is written between two oracles, the second does not see."""

    def write(_oracle: oracles.Oracle) -> None:
        with psycopg.connect(database.superuser_url) as writing:
            writing.execute(
                "insert into shared.users (email, full_name) values (gen_random_uuid() || '@example.org', 'late')"
            )

    users = "select u.email as subject, 'exists' as finding from shared.users as u"
    asked = [oracles.Oracle(name, (), "Somebody exists", users) for name in ("O1", "O2", "O3")]
    async with await AsyncConnection.connect(database.owner_url, autocommit=True) as connection:
        answers = await oracles.ask(connection, asked, write)
        again = await oracles.ask(connection, asked[:1])
    assert [answer.violations for answer in answers] == [0, 0, 0]
    assert [answer.violations for answer in again] == [3]
