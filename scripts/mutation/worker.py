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
from tests.schema.stage import KEEPERS, World

# What must notice: the behaviour as the real roles, then the rules that the catalog keeps. The oracle that compares
# the catalog with its manifest would notice everything and prove nothing, so it is not asked.
TESTS = ("tests/schema", "tests/architecture/test_catalog.py")
_APART = ("tests/schema/test_mutations.py",)  # makes mutants itself
_PLUGINS = ("terminal", "xdist", "cacheprovider")
_OPTIONS = ("--override-ini=addopts=", "--assert=plain", *(f"-pno:{plugin}" for plugin in _PLUGINS))
_PATIENCE = "20s"  # of a statement that waits in a mutant for what never comes
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
    """A pytest plugin that runs the tests in an order of its own, on databases of its own."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._found: dict[str, Any] = {}
        self._original: dict[str, str] = {}
        self._tests: list[_Test] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """Keep the server, and a copy of each database as it is before the first test."""
        value = yield
        if fixturedef.argname in {"server", "world", "catalog"}:
            self._found[fixturedef.argname] = value
        if fixturedef.argname in {"world", "catalog"}:
            self._copy_of(fixturedef.argname)
        return value

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all once, then again on each mutant until one of them fails."""
        self._tests = [_Test(item) for item in session.items]
        if failure := self._first_failure(None, self._tests)[0]:
            self._pipe.send(Red(f"a test is red already:\n{failure}"))
            return True
        with psycopg.connect(self._url("world"), autocommit=True) as connection:
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
        clean: set[str] = set()
        for runs, test in enumerate(tests, start=1):
            if test.database in self._original and test.database not in clean:
                self._make(mutant, test.database)
            clean.add(test.database)
            if failure := test.run():
                return failure, runs
            if test.commits:
                clean.discard(test.database)
        return None, len(tests)

    def _make(self, mutant: Mutant | None, database: str) -> None:
        """Put the mutant, or the schema as it is, in the place of the database on which the tests run."""
        self._replace(database)
        if mutant is not None:
            with psycopg.connect(self._url(database), autocommit=True) as connection:
                connection.execute(mutant.statement.encode())

    def _replace(self, database: str) -> None:
        server, name = self._server, self._name(database)
        _drop(server.admin, [name])
        _create(server.admin, name, self._original[database])
        _copy_grants(server.admin, self._original[database], name)
        patience = sql.SQL("alter database {} set statement_timeout = {}")
        server.admin.execute(patience.format(sql.Identifier(name), sql.Literal(_PATIENCE)))

    def _copy_of(self, database: str) -> None:
        copy = f"{self._name(database)}_original"
        _create(self._server.admin, copy, self._name(database))
        _copy_grants(self._server.admin, self._name(database), copy)
        self._original[database] = copy

    @property
    def _server(self) -> Server:
        server = self._found["server"]
        assert isinstance(server, Server)  # noqa: S101 - says what the fixture is
        return server

    def _name(self, database: str) -> str:
        found = self._found[database]
        if isinstance(found, World):
            found = psycopg.conninfo.conninfo_to_dict(found.superuser_url)["dbname"]
        return str(found)

    def _url(self, database: str) -> str:
        return self._server.url(self._name(database))


class _Test:
    """A test that is run many times; it knows how long it takes and what it killed."""

    def __init__(self, item: pytest.Item) -> None:
        self.name = item.nodeid
        self.killed: Counter[tuple[str, str]] = Counter()
        fixtures: Mapping[str, Any] = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 - pytest's own
        self.database = "catalog" if "catalog" in fixtures else "world"
        self.commits = bool({name for name, found in fixtures.items() if "world" in found[-1].argnames} - _FORGETFUL)
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
        return -self._likelihood(mutant), self.commits, self._seconds

    def _likelihood(self, mutant: Mutant) -> float:
        """Guess from what the test says it keeps, from what killed such mutants before, and from the words in it."""
        keeps = 12.0 * (not self._keeps.isdisjoint(mutant.words)) + 6.0 * (mutant.kind in self._keeps)
        named = sum(2.0 / place for place, word in enumerate(mutant.words, start=1) if word in self._words)
        return keeps + min(self.killed[mutant.kind, mutant.change], 8) + named


def _words(source: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z_0-9]+", source))
