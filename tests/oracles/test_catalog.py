"""O9 notices when what enforces the axioms is missing, disabled or altered."""

import json
import re

from app import oracles
from tests.oracles.conftest import Ask
from tests.schema.stage import Stage
from tests.schema.test_mutations import enforcing

MANIFEST = json.loads(oracles.MANIFEST.read_text())
TRIGGER = "agreement.timeline_events timeline_events_written_once"


async def test_it_shows_what_was_expected_and_what_is(stage: Stage, ask: Ask) -> None:
    await stage.as_postgres("alter table agreement.timeline_events disable trigger timeline_events_written_once")
    [row] = await ask("O9")
    expected = MANIFEST["trigger"][TRIGGER]
    assert row == {
        "subject": f"trigger/{TRIGGER}", "finding": "it is altered", "expected": expected, "found": expected[:-1] + "D",
    }  # fmt: skip


async def test_it_notices_each_enforcing_object_that_is_taken_away(stage: Stage, ask: Ask) -> None:
    objects = await enforcing(stage)
    assert len(objects) > 70
    for name, mutant in objects.items():
        async with stage.connection.transaction(force_rollback=True):
            await stage.as_postgres(mutant.statement)
            assert any(re.search(rf"[ .]{name}$", row["subject"]) for row in await ask("O9")), name


async def test_what_enforces_nothing_may_differ(stage: Stage, ask: Ask) -> None:
    """An operator may add an index, explain himself and let another login in."""
    await stage.become("postgres")
    await stage.run("create index referrals_created_at_idx on agreement.referrals (created_at)")
    await stage.run("comment on table agreement.referrals is 'ours'")
    await stage.run("create schema reports")
    await stage.run("create table reports.daily (day date)")
    assert await ask("O9") == []


def test_the_manifest_has_every_kind_of_object() -> None:
    assert {
        "constraint",
        "trigger",
        "function",
        "policy",
        "table",
        "column",
        "unique index",
        "type",
        "edge",
        "role",
    } <= set(MANIFEST)
    assert {kind for kind in MANIFEST if kind.startswith("grant")} == {
        f"grant on {kind}" for kind in ("schema", "table", "column", "function", "database")
    }
