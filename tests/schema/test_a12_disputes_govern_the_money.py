"""A12: opening freezes, upheld voids and invalidates, dismissed restores; a party never judges its own case."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps, waits_for_a_lock

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

LEAVE = "delete from shared.memberships where organization_id = %s and user_id = %s"
JUDGE = "update agreement.disputes set outcome = %s where id = %s returning outcome"
PAY = "update agreement.invoices set status = %s where id = %s returning status"
INVOICE = "insert into agreement.invoices (agreement_id, amount, currency) values (%s, %s, %s)"


async def invoices(given: Given, agreement: UUID) -> list[str]:
    rows = await given.stage.as_owner(
        "select status from agreement.invoices where agreement_id = %s order by id", agreement
    )
    return [status for (status,) in rows]


async def billed(given: Given) -> tuple[UUID, UUID]:
    """Bring an effective agreement with one paid and one unpaid invoice; return it and the unpaid."""
    agreement = await given.agreement("effective")
    await given.stage.as_referee(PAY, "paid", await given.invoice(agreement))
    return agreement, await given.invoice(agreement)


@keeps("disputes_freeze")
async def test_opening_freezes_what_is_unpaid(given: Given, refused: Refused, as_referee: Party) -> None:
    agreement, unpaid = await billed(given)
    await given.dispute(agreement)
    assert await given.status(agreement) == "disputed"
    assert await invoices(given, agreement) == ["paid", "frozen"]
    for status in ("paid", "written_off"):
        async with refused("invoices_follow_dispute"):
            await as_referee(PAY, status, unpaid)


@keeps("disputes_govern")
async def test_upheld_voids_the_agreement_and_invalidates_the_unpaid(given: Given) -> None:
    agreement, _ = await billed(given)
    await given.judged(await given.dispute(agreement), "upheld")
    assert await given.status(agreement) == "void"
    assert await invoices(given, agreement) == ["paid", "invalidated"]


@keeps("disputes_govern")
async def test_dismissed_restores(given: Given, as_referee: Party) -> None:
    agreement, unpaid = await billed(given)
    await given.judged(await given.dispute(agreement), "dismissed")
    assert await given.status(agreement) == "effective"
    assert await invoices(given, agreement) == ["paid", "issued"]
    assert await as_referee(PAY, "paid", unpaid) == [("paid",)]
    again = await given.dispute(agreement)
    await given.judged(again, "upheld")
    assert await given.status(agreement) == "void"


@keeps("agreements_settle_dispute")
async def test_who_complained_may_settle(given: Given, as_referee: Party) -> None:
    agreement, _ = await billed(given)
    dispute = await given.dispute(agreement)
    await as_referee("update agreement.agreements set status = 'closed' where id = %s", agreement)
    told = "select outcome, resolved_by, resolved_at is not null from agreement.disputes where id = %s"
    assert await as_referee(told, dispute) == [("withdrawn", as_referee.user_id, True)]
    assert await invoices(given, agreement) == ["paid", "issued"]


@keeps("agreements_follow_their_dispute")
async def test_nobody_else_ends_a_dispute(
    given: Given, refused: Refused, as_referrer: Party, as_referee: Party, as_judge: Party
) -> None:
    agreement = await given.agreement("effective")
    dispute = await given.dispute(agreement)
    for actor in (as_referrer, as_referee, as_referrer.turned("brokerflow_owner"), given.stage.as_owner):
        for status in ("effective", "void"):
            async with refused("agreements_follow_their_dispute"):
                await actor("update agreement.agreements set status = %s where id = %s", status, agreement)
    async with refused("agreements_follow_their_dispute"):
        await as_referrer("update agreement.agreements set status = 'closed' where id = %s", agreement)
    assert (
        await as_judge("update agreement.agreements set status = 'closed' where id = %s returning 1", agreement) == []
    )
    async with refused("disputes_resolved_once"):
        await as_judge(JUDGE, "withdrawn", dispute)


@keeps("agreements_follow_their_dispute")
async def test_no_agreement_is_disputed_without_a_dispute(given: Given, refused: Refused, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    await given.judged(await given.dispute(agreement), "dismissed")
    async with refused("agreements_follow_their_dispute"):
        await as_referee("update agreement.agreements set status = 'disputed' where id = %s", agreement)


@pytest.mark.parametrize("status", ["draft", "pending_signature", "success", "void", "closed"])
async def test_only_what_is_effective_is_disputed(given: Given, refused: Refused, status: str) -> None:
    agreement = await given.agreement(status)
    async with refused("agreements_follow_transitions"):
        await given.dispute(agreement)


@keeps("disputes_judged_by_neither_party")
async def test_a_party_never_judges_its_own_case(
    given: Given, refused: Refused, as_referrer: Party, as_referee: Party, as_partisan: Party
) -> None:
    """Neither who opened it, nor who is complained of, nor a platform admin who belongs to one of them."""
    dispute = await given.dispute(await given.agreement("effective"))
    for actor in (as_referee, as_referrer, given.stage.as_mentor):
        async with refused("disputes_judged_by_neither_party", "42501"):
            await actor(JUDGE, "upheld", dispute)
    async with refused("disputes_judged_by_neither_party", "42501"):
        await as_partisan(JUDGE, "dismissed", dispute)


@keeps("disputes_judged_by_neither_party")
async def test_who_left_a_party_is_no_stranger_to_it(
    given: Given, refused: Refused, as_referrer: Party, as_judge: Party
) -> None:
    agreement = await given.agreement("effective")
    dispute = await given.dispute(agreement)
    await as_referrer("select shared.add_member(%s, 'judge@example.org', 'agent')", as_referrer.organization_id)
    await as_judge(LEAVE, as_referrer.organization_id, as_judge.user_id)
    async with refused("disputes_judged_by_neither_party", "42501"):
        await as_judge(JUDGE, "upheld", dispute)


@keeps("disputes_judged_by_neither_party")
async def test_who_acted_on_an_agreement_does_not_judge_it(
    given: Given, stage: Stage, refused: Refused, as_judge: Party
) -> None:
    """Whatever the audit log has of his membership."""
    agreement = await given.agreement("effective")
    await given.event(agreement)
    dispute = await given.dispute(agreement)
    acted = "update agreement.timeline_events set user_id = %s where agreement_id = %s and type = 'CLIENT_CONTACTED'"
    await stage.unbound(acted, as_judge.user_id, agreement)
    async with refused("disputes_judged_by_neither_party", "42501"):
        await as_judge(JUDGE, "upheld", dispute)


async def test_who_judged_one_dispute_may_judge_the_next(given: Given) -> None:
    agreement = await given.agreement("effective")
    for outcome in ("dismissed", "upheld"):
        await given.judged(await given.dispute(agreement), outcome)
    assert await given.status(agreement) == "void"


async def test_who_left_before_there_was_an_agreement_judges(given: Given, as_referrer: Party, as_judge: Party) -> None:
    await as_referrer("select shared.add_member(%s, 'judge@example.org', 'agent')", as_referrer.organization_id)
    await as_judge(LEAVE, as_referrer.organization_id, as_judge.user_id)
    await given.judged(await given.dispute(await given.agreement("effective")), "upheld")


@keeps("disputes_judged_by_neither_party")
async def test_the_judge_is_proved(given: Given, refused: Refused, as_owner: Actor, as_stranger: Party) -> None:
    dispute = await given.dispute(await given.agreement("effective"))
    for actor in (as_owner, as_stranger.turned("brokerflow_owner")):
        async with refused("disputes_judged_by_neither_party", "42501"):
            await actor(JUDGE, "upheld", dispute)
    assert await as_stranger(JUDGE, "upheld", dispute) == []


async def test_a_judge_of_neither_party_may_have_a_broker_of_his_own(
    given: Given, stage: Stage, as_rival: Party
) -> None:
    dispute = await given.dispute(await given.agreement("effective"))
    await stage.as_owner("insert into shared.platform_admins (user_id) values (%s)", as_rival.user_id)
    assert await as_rival(JUDGE, "upheld", dispute) == [("upheld",)]


@keeps("disputes_begin_open")
async def test_no_dispute_begins_as_decided(given: Given, refused: Refused, as_referee: Party, stage: Stage) -> None:
    agreement = await given.agreement("effective")
    born = (
        "insert into agreement.disputes (agreement_id, reason, outcome, opened_by, opened_by_broker_id, resolved_by, "
        "resolved_at) values (%s, 'x', %s, %s, %s, %s, now())"
    )
    stranger = stage.party("stranger")
    told = (stranger.user_id, stranger.organization_id, stranger.user_id)
    for outcome in ("upheld", "dismissed", "withdrawn"):
        async with refused(None, "42501"):
            await as_referee(born, agreement, outcome, *told)
        async with refused("disputes_begin_open"):
            await as_referee.turned("brokerflow_owner")(born, agreement, outcome, *told)


@keeps("disputes_begin_open")
async def test_its_opener_is_the_proved_one(given: Given, as_referee: Party, stage: Stage) -> None:
    stranger = stage.party("stranger")
    [row] = await as_referee.turned("brokerflow_owner")(
        "insert into agreement.disputes (agreement_id, reason, opened_by, opened_by_broker_id) "
        "values (%s, 'x', %s, %s) returning opened_by, opened_by_broker_id",
        await given.agreement("effective"), stranger.user_id, stranger.organization_id,
    )  # fmt: skip
    assert row == (as_referee.user_id, as_referee.organization_id)


@keeps("disputes_resolved_whole")
async def test_a_judge_without_an_outcome_is_no_resolution(given: Given, refused: Refused, as_referee: Party) -> None:
    async with refused("disputes_resolved_whole"):
        await as_referee.turned("brokerflow_owner")(
            "insert into agreement.disputes (agreement_id, reason, resolved_by) values (%s, 'x', %s)",
            await given.agreement("effective"), as_referee.user_id,
        )  # fmt: skip


@keeps("disputes_resolved_once")
async def test_a_dispute_is_resolved_once(given: Given, refused: Refused, as_judge: Party, as_owner: Actor) -> None:
    dispute = await given.dispute(await given.agreement("effective"))
    async with refused("disputes_resolved_once"):
        await as_judge("update agreement.disputes set note = 'not yet' where id = %s", dispute)
    await given.judged(dispute, "dismissed")
    async with refused("disputes_resolved_once"):
        await as_owner("update agreement.disputes set outcome = null where id = %s", dispute)
    for change in ("outcome = 'upheld'", "note = 'otherwise'", "outcome = null"):
        for actor in (as_judge, as_judge.turned("brokerflow_owner")):
            async with refused("disputes_resolved_once"):
                await actor(f"update agreement.disputes set {change} where id = %s", dispute)


async def test_what_is_complained_of_is_not_rewritten(given: Given, refused: Refused, as_judge: Party) -> None:
    dispute = await given.dispute(await given.agreement("effective"))
    for change in ("reason = 'another'", "opened_by = gen_random_uuid()", "agreement_id = gen_random_uuid()"):
        async with refused("disputes_resolved_once"):
            await as_judge.turned("brokerflow_owner")(
                f"update agreement.disputes set outcome = 'upheld', {change} where id = %s", dispute
            )


async def test_the_judge_and_the_time_are_the_databases(given: Given, as_judge: Party) -> None:
    dispute = await given.dispute(await given.agreement("effective"))
    [row] = await as_judge.turned("brokerflow_owner")(
        "update agreement.disputes set outcome = 'upheld', resolved_by = %s, resolved_at = 'infinity' where id = %s "
        "returning resolved_by, isfinite(resolved_at)",
        given.stage.party("stranger").user_id, dispute,
    )  # fmt: skip
    assert row == (as_judge.user_id, True)


@keeps("disputes_one_open_per_agreement")
async def test_one_dispute_at_a_time(given: Given, refused: Refused) -> None:
    agreement = await given.agreement("effective")
    await given.dispute(agreement)
    for name in ("referee", "referrer"):
        async with refused("disputes_one_open_per_agreement", "23505"):
            await given.dispute(agreement, name)


@keeps("disputes_never_deleted", "disputes_never_emptied", "invoices_never_deleted", "invoices_never_emptied")
async def test_neither_disputes_nor_invoices_are_removed(
    given: Given, refused: Refused, as_owner: Actor, as_referee: Party
) -> None:
    agreement, _ = await billed(given)
    await given.dispute(agreement)
    for table in ("disputes", "invoices"):
        async with refused(f"{table}_never_deleted"):
            await as_owner(f"delete from agreement.{table}")
        async with refused(f"{table}_never_emptied"):
            await as_owner(f"truncate agreement.{table}")
        for attack in ("delete from", "truncate"):
            async with refused(None, "42501"):
                await as_referee(f"{attack} agreement.{table}")


@keeps("invoices_not_while_disputed")
async def test_nothing_is_invoiced_but_under_what_is_in_force(given: Given, refused: Refused) -> None:
    for status in ("draft", "pending_signature", "disputed", "void", "closed"):
        agreement = await given.agreement(status)
        async with refused("invoices_not_while_disputed"):
            await given.invoice(agreement)
    for status in ("effective", "success"):
        await given.invoice(await given.agreement(status))


@keeps("invoices_follow_dispute")
async def test_an_invoice_is_settled_once_and_not_changed(
    given: Given, refused: Refused, as_referee: Party, as_owner: Actor
) -> None:
    _, unpaid = await billed(given)
    for change in (
        "amount = 1",
        "currency = 'EUR'",
        "agreement_id = gen_random_uuid()",
        "created_by = gen_random_uuid()",
    ):
        async with refused("invoices_follow_dispute"):
            await as_owner(f"update agreement.invoices set {change} where id = %s", unpaid)
    for status in ("frozen", "invalidated", "issued"):
        async with refused("invoices_follow_dispute"):
            await as_referee(PAY, status, unpaid)
    assert await as_referee(PAY, "written_off", unpaid) == [("written_off",)]
    for status in ("paid", "issued", "invalidated"):
        async with refused("invoices_follow_dispute"):
            await as_owner(PAY, status, unpaid)


@keeps("row security")
async def test_a_caller_neither_freezes_nor_invalidates(given: Given, refused: Refused, as_referee: Party) -> None:
    """What the trigger would allow in a dispute, the policy refuses to a caller."""
    agreement, unpaid = await billed(given)
    dispute = await given.dispute(agreement)
    await given.judged(dispute, "dismissed")
    await given.stage.unbound("update agreement.invoices set status = 'frozen' where id = %s", unpaid)
    for status in ("issued", "invalidated"):
        async with refused(None, "42501"):
            await as_referee(PAY, status, unpaid)


@pytest.mark.parametrize(
    ("amount", "currency", "proposition"),
    [
        ("0", "USD", "invoices_amount_is_positive"), ("-1", "USD", "invoices_amount_is_positive"),
        ("NaN", "USD", "invoices_amount_is_positive"), ("Infinity", "USD", None),
        ("1", "usd", "invoices_currency_is_iso4217"), ("1", "", "invoices_currency_is_iso4217"),
    ],
)  # fmt: skip
async def test_an_invoice_is_an_amount_of_a_currency(
    given: Given, refused: Refused, amount: str, currency: str, proposition: str | None
) -> None:
    agreement = await given.agreement("effective")
    async with refused(proposition):
        await given.stage.as_referee(INVOICE, agreement, amount, currency)


@keeps("invoices_write_audit")
async def test_each_change_of_an_invoice_is_audited(given: Given, stage: Stage, as_referee: Party) -> None:
    agreement, _ = await billed(given)
    rows = await stage.as_auditor(
        "select action, user_id from shared.audit_log where subject = %s and action like 'invoice%%' order by id",
        f"agreement/{agreement}",
    )
    referrer = stage.party("referrer").user_id
    assert rows == [("invoice.issued", referrer), ("invoice.paid", as_referee.user_id), ("invoice.issued", referrer)]


async def test_a_token_that_only_writes_meets_the_dispute_it_cannot_see(
    given: Given, refused: Refused, as_referee: Party, as_partisan: Party, as_owner: Actor
) -> None:
    """The rules look at the dispute and at its parties whoever asks, and not at what he may read."""
    agreement = await given.agreement("effective")
    dispute = await given.dispute(agreement, by="referee")
    promote = "update shared.memberships set role = 'agent' where user_id = %s"
    await given.stage.as_mentor(promote, as_partisan.user_id)
    partisan, referee = await as_partisan.token("agreements:write"), await as_referee.token("agreements:write")
    async with refused("disputes_judged_by_neither_party", "42501"):
        await partisan("update agreement.disputes set outcome = 'dismissed', note = 'so'")
    # Without a condition, for that is what takes no right to read; so what other tests left is taken away.
    await given.stage.unbound("delete from agreement.agreements where id <> %s", agreement)
    await referee("update agreement.agreements set status = 'closed'")
    assert await given.status(agreement) == "closed"
    assert await as_owner("select outcome from agreement.disputes where id = %s", dispute) == [("withdrawn",)]


async def test_who_pays_while_a_dispute_opens_waits_for_it(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        agreement = await one.given.agreement("effective")
        invoice = await one.given.invoice(agreement)
        await one.connection.commit()
        await one.given.dispute(agreement)
        paying = asyncio.create_task(other.as_referrer(PAY, "paid", invoice))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        with pytest.raises(psycopg.errors.CheckViolation) as refusal:
            await paying
        assert refusal.value.diag.constraint_name == "invoices_follow_dispute"


async def test_an_invoice_of_the_same_moment_is_frozen_too(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        agreement = await one.given.agreement("effective")
        await one.connection.commit()
        await one.given.invoice(agreement)
        disputing = asyncio.create_task(other.given.dispute(agreement))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        await disputing
        await other.connection.commit()
        rows = "select status from agreement.invoices where agreement_id = %s"
        assert await one.as_referrer(rows, agreement) == [("frozen",)]


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
async def test_a_dispute_whose_snapshot_lacks_an_invoice_does_not_open(
    enter_from_outside: Outside, level: IsolationLevel
) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        agreement = await one.given.agreement("effective")
        await one.connection.commit()
        await other.connection.set_isolation_level(level)
        await other.run("select from agreement.transitions")
        await one.given.invoice(agreement)
        await one.connection.commit()
        with pytest.raises(psycopg.errors.SerializationFailure):
            await other.given.dispute(agreement)
        statement = "select status from agreement.agreements where id = %s"
        assert await one.as_referrer.value(statement, agreement) == "effective"
