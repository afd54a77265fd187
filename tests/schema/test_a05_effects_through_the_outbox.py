"""A5: an effect leaves only through the outbox, in the transaction that caused it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import psycopg
import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

MESSAGES = (
    "select payload ->> 'type' from shared.outbox where payload ->> 'agreement_id' = %s::uuid::text "
    "order by (payload ->> 'seq')::integer"
)


async def messages(stage: Stage, agreement: UUID) -> list[str]:
    return [kind for (kind,) in await stage.as_auditor(MESSAGES, agreement)]


@keeps("timeline_events_leave", "agreements_tell_created", "agreements_tell_moved")
async def test_every_event_is_exactly_one_message(stage: Stage, given: Given) -> None:
    agreement = await given.agreement("success")
    await given.event(agreement, "DEAL_CLOSED")
    told = ["AGREEMENT_CREATED", "ESIGN_REQUESTED", "ESIGN_COMPLETED", "AGREEMENT_STATUS_CHANGED", "DEAL_CLOSED"]
    assert await given.events(agreement) == told
    assert await messages(stage, agreement) == told


@keeps("agreements_tell_created")
async def test_what_the_owner_creates_is_told_as_well(stage: Stage, given: Given, as_referrer: Party) -> None:
    referral = await given.referral()
    [[agreement]] = await as_referrer.turned("brokerflow_owner")(
        "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id, status) "
        "values (%s, %s, %s, 'pending_signature') returning id",
        referral, as_referrer.organization_id, stage.party("referee").organization_id,
    )  # fmt: skip
    assert await messages(stage, agreement) == ["AGREEMENT_CREATED"]


@keeps("agreements_tell_moved")
async def test_what_the_owner_moves_is_told_as_well(stage: Stage, given: Given, as_referrer: Party) -> None:
    agreement = await given.draft()
    await as_referrer.turned("brokerflow_owner")(
        "update agreement.agreements set status = 'void' where id = %s", agreement
    )
    assert await messages(stage, agreement) == ["AGREEMENT_CREATED", "AGREEMENT_STATUS_CHANGED"]


async def test_a_state_that_nobody_proved_is_not_written(given: Given, refused: Refused, as_owner: Actor) -> None:
    """The owner without an actor: there would be no event, so there is no change."""
    agreement = await given.draft()
    async with refused(None, "23502"):
        await as_owner("update agreement.agreements set status = 'void' where id = %s", agreement)


async def test_a_statement_that_moves_many_tells_of_each(stage: Stage, given: Given, as_referrer: Party) -> None:
    agreements = [await given.draft(), await given.draft()]
    await as_referrer("update agreement.agreements set status = 'void' where id = any (%s)", agreements)
    for agreement in agreements:
        assert (await messages(stage, agreement))[1:] == ["AGREEMENT_STATUS_CHANGED"]


async def test_a_change_that_is_none_tells_nothing(stage: Stage, given: Given, as_referrer: Party) -> None:
    for status in ("draft", "pending_signature", "effective", "void", "closed"):
        agreement = await given.agreement(status)
        told = await messages(stage, agreement)
        await as_referrer("update agreement.agreements set status = status where id = %s", agreement)
        assert await messages(stage, agreement) == told


async def test_the_service_neither_reads_nor_writes_the_outbox(refused: Refused, as_referrer: Party) -> None:
    for attack in (
        "select * from shared.outbox",
        "insert into shared.outbox (topic, event_id, payload) values ('x', gen_random_uuid(), '{}')",
        "update shared.outbox set topic = 'x'",
        "delete from shared.outbox",
        "truncate shared.outbox",
    ):
        async with refused(None, "42501"):
            await as_referrer(attack)


@keeps("outbox_one_message_per_event")
async def test_an_event_leaves_once(stage: Stage, given: Given, refused: Refused, as_owner: Actor) -> None:
    await given.draft()
    async with refused("outbox_one_message_per_event", "23505"):
        await as_owner(
            "insert into shared.outbox (topic, event_id, payload) "
            "select topic, event_id, payload from shared.outbox limit 1"
        )


async def test_rollback_leaves_none_and_commit_exactly_one(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    async with enter_from_outside() as stage:
        agreement = await stage.given.agreement("effective")
        await stage.connection.commit()
        await stage.given.event(agreement, "PROPERTY_SHOWN")
        await stage.connection.rollback()
        await stage.given.event(agreement, "OFFER_MADE")
        await stage.connection.commit()
    left = [kind for (kind,) in superuser.execute(MESSAGES, [agreement])]
    assert left == ["AGREEMENT_CREATED", "ESIGN_REQUESTED", "ESIGN_COMPLETED", "OFFER_MADE"]


@pytest.mark.parametrize("size", [0, 9_000, 1_000_000])
async def test_an_effect_of_any_size_is_announced_by_its_events_id(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[object, ...]], size: int
) -> None:
    """NOTIFY aborts the business transaction over 8000 bytes; an id is never that long."""
    superuser.execute("listen outbox")
    async with enter_from_outside() as stage:
        agreement = await stage.given.agreement("effective")
        await stage.as_referee(
            "insert into agreement.timeline_events (agreement_id, type, payload) "
            "values (%s, 'OFFER_MADE', jsonb_build_object('text', repeat('x', %s)))",
            agreement, size,
        )  # fmt: skip
        await stage.connection.commit()
    left = superuser.execute(
        "select event_id::text from shared.outbox where payload ->> 'agreement_id' = %s", [str(agreement)]
    )
    announced = {each.payload for each in superuser.notifies(timeout=5, stop_after=4)}
    assert announced == {str(number) for (number,) in left}


async def test_who_commits_while_another_announces_leaves_his_own_out(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    """PostgreSQL commits announcements one after the other; who has none to make does not wait for them."""
    superuser.execute("listen outbox")
    async with enter_from_outside() as one, enter_from_outside() as other:
        first = await one.given.draft()
        await one.run("set constraints all immediate")  # as his commit does
        await other.given.draft()
        await other.connection.commit()
        await one.connection.commit()
        last = await other.given.draft()
        await other.connection.commit()
    superuser.execute("notify outbox, 'the end'")
    told = [each.payload for each in superuser.notifies(timeout=5, stop_after=3)]
    query = "select event_id::text from shared.outbox where payload ->> 'agreement_id' = %s"
    expected = [superuser.execute(query, [str(agreement)]).fetchone() for agreement in (first, last)]
    assert told[:2] == [each[0] for each in expected if each is not None]
    assert told[2] == "the end"


async def test_without_its_trigger_nothing_is_announced(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    """A notification leaves at commit only, so the mutation of outbox_announce cannot be a rolled-back one."""
    superuser.execute("listen outbox")
    superuser.execute("alter table shared.outbox disable trigger outbox_announce")
    try:
        async with enter_from_outside() as stage:
            await stage.given.draft()
            await stage.connection.commit()
        superuser.execute("notify outbox, 'the end'")
        assert [each.payload for each in superuser.notifies(timeout=5, stop_after=1)] == ["the end"]
    finally:
        superuser.execute("alter table shared.outbox enable trigger outbox_announce")
