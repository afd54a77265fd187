"""A process that holds the tests warm: it makes one mutant after another of its own database, and runs them on each."""

import inspect
import math
import re
from collections import Counter
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection as Pipe
from time import monotonic
from typing import Any, NamedTuple

import psycopg
import pytest
from _pytest.runner import runtestprotocol
from psycopg import sql

from scripts.mutation import mutants
from scripts.mutation.mutants import Mutant
from tests.architecture.conftest import Ask
from tests.conftest import PREFIX, Server, _copy_grants, _create, _drop
from tests.schema.conftest import LOG_IN_AGAIN
from tests.schema.stage import KEEPERS, Stage, World

# What must notice: the behaviour as the real roles, then the rules that the catalog keeps. The oracle that compares
# the catalog with its manifest would notice everything and prove nothing, so it is not asked.
TESTS = ("tests/schema", "tests/architecture/test_catalog.py")
_APART = ("tests/schema/test_mutations.py",)  # makes mutants itself
_PLUGINS = ("terminal", "xdist", "cacheprovider")
_OPTIONS = ("--override-ini=addopts=", "--assert=plain", *(f"-pno:{plugin}" for plugin in _PLUGINS))
_TOLD = 10.0  # what a word counts that one test alone speaks of
_PATIENCE = "20s"  # of a statement that waits in a mutant for what never comes
_DATABASES = {"world", "catalog"}  # the fixtures that are databases
_FORGETFUL = {"stage", "ask"}  # the fixtures on them that leave nothing to the next test


class Ready(NamedTuple):
    """The tests passed on the schema as it is; these are its mutants."""

    mutants: list[Mutant]


class Red(NamedTuple):
    """The tests fail on the schema as it is, so that they prove nothing."""

    report: str


class Verdict(NamedTuple):
    """What became of a mutant: the test that killed it, or none."""

    mutant: Mutant
    killer: str | None
    runs: int
    seconds: float


def work(pipe: Pipe, place: int = 0, of: int = 1) -> None:
    """Serve the other end of the pipe, until it sends None: Ready or Red first, then a Verdict for each Mutant.

    In the end it is Ready if the schema as it is still is, and Red if not. Of the tests on that, each process runs its
    share first.
    """
    ignored = [f"--ignore={path}" for path in _APART]
    status = pytest.main([*_OPTIONS, *ignored, *TESTS], plugins=[Adversary(pipe, place, of)])
    if status not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        pipe.send(Red(f"pytest ended with {status!r}"))


class Adversary:
    """A pytest plugin that runs the tests in an order of its own, on mutants.

    A test whose stage is rolled back runs on the world as it is, with the mutant's DDL as the first of its statements.
    What commits, or asks the catalog, gets a database that is the mutant.
    """

    def __init__(self, pipe: Pipe, place: int, of: int) -> None:
        self._pipe = pipe
        self._share = slice(place, None, of)
        self._server: Server | None = None
        self._worlds: pytest.FixtureDef[Any] | None = None
        self._world: World | None = None  # as it is
        self._first_statement: str | None = None
        self._tests: list[_Test] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Keep the server, and a copy of the world; let each stage begin with the mutant's statement."""
        value = yield
        if fixturedef.argname == "server":
            self._server = value
        elif fixturedef.argname == "world":
            self._worlds, self._world = fixturedef, value
            self._copy(_name(value), f"{_name(value)}_kept")
        elif isinstance(value, Stage | Ask) and self._first_statement:
            _execute(value.connection.pgconn, "begin", self._first_statement)
        return value

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run a share of them once, then all on each mutant until one of them fails."""
        self._tests = [test for test in map(_Test, session.items) if not test.has_its_own]
        # What commits nothing makes the world, and leaves it as it is.
        share = sorted(self._tests, key=lambda test: test.commits)[self._share]
        if failure := self._first_failure(None, share)[0]:
            self._pipe.send(Red(f"a test is red already:\n{failure}"))
            return True
        self._pipe.send(Ready(found := self._found("world")))
        tells = Counter(word for test in self._tests for word in test.words)
        while (mutant := self._pipe.recv()) is not None:
            self._pipe.send(self._judge(mutant, tells))
        names = {mutant.name for mutant in found}
        left = [names ^ {mutant.name for mutant in self._found(database)} for database in sorted(_DATABASES)]
        self._pipe.send(Red(f"they outlived their tests: {left}") if any(left) else Ready([]))
        return True

    def _found(self, database: str) -> list[Mutant]:
        """Return the mutants of a database that is none."""
        assert self._server is not None  # noqa: S101 - the first test made it, and the world
        name = f"{PREFIX}{self._server.run}_{database}"
        with psycopg.connect(self._server.url(name)) as connection:
            return mutants.find(connection.execute(mutants.QUESTION))

    def _judge(self, mutant: Mutant, tells: Counter[str]) -> Verdict:
        began = monotonic()
        tests = sorted(self._tests, key=lambda test: test.rank(mutant, tells))
        failure, runs = self._first_failure(mutant, tests)
        killer = tests[runs - 1] if failure else None
        if killer:
            killer.killed[mutant.kind, mutant.change] += 1
        return Verdict(mutant, killer.name if killer else None, runs, monotonic() - began)

    def _first_failure(self, mutant: Mutant | None, tests: Sequence["_Test"]) -> tuple[str | None, int]:
        """Run the tests until one fails; return what is wrong, and how many ran. Each begins as if it were alone."""
        for runs, test in enumerate(tests, start=1):
            self._first_statement = mutant.statement if mutant and not test.commits else None
            self._point(self._mutated(mutant) if test.commits else self._world)
            if failure := test.run():
                return failure, runs
        return None, len(tests)

    def _mutated(self, mutant: Mutant | None) -> World:
        """Make a world that is the mutant, or the schema as it is."""
        assert self._server is not None  # noqa: S101 - it was there before its databases
        assert self._world is not None  # noqa: S101 - a test that commits nothing was the first
        name = f"{_name(self._world)}_mutant"
        self._copy(f"{_name(self._world)}_kept", name)
        patience = sql.SQL("alter database {} set statement_timeout = {}")
        self._server.admin.execute(patience.format(sql.Identifier(name), sql.Literal(_PATIENCE)))
        with psycopg.connect(self._server.url(name), autocommit=True) as connection:
            connection.execute(LOG_IN_AGAIN)
            if mutant is not None:
                connection.execute(mutant.statement.encode())
        urls = self._server.database(name)
        return self._world._replace(app_url=urls.app_url, login_url=urls.login_url, superuser_url=urls.superuser_url)

    def _copy(self, original: str, name: str) -> None:
        assert self._server is not None  # noqa: S101 - it was there before its databases
        _drop(self._server.admin, [name])
        _create(self._server.admin, name, original)
        _copy_grants(self._server.admin, original, name)

    def _point(self, world: World | None) -> None:
        """Let the next test find this world, once there is one."""
        if self._worlds is not None:
            assert self._worlds.cached_result is not None  # noqa: S101 - it was set up
            self._worlds.cached_result = (world, self._worlds.cached_result[1], None)


def _name(world: World) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(world.superuser_url)["dbname"])


def _execute(connection: psycopg.pq.abc.PGconn, *statements: str) -> None:
    for statement in statements:
        result = connection.exec_(statement.encode())
        if result.status not in {psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK}:
            raise psycopg.ProgrammingError(f"{statement}: {result.error_message.decode()}")


class _Test:
    """A test that is run many times; it knows how long it takes and what it killed."""

    def __init__(self, item: pytest.Item) -> None:
        self.name = item.nodeid
        self.killed: Counter[tuple[str, str]] = Counter()
        info = getattr(item, "_fixtureinfo")  # noqa: B009 - pytest's own
        takes = {name: set(found[-1].argnames) for name, found in info.name2fixturedefs.items()}
        self.has_its_own = any("template" in each for name, each in takes.items() if name not in _DATABASES)
        direct = [set(info.argnames), *(each for name, each in takes.items() if name not in _FORGETFUL)]
        self.commits = any("world" in each for each in direct)
        self._item = item
        self._seconds = 0.0
        function = getattr(item, "function", None)
        self._keeps = {proposition for proposition, tests in KEEPERS.items() if function in tests}
        values = getattr(item, "callspec").params.values() if hasattr(item, "callspec") else ()  # noqa: B009
        self.words = _words(f"{inspect.getsource(function)} {item.name} {[*values]}") if function else set()

    def run(self) -> str | None:
        """Run it with its fixtures, all but the session's made anew; return what is wrong, if anything is."""
        began = monotonic()
        session: Any = self._item.session  # what is left standing for the next test
        reports = runtestprotocol(self._item, log=False, nextitem=session)
        self._seconds = monotonic() - began
        failures = [f"{self.name}: {report.longreprtext}" for report in reports if report.failed]
        return failures[0] if failures else None

    def rank(self, mutant: Mutant, tells: Counter[str]) -> tuple[float, bool, float]:
        """Sort tests: the likely before the unlikely, those that need no new copy first, the quick before the slow."""
        return -self._likelihood(mutant, tells), self.commits, self._seconds

    def _likelihood(self, mutant: Mutant, tells: Counter[str]) -> float:
        """Guess from what the test says it keeps, from what killed such mutants before, and from the words in it.

        `tells` counts the tests that speak of a word: the fewer do, the more it tells.
        """
        keeps = 12.0 * (not self._keeps.isdisjoint(mutant.words)) + 6.0 * (mutant.kind in self._keeps)
        words = [word for word in mutant.words if word in self.words]
        named = sum(_TOLD / (1 + mutant.words.index(word)) / math.sqrt(tells[word]) for word in words)
        return keeps + min(self.killed[mutant.kind, mutant.change], 8) + named


def _words(source: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z_0-9]+", source))
