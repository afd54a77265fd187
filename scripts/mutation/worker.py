"""A process that holds the tests warm: it makes one mutant after another of its own database, and runs them on each."""

import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection as Pipe
from time import monotonic
from typing import Any, NamedTuple

import psycopg
import pytest
from _pytest.runner import runtestprotocol
from psycopg import sql

from scripts.mutation import mutants
from scripts.mutation.mutants import Mutant
from tests.conftest import Server, _copy_grants, _create, _drop
from tests.schema.stage import KEEPERS, Stage, World

# What must notice: the behaviour as the real roles, then the rules that the catalog keeps. The oracle that compares
# the catalog with its manifest would notice everything and prove nothing, so it is not asked.
TESTS = ("tests/schema", "tests/architecture/test_catalog.py")
_APART = ("tests/schema/test_mutations.py",)  # makes mutants itself
_PLUGINS = ("terminal", "xdist", "cacheprovider")
_OPTIONS = ("--override-ini=addopts=", "--assert=plain", *(f"-pno:{plugin}" for plugin in _PLUGINS))
_PATIENCE = "20s"  # of a statement that waits in a mutant for what never comes
_OURS = ("world", "catalog")  # the fixtures that are databases, which a mutant can take the place of
_FORGETFUL = {"stage"}  # the one fixture on the world that leaves nothing to the next test


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


def work(pipe: Pipe) -> None:
    """Serve the other end of the pipe, until it sends None: Ready or Red first, then a Verdict for each Mutant."""
    ignored = [f"--ignore={path}" for path in _APART]
    status = pytest.main([*_OPTIONS, *ignored, *TESTS], plugins=[Adversary(pipe)])
    if status not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        pipe.send(Red(f"pytest ended with {status!r}"))


class Adversary:
    """A pytest plugin that runs the tests in an order of its own, on mutants.

    A test whose stage is rolled back runs on the world as it is, with the mutant's DDL as the first of its statements.
    What commits, or asks the catalog, gets a database that is the mutant.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._server: Server | None = None
        self._fixtures: dict[str, pytest.FixtureDef[Any]] = {}
        self._originals: dict[str, Any] = {}
        self._first_statement: str | None = None
        self._tests: list[_Test] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """Keep the server and its databases; let each stage begin with the mutant's statement."""
        value = yield
        if fixturedef.argname == "server":
            self._server = value
        elif fixturedef.argname in _OURS:
            self._fixtures[fixturedef.argname] = fixturedef
            self._originals[fixturedef.argname] = value
        elif isinstance(value, Stage) and self._first_statement:
            _execute(value.connection.pgconn, "begin", self._first_statement)
        return value

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all once, then again on each mutant until one of them fails."""
        self._tests = [test for test in map(_Test, session.items) if not test.has_its_own]
        # What needs no database of its own makes the original ones, and leaves them as they are.
        if failure := self._first_failure(None, sorted(self._tests, key=lambda test: test.needs_database))[0]:
            self._pipe.send(Red(f"a test is red already:\n{failure}"))
            return True
        with psycopg.connect(self._originals["world"].superuser_url) as connection:
            self._pipe.send(Ready(mutants.find(connection.execute(mutants.QUESTION))))
        while (mutant := self._pipe.recv()) is not None:
            self._pipe.send(self._judge(mutant))
        return True

    def _judge(self, mutant: Mutant) -> Verdict:
        began = monotonic()
        tests = sorted(self._tests, key=lambda test: test.rank(mutant))
        failure, runs = self._first_failure(mutant, tests)
        killer = tests[runs - 1] if failure else None
        if killer:
            killer.killed[mutant.kind, mutant.change] += 1
        return Verdict(mutant, killer.name if killer else None, runs, monotonic() - began)

    def _first_failure(self, mutant: Mutant | None, tests: Sequence["_Test"]) -> tuple[str | None, int]:
        """Run the tests until one fails; return what is wrong, and how many ran. Each begins as if it were alone."""
        made: set[str] = set()
        for runs, test in enumerate(tests, start=1):
            self._first_statement = mutant.statement if mutant and not test.needs_database else None
            if test.needs_database and test.database not in made:
                self._make(mutant, test.database)
            elif not test.needs_database:
                self._point(test.database, self._originals.get(test.database))
            made = made | {test.database} if test.needs_database and not test.commits else made - {test.database}
            if failure := test.run():
                return failure, runs
        return None, len(tests)

    def _make(self, mutant: Mutant | None, database: str) -> None:
        """Make a database that is the mutant, or the schema as it is, and point the fixture to it."""
        if (original := self._originals.get(database)) is None:  # the first test makes it
            return
        assert self._server is not None  # noqa: S101 - it was there before its databases
        admin, template = self._server.admin, _name(original)
        name = f"{template}_mutant"
        _drop(admin, [name])
        _create(admin, name, template)
        _copy_grants(admin, template, name)
        patience = sql.SQL("alter database {} set statement_timeout = {}")
        admin.execute(patience.format(sql.Identifier(name), sql.Literal(_PATIENCE)))
        if mutant is not None:
            with psycopg.connect(self._server.url(name), autocommit=True) as connection:
                connection.execute(mutant.statement.encode())
        self._point(database, self._world(name) if database == "world" else name)

    def _world(self, name: str) -> World:
        assert self._server is not None  # noqa: S101 - it was there before its databases
        urls, original = self._server.database(name), self._originals["world"]
        assert isinstance(original, World)  # noqa: S101 - says what the fixture is
        return original._replace(app_url=urls.app_url, login_url=urls.login_url, superuser_url=urls.superuser_url)

    def _point(self, database: str, value: Any) -> None:
        if (fixture := self._fixtures.get(database)) is not None:
            assert fixture.cached_result is not None  # noqa: S101 - it was set up
            fixture.cached_result = (value, fixture.cached_result[1], None)


def _name(database: Any) -> str:
    if isinstance(database, World):
        return str(psycopg.conninfo.conninfo_to_dict(database.superuser_url)["dbname"])
    return str(database)


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
        fixtures: Mapping[str, Any] = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 - pytest's own
        takes = {name: set(found[-1].argnames) for name, found in fixtures.items()}
        self.has_its_own = any("template" in each for name, each in takes.items() if name not in _OURS)
        self.database = "catalog" if "catalog" in fixtures else "world"
        self.commits = any("world" in each for name, each in takes.items() if name not in _FORGETFUL)
        self.needs_database = self.commits or self.database == "catalog"
        self._item = item
        self._seconds = 0.0
        function = getattr(item, "function", None)
        self._keeps = {proposition for proposition, tests in KEEPERS.items() if function in tests}
        self._words = _words(inspect.getsource(function)) if function else set()
        self._words |= set(re.findall(r"[a-z_0-9]+", item.name))

    def run(self) -> str | None:
        """Run it with its fixtures, all but the session's made anew; return what is wrong, if anything is."""
        began = monotonic()
        session: Any = self._item.session  # what is left standing for the next test
        reports = runtestprotocol(self._item, log=False, nextitem=session)
        self._seconds = monotonic() - began
        failures = [f"{self.name}: {report.longreprtext}" for report in reports if report.failed]
        return failures[0] if failures else None

    def rank(self, mutant: Mutant) -> tuple[float, bool, float]:
        """Sort tests: the likely before the unlikely, those that need no new copy first, the quick before the slow."""
        return -self._likelihood(mutant), self.needs_database, self._seconds

    def _likelihood(self, mutant: Mutant) -> float:
        """Guess from what the test says it keeps, from what killed such mutants before, and from the words in it."""
        keeps = 12.0 * (not self._keeps.isdisjoint(mutant.words)) + 6.0 * (mutant.kind in self._keeps)
        named = sum(2.0 / place for place, word in enumerate(mutant.words, start=1) if word in self._words)
        return keeps + min(self.killed[mutant.kind, mutant.change], 8) + named


def _words(source: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z_0-9]+", source))
