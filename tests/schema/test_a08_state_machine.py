"""A8: an agreement moves only along the state machine; it is never deleted; its region never changes."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import product
from uuid import UUID

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.schema.conftest import Refused
from tests.schema.stage import STATUSES, Actor, Given, Party, Stage, keeps, waits_for_a_lock

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

EDGES = {
    "draft": {"pending_signature", "void"},
    "pending_signature": {"effective", "void"},
    "effective": {"success", "disputed", "void", "closed"},
    "disputed": {"void", "closed", "effective"},
    "success": {"closed"},
    "void": {"closed"},
    "closed": set[str](),
}
MOVE = "update agreement.agreements set status = %s where id = %s returning status"
LEGAL = [(old, new) for old in STATUSES for new in sorted(EDGES[old])]
# Each of these has a cause of its own, and is refused without it.
BY_A_PARTY = [
    edge
    for edge in LEGAL
    if edge not in {("pending_signature", "effective"), ("effective", "disputed"), ("disputed", "void"),
                    ("disputed", "effective")}
]  # fmt: skip
ILLEGAL = [(old, new) for old, new in product(STATUSES, STATUSES) if old != new and new not in EDGES[old]]
MATCH = "update agreement.matches set state = %s where id = %s returning state"


async def test_the_table_holds_these_edges_and_no_other(stage: Stage) -> None:
    rows = await stage.as_nobody("select from_status, to_status from agreement.transitions")
    assert sorted(rows) == sorted(LEGAL)


@pytest.mark.parametrize(("old", "new"), BY_A_PARTY)
async def test_a_party_moves_it_along_an_edge(given: Given, as_referee: Party, old: str, new: str) -> None:
    agreement = await given.agreement(old)
    assert await as_referee(MOVE, new, agreement) == [(new,)]


async def test_a_signature_makes_it_effective(given: Given) -> None:
    agreement = await given.agreement("pending_signature")
    await given.sign(agreement)
    assert await given.status(agreement) == "effective"


@pytest.mark.parametrize(("outcome", "status"), [("upheld", "void"), ("dismissed", "effective")])
async def test_a_dispute_moves_it_to_and_fro(given: Given, outcome: str, status: str) -> None:
    agreement = await given.agreement("effective")
    dispute = await given.dispute(agreement)
    assert await given.status(agreement) == "disputed"
    await given.judged(dispute, outcome)
    assert await given.status(agreement) == status


@pytest.mark.parametrize(("old", "new"), ILLEGAL)
async def test_every_other_move_is_refused_to_the_owner_too(
    given: Given, refused: Refused, as_referee: Party, old: str, new: str
) -> None:
    agreement = await given.agreement(old)
    proposition = "agreements_follow_their_dispute" if "disputed" in {old, new} else "agreements_follow_transitions"
    for actor in (as_referee, as_referee.turned("brokerflow_owner"), given.stage.as_owner):
        async with refused(proposition):
            await actor(MOVE, new, agreement)


@keeps("agreements_follow_transitions")
async def test_what_is_void_is_not_revived(given: Given, refused: Refused, as_referrer: Party) -> None:
    agreement = await given.agreement("void")
    for status in ("draft", "pending_signature"):
        async with refused("agreements_follow_transitions"):
            await as_referrer(MOVE, status, agreement)


@pytest.mark.parametrize("status", ["draft", "success", "void", "closed"])
async def test_the_webhook_revives_nothing(given: Given, refused: Refused, as_esign: Actor, status: str) -> None:
    agreement = await given.agreement(status)
    async with refused("agreements_follow_transitions"):
        await as_esign("select agreement.complete_signature(%s, now(), 'another envelope')", agreement)
    assert await given.status(agreement) == status


async def test_the_webhook_ends_no_dispute(given: Given, refused: Refused, as_esign: Actor) -> None:
    agreement = await given.agreement("disputed")
    async with refused("agreements_follow_their_dispute"):
        await as_esign("select agreement.complete_signature(%s, now(), 'another envelope')", agreement)


async def test_a_replayed_webhook_changes_nothing(given: Given, refused: Refused, as_esign: Actor) -> None:
    agreement = await given.agreement("effective")
    told = await given.events(agreement)
    await given.sign(agreement, "2001-01-01 00:00:00+00")
    assert await given.events(agreement) == told
    async with refused("agreements_signature_fixed"):
        await as_esign("select agreement.complete_signature(%s, now(), 'another envelope')", agreement)
    pending = await given.agreement("pending_signature")
    async with refused("agreements_one_per_envelope"):
        await as_esign("select agreement.complete_signature(%s, now(), %s)", pending, f"envelope {agreement}")


@keeps("agreements_signed_by_the_signing_service")
async def test_no_party_makes_it_effective(
    given: Given, refused: Refused, as_referrer: Party, as_esign: Actor, as_owner: Actor
) -> None:
    agreement = await given.agreement("pending_signature")
    for actor in (as_referrer, as_referrer.turned("brokerflow_owner"), as_owner):
        async with refused("agreements_signed_by_the_signing_service"):
            await actor(MOVE, "effective", agreement)
    async with refused("agreements_signed_by_the_signing_service"):
        await as_esign.turned("brokerflow_owner")(MOVE, "effective", agreement)
    async with refused("agreements_signed_by_the_signing_service"):
        await as_referrer.turned("brokerflow_owner")(
            "update agreement.agreements set status = 'effective', envelope_id = 'e', signed_at = now() where id = %s",
            agreement,
        )
    async with refused("complete_signature", "42501"):
        await as_referrer("select agreement.complete_signature(%s, now(), 'e')", agreement)


@keeps("agreements_begin_unsigned")
async def test_it_begins_unsigned(given: Given, refused: Refused, as_referrer: Party) -> None:
    referral = await given.referral()
    born = (
        "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id, status, region, created_by) "
        "values (%s, %s, %s, %s, '{Elsewhere}', %s) returning region, created_by"
    )
    parties = (as_referrer.organization_id, given.stage.party("referee").organization_id)
    as_owner = as_referrer.turned("brokerflow_owner")
    for status in ("effective", "success", "disputed", "void", "closed"):
        async with refused("agreements_begin_unsigned"):
            await as_owner(born, referral, *parties, status, as_referrer.user_id)
    other = given.stage.party("stranger").user_id
    assert await as_owner(born, referral, *parties, "draft", other) == [(["Taipei"], as_referrer.user_id)]


@pytest.mark.parametrize("column", ["status", "match_id", "region", "created_by", "version", "effective_at", "id"])
async def test_a_caller_drafts_and_nothing_else(
    given: Given, refused: Refused, as_referrer: Party, column: str
) -> None:
    referral = await given.referral()
    async with refused(None, "42501"):
        await as_referrer(
            f"insert into agreement.agreements (referral_id, from_broker_id, to_broker_id, {column}) "
            "values (%s, %s, %s, default)",
            referral, as_referrer.organization_id, given.stage.party("referee").organization_id,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("fee_rate", "proposition"),
    [
        ("-5", "agreements_fee_rate_is_a_percentage"),
        ("100.0001", "agreements_fee_rate_is_a_percentage"),
        ("'NaN'", "agreements_fee_rate_is_a_percentage"),
        ("'Infinity'", None),
    ],
)
async def test_the_fee_is_a_percentage(
    given: Given, refused: Refused, as_referrer: Party, fee_rate: str, proposition: str | None
) -> None:
    referral = await given.referral()
    async with refused(proposition):
        await as_referrer(
            "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id, fee_rate) "
            f"values (%s, %s, %s, {fee_rate})",
            referral, as_referrer.organization_id, given.stage.party("referee").organization_id,
        )  # fmt: skip


async def test_a_broker_does_not_agree_with_itself(given: Given, refused: Refused, as_referrer: Party) -> None:
    own = as_referrer.organization_id
    async with refused("agreements_between_two_brokers"):
        await as_referrer(
            "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id) values (%s, %s, %s)",
            await given.referral(), own, own,
        )  # fmt: skip


@keeps("agreements_region_fixed")
async def test_its_region_never_changes(given: Given, refused: Refused, as_referee: Party, as_owner: Actor) -> None:
    change = "update agreement.agreements set region = '{Kaohsiung}' where id = %s"
    for status in ("draft", "effective", "closed"):
        agreement = await given.agreement(status)
        for actor in (as_referee, as_owner):
            async with refused("agreements_region_fixed"):
                await actor(change, agreement)


async def test_a_refused_attempt_leaves_a_denial(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    """The denial is a transaction of its own, which the exception of the attempt does not take along."""
    async with enter_from_outside() as stage:
        agreement = await stage.given.draft()
        await stage.connection.commit()
        subject = f"agreement/{agreement}"
        with pytest.raises(psycopg.errors.CheckViolation):
            await stage.as_referee("update agreement.agreements set region = '{X}' where id = %s", agreement)
        await stage.connection.rollback()
        await stage.as_referee(
            "select shared.record_denial('agreement.change', %s, 'agreements_region_fixed', 'r')", subject
        )
        await stage.connection.commit()
    row = "select user_id, outcome, reason from shared.audit_log where subject = %s and outcome = 'denied'"
    told = superuser.execute(row, [subject]).fetchall()
    assert told == [(stage.people["referee"].user_id, "denied", "agreements_region_fixed")]


async def test_nobody_is_denied_in_anothers_name(refused: Refused, as_nobody: Actor) -> None:
    async with refused("current_actor", "28000"):
        await as_nobody("select shared.record_denial('x', 'x', 'x', 'x')")


@keeps("agreements_terms_fixed")
async def test_its_parties_and_terms_never_change(
    given: Given, refused: Refused, as_owner: Actor, as_referee: Party
) -> None:
    agreement = await given.agreement("effective")
    for change in (
        "fee_rate = 1", "protect_days = 1", "from_broker_id = to_broker_id, to_broker_id = from_broker_id",
        "referral_id = gen_random_uuid()", "match_id = gen_random_uuid()", "created_by = gen_random_uuid()",
        "created_at = now()", "version = 7", "id = gen_random_uuid()",
    ):  # fmt: skip
        async with refused("agreements_terms_fixed"):
            await as_owner(f"update agreement.agreements set {change} where id = %s", agreement)
        async with refused(None, "42501"):
            await as_referee(f"update agreement.agreements set {change} where id = %s", agreement)


@keeps("agreements_signature_fixed")
async def test_its_signature_never_changes(given: Given, refused: Refused, as_owner: Actor, as_referee: Party) -> None:
    for status in ("pending_signature", "effective", "closed"):
        agreement = await given.agreement(status)
        for change in ("envelope_id = 'x'", "signed_at = now()", "envelope_id = 'x', signed_at = now()"):
            async with refused("agreements_signature_fixed"):
                await as_owner(f"update agreement.agreements set {change} where id = %s", agreement)
            async with refused(None, "42501"):
                await as_referee(f"update agreement.agreements set {change} where id = %s", agreement)


@keeps("agreements_never_deleted", "agreements_never_emptied")
async def test_it_is_never_deleted(given: Given, refused: Refused, as_owner: Actor, as_referrer: Party) -> None:
    agreement = await given.draft()
    async with refused("agreements_never_deleted"):
        await as_owner("delete from agreement.agreements where id = %s", agreement)
    async with refused("agreements_never_emptied"):
        await as_owner("truncate agreement.agreements cascade")
    for attack in ("delete from agreement.agreements", "truncate agreement.agreements cascade"):
        async with refused(None, "42501"):
            await as_referrer(attack)


@keeps("agreements_carry_referral")
async def test_the_referral_moves_with_its_agreement(given: Given, as_referrer: Party) -> None:
    referral = await given.referral()
    agreement = await given.accepted(referral)
    seen = [(await given.referral_of(agreement))[1]]
    await as_referrer(MOVE, "void", agreement)
    seen.append((await given.referral_of(agreement))[1])
    await given.agreement("effective", referral)
    agreement = await given.agreement("draft", referral)
    seen.append((await given.referral_of(agreement))[1])
    assert seen == ["matched", "open", "signed"]


@pytest.mark.parametrize("end", ["success", "void", "closed"])
async def test_a_referral_ends_with_its_agreement(given: Given, end: str) -> None:
    agreement = await given.agreement("effective")
    await given.move(agreement, end)
    assert (await given.referral_of(agreement))[1] == "closed"


@keeps("agreements_carry_referral")
async def test_nothing_is_sent_for_a_referral_that_is_not_open(
    given: Given, refused: Refused, as_referrer: Party
) -> None:
    referral = await given.referral()
    draft = await given.draft(referral)
    await given.move(await given.agreement("effective", referral), "success")
    async with refused("agreements_carry_referral"):
        await as_referrer(MOVE, "pending_signature", draft)


REFERRAL_STATUSES = ("open", "matched", "signed", "closed", "cancelled")
REFERRAL_EDGES = {
    ("open", "matched"), ("matched", "open"), ("matched", "signed"), ("signed", "closed"), ("open", "cancelled"),
    ("matched", "cancelled"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), list(product(REFERRAL_STATUSES, REFERRAL_STATUSES)))
async def test_a_referral_moves_along_its_edges_only(
    given: Given, refused: Refused, as_referrer: Party, old: str, new: str
) -> None:
    referral = await given.referral()
    reason = "case when %s = 'cancelled' then 'so' end"
    place = f"update agreement.referrals set status = %s, cancel_reason = {reason} where id = %s"
    await given.stage.unbound(place, old, old, referral)
    move = f"update agreement.referrals set status = %s, cancel_reason = {reason} where id = %s returning status"
    if (old, new) in REFERRAL_EDGES or old == new:
        assert await as_referrer.turned("brokerflow_owner")(move, new, new, referral) == [(new,)]
    else:
        async with refused("referrals_follow_transitions"):
            await as_referrer.turned("brokerflow_owner")(move, new, new, referral)


@keeps("referrals_follow_transitions")
async def test_a_signed_referral_is_beyond_cancelling(given: Given, refused: Refused, as_referrer: Party) -> None:
    referral, status = await given.referral_of(await given.agreement("effective"))
    assert status == "signed"
    for cancel in (
        "update agreement.referrals set status = 'cancelled', cancel_reason = 'so' where id = %s",
        "select agreement.cancel_referral(%s, 'so')",
    ):
        async with refused("referrals_follow_transitions"):
            await as_referrer(cancel, referral)


@keeps("row security")
async def test_a_caller_cancels_a_referral_and_moves_it_nowhere_else(
    given: Given, refused: Refused, as_referrer: Party
) -> None:
    referral = await given.referral()
    for status in ("matched", "open"):
        async with refused(None, "42501"):
            await as_referrer("update agreement.referrals set status = %s where id = %s", status, referral)
    async with refused("referrals_cancelled_with_a_reason"):
        await as_referrer("update agreement.referrals set status = 'cancelled' where id = %s", referral)


@keeps("referrals_terms_fixed")
async def test_a_referrals_terms_never_change(
    given: Given, refused: Refused, as_owner: Actor, as_referrer: Party, as_colleague: Party
) -> None:
    referral = await given.referral()
    for change in ("region = '{X}'", "price_min = 0", "price_max = 9", "languages = '{en}'", "sla_hours = 1",
                   "deal_type = 'rent'", "property_type = 'castle'", "created_at = now()", "id = gen_random_uuid()",
                   "broker_id = gen_random_uuid()", "created_by = gen_random_uuid()"):  # fmt: skip
        async with refused("referrals_terms_fixed"):
            await as_owner(f"update agreement.referrals set {change} where id = %s", referral)
        async with refused(None, "42501"):
            await as_referrer(f"update agreement.referrals set {change} where id = %s", referral)
    await as_referrer("select agreement.cancel_referral(%s, 'sold')", referral)
    async with refused("referrals_terms_fixed"):
        await as_colleague("update agreement.referrals set cancel_reason = 'another' where id = %s", referral)


@keeps("referrals_cancelling_voids")
async def test_cancelling_strands_no_agreement(given: Given, as_referrer: Party) -> None:
    for cancel in (
        "select agreement.cancel_referral(%s, 'so')",
        "update agreement.referrals set status = 'cancelled', cancel_reason = 'so' where id = %s",
    ):
        referral = await given.referral()
        agreements = [await given.draft(referral), await given.accepted(referral)]
        await as_referrer(cancel, referral)
        assert [await given.status(agreement) for agreement in agreements] == ["void", "void"]
        assert (await given.referral_of(agreements[0]))[1] == "cancelled"


async def test_nor_does_one_who_may_not_see_them(given: Given, as_referrer: Party) -> None:
    """A token that writes and reads nothing names no row, so it cancels all of its broker's."""
    agreement = await given.accepted(await given.referral())
    blind = await as_referrer.token("agreements:write")
    await blind("update agreement.referrals set status = 'cancelled', cancel_reason = 'so'")
    assert await given.status(agreement) == "void"


async def test_a_signature_and_a_cancelling_at_once_strand_nothing(enter_from_outside: Outside) -> None:
    """The signature comes first, and the cancelling, which waited for it, finds a signed referral."""
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await one.given.referral()
        agreement = await one.given.agreement("pending_signature", referral)
        await one.connection.commit()
        await one.given.sign(agreement)
        cancelling = asyncio.create_task(other.as_referrer("select agreement.cancel_referral(%s, 'so')", referral))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        with pytest.raises(psycopg.errors.CheckViolation) as refusal:
            await cancelling
        assert refusal.value.diag.constraint_name == "referrals_follow_transitions"
        await other.connection.rollback()
        assert await pair(other, agreement) == [("effective", "signed")]


async def test_a_cancelling_and_a_signature_at_once_strand_nothing(enter_from_outside: Outside) -> None:
    """The cancelling comes first, and the signature, which waited for it, finds a void agreement."""
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await one.given.referral()
        agreement = await one.given.agreement("pending_signature", referral)
        await one.connection.commit()
        await one.as_referrer("select agreement.cancel_referral(%s, 'so')", referral)
        signing = asyncio.create_task(other.given.sign(agreement))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        with pytest.raises(psycopg.errors.CheckViolation) as refusal:
            await signing
        assert refusal.value.diag.constraint_name == "agreements_follow_transitions"
        await other.connection.rollback()
        assert await pair(other, agreement) == [("void", "cancelled")]


LEVELS = [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]


@pytest.mark.parametrize("level", LEVELS)
async def test_a_draft_and_a_cancelling_at_once_strand_nothing(
    enter_from_outside: Outside, level: IsolationLevel
) -> None:
    """The draft comes first, and the cancelling, which waited for it, voids it or is too late to see it."""
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await referral_before_a_race(one, other, level)
        agreement = await one.given.draft(referral)
        cancelling = asyncio.create_task(other.as_referrer("select agreement.cancel_referral(%s, 'so')", referral))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        if level is IsolationLevel.READ_COMMITTED:
            await cancelling
            await other.connection.commit()
            assert await pair(one, agreement) == [("void", "cancelled")]
        else:
            with pytest.raises(psycopg.errors.SerializationFailure):
                await cancelling
            assert await pair(one, agreement) == [("draft", "open")]


@pytest.mark.parametrize("level", LEVELS)
async def test_a_cancelling_and_a_draft_at_once_strand_nothing(
    enter_from_outside: Outside, level: IsolationLevel
) -> None:
    """The cancelling comes first, and the draft, which waited for it, is refused."""
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await referral_before_a_race(one, other, level)
        await one.as_referrer("select agreement.cancel_referral(%s, 'so')", referral)
        drafting = asyncio.create_task(other.given.draft(referral))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        with pytest.raises(psycopg.Error) as refusal:
            await drafting
        told = refusal.value.diag.constraint_name or refusal.value.sqlstate
        assert told == ("agreements_carry_referral" if level is IsolationLevel.READ_COMMITTED else "40001")


async def referral_before_a_race(one: Stage, other: Stage, level: IsolationLevel) -> UUID:
    """Open a referral; two transactions have their snapshots of it."""
    referral = await one.given.referral()
    await one.connection.commit()
    for stage in (one, other):
        await stage.connection.set_isolation_level(level)
        await stage.run("select count(*) from agreement.referrals")
    return referral


async def test_plain_updates_that_cross_end_in_one_of_the_two(enter_from_outside: Outside) -> None:
    """Each holds what the other needs: PostgreSQL lets one of them go on."""
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await one.given.referral()
        agreement = await one.given.agreement("pending_signature", referral)
        await one.connection.commit()
        await one.run("select from agreement.transitions")
        await one.as_referrer("select id from agreement.agreements where id = %s for no key update", agreement)
        cancel = "update agreement.referrals set status = 'cancelled', cancel_reason = 'so' where id = %s"
        cancelling = asyncio.create_task(other.as_referrer(cancel, referral))
        await waits_for_a_lock(one, other)
        signing = asyncio.create_task(one.given.sign(agreement))
        done = await asyncio.gather(cancelling, signing, return_exceptions=True)
        assert [type(result) for result in done].count(psycopg.errors.DeadlockDetected) == 1
        for stage, result in zip((other, one), done, strict=True):
            await (stage.connection.rollback() if isinstance(result, Exception) else stage.connection.commit())
        assert await pair(one, agreement) in ([("effective", "signed")], [("void", "cancelled")])


async def test_an_acceptance_that_waits_for_a_cancelling_is_refused(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await one.given.referral()
        match = await one.given.match(referral)
        await one.connection.commit()
        await one.as_referrer("select agreement.cancel_referral(%s, 'so')", referral)
        accepting = asyncio.create_task(other.as_referee(MATCH, "accepted", match))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        with pytest.raises(psycopg.errors.CheckViolation) as refusal:
            await accepting
        assert refusal.value.diag.constraint_name == "matches_on_open_referral"


async def test_a_cancelling_that_waits_for_an_acceptance_voids_what_it_finds(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        referral = await one.given.referral()
        match = await one.given.match(referral)
        await one.connection.commit()
        await one.as_referee(MATCH, "accepted", match)
        agreement = await one.as_referee.value("select id from agreement.agreements where match_id = %s", match)
        cancelling = asyncio.create_task(other.as_referrer("select agreement.cancel_referral(%s, 'so')", referral))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        await cancelling
        await other.connection.commit()
        assert await pair(one, agreement) == [("void", "cancelled")]


async def pair(stage: Stage, agreement: object) -> list[tuple[object, ...]]:
    return await stage.as_referrer(
        "select a.status, r.status from agreement.agreements as a "
        "join agreement.referrals as r on r.id = a.referral_id where a.id = %s",
        agreement,
    )


@keeps("matches_answered_once")
async def test_an_invitation_is_answered_once(
    given: Given, refused: Refused, as_referee: Party, as_rival: Party, as_owner: Actor
) -> None:
    referral = await given.referral()
    declined = await given.match(referral, "rival")
    accepted = await given.match(referral, "referee")
    assert await as_rival(MATCH, "declined", declined) == [("declined",)]
    assert await as_referee(MATCH, "accepted", accepted) == [("accepted",)]
    for actor, match in ((as_referee, accepted), (as_rival, declined)):
        for state in ("invited", "accepted", "declined"):
            async with refused("matches_answered_once"):
                await actor(MATCH, state, match)
    async with refused("matches_answered_once"):
        await as_rival("select agreement.answer_match(%s, %s, 'accepted')", referral, declined)
    async with refused("matches_answered_once"):
        await as_referee("select agreement.answer_match(%s, %s, 'declined')", referral, accepted)


@keeps("matches_on_open_referral")
async def test_a_cancelled_referral_accepts_nobody(
    given: Given, refused: Refused, as_referrer: Party, as_referee: Party
) -> None:
    referral = await given.referral()
    match = await given.match(referral)
    await as_referrer("select agreement.cancel_referral(%s, 'so')", referral)
    async with refused("matches_on_open_referral"):
        await as_referee(MATCH, "accepted", match)
    async with refused("matches_on_open_referral"):
        await given.match(referral, "rival")


@keeps("matches_on_open_referral")
async def test_accepting_makes_the_agreement_whatever_path(given: Given, as_referee: Party) -> None:
    referral = await given.referral()
    match = await given.match(referral)
    await as_referee(MATCH, "accepted", match)
    made = "select a.status, a.from_broker_id = m.broker_id, a.to_broker_id = m.candidate_broker_id, a.created_by "
    source = "from agreement.agreements as a join agreement.matches as m on m.id = a.match_id where m.id = %s"
    assert await as_referee(made + source, match) == [("pending_signature", True, True, as_referee.user_id)]


@keeps("matches_never_deleted")
async def test_an_invitation_is_never_deleted(
    given: Given, refused: Refused, as_owner: Actor, as_referrer: Party
) -> None:
    match = await given.match(await given.referral())
    async with refused("matches_never_deleted"):
        await as_owner("delete from agreement.matches where id = %s", match)
    async with refused(None, "42501"):
        await as_referrer("delete from agreement.matches where id = %s", match)
    async with refused("agreements_never_emptied"):
        await as_owner("truncate agreement.matches cascade")


async def test_nobody_is_invited_twice_to_one_referral(given: Given, refused: Refused) -> None:
    referral = await given.referral()
    await given.match(referral)
    async with refused("matches_one_invitation_per_candidate", "23505"):
        await given.match(referral)


async def test_the_edges_are_nobodys_to_change(refused: Refused, as_referrer: Party) -> None:
    for table in ("transitions", "referral_transitions"):
        for attack in ("delete from", "truncate", "insert into"):
            values = " select * from agreement." + table if attack == "insert into" else ""
            async with refused(None, "42501"):
                await as_referrer(f"{attack} agreement.{table}{values}")
