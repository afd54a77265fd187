"""A10: a credential of a PREVIEW environment acts in a live branch of it, which `find_branch` asks, or not at all."""

import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import HALF, Actor, Given, Party, Stage, jwt, keeps

NEEDED = ("branch_is_live", "28000")
WHERE = "select environment_id, branch_id from shared.current_actor()"
ARCHIVE = "update shared.preview_branches set archived_at = now() where id = %s returning 1"
INSERT = "insert into shared.preview_branches (environment_id, name) values (%s, %s)"


def elsewhere(actor: Actor, branch: str | None) -> Actor:
    """Return the bearer of a key or JWT with another branch named."""
    assert actor.entrance
    function, digest, *rest = actor.entrance
    return Actor(actor.stage, (function, digest, None, [], branch, *rest[3:]))


async def preview(given: Given) -> list[Actor]:
    """Return a credential of each kind of a PREVIEW environment, acting in its branch `main`."""
    environment = await given.environment("PREVIEW")
    await given.branch(environment, "main")
    secret, public = await given.keys(environment, branch="main")
    return [secret, public, await given.jwt(secret)]


async def test_each_kind_acts_in_the_branch_that_it_names(given: Given) -> None:
    environment = await given.environment("PREVIEW")
    main, other = await given.branch(environment, "main"), await given.branch(environment, "feature/other")
    secret, public = await given.keys(environment, branch="main")
    for actor in (secret, public, await given.jwt(secret)):
        assert await actor(WHERE) == [(environment, main)]
        assert await elsewhere(actor, "feature/other")(WHERE) == [(environment, other)]


async def test_without_a_live_branch_of_its_own_none_enters(given: Given, refused: Refused) -> None:
    await given.branch(await given.environment("PREVIEW"), "theirs")
    for actor in await preview(given):
        for branch in (None, "", "Main", "main ", "theirs", "unknown"):
            async with refused(*NEEDED):
                await elsewhere(actor, branch).enter()
        await actor.enter()


async def test_an_archived_branch_ends_what_acted_in_it(given: Given, refused: Refused, as_referrer: Party) -> None:
    environment = await given.environment("PREVIEW")
    branch = await given.branch(environment, "main")
    secret, public = await given.keys(environment, branch="main")
    actors = [secret, public, await given.jwt(secret)]
    await as_referrer(ARCHIVE, branch)
    for actor in actors:
        async with refused(*NEEDED):
            await actor.enter()
    again = await given.branch(environment, "main")
    for actor in actors:
        assert await actor(WHERE) == [(environment, again)]


async def test_elsewhere_a_branch_is_refused_and_not_ignored(given: Given, refused: Refused) -> None:
    """Or what was meant for a preview would be done to production."""
    for type_ in ("DEVELOPMENT", "STAGING", "PRODUCTION"):
        secret, public = await given.keys(await given.environment(type_))
        actors = [secret, await given.jwt(secret), *([public] if type_ != "PRODUCTION" else [])]
        for actor in actors:
            async with refused("branch_of_preview", "42501"):
                await elsewhere(actor, "main").enter()
            assert (await actor(WHERE))[0][1] is None


async def test_a_refused_branch_does_not_use_up_a_jwt(given: Given, stage: Stage, refused: Refused) -> None:
    environment = await given.environment("PREVIEW")
    await given.branch(environment, "main")
    secret, _ = await given.keys(environment, branch="main")
    [[token]] = await secret(
        "select token from apiauth.mint_jwt(%s, '{}', interval '1 minute', true, %s)",
        environment, HALF,
    )  # fmt: skip
    async with refused(*NEEDED):
        await jwt(stage, token).enter()
    await jwt(stage, token, branch="main").enter()


async def test_a_branch_is_of_a_preview_environment(given: Given, refused: Refused, as_owner: Actor) -> None:
    for type_ in ("DEVELOPMENT", "STAGING", "PRODUCTION"):
        environment = await given.environment(type_)
        for actor in (given.stage.as_referrer, as_owner):
            async with refused("preview_branches_environment_id_is_of_a_preview_environment", "23503"):
                await actor(INSERT, environment, "main")


async def test_a_name_is_taken_once_among_the_live(given: Given, refused: Refused, as_referrer: Party) -> None:
    environment = await given.environment("PREVIEW")
    first = await given.branch(environment, "main")
    async with refused("preview_branches_name_once_live", "23505"):
        await given.branch(environment, "main")
    await given.branch(await given.environment("PREVIEW"), "main")
    await as_referrer(ARCHIVE, first)
    await given.branch(environment, "main")


@pytest.mark.parametrize(
    "name", ["main", "feature/listing-photos", "dependabot/npm/@types/node-1.2", "fix#12+a=b", "x" * 255]
)
async def test_what_git_calls_a_branch_is_one(given: Given, name: str) -> None:
    await given.branch(await given.environment("PREVIEW"), name)


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a\n", "\N{HOUSE BUILDING}", "a~b", "a^b", "a:b", "a?b", "a*b", "a[b", "a\\b", "a..b", "a@{b", "@",
     "/a", "a/", "a//b", ".a", "a/.b", "a.", "a.lock", "a.lock/b", "-a", "x" * 256],
)  # fmt: skip
async def test_what_git_does_not_is_none(given: Given, refused: Refused, name: str) -> None:
    environment = await given.environment("PREVIEW")
    async with refused("preview_branches_name_is_a_branch"):
        await given.branch(environment, name)


@keeps("preview_branches_archived_once")
async def test_a_branch_is_archived_now_and_for_good(given: Given, refused: Refused, as_referrer: Party) -> None:
    branch = await given.branch(await given.environment("PREVIEW"))
    archive = "update shared.preview_branches set archived_at = %s where id = %s returning archived_at > now()"
    assert await as_referrer(archive, "2001-01-01", branch) == [(True,)], "by the clock, which has run since the start"
    for moment in ("2001-01-01", None):
        async with refused("preview_branches_archived_once"):
            await as_referrer(archive, moment, branch)


async def test_branches_are_an_admins_to_make_and_archive_and_a_members_to_see(
    given: Given, refused: Refused, as_referrer: Party, as_colleague: Party, as_viewer: Party
) -> None:
    environment = await given.environment("PREVIEW")
    branch = await given.branch(environment)
    poor = await as_referrer.token("agreements:read")
    for actor, proposition in ((as_colleague, "member_role"), (as_viewer, "member_role"), (poor, "credential_scope")):
        assert await actor("select id from shared.preview_branches") == [(branch,)]
        for attack, of in (("select shared.create_branch(%s, 'x')", environment), (ARCHIVE, branch)):
            async with refused(proposition, "42501"):
                await actor(attack, of)
    builder = await as_referrer.organization_token("organizations:write")
    await builder("select shared.create_branch(%s, 'x')", environment)
    assert await builder(ARCHIVE, branch) == [(1,)]
    async with refused(None, "42501"):
        await as_referrer("delete from shared.preview_branches")


@keeps("row security")
async def test_a_stranger_has_no_branch_elsewhere(
    given: Given, refused: Refused, as_stranger: Party, as_referrer: Party
) -> None:
    environment = await given.environment("PREVIEW")
    branch = await given.branch(environment)
    async with refused(None, "42501"):
        await as_stranger(INSERT, environment, "x")
    async with refused("not_found"):
        await as_stranger("select shared.create_branch(%s, 'x')", environment)
    assert await as_stranger(ARCHIVE, branch) == []
    viewer = given.stage.party("viewer")
    async with refused("member_role", "42501"):
        await viewer(INSERT, environment, "x")
    async with refused("member_role", "42501"):
        await viewer(ARCHIVE, branch)


async def test_what_was_done_in_a_branch_says_so(given: Given, stage: Stage) -> None:
    environment = await given.environment("PREVIEW")
    branch = await given.branch(environment, "main")
    secret, _ = await given.keys(environment, branch="main")
    await secret("select shared.record_denial('GET /x', 'x', 'x', 'x')")
    assert await stage.as_owner("select environment_id, branch_id from shared.audit_log where action = 'GET /x'") == [
        (environment, branch)
    ]
