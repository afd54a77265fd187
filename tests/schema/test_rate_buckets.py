"""Token buckets: never more than there is, whoever asks at once, and full again in time."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Stage

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

TAKE = "select * from apiauth.take_attempt(%s, %s, %s::interval)"


async def taken(actor: Actor, bucket: str = "b", capacity: int = 3) -> tuple[bool, int, int, int]:
    [(is_taken, remaining, retry_after, full_after)] = await actor(TAKE, bucket, capacity, "60 seconds")
    return is_taken, remaining, retry_after, full_after


async def test_a_bucket_has_so_many_and_no_more(as_nobody: Actor) -> None:
    assert [await taken(as_nobody) for _ in range(5)] == [
        (True, 2, 0, 20),
        (True, 1, 0, 40),
        (True, 0, 20, 60),
        (False, 0, 20, 60),
        (False, 0, 20, 60),
    ]
    assert await taken(as_nobody, "another") == (True, 2, 0, 20)


async def test_it_fills_again_but_not_over(as_nobody: Actor, as_guard: Actor) -> None:
    for _ in range(3):
        await taken(as_nobody)
    later = "update apiauth.rate_buckets set filled_at = filled_at - %s::interval"
    await as_guard(later, "21 seconds")
    assert [(await taken(as_nobody))[0] for _ in range(2)] == [True, False]
    await as_guard(later, "1 hour")
    assert [(await taken(as_nobody))[0] for _ in range(4)] == [True, True, True, False]


async def test_a_clock_that_was_set_back_takes_nothing_away(as_nobody: Actor, as_guard: Actor) -> None:
    await taken(as_nobody)
    await as_guard("update apiauth.rate_buckets set filled_at = filled_at + interval '1 hour'")
    assert (await taken(as_nobody))[:2] == (True, 1)


async def test_connections_that_ask_at_once_never_get_more(enter_from_outside: Outside) -> None:
    async def take(stage: Stage) -> bool:
        is_taken = (await taken(stage.as_nobody, "at once", 10))[0]
        await stage.connection.commit()
        return is_taken

    async def several(number: int) -> list[bool]:
        del number
        async with enter_from_outside() as stage:
            return [await take(stage) for _ in range(5)]

    told = [each for group in await asyncio.gather(*map(several, range(5))) for each in group]
    assert sorted(told) == [False] * 15 + [True] * 10


async def test_no_address_stands_in_a_bucket(refused: Refused, as_nobody: Actor, as_guard: Actor) -> None:
    await taken(as_nobody, "login 192.0.2.7 rita@north.example")
    assert "rita" not in str(await as_guard("select b::text from apiauth.rate_buckets as b"))
    async with refused(None, "42501"):
        await as_nobody("select * from apiauth.rate_buckets")


async def test_a_bucket_that_is_full_again_makes_room(as_nobody: Actor, as_guard: Actor) -> None:
    await taken(as_nobody)
    before = await as_guard("select full_before - filled_at from apiauth.rate_buckets")
    assert all(timedelta(seconds=60) < span <= timedelta(seconds=120) for (span,) in before)
    await taken(as_nobody, "another")
    assert await as_guard("select count(*) from apiauth.rate_buckets") == [(len(before) + 1,)]
    await as_guard("update apiauth.rate_buckets set full_before = full_before - interval '2 minutes'")
    for _ in range(2):  # each makes room for two
        await taken(as_nobody, "a third")
    assert await as_guard("select count(*) from apiauth.rate_buckets") == [(1,)]
