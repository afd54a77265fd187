"""A2: a client's contact is readable only through the accessor, only by a party of an effective agreement."""

import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps

CONSUME = "select referral_id, ciphertext, wrapped_key from agreement.consume_contact_read(%s)"
GRANT = "insert into agreement.contact_reads (agreement_id, purpose) values (%s, 'to call')"
SEAL = "select agreement.seal_contact(%s, %s, %s)"
SEALED = (b"the sealed contact".ljust(40), b"the wrapped key")


@keeps("all_vault")
async def test_a_party_of_an_effective_agreement_reads_it_once(given: Given, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    referral, _ = await given.referral_of(agreement)
    await given.contact(referral)
    grant = await given.committed_grant(agreement)
    assert await as_referee(CONSUME, grant) == [(referral, *SEALED)]


async def test_its_own_broker_reads_it_by_the_same_way(given: Given, as_referrer: Party) -> None:
    agreement = await given.agreement("effective")
    await given.contact((await given.referral_of(agreement))[0])
    assert len(await as_referrer(CONSUME, await given.committed_grant(agreement, by="referrer"))) == 1


@pytest.mark.parametrize("role", ["as_referrer", "as_owner", "as_guard", "as_auditor", "as_nobody", "as_esign"])
@pytest.mark.parametrize(
    "attack",
    [
        "select * from agreement.contacts",
        "select count(*) from agreement.contacts",
        "insert into agreement.contacts (referral_id, ciphertext) values (gen_random_uuid(), '')",
        "update agreement.contacts set wrapped_key = null",
        "delete from agreement.contacts",
        "truncate agreement.contacts",
        "copy agreement.contacts to stdout",
    ],
)
async def test_nobody_touches_the_table(stage: Stage, refused: Refused, role: str, attack: str) -> None:
    async with refused(None, "42501"):
        await getattr(stage, role)(attack)


@pytest.mark.parametrize("status", ["draft", "pending_signature", "success", "disputed", "void", "closed"])
async def test_an_agreement_that_is_not_effective_grants_nothing(
    given: Given, refused: Refused, as_referee: Party, status: str
) -> None:
    agreement = await given.agreement(status)
    async with refused("contact_reads_effective_only"):
        await as_referee(GRANT, agreement)


@keeps("contact_reads_effective_only")
async def test_a_stranger_is_granted_nothing_and_learns_nothing(
    given: Given, refused: Refused, as_stranger: Party
) -> None:
    agreement = await given.agreement("effective")
    for each in (agreement, await given.referral()):
        async with refused("contact_reads_effective_only"):
            await as_stranger(GRANT, each)


@keeps("contact_reads_effective_only")
async def test_a_grant_outlived_by_the_agreement_is_not_used(
    given: Given, refused: Refused, as_referee: Party, as_referrer: Party
) -> None:
    agreement = await given.agreement("effective")
    grant = await given.committed_grant(agreement)
    await as_referrer("update agreement.agreements set status = 'void' where id = %s", agreement)
    async with refused("contact_reads_effective_only"):
        await as_referee(CONSUME, grant)


async def test_a_grant_is_its_readers_own(given: Given, refused: Refused, as_mentor: Party, as_stranger: Party) -> None:
    grant = await given.committed_grant(await given.agreement("effective"))
    for other in (as_mentor, as_stranger):
        async with refused("contact_reads_consumed_once", "P0002"):
            await other(CONSUME, grant)


async def test_a_viewer_reads_no_contact(given: Given, refused: Refused, as_viewer: Party) -> None:
    agreement = await given.agreement("effective")
    async with refused("member_role", "42501"):
        await as_viewer(GRANT, agreement)


async def test_the_reader_is_the_proved_actor(given: Given, refused: Refused, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    async with refused(None, "42501"):
        await as_referee(
            "insert into agreement.contact_reads (agreement_id, purpose, user_id) values (%s, 'x', %s)",
            agreement, as_referee.user_id,
        )  # fmt: skip
    grant = await given.grant(agreement)
    assert await as_referee(
        "select user_id, organization_id, consumed_at from agreement.contact_reads where id = %s", grant
    ) == [(as_referee.user_id, as_referee.organization_id, None)]


async def test_only_its_own_broker_seals_a_contact(given: Given, refused: Refused, as_referee: Party) -> None:
    """Also the candidate, who sees the referral, and the party of its agreement."""
    referral = await given.referral()
    await given.accepted(referral)
    for unknown in (referral, as_referee.user_id):
        async with refused("contacts_referral_id_fkey", "P0002"):
            await as_referee(SEAL, unknown, *SEALED)
        async with refused("contacts_referral_id_fkey", "P0002"):
            await as_referee("select agreement.shred_contact(%s)", unknown)


@keeps("contacts_stay_shredded")
async def test_a_shredded_contact_stays_shredded(given: Given, refused: Refused, as_referrer: Party) -> None:
    agreement = await given.agreement("effective")
    referral, _ = await given.referral_of(agreement)
    await given.contact(referral)
    await as_referrer("select agreement.shred_contact(%s)", referral)
    assert (await given.events(agreement))[-1] == "CONTACT_SHREDDED"
    grant = await given.committed_grant(agreement, by="referrer")
    async with refused("contacts_referral_id_fkey", "P0002"):
        await as_referrer(CONSUME, grant)
    async with refused("contacts_stay_shredded"):
        await as_referrer(SEAL, referral, *SEALED)


async def test_the_receipt_proves_what_was_destroyed(given: Given, as_referrer: Party) -> None:
    agreement = await given.agreement("effective")
    referral, _ = await given.referral_of(agreement)
    await given.contact(referral)
    await as_referrer("select agreement.shred_contact(%s)", referral)
    [[is_proved]] = await as_referrer(
        "select payload ->> 'wrapped_key_sha256' = encode(sha256(%s), 'hex') from agreement.timeline_events "
        "where agreement_id = %s and type = 'CONTACT_SHREDDED'",
        SEALED[1], agreement,
    )  # fmt: skip
    assert is_proved


@keeps("contacts_key_until_shredded", "contacts_never_deleted", "contacts_never_emptied")
async def test_the_vault_itself_shreds_but_does_not_remove(given: Given, refused: Refused, as_vault: Actor) -> None:
    await given.contact(await given.referral())
    async with refused("contacts_key_until_shredded"):
        await as_vault("update agreement.contacts set wrapped_key = null")
    async with refused("contacts_never_deleted"):
        await as_vault("delete from agreement.contacts")
    async with refused("contacts_never_emptied"):
        await as_vault("truncate agreement.contacts")


async def test_the_accessor_takes_no_actor_and_is_not_everybodys(stage: Stage) -> None:
    [[arguments, is_public]] = await stage.run(
        "select pg_get_function_identity_arguments(oid), has_function_privilege('public', oid, 'execute') "
        "from pg_proc where proname = 'consume_contact_read'"
    )
    assert (arguments, is_public) == ("id uuid", False)


async def test_the_auditor_is_told_of_contacts_all_but_what_they_hold(given: Given, as_auditor: Actor) -> None:
    referral = await given.referral()
    await given.contact(referral)
    assert await as_auditor("select 1 from agreement.describe_contacts() as c where c.referral_id = %s", referral) == [
        (1,)
    ]
