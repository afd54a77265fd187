"""A3: business time is the database's; gated events lie between effectiveness and now; effective_at is set once."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps

APPEND = "insert into agreement.timeline_events (agreement_id, type, occurred_at) values (%s, %s, {})"
GATED = ("PROPERTY_SHOWN", "OFFER_MADE", "DEAL_CLOSED")


@keeps("agreements_zz_stamp")
async def test_the_signature_makes_an_agreement_effective_now(given: Given, as_referee: Party) -> None:
    before = datetime.now(UTC)
    agreement = await given.agreement("pending_signature")
    await given.sign(agreement, before - timedelta(days=1))
    [[effective_at, version]] = await as_referee(
        "select effective_at, version from agreement.agreements where id = %s", agreement
    )
    assert before <= effective_at <= datetime.now(UTC)
    assert version == 3


@keeps("agreements_signed_by_effectiveness")
async def test_a_signature_does_not_lie_in_the_future(given: Given, refused: Refused, as_esign: Actor) -> None:
    agreement = await given.agreement("pending_signature")
    for moment in ("'infinity'", "'-infinity'", "now() + interval '1 hour'"):
        async with refused("agreements_signed_by_effectiveness"):
            await as_esign(f"select agreement.complete_signature(%s, {moment}, 'an envelope')", agreement)


async def test_a_signature_bears_a_time_that_clients_can_read(given: Given, refused: Refused) -> None:
    agreement = await given.agreement("pending_signature")
    async with refused("agreements_signed_in_readable_time"):
        await given.sign(agreement, "0001-01-01 00:00:00+14")


@pytest.mark.parametrize("status", ["effective", "success", "void", "closed"])
@pytest.mark.parametrize("moment", ["null", "clock_timestamp()", "effective_at - interval '1 day'"])
async def test_effective_at_is_neither_moved_nor_cleared(
    given: Given, refused: Refused, as_referrer: Party, status: str, moment: str
) -> None:
    agreement = await given.agreement("effective")
    if status != "effective":
        await given.move(agreement, status)
    change = f"update agreement.agreements set effective_at = {moment} where id = %s"
    async with refused("agreements_effective_at_once"):
        await given.stage.as_owner(change, agreement)
    async with refused(None, "42501"):
        await as_referrer(change, agreement)


@keeps("agreements_effective_at_once")
async def test_the_owner_cannot_set_it_before_the_signature_either(
    given: Given, refused: Refused, as_owner: Actor
) -> None:
    agreement = await given.agreement("void")
    async with refused("agreements_effective_at_once"):
        await as_owner("update agreement.agreements set effective_at = now() where id = %s", agreement)


@keeps("agreements_effective_since_signed")
async def test_no_draft_is_born_effective(given: Given, refused: Refused, as_referrer: Party) -> None:
    referral = await given.referral()
    born = (
        "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id, effective_at) "
        "select %s, %s, to_broker_id, clock_timestamp() from agreement.agreements where id = %s"
    )
    facts = (referral, as_referrer.organization_id, await given.draft())
    async with refused(None, "42501"):
        await as_referrer(born, *facts)
    async with refused("agreements_effective_since_signed"):
        await as_referrer.turned("brokerflow_owner")(born, *facts)


@pytest.mark.parametrize(
    "column", ["recorded_at", "seq", "id", "hash", "previous_hash", "user_id", "organization_id", "credential_id"]
)
async def test_no_caller_sets_what_an_event_records(
    given: Given, refused: Refused, as_referee: Party, column: str
) -> None:
    agreement = await given.agreement("effective")
    async with refused(None, "42501"):
        await as_referee(
            f"insert into agreement.timeline_events (agreement_id, type, {column}) "
            "values (%s, 'CLIENT_CONTACTED', default)",
            agreement,
        )


async def test_no_caller_sets_any_recorded_time(stage: Stage) -> None:
    """Asked of the catalog: what may be written, of the columns that hold a time."""
    rows = await stage.run(
        "select table_name || '.' || column_name from information_schema.column_privileges "
        "where grantee = 'brokerflow_app' and privilege_type in ('INSERT', 'UPDATE') and column_name like '%at' "
        "and table_schema in ('shared', 'apiauth', 'secretstore', 'agreement', 'vote')"
    )
    # Archiving names a time, and its trigger puts the clock's in its place; an invitation's end is still to come.
    chosen = {"timeline_events.occurred_at", "preview_branches.archived_at", "invitations.expires_at"}
    assert {name for (name,) in rows} == chosen


async def test_what_the_owner_says_is_overruled(given: Given, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    [[seq, is_now]] = await as_referee.turned("brokerflow_owner")(
        "insert into agreement.timeline_events (agreement_id, type, recorded_at, seq) "
        "values (%s, 'CLIENT_CONTACTED', '2001-01-01', 77) returning seq, recorded_at > now() - interval '1 minute'",
        agreement,
    )
    assert (seq, is_now) == (4, True)


@pytest.mark.parametrize("kind", GATED)
async def test_a_gated_event_lies_between_effectiveness_and_now(given: Given, as_referee: Party, kind: str) -> None:
    agreement = await given.agreement("effective")
    effective_at = await as_referee.value("select effective_at from agreement.agreements where id = %s", agreement)
    for moment in (None, effective_at, datetime.now(UTC)):
        await as_referee(APPEND.format("%s"), agreement, kind, moment)


@pytest.mark.parametrize("kind", GATED)
@pytest.mark.parametrize("moment", ["now() - interval '1 day'", "'-infinity'", "'2001-01-01'"])
async def test_nothing_is_shown_offered_or_closed_before_the_signature(
    given: Given, refused: Refused, as_referee: Party, kind: str, moment: str
) -> None:
    agreement = await given.agreement("effective")
    async with refused("timeline_events_gated"):
        await as_referee(APPEND.format(moment), agreement, kind)


@pytest.mark.parametrize("status", ["draft", "pending_signature", "disputed", "void", "closed"])
async def test_no_gated_event_without_an_effective_agreement(
    given: Given, refused: Refused, as_referee: Party, status: str
) -> None:
    agreement = await given.agreement(status)
    for kind in GATED:
        async with refused("timeline_events_gated"):
            await as_referee(APPEND.format("null"), agreement, kind)


@keeps("timeline_events_gated")
async def test_a_premature_event_is_refused(given: Given, refused: Refused, as_referee: Party) -> None:
    agreement = await given.agreement("draft")
    async with refused("timeline_events_gated"):
        await as_referee(APPEND.format("null"), agreement, "PROPERTY_SHOWN")


@keeps("timeline_events_occurred_by_recording")
async def test_nothing_is_recorded_before_it_occurred(given: Given, refused: Refused, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    for moment in ("clock_timestamp() + interval '1 second'", "'infinity'", "'9999-12-31'"):
        for kind in ("CLIENT_CONTACTED", "PROPERTY_SHOWN"):
            async with refused("timeline_events_occurred_by_recording"):
                await as_referee(APPEND.format(moment), agreement, kind)
    async with refused("timeline_events_occurred_by_recording"):
        await as_referee(APPEND.format("'-infinity'"), agreement, "CLIENT_CONTACTED")


async def test_no_event_makes_the_timeline_unreadable(given: Given, refused: Refused, as_referee: Party) -> None:
    """An offset leads from the year 1 to one before Christ, which neither RFC 3339 nor Python can write."""
    agreement = await given.agreement("effective")
    for moment in ("'0001-01-01 00:00:00+14'", "'0044-03-15 12:00:00+00 BC'"):
        async with refused("timeline_events_occurred_in_readable_time"):
            await as_referee(APPEND.format(moment), agreement, "CLIENT_CONTACTED")


async def test_an_event_is_recorded_when_it_is_written_not_when_its_transaction_began(
    given: Given, as_referee: Party
) -> None:
    agreement = await given.agreement("effective")
    await given.event(agreement)
    await given.event(agreement)
    rows = await as_referee(
        "select recorded_at from agreement.timeline_events where agreement_id = %s order by seq", agreement
    )
    times = [moment for (moment,) in rows]
    assert times == sorted(set(times))
    assert await as_referee.value("select shared.clock() >= now()")
