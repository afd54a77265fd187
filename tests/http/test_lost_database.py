"""A lost PostgreSQL is 503 within two seconds, and back by itself."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from app import migrations
from app.embedded import Embedded
from app.shared import tokens
from tests.http.conftest import Person, enrolled, problem, serving


@pytest.fixture(scope="module")
def embedded() -> Iterator[Embedded]:
    """A server that these tests may kill, with every statement in its log."""
    with tempfile.TemporaryDirectory(prefix="brokerflow-tests-") as folder:
        Path(folder).chmod(0o711)
        settings = {"log_statement": "all", "log_line_prefix": "%a|"}
        with Embedded(Path(folder) / "home", durable=False, settings=settings) as embedded:
            migrations.up(embedded.owner_url)
            yield embedded


@pytest.fixture(scope="module")
def person(embedded: Embedded) -> Person:
    person = enrolled(embedded.app_url)
    with psycopg.connect(embedded.superuser_url, autocommit=True) as connection:
        connection.execute("checkpoint")  # without durability a killed server forgets its last second
    return person


@pytest.fixture(scope="module")
def client(embedded: Embedded, person: Person) -> Iterator[httpx.Client]:
    with (
        tempfile.TemporaryDirectory() as home,
        serving(embedded.app_url, Path(home)) as address,
        httpx.Client(base_url=address, headers=person.bearer, timeout=30) as client,
    ):
        yield client


class Load:
    """Ten clients that ask without a pause, and what they were answered."""

    def __init__(self, client: httpx.Client) -> None:
        self.answers: list[tuple[float, float, int]] = []
        self._client = client
        self._answered = threading.Condition()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(10)]

    def _ask(self) -> None:
        while not self._ending.is_set():
            started = time.monotonic()
            status = self._client.get("/probe/organizations").status_code
            with self._answered:
                self.answers.append((started, time.monotonic() - started, status))
                self._answered.notify_all()

    def until(self, status: int, count: int, since: float = 0.0) -> None:
        """Wait until so many requests that began since then were answered with a status."""
        with self._answered:
            assert self._answered.wait_for(lambda: self.statuses(since)[status] >= count, timeout=20)

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            self.until(200, 20)
            yield
        finally:
            self._ending.set()
            for thread in self._threads:
                thread.join()

    def statuses(self, since: float = 0.0) -> Counter[int]:
        return Counter(status for started, _, status in self.answers if started >= since)

    @property
    def slowest(self) -> float:
        return max(seconds for _, seconds, _ in self.answers)


def wait_for(client: httpx.Client, status: int, seconds: float) -> float:
    started = time.monotonic()
    while client.get("/healthz").status_code != status:
        assert time.monotonic() - started < seconds
        time.sleep(0.05)
    return time.monotonic() - started


def restart(embedded: Embedded) -> None:
    embedded.stop()
    embedded.start()


def test_a_killed_server_under_load_is_503_and_comes_back(embedded: Embedded, client: httpx.Client) -> None:
    load = Load(client)
    with load.running():
        embedded.kill()
        load.until(503, 30, since=time.monotonic())
        restart(embedded)
        wait_for(client, 200, 3)
        back = time.monotonic()
        load.until(200, 100, since=back + 0.2)
    assert load.slowest < 2
    assert load.statuses().keys() == {200, 503}
    assert load.statuses(since=back + 0.2).keys() == {200}


def test_while_it_is_down_the_answer_is_a_problem(embedded: Embedded, client: httpx.Client) -> None:
    embedded.kill()
    try:
        for _ in range(3):
            response = client.get("/probe/organizations")
            problem(response, 503, "database_unavailable")
            assert response.headers["retry-after"] == "1"
            assert response.elapsed.total_seconds() < 2
        health = client.get("/healthz")
        assert problem(health, 503, "database_unavailable")["database"] == "unavailable"
        assert health.elapsed.total_seconds() < 2
    finally:
        restart(embedded)
    wait_for(client, 200, 3)


@contextmanager
def frozen(embedded: Embedded) -> Iterator[None]:
    """Stop the server's processes without ending them: the postmaster first, so that it makes no more."""
    os.kill(embedded.process, signal.SIGSTOP)
    children = subprocess.run(["pgrep", "-P", str(embedded.process)], check=True, capture_output=True, text=True)  # noqa: S607
    processes = [*map(int, children.stdout.split()), embedded.process]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def test_a_frozen_server_is_503_and_comes_back(embedded: Embedded, client: httpx.Client) -> None:
    load = Load(client)
    with load.running():
        with frozen(embedded):
            load.until(503, 30, since=time.monotonic())
        wait_for(client, 200, 4)
        back = time.monotonic()
        load.until(200, 100, since=back + 0.2)
    assert load.slowest < 2.2
    assert load.statuses(since=back + 0.2).keys() == {200}


def test_connections_that_died_while_idle_are_not_noticed(embedded: Embedded, client: httpx.Client) -> None:
    for _ in range(5):
        assert client.get("/probe/organizations").status_code == 200
        with psycopg.connect(embedded.superuser_url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'brokerflow_app'"
            )
        assert client.get("/probe/organizations").status_code == 200
        assert client.post("/probe/statements", json={"sql": "select 1"}).json() == ["1"]


def test_each_request_is_one_entrance_and_one_statement(embedded: Embedded, client: httpx.Client) -> None:
    def told() -> list[str]:
        lines = embedded.log.read_text().splitlines()
        return [line.partition(": ")[2] for line in lines if line.startswith("brokerflow|LOG:  ")]

    for sql in ("select 'warm'", "select 'one'"):
        client.post("/probe/statements", json={"sql": sql})
    before = len(told())
    client.post("/probe/statements", json={"sql": "select 'one'"})
    assert [re.sub(r"bf_\d+", "prepared", line.strip()) for line in told()[before:]] == [
        "execute prepared: select apiauth.enter_session($1, $2, $3)",
        "execute prepared: select 'one'",
    ]


def test_no_credential_is_in_the_servers_log(embedded: Embedded, client: httpx.Client, person: Person) -> None:
    client.get("/probe/organizations")
    told = embedded.log.read_text()
    assert "enter_session" in told
    for secret in (person.token, tokens.digest(person.token).hex()):
        assert secret not in told.replace("\\\\x", "")
