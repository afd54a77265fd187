"""A13: one vote a user an API, however often and from however many places at once; it goes with its user."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import psycopg
import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps, waits_for_a_lock

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

VOTE = "insert into vote.votes (api_identifier) values (%s)"
AGAIN = f"{VOTE} on conflict on constraint votes_one_a_user_an_api do nothing returning 1"
TALLY = "select api_identifier, votes from vote.tally(null, 10)"


@keeps("votes_one_a_user_an_api")
async def test_a_user_votes_once_for_an_api(refused: Refused, as_referrer: Party, as_referee: Party) -> None:
    await as_referrer(VOTE, "listings")
    await as_referrer(VOTE, "mortgages")
    await as_referee(VOTE, "listings")
    async with refused("votes_one_a_user_an_api", "23505"):
        await as_referrer(VOTE, "listings")
    assert await as_referrer(AGAIN, "listings") == []
    assert await as_referrer(TALLY) == [("listings", 2), ("mortgages", 1)]


async def test_of_two_at_once_one_is_new(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other, enter_from_outside() as observer:
        assert await one.as_referrer(AGAIN, "at-once") == [(1,)]
        await other.as_referrer.enter()
        waiting = asyncio.create_task(other.run(AGAIN, "at-once"))
        await waits_for_a_lock(observer, other)
        await one.connection.commit()
        assert await waiting == []
        await one.as_referrer("delete from vote.votes")
        await one.connection.commit()


async def test_a_vote_is_cast_in_ones_own_name(refused: Refused, as_referrer: Party, as_referee: Party) -> None:
    async with refused(None, "42501"):
        await as_referrer("insert into vote.votes (user_id, api_identifier) values (%s, 'x')", as_referee.user_id)
    await as_referee(VOTE, "listings")
    assert await as_referrer("select * from vote.votes") == []
    assert await as_referrer("delete from vote.votes returning 1") == []
    for attack in ("update vote.votes set api_identifier = 'x'", "truncate vote.votes"):
        async with refused(None, "42501"):
            await as_referee(attack)
    assert await as_referee("delete from vote.votes returning 1") == [(1,)]


async def test_only_persons_vote_and_only_with_the_scope(
    given: Given, refused: Refused, as_referrer: Party, as_nobody: Actor
) -> None:
    await (await as_referrer.token("votes:write"))(VOTE, "listings")
    async with refused("credential_scope", "42501"):
        await (await as_referrer.token("agreements:read"))(VOTE, "mortgages")
    async with refused("organization_tokens_scopes_record_no_person"):
        await as_referrer.organization_token("votes:write")
    for actor in (*await given.keys(), await as_referrer.organization_token("agreements:read")):
        async with refused("actor_is_person", "42501"):
            await actor(VOTE, "listings")
        # Which clause of the policy is asked first is the planner's to say.
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with given.stage.connection.transaction():
                await actor("delete from vote.votes")
        assert await actor(TALLY) == [("listings", 1)]
    async with refused(None, "42501"):
        await as_nobody(VOTE, "listings")
    assert await as_nobody(TALLY) == []


async def test_votes_go_with_their_user(stage: Stage, as_newcomer: Party, as_referrer: Party) -> None:
    for voter in (as_newcomer, as_referrer):
        await voter(VOTE, "listings")
    await stage.as_owner("delete from shared.users where id = %s", as_newcomer.user_id)
    assert await as_referrer(TALLY) == [("listings", 1)]


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", ".a", "x" * 129, "a\n", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
async def test_an_api_has_a_name(refused: Refused, as_referrer: Party, name: str) -> None:
    async with refused("votes_api_identifier_is_a_name"):
        await as_referrer(VOTE, name)


@keeps("row security")
async def test_a_token_votes_by_its_scope_alone(refused: Refused, as_referrer: Party) -> None:
    poor = await as_referrer.token("agreements:read")
    async with refused("credential_scope", "42501"):
        await poor("insert into vote.votes (api_identifier) values ('maps.v2')")
