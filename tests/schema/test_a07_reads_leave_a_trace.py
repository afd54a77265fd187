"""A7: every read of a contact has a committed audit row before the value leaves; no rollback can erase it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import psycopg

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

CONSUME = "select ciphertext from agreement.consume_contact_read(%s)"
TRACES = "select action, user_id from shared.audit_log where subject = %s and action = 'agreement.pii_viewed'"


async def trace(stage: Stage, agreement: UUID) -> list[tuple[object, ...]]:
    return await stage.as_auditor(TRACES, f"agreement/{agreement}")


@keeps("contact_reads_consumed_once")
async def test_a_grant_of_the_same_transaction_is_refused(given: Given, refused: Refused, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    await given.contact((await given.referral_of(agreement))[0])
    grant = await given.grant(agreement)
    async with refused("contact_reads_consumed_once"):
        await as_referee(CONSUME, grant)


async def test_nor_is_one_of_a_savepoint_before(given: Given, refused: Refused, as_referee: Party) -> None:
    async with refused("contact_reads_consumed_once"):
        async with given.stage.connection.transaction():
            grant = await given.grant(await given.agreement("effective"))
        await as_referee(CONSUME, grant)


@keeps("contact_reads_consumed_once")
async def test_a_grant_is_used_once(given: Given, refused: Refused, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    await given.contact((await given.referral_of(agreement))[0])
    grant = await given.committed_grant(agreement)
    await as_referee(CONSUME, grant)
    async with refused("contact_reads_consumed_once"):
        await as_referee(CONSUME, grant)


@keeps("contact_reads_consumed_once")
async def test_a_stale_grant_is_refused(given: Given, refused: Refused, as_referee: Party, stage: Stage) -> None:
    grant = await given.committed_grant(await given.agreement("effective"))
    await stage.unbound(
        "update agreement.contact_reads set granted_at = granted_at - interval '61 seconds' where id = %s", grant
    )
    async with refused("contact_reads_consumed_once"):
        await as_referee(CONSUME, grant)


@keeps("contact_reads_consumed_once")
async def test_a_grant_is_not_made_over(given: Given, refused: Refused, as_owner: Actor, as_vault: Actor) -> None:
    grant = await given.committed_grant(await given.agreement("effective"))
    for change in ("purpose = 'another'", "granted_at = now()", "granted_in = '3'::xid8, user_id = gen_random_uuid()"):
        async with refused("contact_reads_consumed_once"):
            await as_owner(f"update agreement.contact_reads set {change} where id = %s", grant)
    async with refused(None, "42501"):
        await as_vault("update agreement.contact_reads set granted_at = now() where id = %s", grant)


@keeps("contact_reads_tell_timeline")
async def test_a_grant_is_an_event_a_message_and_an_audit_row(given: Given, as_referee: Party, stage: Stage) -> None:
    agreement = await given.agreement("effective")
    await given.grant(agreement)
    assert (await given.events(agreement))[-1] == "PII_VIEWED"
    assert await trace(stage, agreement) == [("agreement.pii_viewed", as_referee.user_id)]


@keeps("contact_reads_never_deleted", "contact_reads_never_emptied")
async def test_a_grant_stays(given: Given, refused: Refused, as_owner: Actor, as_referee: Party) -> None:
    await given.grant(await given.agreement("effective"))
    async with refused("contact_reads_never_deleted"):
        await as_owner("delete from agreement.contact_reads")
    async with refused("contact_reads_never_emptied"):
        await as_owner("truncate agreement.contact_reads")
    for attack in (
        "delete from agreement.contact_reads",
        "truncate agreement.contact_reads",
        "update agreement.contact_reads set consumed_at = null",
    ):
        async with refused(None, "42501"):
            await as_referee(attack)


@keeps("audit_log_written_once", "audit_log_never_emptied")
async def test_the_audit_log_is_written_once(
    given: Given, refused: Refused, as_owner: Actor, as_referee: Party, as_guard: Actor
) -> None:
    await given.draft()
    for attack in ("update shared.audit_log set action = 'x'", "delete from shared.audit_log"):
        async with refused("audit_log_written_once"):
            await as_owner(attack)
    async with refused("audit_log_never_emptied"):
        await as_owner("truncate shared.audit_log")
    for attack in (
        "select * from shared.audit_log",
        "insert into shared.audit_log (action, subject, outcome) values ('x', 'x', 'done')",
        "update shared.audit_log set action = 'x'",
        "delete from shared.audit_log",
        "truncate shared.audit_log",
        "select shared.write_audit('x', 'x')",
    ):
        async with refused(None, "42501"):
            await as_referee(attack)
    async with refused(None, "42501"):
        await as_guard("delete from shared.audit_log")


async def test_rolling_back_the_read_does_not_erase_it(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    async with enter_from_outside() as stage:
        referral = await stage.given.referral()
        await stage.given.contact(referral)
        agreement = await stage.given.accepted(referral)
        await stage.given.sign(agreement)
        await stage.connection.commit()
        grant = await stage.given.grant(agreement)
        await stage.connection.commit()
        assert await stage.as_referee(CONSUME, grant) == [(b"the sealed contact".ljust(40),)]
        await stage.connection.rollback()
    subject = f"agreement/{agreement}"
    assert superuser.execute(TRACES, [subject]).fetchall() == [
        ("agreement.pii_viewed", stage.people["referee"].user_id)
    ]


async def test_a_grant_that_was_rolled_back_opens_nothing(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as stage:
        agreement = await stage.given.agreement("effective")
        await stage.connection.commit()
        grant = await stage.given.grant(agreement)
        await stage.connection.rollback()
        async with stage.refused("contact_reads_consumed_once", "P0002"):
            await stage.as_referee(CONSUME, grant)


async def test_an_uncommitted_grant_is_not_seen_from_elsewhere(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        agreement = await one.given.agreement("effective")
        await one.connection.commit()
        grant = await one.given.grant(agreement)
        async with other.refused("contact_reads_consumed_once", "P0002"):
            await other.as_referee(CONSUME, grant)


async def test_two_who_use_one_grant_at_once_get_one_contact(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await one.given.referral()
        await one.given.contact(referral)
        agreement = await one.given.agreement("effective", referral)
        await one.connection.commit()
        grant = await one.given.grant(agreement)
        await one.connection.commit()
        await one.as_referee(CONSUME, grant)
        await one.connection.commit()
        async with other.refused("contact_reads_consumed_once", "23514"):
            await other.as_referee(CONSUME, grant)
