"""A9: external accounts are of one environment of one organization, and a key has those of its own environment."""

from uuid import UUID

import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, keeps

CREATE = "select (shared.create_external_account(%s, %s, '{}')).id"
INSERT = "insert into shared.external_accounts (organization_id, environment_id, identifier) values (%s, %s, %s)"
SEEN = "select identifier from shared.external_accounts order by id"


async def test_an_environment_has_an_identifier_once(given: Given, refused: Refused, as_referrer: Party) -> None:
    environment, other = await given.environment(), await given.environment()
    await as_referrer(CREATE, environment, "user_1")
    async with refused("external_accounts_identifier_once_an_environment", "23505"):
        await as_referrer(CREATE, environment, "user_1")
    for identifier, where in (("user_1", other), ("USER_1", environment)):
        await as_referrer(CREATE, where, identifier)


@keeps("external_accounts_environment_of_organization")
async def test_an_account_is_of_its_environments_organization(
    given: Given, refused: Refused, as_referrer: Party, as_mentor: Party, as_owner: Actor
) -> None:
    environment = await given.environment()
    await as_referrer(INSERT, as_referrer.organization_id, environment, "user_1")
    for actor in (as_mentor, as_owner):
        async with refused("external_accounts_environment_of_organization"):
            await actor(INSERT, as_mentor.organization_id, environment, "user_2")


@keeps("row security")
async def test_a_key_has_the_accounts_of_its_own_environment(
    given: Given, refused: Refused, as_referrer: Party
) -> None:
    mine, other = await given.environment(), await given.environment()
    for environment, identifier in ((mine, "mine"), (other, "other")):
        await as_referrer(CREATE, environment, identifier)
    secret, public = await given.keys(mine)
    for actor in (secret, await given.jwt(secret, "accounts:read", "accounts:write")):
        assert await actor(SEEN) == [("mine",)]
        async with refused("not_found"):
            await actor(CREATE, other, "x")
        async with refused(None, "42501"):
            await actor(INSERT, as_referrer.organization_id, other, "x")
        for attack in ("update shared.external_accounts set metadata = '{}'", "delete from shared.external_accounts"):
            assert await actor(f"{attack} where environment_id = %s returning 1", other) == []
    async with refused("credential_scope", "42501"):
        await public(SEEN)
    assert await secret("delete from shared.external_accounts returning identifier") == [("mine",)]


@keeps("row security")
async def test_a_stranger_has_none(given: Given, refused: Refused, as_referrer: Party, as_stranger: Party) -> None:
    environment = await given.environment()
    await as_referrer(CREATE, environment, "user_1")
    async with refused("not_found"):
        await as_stranger(CREATE, environment, "x")
    async with refused(None, "42501"):
        await as_stranger(INSERT, as_referrer.organization_id, environment, "x")
    assert await as_stranger(SEEN) == []


@keeps("row security")
async def test_scope_and_role_decide(given: Given, refused: Refused, as_referrer: Party, as_viewer: Party) -> None:
    environment = await given.environment()
    await as_referrer(CREATE, environment, "user_1")
    reader = await as_referrer.token("accounts:read")
    assert await reader(SEEN) == [("user_1",)]
    blind = await as_referrer.organization_token("secrets:read")
    for actor, proposition in ((reader, "credential_scope"), (blind, "credential_scope"), (as_viewer, "member_role")):
        for attack, arguments in (
            (CREATE, (environment, "x")),
            (INSERT, (as_referrer.organization_id, environment, "x")),
            ("update shared.external_accounts set metadata = '{}'", ()),
            ("delete from shared.external_accounts", ()),
        ):
            async with refused(proposition, "42501"):
                await actor(attack, *arguments)
    program = await as_referrer.organization_token("accounts:read", "accounts:write")
    await program(CREATE, environment, "user_2")
    assert await program(SEEN) == [("user_1",), ("user_2",)]


async def test_an_account_keeps_its_identifier_and_its_time(given: Given, refused: Refused, as_referrer: Party) -> None:
    environment = await given.environment()
    account: UUID = await as_referrer.value(CREATE, environment, "user_1")
    for column in ("identifier", "environment_id", "organization_id", "created_at"):
        async with refused(None, "42501"):
            await as_referrer(f"update shared.external_accounts set {column} = {column} where id = %s", account)


@pytest.mark.parametrize("identifier", ["", " ", " a", "a ", "a\nb", "a\tb", "\x7f", "x" * 256])
async def test_an_identifier_is_visible(given: Given, refused: Refused, as_referrer: Party, identifier: str) -> None:
    environment = await given.environment()
    async with refused("external_accounts_identifier_is_visible"):
        await as_referrer(CREATE, environment, identifier)


async def test_metadata_is_an_object_and_not_endless(given: Given, refused: Refused, as_referrer: Party) -> None:
    environment = await given.environment()
    insert = "insert into shared.external_accounts (organization_id, environment_id, identifier, metadata) values "
    for metadata, proposition in (
        ("[]", "external_accounts_metadata_is_an_object"),
        ("null", "external_accounts_metadata_is_an_object"),
        (f'{{"a": "{"x" * 65536}"}}', "external_accounts_metadata_is_at_most_64_kib"),
    ):
        async with refused(proposition):
            await as_referrer(f"{insert} (%s, %s, 'user_1', %s)", as_referrer.organization_id, environment, metadata)


async def test_accounts_go_with_their_environment(given: Given, as_referrer: Party, as_owner: Actor) -> None:
    environment = await given.environment()
    await as_referrer(CREATE, environment, "user_1")
    await as_owner("delete from shared.environments where id = %s", environment)
    assert await as_referrer(SEEN) == []
