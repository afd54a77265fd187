"""Whatever the interleaving and the isolation, committed transactions leave what the model says, in their order."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection, IsolationLevel, sql

from tests.conftest import Server
from tests.model.interleaving import CASTS, SCENES, Game, Player, Schedule, Step
from tests.oracles.conftest import ORACLES, answer
from tests.schema.conftest import build_world
from tests.schema.stage import Stage, World

CONNECTIONS = 3
EXAMPLES = int(os.environ.get("BROKERFLOW_TEST_INTERLEAVINGS", "40"))
LEVELS = [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]

STEPS = st.builds(
    Step,
    st.integers(0, CONNECTIONS - 1),
    st.sampled_from(["do", "do", "do", "do", "do", "do", "commit", "commit", "roll back"]),
    st.integers(0, 999),
)


def schedules(levels: list[IsolationLevel]) -> st.SearchStrategy[Schedule]:
    """Return schedules of three connections, each at one of these levels."""

    def of(scene: str) -> st.SearchStrategy[Schedule]:
        people = st.lists(st.sampled_from(CASTS[scene]), min_size=CONNECTIONS, max_size=CONNECTIONS)
        isolation = st.lists(st.sampled_from(levels), min_size=CONNECTIONS, max_size=CONNECTIONS)
        return st.builds(Schedule, st.just(scene), people, isolation, st.lists(STEPS, min_size=12, max_size=30))

    return st.sampled_from(list(SCENES)).flatmap(of)


class Table:
    """The connections of all schedules, since a new one would first have to learn every function."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runner = asyncio.Runner()
        self.tally: Counter[str] = Counter()
        self.findings: dict[str, object] = {}  # of schedules that failed before
        self.sit()

    def sit(self) -> None:
        """Open the connections."""
        self.stack = AsyncExitStack()
        urls = [self.world.app_url] * CONNECTIONS + [self.world.superuser_url] * 2
        *self.players, self.observer, self.auditor = self.runner.run(self.connected(urls))

    async def connected(self, urls: list[str]) -> list[AsyncConnection]:
        """Return connections."""
        opened = [await self.stack.enter_async_context(await AsyncConnection.connect(url)) for url in urls]
        await opened[-2].set_autocommit(True)
        return opened

    def rise(self) -> None:
        """Close the connections, whatever still runs on them."""
        for connection in self.players:
            connection.cancel()
        self.runner.run(self.stack.aclose())

    def play(self, schedule: Schedule) -> None:
        """Run a schedule; after one that failed the connections are others."""
        try:
            self.runner.run(self.played(schedule))
        except BaseException:
            self.rise()
            self.sit()
            self.runner.run(self.asked())
            raise

    async def played(self, schedule: Schedule) -> None:
        """Run a schedule, and ask the oracles what they think of it."""
        cast = zip(self.players, schedule.people, schedule.levels, strict=True)
        players = [Player(connection, self.world, person, level) for connection, person, level in cast]
        game = Game(self.observer, players, self.tally)
        await game.prepare(schedule.scene)
        await game.play(schedule.steps)
        assert not await self.asked(), "an oracle found something"

    async def asked(self) -> dict[str, object]:
        """Return what the oracles find that they did not find before."""
        auditor = Stage(self.auditor, self.world)
        findings: dict[str, object] = {name: await answer(auditor, ORACLES[name]) for name in ORACLES.keys() - {"O9"}}
        await self.auditor.rollback()
        news = {name: found for name, found in findings.items() if found != self.findings.get(name, [])}
        self.findings.update(news)
        return news


@pytest.fixture(scope="module")
def table(server: Server, template: str) -> Iterator[Table]:
    """The people of every schedule; what they do is committed."""
    world = build_world(server, template, "interleaving")
    with psycopg.connect(world.superuser_url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        # Deadlocks are expected, and waited for.
        connection.execute(sql.SQL("alter database {} set deadlock_timeout = '10ms'").format(name))
    table = Table(world)
    yield table
    table.rise()
    table.runner.close()
    print("\n".join(f"{count:8} {what}" for what, count in sorted(table.tally.items())))  # noqa: T201


def run(table: Table, levels: list[IsolationLevel]) -> None:
    """Run many schedules at these levels."""

    @settings(
        max_examples=EXAMPLES,
        derandomize="BROKERFLOW_TEST_INTERLEAVINGS" not in os.environ,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(schedules(levels))
    def check(schedule: Schedule) -> None:
        table.play(schedule)

    check()


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_commits_leave_what_the_model_says(table: Table, level: IsolationLevel) -> None:
    run(table, [level])


def test_levels_mix(table: Table) -> None:
    run(table, LEVELS)
