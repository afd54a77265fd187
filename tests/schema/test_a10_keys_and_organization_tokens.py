"""A10: environments' keys and organizations' tokens: until when they enter, and what an actor without a user may."""

import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps

UNKNOWN = ("credential_authenticates", "28000")
WHO = (
    "select kind::text, user_id, organization_id, environment_id, role::text, is_platform_admin "
    "from shared.current_actor()"
)


async def test_a_key_is_its_environment_and_never_a_user(given: Given, as_referrer: Party) -> None:
    environment = await given.environment()
    for kind, actor in zip(("secret_key", "public_key"), await given.keys(environment), strict=True):
        assert await actor(WHO) == [(kind, None, as_referrer.organization_id, environment, None, False)]


async def test_a_token_is_its_organization_and_never_a_user(as_referrer: Party) -> None:
    token = await as_referrer.organization_token("agreements:read")
    assert await token(WHO) == [("organization_token", None, as_referrer.organization_id, None, None, False)]


@pytest.mark.parametrize("kind", ["DEVELOPMENT", "STAGING", "PREVIEW", "PRODUCTION"])
async def test_a_secret_key_enters_everywhere_a_public_one_not_in_production(
    given: Given, refused: Refused, kind: str
) -> None:
    environment = await given.environment(kind)
    if kind == "PREVIEW":
        await given.branch(environment, "main")
    secret, public = await given.keys(environment, branch="main" if kind == "PREVIEW" else None)
    await secret.enter()
    if kind == "PRODUCTION":
        async with refused(*UNKNOWN):
            await public.enter()
    else:
        await public.enter()


async def test_a_key_enters_by_its_own_entrance(given: Given, stage: Stage, refused: Refused) -> None:
    secret, public = await given.keys()
    for entrance, actor in (("enter_public_key", secret), ("enter_secret_key", public), ("enter_token", secret)):
        assert actor.entrance
        async with refused(*UNKNOWN):
            await Actor(stage, (entrance, actor.entrance[1])).enter()


async def test_a_program_acts_in_its_own_organization_only(
    given: Given, stage: Stage, refused: Refused, as_referrer: Party
) -> None:
    secret, _ = await given.keys()
    for actor in (secret, await as_referrer.organization_token("agreements:read")):
        assert actor.entrance
        await Actor(stage, (*actor.entrance, "north")).enter()
        for other in ("south", "nowhere", ""):
            async with refused("actor_is_member", "42501"):
                await Actor(stage, (*actor.entrance, other)).enter()


async def test_a_rotated_key_enters_until_its_grace_ends(given: Given, stage: Stage, refused: Refused) -> None:
    environment = await given.environment()
    old = await given.keys(environment)
    new = await given.keys(environment, grace="1 hour")
    for actor in (*old, *new):
        await actor.enter()
    await stage.unbound(
        "update apiauth.environment_keys set rotated_at = rotated_at - interval '1 hour', "
        "expires_at = expires_at - interval '1 hour' where expires_at is not null"
    )
    for actor in old:
        async with refused(*UNKNOWN):
            await actor.enter()
    for actor in new:
        await actor.enter()


async def test_a_rotation_without_grace_ends_every_earlier_key(given: Given, refused: Refused) -> None:
    environment = await given.environment()
    earlier = [await given.keys(environment, grace="7 days") for _ in range(2)]
    await given.keys(environment, grace="0")
    for pair in earlier:
        for actor in pair:
            async with refused(*UNKNOWN):
                await actor.enter()


async def test_a_rotation_lengthens_no_grace(given: Given, as_guard: Actor) -> None:
    environment = await given.environment()
    await given.keys(environment)
    await given.keys(environment, grace="1 hour")
    ends = "select max(expires_at) from apiauth.environment_keys where environment_id = %s and id < %s"
    second = await as_guard.value(
        "select min(id::text)::uuid from apiauth.environment_keys where environment_id = %s and expires_at is null",
        environment,
    )
    before = await as_guard.value(ends, environment, second)
    await given.keys(environment, grace="7 days")
    assert await as_guard.value(ends, environment, second) == before


@keeps("environment_keys_grace_is_bounded")
async def test_a_grace_is_at_most_a_week(given: Given, refused: Refused) -> None:
    environment = await given.environment()
    await given.keys(environment)
    for grace in ("7 days 1 second", "-1 second"):
        async with refused("environment_keys_grace_is_bounded"):
            await given.keys(environment, grace=grace)


async def test_an_environment_has_one_current_key_of_a_kind(given: Given, refused: Refused, as_guard: Actor) -> None:
    await given.keys()
    async with refused("environment_keys_one_current", "23505"):
        await as_guard(
            "insert into apiauth.environment_keys (organization_id, environment_id, kind, digest, token_hint) "
            "select organization_id, environment_id, kind, sha256(digest), token_hint from apiauth.environment_keys"
        )


async def test_an_environment_comes_with_its_keys(given: Given, stage: Stage, as_referrer: Party) -> None:
    project, secret, public = await given.project(), b"\1" * 32, b"\2" * 32
    environment = await as_referrer.value(
        "select (apiauth.create_environment(%s, 'live', 'STAGING', %s, 'abcd', %s, 'abcd')).id", project, secret, public
    )
    for entrance, digest in (("enter_secret_key", secret), ("enter_public_key", public)):
        actor = Actor(stage, (entrance, digest))
        assert await actor.value("select shared.current_environment_id()") == environment


async def test_a_key_sees_where_it_is_and_nobodys_name(given: Given, as_referrer: Party) -> None:
    project = await given.project()
    environment = await given.environment(project=project)
    await given.environment(project=project)
    await given.project()
    for actor in await given.keys(environment):
        assert await actor("select id from shared.environments") == [(environment,)]
        assert await actor("select id from shared.projects") == [(project,)]
        assert await actor("select id from shared.organizations") == [(as_referrer.organization_id,)]
        for table in ("users", "memberships"):
            assert await actor(f"select 1 from shared.{table}") == []


async def test_the_scopes_alone_decide_where_there_is_no_role(
    given: Given, refused: Refused, as_referrer: Party, as_mentor: Party
) -> None:
    agreement = await given.agreement("effective")
    secret, public = await given.keys()
    read = "select 1 from agreement.agreements where id = %s"
    for actor in (secret, await as_referrer.organization_token("agreements:read")):
        assert await actor(read, agreement) == [(1,)]
    assert await (await given.keys(by="rival"))[0](read, agreement) == []
    for actor in (public, await as_mentor.organization_token("secrets:read")):
        async with refused("credential_scope", "42501"):
            await actor(read, agreement)


@keeps("organization_tokens_scopes_record_no_person")
async def test_no_organizations_token_may_what_records_a_person(refused: Refused, as_referrer: Party) -> None:
    for scope in ("agreements:write", "contacts:read"):
        async with refused("organization_tokens_scopes_record_no_person"):
            await as_referrer.organization_token("agreements:read", scope)


async def test_what_records_a_person_takes_one(given: Given, refused: Refused, as_referrer: Party) -> None:
    """Each write of the brokerage, each appointment: refused by name, not for a missing value."""
    agreement, referral = await given.agreement("effective"), await given.referral()
    secret, public = await given.keys()
    token = await as_referrer.organization_token("agreements:read", "organizations:write", "tokens:write")
    for actor in (secret, public, token):
        for attack in (
            "update agreement.agreements set status = 'void' where id = %s",
            "insert into agreement.timeline_events (agreement_id, type) values (%s, 'CLIENT_CONTACTED')",
            "insert into agreement.contact_reads (agreement_id, purpose) values (%s, 'x')",
            "insert into agreement.disputes (agreement_id, reason) values (%s, 'x')",
            "insert into agreement.invoices (agreement_id, amount, currency) values (%s, 1, 'USD')",
        ):
            async with refused("credential_scope", "42501"):
                await actor(attack, agreement)
        async with refused("credential_scope", "42501"):
            await actor("select agreement.seal_contact(%s, repeat('x', 40)::bytea, 'x')", referral)
        for attack in (
            "select shared.add_member(%s, 'judge@example.org', 'viewer')",
            "insert into agreement.brokers (id, name) values (%s, 'x')",
            "select apiauth.create_organization_token(%s, 'x', 'x', 'abcd', '{agreements:read}', '1 day')",
            "select * from apiauth.list_organization_tokens(%s, null, 10)",
            "select apiauth.revoke_organization_token(%s, gen_random_uuid())",
        ):
            async with refused("actor_is_person", "42501"):
                await actor(attack, as_referrer.organization_id)
        for attack in (
            "select shared.create_organization('x', 'x')",
            "select apiauth.create_personal_token('x', 'd', 'abcd', '{agreements:read}', '1 day')",
        ):
            async with refused("actor_is_person", "42501"):
                await actor(attack)
    for attack in ("update shared.memberships set role = 'owner'", "delete from shared.memberships"):
        async with refused("actor_is_person", "42501"):
            await token(attack)


async def test_an_organizations_token_builds_if_its_scopes_say_so(
    given: Given, refused: Refused, as_referrer: Party, as_mentor: Party
) -> None:
    builder = await as_referrer.organization_token("organizations:write")
    project = await builder.value("select (shared.create_project(%s, 'Web', 'web')).id", as_referrer.organization_id)
    environment = await builder.value("select (shared.create_environment(%s, 'live', 'PRODUCTION')).id", project)
    issue = "select apiauth.issue_environment_keys(%s, 'x', 'abcd', 'y', 'abcd', '0')"
    await builder(issue, environment)
    reader, (secret, _) = await as_referrer.organization_token("agreements:read"), await given.keys(environment)
    stranger = await as_mentor.organization_token("organizations:write")
    for actor, proposition in ((reader, "credential_scope"), (secret, "actor_is_person"), (stranger, "not_found")):
        async with refused(proposition):
            await actor("select shared.create_project(%s, 'App', 'app')", as_referrer.organization_id)
        async with refused(proposition):
            await actor(issue, environment)


async def test_a_token_mints_no_scope_that_its_minter_lacks(refused: Refused, as_referrer: Party) -> None:
    mint = "select apiauth.create_organization_token(%s, 'x', %s, 'abcd', %s, null)"
    minter = await as_referrer.token("organizations:write", "tokens:write")
    await minter(mint, as_referrer.organization_id, b"\1" * 32, ["organizations:write"])
    async with refused("credential_scope", "42501"):
        await minter(mint, as_referrer.organization_id, b"\2" * 32, ["agreements:read"])
    for scopes in (["organizations:write"], ["tokens:write"]):
        poor = await as_referrer.token(*scopes)
        async with refused("credential_scope", "42501"):
            await poor(mint, as_referrer.organization_id, b"\3" * 32, ["organizations:write"])


async def test_a_token_is_an_admins_to_make_list_and_revoke(
    refused: Refused, as_referrer: Party, as_colleague: Party
) -> None:
    organization = as_referrer.organization_id
    for attack in (
        "select apiauth.create_organization_token(%s, 'x', 'x', 'abcd', '{agreements:read}', null)",
        "select * from apiauth.list_organization_tokens(%s, null, 10)",
        "select apiauth.revoke_organization_token(%s, gen_random_uuid())",
    ):
        async with refused("member_role", "42501"):
            await as_colleague(attack, organization)


@pytest.mark.parametrize(
    "end",
    ["created_at = clock_timestamp() - interval '1 day', expires_at = clock_timestamp()",
     "revoked_at = clock_timestamp()"],
    ids=["expired", "revoked"],
)  # fmt: skip
async def test_an_organizations_token_that_ended_does_not_enter(
    stage: Stage, refused: Refused, as_referrer: Party, end: str
) -> None:
    token = await as_referrer.organization_token("agreements:read")
    await token.enter()
    await stage.unbound(f"update apiauth.organization_tokens set {end}")
    async with refused(*UNKNOWN):
        await token.enter()


async def test_a_token_is_listed_until_it_is_revoked(refused: Refused, as_referrer: Party, as_mentor: Party) -> None:
    organization = as_referrer.organization_id
    token = await as_referrer.organization_token("agreements:read")
    listed = "select id from apiauth.list_organization_tokens(%s, %s, 10)"
    [[number]] = await as_referrer(listed, organization, None)
    assert await as_referrer(listed, organization, number) == [], "those after the cursor are older"
    revoke = "select apiauth.revoke_organization_token(%s, %s)"
    assert await as_mentor(revoke, as_mentor.organization_id, number) == [(False,)]
    await token.enter()
    assert await as_referrer(revoke, organization, number) == [(True,)]
    async with refused(*UNKNOWN):
        await token.enter()
    assert await as_referrer(listed, organization, None) == []
    assert await as_referrer(revoke, organization, number) == [(False,)]


async def test_the_use_of_a_program_is_written_once_in_five_minutes(given: Given, as_referrer: Party) -> None:
    secret, _ = await given.keys()
    token = await as_referrer.organization_token("agreements:read")
    for actor, table in ((secret, "environment_keys"), (token, "organization_tokens")):
        assert actor.entrance
        used = f"select last_used_at from apiauth.{table} where digest = sha256(%s)"
        guard = given.stage.as_guard
        await actor.enter()
        first = await guard.value(used, actor.entrance[1])
        await actor.enter()
        assert first is not None
        assert await guard.value(used, actor.entrance[1]) == first


async def test_what_a_program_did_names_its_environment(given: Given, stage: Stage) -> None:
    environment = await given.environment()
    secret, _ = await given.keys(environment)
    await secret("select shared.record_denial('GET /x', 'x', 'x', 'x')")
    [row] = await stage.as_owner(
        "select credential_kind::text, user_id, environment_id from shared.audit_log where action = 'GET /x'"
    )
    assert row == ("secret_key", None, environment)
