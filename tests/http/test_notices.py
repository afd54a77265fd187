"""What is notified reaches every subscriber, and who missed something is told to read again."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg

from app.shared.notices import Notices
from tests.conftest import Database

Look = psycopg.Connection[Any]


@contextmanager
def listening(client: httpx.Client, channel: str) -> Iterator[Iterator[str]]:
    with client.stream("GET", "/probe/stream", params={"channel": channel}) as response:
        lines = response.iter_lines()
        yield (line.removeprefix("data: ") for line in lines if line.startswith("data: "))


def test_payloads_arrive_in_order_after_the_first_reading(anybody: httpx.Client, look: Look) -> None:
    with listening(anybody, "probe") as notices:
        assert next(notices) == "resync"
        for number in range(5):
            look.execute("select pg_notify('probe', %s)", [str(number)])
        assert [next(notices) for _ in range(5)] == ["0", "1", "2", "3", "4"]


def test_channels_and_subscribers_are_told_apart(anybody: httpx.Client, look: Look) -> None:
    with (
        listening(anybody, "one") as first,
        listening(anybody, "one") as second,
        listening(anybody, 'An "odd" name') as odd,
    ):
        assert {next(first), next(second), next(odd)} == {"resync"}
        look.execute("select pg_notify('one', 'x')")
        look.execute("""select pg_notify('An "odd" name', 'y')""")
        assert next(first) == "x"
        assert next(second) == "x"
        assert next(odd) == "y"


def test_a_lost_connection_is_replaced_and_told(anybody: httpx.Client, look: Look) -> None:
    with listening(anybody, "again") as notices:
        assert next(notices) == "resync"
        look.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'brokerflow notices'"
        )
        assert next(notices) == "resync"
        look.execute("select pg_notify('again', 'x')")
        assert next(notices) == "x"


def test_one_connection_listens_for_all(anybody: httpx.Client, look: Look, database: Database) -> None:
    with listening(anybody, "a") as first, listening(anybody, "b") as second, listening(anybody, "a") as third:
        assert {next(first), next(second), next(third)} == {"resync"}
        look.execute("select pg_notify('a', 'x')")
        assert {next(first), next(third)} == {"x"}
        sql = "select count(*) from pg_stat_activity where application_name = 'brokerflow notices' and datname = %s"
        assert look.execute(sql, [database.name]).fetchone() == (1,)


def test_a_slow_subscriber_reads_again_and_hinders_nobody(anybody: httpx.Client, look: Look) -> None:
    big = "x" * 7000
    with listening(anybody, "much") as slow:
        assert next(slow) == "resync"
        for number in range(3000):
            look.execute("select pg_notify('much', %s)", [f"{number:05}{big}"])
        look.execute("select pg_notify('much', 'last')")
        received = list(itertools.takewhile(lambda item: item != "last", slow))
        numbers = [item[:5] for item in received if item != "resync"]
        assert numbers == sorted(numbers)
        assert "resync" in received
        assert len(numbers) < 3000


async def test_who_leaves_is_forgotten(database: Database) -> None:
    notices = Notices(database.app_url, {"application_name": "brokerflow test"})
    first, second = notices.subscribe("c"), notices.subscribe("c")
    assert (await anext(first), await anext(second)) == (None, None)
    await first.aclose()
    assert len(notices._subscribers["c"]) == 1
    await notices.close()
    assert [item async for item in second] == []
    await notices.close()
