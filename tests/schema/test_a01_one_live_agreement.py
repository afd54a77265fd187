"""A1: a referral has at most one live agreement, also when several writers race for it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps, waits_for_a_lock

Outside = Callable[[], AbstractAsyncContextManager[Stage]]

ACCEPT = "update agreement.matches set state = 'accepted' where id = %s"
LIVE = (
    "select count(*) from agreement.agreements "
    "where referral_id = %s and status in ('pending_signature', 'effective', 'disputed')"
)


async def test_a_second_agreement_follows_when_the_first_is_void(given: Given, as_referrer: Party) -> None:
    referral = await given.referral()
    first = await given.accepted(referral, "referee")
    await as_referrer("update agreement.agreements set status = 'void' where id = %s", first)
    second = await given.accepted(referral, "rival")
    assert (await given.status(first), await given.status(second)) == ("void", "pending_signature")


async def test_the_second_acceptance_does_not_get_the_first_ones_agreement(
    given: Given, refused: Refused, as_rival: Party
) -> None:
    referral = await given.referral()
    second = await given.match(referral, "rival")
    await given.accepted(referral, "referee")
    async with refused("agreements_one_live_per_referral", "23505"):
        await as_rival(ACCEPT, second)
    assert await as_rival("select state from agreement.matches where id = %s", second) == [("invited",)]
    assert await as_rival("select id from agreement.agreements where referral_id = %s", referral) == []


@pytest.mark.parametrize("live", ["pending_signature", "effective", "disputed"])
async def test_no_draft_is_sent_beside_a_live_agreement(
    given: Given, refused: Refused, as_referrer: Party, live: str
) -> None:
    referral = await given.referral()
    draft = await given.draft(referral)
    await given.agreement(live, referral)
    async with refused("agreements_one_live_per_referral"):
        await as_referrer("update agreement.agreements set status = 'pending_signature' where id = %s", draft)


@keeps("agreements_one_live_per_referral")
async def test_the_owner_cannot_either_whatever_the_referral_says(
    given: Given, refused: Refused, as_referrer: Party, as_owner: Actor
) -> None:
    referral = await given.referral()
    draft = await given.draft(referral)
    await given.accepted(referral)
    await as_owner("update agreement.referrals set status = 'open' where id = %s", referral)
    async with refused("agreements_one_live_per_referral"):
        await as_owner("update agreement.agreements set status = 'pending_signature' where id = %s", draft)
    async with refused("agreements_one_live_per_referral"):
        await as_referrer.turned("brokerflow_owner")(
            "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id, status) "
            "select referral_id, from_broker_id, to_broker_id, 'pending_signature' "
            "from agreement.agreements where id = %s",
            draft,
        )


@pytest.mark.parametrize(
    "level", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]
)
async def test_of_two_acceptances_at_once_one_wins(enter_from_outside: Outside, level: IsolationLevel) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await one.given.referral()
        matches = [await one.given.match(referral, name) for name in ("referee", "rival")]
        await one.connection.commit()
        for stage in (one, other):
            await stage.connection.set_isolation_level(level)
            await stage.run("select count(*) from agreement.transitions")  # the snapshot is taken before the race
        await one.as_referee(ACCEPT, matches[0])
        second = asyncio.create_task(other.as_rival(ACCEPT, matches[1]))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        with pytest.raises(psycopg.Error) as refusal:
            await second
        is_first_snapshot_fresh = level is IsolationLevel.READ_COMMITTED
        told = refusal.value.diag.constraint_name or refusal.value.sqlstate
        assert told == ("agreements_one_live_per_referral" if is_first_snapshot_fresh else "40001")
        await other.connection.rollback()
        assert await one.as_referee(LIVE, referral) == [(1,)]


async def test_two_drafts_sent_at_once_leave_one_live(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await one.given.referral()
        drafts = [await one.given.draft(referral), await one.given.draft(referral)]
        await one.connection.commit()
        send = "update agreement.agreements set status = 'pending_signature' where id = %s"
        await one.as_referrer(send, drafts[0])
        second = asyncio.create_task(other.as_referee(send, drafts[1]))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        with pytest.raises(psycopg.errors.UniqueViolation) as refusal:
            await second
        assert refusal.value.diag.constraint_name == "agreements_one_live_per_referral"


async def test_accepting_again_answers_with_the_same_agreement(enter_from_outside: Outside) -> None:
    """Both commands run at once; the second finds what the first made."""
    answer = "select (agreement.answer_match(%s, %s, 'accepted')).id"
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await one.given.referral()
        match = await one.given.match(referral)
        await one.connection.commit()
        first = await one.as_referee.value(answer, referral, match)
        again = asyncio.create_task(other.as_referee.value(answer, referral, match))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        assert await again == first
        await other.connection.commit()
        created = (
            "select count(*) from agreement.timeline_events as e "
            "join agreement.agreements as a on a.id = e.agreement_id "
            "where a.referral_id = %s and e.type = 'AGREEMENT_CREATED'"
        )
        assert await one.as_referee(created, referral) == [(1,)]
