"""A9: who was asked to join joins himself, as what was offered; his login proves the address, no token does."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps, waits_for_a_lock

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

INVITE = "select (shared.create_invitation(%s, %s, %s, %s::interval)).id"
INSERT = "insert into shared.invitations (organization_id, email, role) values (%s, %s, %s)"
ANSWER = "update shared.invitations set state = %s where id = %s returning state::text"
ROLE = "select role::text from shared.memberships where organization_id = %s and user_id = %s"


async def invited(
    by: Party, email: str = "newcomer@example.org", role: str = "agent", lifetime: str = "7 days"
) -> UUID:
    """Have somebody invite an address to his organization."""
    found = await by.value(INVITE, by.organization_id, email, role, lifetime)
    assert isinstance(found, UUID)
    return found


async def expired(given: Given, invitation: UUID) -> None:
    """Let an invitation run out."""
    await given.stage.unbound(
        "update shared.invitations set created_at = created_at - interval '8 days', "
        "expires_at = expires_at - interval '8 days' where id = %s",
        invitation,
    )


@keeps("invitations_admit")
async def test_who_accepts_becomes_a_member_as_was_offered(as_referrer: Party, as_newcomer: Party) -> None:
    invitation = await invited(as_referrer)
    assert await as_newcomer(ANSWER, "accepted", invitation) == [("accepted",)]
    assert await as_newcomer(ROLE, as_referrer.organization_id, as_newcomer.user_id) == [("agent",)]


async def test_who_declines_does_not(as_referrer: Party, as_newcomer: Party) -> None:
    invitation = await invited(as_referrer)
    assert await as_newcomer(ANSWER, "declined", invitation) == [("declined",)]
    assert await as_referrer(ROLE, as_referrer.organization_id, as_newcomer.user_id) == []


@keeps("invitations_admit")
async def test_nobody_accepts_in_anothers_place(
    refused: Refused, as_referrer: Party, as_newcomer: Party, as_stranger: Party, as_owner: Actor
) -> None:
    """Not a stranger, not who invited, not the owner of the tables with anybody's seal."""
    invitation = await invited(as_referrer)
    assert await as_stranger(ANSWER, "accepted", invitation) == []
    async with refused(None, "42501"):
        await as_referrer(ANSWER, "accepted", invitation)
    for actor in (as_owner, as_stranger.turned("brokerflow_owner")):
        async with refused("invitations_admit", "42501"):
            await actor(ANSWER, "accepted", invitation)
    assert await as_referrer("select 1 from shared.memberships where user_id = %s", as_newcomer.user_id) == []


@keeps("row security")
async def test_neither_side_does_the_others_part(
    refused: Refused, as_referrer: Party, as_newcomer: Party, as_stranger: Party
) -> None:
    invitation = await invited(as_referrer)
    async with refused(None, "42501"):
        await as_referrer(ANSWER, "declined", invitation)
    async with refused(None, "42501"):
        await as_newcomer(ANSWER, "revoked", invitation)
    assert await as_stranger(ANSWER, "declined", invitation) == []
    assert await as_stranger(ANSWER, "revoked", invitation) == []
    async with refused(None, "42501"):
        await as_stranger(INSERT, as_referrer.organization_id, "x@example.org", "viewer")
    async with refused("not_found"):
        await as_stranger(INVITE, as_referrer.organization_id, "x@example.org", "viewer", "1 day")


@keeps("row security")
async def test_to_a_stranger_there_is_nothing_to_change(given: Given, as_referrer: Party, as_stranger: Party) -> None:
    """Not even a refusal that would tell him of it: these name no row, so that what he may read plays no part."""
    await invited(as_referrer)
    for state in ("revoked", "declined"):
        await as_stranger(f"update shared.invitations set state = '{state}'")
    assert await given.stage.as_postgres("select count(*) from shared.invitations where state = 'declined'") == [(0,)]


@keeps("row security")
async def test_inviting_and_answering_take_the_scope(refused: Refused, as_referrer: Party, as_newcomer: Party) -> None:
    invitation = await invited(as_referrer)
    poor, rich = await as_newcomer.token("agreements:read"), await as_newcomer.token("organizations:write")
    async with refused("credential_scope", "42501"):
        await poor(ANSWER, "accepted", invitation)
    inviter = await as_referrer.token("agreements:read")
    for attack, arguments in (
        (INSERT, (as_referrer.organization_id, "x@example.org", "viewer")),
        ("select id from shared.invitations", ()),
        (ANSWER, ("revoked", invitation)),
    ):
        async with refused("credential_scope", "42501"):
            await inviter(attack, *arguments)
    assert await rich(ANSWER, "declined", invitation) == [("declined",)]


async def test_an_admin_invites_up_to_his_own_role(
    refused: Refused, as_referrer: Party, as_colleague: Party, as_viewer: Party
) -> None:
    for actor in (as_colleague, as_viewer):
        async with refused("member_role", "42501"):
            await invited(actor, role="viewer")
    await as_referrer("update shared.memberships set role = 'admin' where user_id = %s", as_colleague.user_id)
    await invited(as_colleague, "a@example.org", "admin")
    for attack in (INVITE, INSERT):
        arguments = ("7 days",) if attack is INVITE else ()
        async with refused("member_role", "42501"):
            await as_colleague(attack, as_colleague.organization_id, "b@example.org", "owner", *arguments)
    await invited(as_referrer, "b@example.org", "owner")


async def test_a_program_invites_nobody(given: Given, refused: Refused, as_referrer: Party) -> None:
    for actor in (*await given.keys(), await as_referrer.organization_token("organizations:write")):
        async with refused("actor_is_person", "42501"):
            await actor(INVITE, as_referrer.organization_id, "x@example.org", "viewer", "1 day")


@pytest.mark.parametrize("email", ["newcomer@example.org", "NEWCOMER@Example.ORG", "\uff2eewcomer@example.org"])
async def test_an_address_is_invited_once_in_any_spelling(refused: Refused, as_referrer: Party, email: str) -> None:
    await invited(as_referrer, "Newcomer@example.org")
    async with refused("invitations_email_once_open", "23505"):
        await invited(as_referrer, email)


async def test_of_two_who_invite_at_once_one_does(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other, enter_from_outside() as observer:
        first = await invited(one.party("referrer"), "at-once@example.org")
        await other.as_referrer.enter()
        waiting = asyncio.create_task(
            other.run(INVITE, other.party("referrer").organization_id, "AT-once@example.org", "agent", "7 days")
        )
        await waits_for_a_lock(observer, other)
        await one.connection.commit()
        with pytest.raises(Exception, match="invitations_email_once_open"):
            await waiting
        await one.as_referrer(ANSWER, "revoked", first)
        await one.connection.commit()


async def test_what_was_settled_or_has_expired_makes_room(given: Given, as_referrer: Party, as_newcomer: Party) -> None:
    first = await invited(as_referrer)
    await as_referrer(ANSWER, "revoked", first)
    second = await invited(as_referrer)
    await as_newcomer(ANSWER, "declined", second)
    third = await invited(as_referrer)
    await expired(given, third)
    await invited(as_referrer)
    states = "select state::text from shared.invitations where email = 'newcomer@example.org' order by id"
    assert await as_referrer(states) == [
        ("revoked",), ("declined",), ("revoked",), ("open",),
    ]  # fmt: skip


async def test_a_member_is_not_invited_and_nobody_invites_himself(refused: Refused, as_referrer: Party) -> None:
    for email in ("referrer@example.org", "REFERRER@example.org", "viewer@example.org"):
        for attack in (INVITE, INSERT):
            arguments = ("7 days",) if attack is INVITE else ()
            async with refused("invitations_to_outsiders"):
                await as_referrer(attack, as_referrer.organization_id, email, "agent", *arguments)


async def test_who_became_a_member_otherwise_does_not_accept(
    refused: Refused, as_referrer: Party, as_newcomer: Party
) -> None:
    invitation = await invited(as_referrer, role="admin")
    await as_referrer("select shared.add_member(%s, 'newcomer@example.org', 'viewer')", as_referrer.organization_id)
    async with refused("invitations_admit", "23505"):
        await as_newcomer(ANSWER, "accepted", invitation)
    assert await as_newcomer(ANSWER, "declined", invitation) == [("declined",)]
    assert await as_newcomer(ROLE, as_referrer.organization_id, as_newcomer.user_id) == [("viewer",)]


@keeps("invitations_settled_once")
async def test_an_invitation_is_settled_once(
    given: Given, refused: Refused, as_referrer: Party, as_newcomer: Party, as_owner: Actor
) -> None:
    for settled, by in (("accepted", as_newcomer), ("declined", as_newcomer), ("revoked", as_referrer)):
        invitation = await invited(as_referrer)
        await by(ANSWER, settled, invitation)
        for state in ("open", "accepted", "declined", "revoked"):
            async with refused("invitations_settled_once"):
                await as_owner(ANSWER, state, invitation)
        await as_referrer("delete from shared.memberships where user_id = %s", as_newcomer.user_id)


@keeps("invitations_settled_once")
async def test_what_has_expired_is_not_answered_but_may_be_revoked(
    given: Given, refused: Refused, as_referrer: Party, as_newcomer: Party
) -> None:
    invitation = await invited(as_referrer)
    await expired(given, invitation)
    assert await as_newcomer("select * from shared.received_invitations()") == []
    for state in ("accepted", "declined"):
        async with refused("invitations_settled_once"):
            await as_newcomer(ANSWER, state, invitation)
    assert await as_referrer(ANSWER, "revoked", invitation) == [("revoked",)]


@keeps("invitations_settled_once")
async def test_times_are_the_clocks(refused: Refused, as_referrer: Party, as_owner: Actor) -> None:
    invitation = await invited(as_referrer)
    await as_owner(
        "update shared.invitations set state = 'revoked', settled_at = '2001-01-01' where id = %s", invitation
    )
    assert await as_referrer("select settled_at > now() from shared.invitations where id = %s", invitation) == [(True,)]
    for lifetime in ("30 days 1 hour", "-1 second", "0"):
        async with refused("invitations_expires_within_30_days"):
            await invited(as_referrer, lifetime=lifetime)
    await invited(as_referrer, "another@example.org", lifetime="30 days")
    for column in ("created_at", "settled_at", "invited_by", "state"):
        async with refused(None, "42501"):
            await as_referrer(
                f"insert into shared.invitations (organization_id, email, role, {column}) "
                "values (%s, 'x@y.z', 'agent', null)",
                as_referrer.organization_id,
            )


async def test_who_invited_is_the_proved_user(as_referrer: Party) -> None:
    invitation = await invited(as_referrer)
    assert await as_referrer("select invited_by from shared.invitations where id = %s", invitation) == [
        (as_referrer.user_id,)
    ]


async def test_who_is_invited_sees_by_whom_and_nothing_else_of_him(
    as_referrer: Party, as_newcomer: Party, as_stranger: Party, as_nobody: Actor
) -> None:
    invitation = await invited(as_referrer)
    seen = "select id, organization_id, organization, role::text from shared.received_invitations()"
    assert await as_newcomer(seen) == [(invitation, as_referrer.organization_id, "north", "agent")]
    for table in ("organizations", "memberships"):
        assert await as_newcomer(f"select 1 from shared.{table}") == []
    assert await as_newcomer("select id from shared.users") == [(as_newcomer.user_id,)]
    for actor in (as_stranger, as_nobody, as_referrer):
        assert await actor(seen) == []


@keeps("invitations_leave")
async def test_every_invitation_is_one_message_without_a_token(
    stage: Stage, as_referrer: Party, as_owner: Actor
) -> None:
    await as_owner(INSERT, as_referrer.organization_id, "operator@example.org", "viewer")  # whatever path wrote it
    invitation = await invited(as_referrer)
    messages = await stage.as_postgres(
        "select event_id, payload from shared.outbox where topic = 'organization.invitation' "
        "and payload ->> 'email' <> 'at-once@example.org' order by event_id"
    )
    assert len(messages) == 2
    assert messages[1][0] == invitation
    assert messages[1][1].keys() == {
        "invitation_id", "email", "role", "organization_id", "organization", "title", "expires_at", "invited_by",
    }  # fmt: skip
    assert (messages[1][1]["email"], messages[1][1]["invited_by"]) == ("newcomer@example.org", "referrer")


async def test_an_invitation_that_was_rolled_back_leaves_no_message(stage: Stage, as_referrer: Party) -> None:
    async with stage.connection.transaction(force_rollback=True):
        await invited(as_referrer)
    counted = "select count(*) from shared.outbox where payload ->> 'email' = 'newcomer@example.org'"
    assert await stage.as_postgres.value(counted) == 0


@keeps("invitations_write_audit")
async def test_who_invited_and_who_answered_is_in_the_audit_log(
    stage: Stage, as_referrer: Party, as_newcomer: Party
) -> None:
    invitation = await invited(as_referrer)
    await as_newcomer(ANSWER, "accepted", invitation)
    rows = await stage.as_postgres(
        "select action, user_id from shared.audit_log where detail ->> 'invitation_id' = %s order by id",
        str(invitation),
    )
    assert rows == [("invitation.open", as_referrer.user_id), ("invitation.accepted", as_newcomer.user_id)]


@pytest.mark.parametrize("email", ["", "a", "a@b", "a b@c.de", "a@@b.de", f"{'a' * 250}@b.de", "a@b.de\n"])
async def test_an_address_is_one(refused: Refused, as_referrer: Party, email: str) -> None:
    async with refused("invitations_email_is_an_address"):
        await invited(as_referrer, email)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a@b.de", "A@B.DE"), ("\u00c4@b.de", "a\u0308@b.de"), ("\uff21@b.de", "a@b.de"), ("J\u030c@b.de", "\u01f0@b.de")],
)
async def test_an_address_is_one_in_any_case_and_unicode_form(as_owner: Actor, one: str, other: str) -> None:
    """The last has a composed small letter and no composed capital."""
    assert await as_owner("select shared.address_key(%s) = shared.address_key(%s)", one, other) == [(True,)]
