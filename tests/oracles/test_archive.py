"""What is archived is no violation, and is looked at no less than what is not."""

import pytest

from tests.oracles.conftest import ORACLES, Ask
from tests.oracles.history import Scene
from tests.schema.stage import Stage
from tests.schema.test_a04_months import archive, end_all

# What is done to an archived event, message or row by a superuser whom no trigger stops, and what is said of it.
PLANTS = [
    ("O3", "its hash is not that of its text", "update {events} set payload = '{{\"x\": 1}}' where {its} and seq = 2"),
    ("O3", "it is not linked to the event before it", "update {events} set previous_hash = hash where {its}"),
    ("O3", "the event before it is 1", "delete from {events} where {its} and seq = 2"),
    ("O3", "the head has no timeline", "delete from {events} where {its}"),
    ("O3", "it has not as many events as were archived", "delete from {events} where {its}"),
    ("O2", "it is recorded in the future", "update {events} set recorded_at = now() + interval '1 day' where {its}"),
    ("O5", "the event left no message", "delete from archive.outbox where payload @> '{{\"agreement_id\": \"{id}\"}}'"),
    ("O5", "the message tells of no event", "delete from {events} where {its} and seq = 1"),
    ("O5", "it has not as many messages as were archived", "delete from archive.outbox where topic like 'organi%'"),
    ("O8", "the audit log has no row of the event", "delete from {audit} where subject = 'agreement/{id}'"),
    ("O8", "it has not as many rows as were archived", "delete from {audit} where action like 'membership.%'"),
    ("O13", "event 1 names other parties", "update {events} set from_broker_id = to_broker_id where {its} and seq = 1"),
]  # fmt: skip
NAMES = {"events": "archive.timeline_events", "audit": "archive.audit_log"}


async def archive_all(stage: Stage) -> None:
    """Archive the whole history but what lives still, which stays as it is; and let one agreement go on afterwards."""
    await stage.become("postgres")
    await stage.run("create temporary table living as select id, status from agreement.agreements")
    await end_all(stage)
    assert set((await archive(stage)).values()) == {None}
    await stage.unbound(
        "update agreement.agreements as a set status = l.status from living as l "
        "where l.id = a.id and l.status <> a.status"
    )


@pytest.mark.parametrize("name", ORACLES)
async def test_no_oracle_finds_fault_with_a_history_that_was_archived(
    stage: Stage, scene: Scene, ask: Ask, name: str
) -> None:
    await archive_all(stage)
    await stage.given.event(scene["agreement"])
    assert await stage.as_postgres("select count(*) from agreement.timeline_events") == [(1,)]
    assert await ask(name) == []


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant[0]} {plant[1]}")
async def test_an_oracle_fires_on_what_is_done_to_the_archive(
    stage: Stage, scene: Scene, ask: Ask, plant: tuple[str, str, str]
) -> None:
    oracle, finding, statement = plant
    await archive_all(stage)
    assert await ask(oracle) == []
    agreement = scene["agreement"]
    await stage.unbound(statement.format(**NAMES, id=agreement, its=f"agreement_id = '{agreement}'"))
    assert finding in {row["finding"] for row in await ask(oracle)}
