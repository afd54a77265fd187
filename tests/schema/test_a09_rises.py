"""A9, when rights grow: who is given more proves anew that it is he; who is given less need not."""

import secrets

import pytest

from tests.schema.conftest import Party, Refused
from tests.schema.stage import HALF, Actor, Stage, keeps

ROLE = "update shared.memberships set role = %s where user_id = %s"
GRANT = "select shared.grant_platform_admin(%s)"


async def age(stage: Stage, *people: str) -> None:
    """Make the sessions of people older than what counts as a fresh login, and so what ended earlier ones."""
    for name in people:
        for moment in ("sessions set created_at = created_at", "logouts set ended_before = ended_before"):
            statement = f"update apiauth.{moment} - interval '6 minutes' where user_id = %s"
            await stage.as_guard(statement, stage.people[name].user_id)


@keeps("memberships_rise_ends_sessions")
async def test_a_higher_role_ends_the_sessions_of_its_bearer(
    stage: Stage, refused: Refused, as_referrer: Party, as_colleague: Party, as_viewer: Party
) -> None:
    await age(stage, "colleague", "viewer", "referrer")
    token = await as_colleague.token("agreements:read")
    await as_referrer(ROLE, "admin", as_colleague.user_id)
    async with refused("credential_authenticates", "28000"):
        await as_colleague.enter()
    for stays in (as_viewer, as_referrer, token):
        await stays.enter()


@keeps("platform_admins_rise_ends_sessions")
async def test_becoming_a_platform_admin_ends_his_sessions(
    stage: Stage, refused: Refused, as_newcomer: Party, as_stranger: Party
) -> None:
    await age(stage, "newcomer", "stranger")
    await as_newcomer.enter()
    await stage.as_owner(GRANT, "newcomer@example.org")
    async with refused("credential_authenticates", "28000"):
        await as_newcomer.enter()
    await as_stranger.enter()


async def test_a_platform_admin_who_is_granted_it_again_stays(stage: Stage, as_judge: Party) -> None:
    await age(stage, "judge")
    await stage.as_owner(GRANT, "judge@example.org")
    await as_judge.enter()


async def test_a_session_that_lives_elsewhere_ends_too(
    stage: Stage, refused: Refused, as_referrer: Party, as_colleague: Party
) -> None:
    await age(stage, "colleague")
    digest = as_colleague.person.digest
    ticket = await stage.as_nobody.value("select apiauth.exchange_session(%s, %s)", digest, HALF)
    bearer = Actor(stage, ("enter_ticket", digest, None, [], ticket, HALF))
    await bearer.enter()
    await as_referrer(ROLE, "admin", as_colleague.user_id)
    async with refused("credential_authenticates", "28000"):
        await bearer.enter()


@pytest.mark.parametrize("role", ["viewer", "agent"])
async def test_a_lower_role_and_the_same_end_nothing(
    stage: Stage, as_referrer: Party, as_colleague: Party, role: str
) -> None:
    await age(stage, "colleague")
    await as_referrer(ROLE, role, as_colleague.user_id)
    assert await as_colleague.value("select (shared.current_actor()).role") == role


async def test_who_has_just_logged_in_stays(stage: Stage, as_referrer: Party, as_colleague: Party) -> None:
    await as_referrer(ROLE, "admin", as_colleague.user_id)
    assert await as_colleague.value("select (shared.current_actor()).role") == "admin"


async def test_who_joins_or_founds_an_organization_stays(stage: Stage, as_referrer: Party, as_newcomer: Party) -> None:
    await age(stage, "newcomer")
    await as_referrer("select shared.add_member(%s, 'newcomer@example.org', 'agent')", as_referrer.organization_id)
    assert await as_newcomer.value("select (shared.current_actor()).role") == "agent"
    await as_newcomer("select shared.create_organization('New', %s)", f"o-{secrets.token_hex(4)}")
    assert await as_newcomer.value("select (shared.current_actor()).role") == "owner"
