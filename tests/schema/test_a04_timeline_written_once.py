"""A4: the timeline is written once: append-only, gapless 1..n per agreement, hash-chained."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps

CORRECT = (
    "insert into agreement.timeline_events (agreement_id, type, payload, corrects_seq) "
    'values (%s, %s, \'{"why": "a slip"}\', %s) returning seq'
)
CHAIN = (
    "select seq, agreement.event_body(e), previous_hash, hash from agreement.timeline_events as e "
    "where agreement_id = %s order by seq"
)
CHANGES = {
    "update": "update agreement.timeline_events set payload = '{}' where agreement_id = %(id)s",
    "delete": "delete from agreement.timeline_events where agreement_id = %(id)s",
    "update in a CTE": "with u as (update agreement.timeline_events set seq = seq + 1 where agreement_id = %(id)s "
    "returning 1) select * from u",
    "delete in a CTE": "with d as (delete from agreement.timeline_events where agreement_id = %(id)s returning 1) "
    "select * from d",
    "merge, update": "merge into agreement.timeline_events as e using (select %(id)s::uuid as id) as n "
    "on e.agreement_id = n.id when matched then update set payload = '{}'",
    "merge, delete": "merge into agreement.timeline_events as e using (select %(id)s::uuid as id) as n "
    "on e.agreement_id = n.id when matched then delete",
}


def verify(agreement: UUID, links: list[tuple[int, str, bytes, bytes]]) -> None:
    """Recompute a chain as an outsider would, from the exact texts."""
    previous = hashlib.sha256(f"brokerflow timeline {agreement}".encode()).digest()
    for number, (seq, body, previous_hash, digest) in enumerate(links, 1):
        assert (seq, previous_hash) == (number, previous)
        previous = hashlib.sha256(previous + body.encode()).digest()
        assert digest == previous


@keeps("timeline_events_chain")
async def test_the_chain_verifies_outside_the_database(given: Given, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    await given.event(agreement)
    await as_referee(
        "insert into agreement.timeline_events (agreement_id, type, payload) values (%s, 'OFFER_MADE', %s)",
        agreement, '{"price": 1e3, "note": "\\u00e9 \\ud83c\\udfe0", "a": {"b": [null, true]}}',
    )  # fmt: skip
    await as_referee("set local timezone to 'Asia/Kathmandu'")
    links = await as_referee(CHAIN, agreement)
    verify(agreement, [(seq, body, bytes(before), bytes(after)) for seq, body, before, after in links])
    assert len(links) == 5


async def test_one_altered_byte_is_found(given: Given, as_referee: Party, stage: Stage) -> None:
    agreement = await given.agreement("effective")
    await stage.unbound(
        "update agreement.timeline_events set payload = payload || '{\"x\": 1}' where agreement_id = %s and seq = 2",
        agreement,
    )
    links = await as_referee(CHAIN, agreement)
    with pytest.raises(AssertionError):
        verify(agreement, [(seq, body, bytes(before), bytes(after)) for seq, body, before, after in links])


async def test_every_field_of_an_event_is_in_the_hash(stage: Stage) -> None:
    [[text]] = await stage.run("select prosrc from pg_proc where proname = 'event_document'")
    columns = await stage.run(
        "select attname from pg_attribute where attrelid = 'agreement.timeline_events'::regclass and attnum > 0"
    )
    # The parties stand in the first event's payload, and the hashes are the chain itself.
    missing = {name for (name,) in columns if f".{name}" not in text}
    assert missing == {"from_broker_id", "to_broker_id", "previous_hash", "hash"}


@keeps("timeline_events_written_once")
async def test_the_owner_neither_updates_nor_deletes(given: Given, refused: Refused, as_owner: Actor) -> None:
    agreement = await given.agreement("effective")
    for change in CHANGES.values():
        async with refused("timeline_events_written_once"):
            await as_owner(change.replace("%(id)s", f"'{agreement}'"))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_the_service_has_no_right_to(given: Given, refused: Refused, as_referee: Party, change: str) -> None:
    agreement = await given.agreement("effective")
    async with refused(None, "42501"):
        await as_referee(change.replace("%(id)s", f"'{agreement}'"))


async def test_nor_to_upsert(given: Given, refused: Refused, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    async with refused(None, "42501"):
        await as_referee(
            "insert into agreement.timeline_events (agreement_id, type) values (%s, 'CLIENT_CONTACTED') "
            "on conflict (agreement_id, seq) do update set payload = '{}'",
            agreement,
        )


@keeps("timeline_events_never_emptied")
async def test_nobody_truncates(
    given: Given, refused: Refused, as_owner: Actor, as_referee: Party, as_guard: Actor
) -> None:
    agreement = await given.agreement("effective")
    for table in ("agreement.timeline_events", "agreement.timeline_events, agreement.timeline_heads"):
        async with refused("timeline_events_never_emptied"):
            await as_owner(f"truncate {table}")
    for other in (as_referee, as_guard):
        async with refused(None, "42501"):
            await other("truncate agreement.timeline_events")
    assert await given.events(agreement)


@keeps("timeline_heads_move_with_events", "timeline_heads_never_deleted", "timeline_heads_never_emptied")
async def test_the_head_of_a_chain_moves_with_its_events_only(
    given: Given, refused: Refused, as_owner: Actor, as_referee: Party
) -> None:
    agreement = await given.agreement("draft")
    async with refused("timeline_heads_move_with_events"):
        await as_owner("update agreement.timeline_heads set seq = 0 where agreement_id = %s", agreement)
    async with refused("timeline_heads_move_with_events"):
        await as_owner("insert into agreement.timeline_heads values (%s, 0, now(), sha256('x'))", agreement)
    async with refused("timeline_heads_never_deleted"):
        await as_owner("delete from agreement.timeline_heads where agreement_id = %s", agreement)
    async with refused("timeline_heads_never_emptied"):
        await as_owner("truncate agreement.timeline_heads")
    for attack in ("select * from", "delete from", "truncate"):
        async with refused(None, "42501"):
            await as_referee(f"{attack} agreement.timeline_heads")


@keeps("timeline_events_gapless")
async def test_no_two_events_share_a_number(given: Given, refused: Refused, stage: Stage) -> None:
    """Asked of a writer whom no trigger numbers."""
    agreement = await given.agreement("effective")
    async with refused("timeline_events_gapless", "23505"):
        await stage.unbound(
            "insert into agreement.timeline_events "
            "select (jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid()))).* "
            "from agreement.timeline_events as e where agreement_id = %s and seq = 1",
            agreement,
        )


async def test_concurrent_appends_leave_no_gap(
    enter_from_outside: Callable[..., AbstractAsyncContextManager[Stage]],
) -> None:
    async with enter_from_outside() as stage:
        agreement = await stage.given.agreement("effective")
        await stage.connection.commit()
        before = len(await stage.as_referrer(CHAIN, agreement))
        await stage.connection.commit()

        async def append(name: str) -> None:
            async with enter_from_outside() as other:
                for _ in range(25):
                    await other.given.event(agreement, by=name)
                    await other.connection.commit()

        await asyncio.gather(*(append(name) for name in ("referrer", "referee") * 4))
        links = await stage.as_referrer(CHAIN, agreement)
        assert [link[0] for link in links] == list(range(1, before + 201))
        verify(agreement, [(seq, body, bytes(then), bytes(after)) for seq, body, then, after in links])
        statement = "select id from agreement.timeline_events where agreement_id = %s order by seq"
        ids = [number for (number,) in await stage.as_referrer(statement, agreement)]
        assert ids == sorted(ids), "a reader who follows ids misses no event"


async def test_a_rolled_back_append_leaves_no_gap(given: Given, refused: Refused, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    async with refused(None, "22012"):
        await given.event(agreement)
        await as_referee("select 1 / 0")
    assert await given.event(agreement) == 4


@keeps("timeline_events_correction_cites", "timeline_events_correction_looks_back")
async def test_a_correction_cites_an_earlier_event_of_the_same_agreement(
    given: Given, refused: Refused, as_referee: Party
) -> None:
    longer, agreement = await given.agreement("success"), await given.agreement("draft")
    await given.event(agreement)
    assert await as_referee(CORRECT, agreement, "CORRECTION_ADDED", 2) == [(3,)]
    for cited in (4, 5, 0, -1):
        async with refused("timeline_events_correction_looks_back"):
            await as_referee(CORRECT, agreement, "CORRECTION_ADDED", cited)
    async with refused("timeline_events_correction_cites"):
        await as_referee(CORRECT, agreement, "CORRECTION_ADDED", None)
    async with refused("timeline_events_correction_cites"):
        await as_referee(CORRECT, longer, "CLIENT_CONTACTED", 1)


@pytest.mark.parametrize(
    "kind",
    [
        "AGREEMENT_CREATED", "ESIGN_REQUESTED", "AGREEMENT_STATUS_CHANGED", "PII_VIEWED", "CONTACT_SHREDDED",
        "DISPUTE_OPENED", "DISPUTE_RESOLVED",
    ],
)  # fmt: skip
async def test_a_party_does_not_write_what_commands_write(
    given: Given, refused: Refused, as_referee: Party, kind: str
) -> None:
    agreement = await given.agreement("effective")
    for written in (kind, "ESIGN_COMPLETED"):
        async with refused(None, "42501"):
            await given.event(agreement, written)


async def test_every_event_that_code_names_exists(stage: Stage) -> None:
    """A type that a function writes and the enum lacks would fail on the day that it is written."""
    labels = {label for (label,) in await stage.run("select unnest(enum_range(null::agreement.event_type))::text")}
    named = await stage.run(
        "select distinct m[1] from pg_proc, regexp_matches(prosrc, '''([A-Z]+_[A-Z_]+)''', 'g') as m "
        "where pronamespace = 'agreement'::regnamespace"
    )
    told = await stage.run("select event_type::text from agreement.transitions")
    assert {name for (name,) in [*named, *told]} <= labels
    assert labels == {
        "AGREEMENT_CREATED", "ESIGN_REQUESTED", "ESIGN_COMPLETED", "AGREEMENT_STATUS_CHANGED", "PII_VIEWED",
        "CONTACT_SHREDDED", "DISPUTE_OPENED", "DISPUTE_RESOLVED", "CLIENT_CONTACTED", "PROPERTY_SHOWN", "OFFER_MADE",
        "DEAL_CLOSED", "CORRECTION_ADDED",
    }  # fmt: skip
