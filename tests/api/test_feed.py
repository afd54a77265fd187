"""The stream of events: woken by NOTIFY, read with the subscriber's own credential, resumable."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from queue import Queue
from typing import Any
from uuid import UUID

import httpx
import msgspec
import psycopg
import pytest

from app.agreement import queries, stream
from app.agreement.queries import TimelineEvent
from app.identifiers import earlier
from app.shared import tokens
from tests.api.conftest import Caller, Json, Look, bearer, created, log_in, problem, serving
from tests.api.steps import accept, append, invite, refer, timeline
from tests.conftest import Database

pytest_plugins = ("tests.api.brokerage",)

PATIENCE = 10.0


class Subscriber:
    """Reads a stream in the background, message by message."""

    def __init__(self, response: httpx.Response) -> None:
        self._messages: Queue[Json] = Queue()
        self._thread = threading.Thread(target=self._read, args=[response])
        self._thread.start()

    def next(self) -> Json:
        """Wait for a message that is no comment."""
        while True:
            message = self._messages.get(timeout=PATIENCE)
            if message.keys() != {"comment"}:
                return message

    def comment(self) -> str:
        """Wait for a comment."""
        while True:
            message = self._messages.get(timeout=PATIENCE)
            if "comment" in message:
                return str(message["comment"])

    def is_quiet(self) -> bool:
        """Whether nothing comes but the comments of silence, the second of which follows a read after now."""
        coming = (self._messages.get(timeout=PATIENCE) for _ in range(self._messages.qsize() + 2))
        return all(message.keys() == {"comment"} for message in coming)

    def ended(self) -> bool:
        """Whether the service ended the stream in time."""
        self._thread.join(PATIENCE)
        return not self._thread.is_alive()

    def _read(self, response: httpx.Response) -> None:
        message: Json = {}
        try:
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    message[name or "comment"] = value
                else:
                    self._messages.put(message)
                    message = {}
        except (httpx.HTTPError, httpx.StreamError):
            pass


@contextmanager
def subscribed(caller: httpx.Client, after: str | None = None, **options: Any) -> Iterator[Subscriber]:
    """Subscribe, until LISTEN is active; the client leaves at the end."""
    headers = {"Last-Event-ID": after} if after else {}
    with caller.stream("GET", "/api/events/stream", headers=headers, timeout=None, **options) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        subscriber = Subscriber(response)
        try:
            yield subscriber
        finally:
            with suppress(OSError):  # the service has ended it already
                response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            assert subscriber.ended()


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let silence be told soon, so that a test can wait for it."""
    monkeypatch.setattr(stream, "KEEP_ALIVE", 0.1)


def calling(address: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=address, headers=bearer(token), timeout=30)


def event_of(message: Json) -> Json:
    event: Json = msgspec.json.decode(message["data"])
    assert message["id"] == event["id"]
    return event


def test_events_arrive_as_they_are_recorded(referrer: Caller, referee: Caller, pending: Json) -> None:
    with subscribed(referrer) as feed:
        for number in range(5):
            event = created(append(referee, pending, "CLIENT_CONTACTED", payload={"number": number, "名": "a\nb"}))
            assert event_of(feed.next()) == event
        assert feed.is_quiet()


def test_a_subscriber_sees_the_events_of_his_own_agreements_only(
    referrer: Caller, referee: Caller, stranger: Caller, pending: Json
) -> None:
    others = accept(stranger, invite(referrer, refer(referrer), stranger))
    with ExitStack() as stack:
        own, foreign = (stack.enter_context(subscribed(caller)) for caller in (referee, stranger))
        event = created(append(referrer, pending, "CLIENT_CONTACTED"))
        assert event_of(own.next()) == event
        assert foreign.is_quiet()
        event = created(append(referrer, others, "CLIENT_CONTACTED"))
        assert event_of(foreign.next()) == event
        assert own.is_quiet()


def test_a_stream_resumes_after_the_last_event_it_sent(referrer: Caller, pending: Json, look: Look) -> None:
    with subscribed(referrer) as feed:
        first = created(append(referrer, pending, "CLIENT_CONTACTED"))
        assert event_of(feed.next()) == first
    missed = [created(append(referrer, pending, "CLIENT_CONTACTED")) for _ in range(3)]
    with subscribed(referrer, after=first["id"]) as feed:
        seen = [event_of(feed.next())["id"] for _ in range(4)]
        assert seen[0] == timeline(referrer, pending)[0]["id"]  # of the 30 seconds before: at least once
        assert seen[1:] == [event["id"] for event in missed]
        assert feed.is_quiet()


def test_who_resumes_gets_a_long_backlog_whole(
    referrer: Caller, pending: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BATCH", 3)
    start = timeline(referrer, pending)[0]["id"]
    missed = [created(append(referrer, pending, "CLIENT_CONTACTED"))["id"] for _ in range(10)]
    with subscribed(referrer, after=start) as feed:
        assert [event_of(feed.next())["id"] for _ in range(10)] == missed


def test_an_event_that_commits_late_is_not_missed(
    referrer: Caller, referee: Caller, pending: Json, database: Database
) -> None:
    """Its id is smaller than one that was sent already."""
    other = accept(referee, invite(referrer, refer(referrer), referee))
    with subscribed(referrer) as feed, psycopg.connect(database.app_url) as late:
        late.execute("select apiauth.enter_session(%s)", [tokens.digest(referrer.token)])
        row = late.execute(
            "select (agreement.append_event(%s, 'CLIENT_CONTACTED', '{}')).id::text",
            [pending["id"]],
        ).fetchone()
        assert row is not None
        prompt = created(append(referrer, other, "CLIENT_CONTACTED"))
        assert event_of(feed.next())["id"] == prompt["id"] > str(row[0])
        late.commit()
        assert event_of(feed.next())["id"] == row[0]
        again = created(append(referrer, other, "CLIENT_CONTACTED"))
        assert event_of(feed.next())["id"] == again["id"]


def test_an_event_that_nobody_announced_comes_soon_after_one_that_was(
    referrer: Caller, pending: Json, database: Database, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of two that commit at once, the later; without waiting for a silence to be told."""
    monkeypatch.setattr(stream, "KEEP_ALIVE", 10 * PATIENCE)
    with subscribed(referrer) as feed, psycopg.connect(database.app_url) as late:
        assert feed.comment() == "keep-alive"
        late.execute("select apiauth.enter_session(%s)", [tokens.digest(referrer.token)])
        announced = created(append(referrer, pending, "CLIENT_CONTACTED"))
        assert event_of(feed.next()) == announced
        look.execute("select pg_advisory_lock('shared.outbox'::regclass::oid::integer, 0)")
        row = late.execute(
            "select (agreement.append_event(%s, 'CLIENT_CONTACTED', '{}')).id::text", [pending["id"]]
        ).fetchone()
        late.commit()
        assert row is not None
        assert event_of(feed.next())["id"] == row[0]


def test_a_revoked_credential_ends_the_stream(referrer: Caller, pending: Json, client: httpx.Client) -> None:
    token = log_in(client, referrer.email)
    with calling(str(client.base_url), token) as other, subscribed(other) as feed:
        assert other.post("/auth/logout").status_code == 204
        append(referrer, pending, "CLIENT_CONTACTED")
        end = feed.next()
        assert (end["event"], msgspec.json.decode(end["data"])) == ("end", {"code": "unauthenticated"})
        assert feed.ended()


def test_a_mistake_of_ours_ends_the_stream_and_is_in_the_log(
    referrer: Caller, pending: Json, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def mistaken(*_: object, **__: object) -> list[TimelineEvent]:
        raise RuntimeError("what went wrong")

    referrer.headers["X-Request-Id"] = "the-stream"
    with subscribed(referrer) as feed:
        monkeypatch.setattr(queries, "list_events", mistaken)
        end = feed.next()
        assert (end["event"], msgspec.json.decode(end["data"])) == ("end", {"code": "internal"})
        assert feed.ended()
    [told] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    entry = msgspec.json.decode(told)
    assert (entry["event"], entry["request_id"]) == ("failed", "the-stream")
    assert "what went wrong" in entry["exc_info"]


def test_a_silent_stream_is_kept_alive_and_notices_revocation_by_itself(
    referrer: Caller, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = log_in(client, referrer.email)
    with calling(str(client.base_url), token) as other, subscribed(other) as feed:
        assert [feed.comment() for _ in range(3)] == ["keep-alive"] * 3
        assert other.post("/auth/logout").status_code == 204
        assert feed.next()["event"] == "end"
        assert feed.ended()


def test_who_may_not_read_is_told_by_a_status(client: httpx.Client, referrer: Caller) -> None:
    path = "/api/events/stream"
    problem(client.get(path), 401, "unauthenticated")
    problem(client.get(path, headers={"Authorization": "Bearer x"}), 401, "unauthenticated")
    problem(referrer.get(path, headers={"Last-Event-ID": "x"}), 422, "invalid")
    body = {"name": "founder", "expires_in_days": 1, "scopes": ["organizations:write"]}
    token = created(referrer.post("/api/tokens", json=body))["token"]
    problem(client.get(path, headers={"Authorization": f"Bearer {token}"}), 403, "insufficient_scope")


def test_subscribers_who_leave_give_their_connections_back(
    database: Database, referrer: Caller, pending: Json, tmp_path: Path
) -> None:
    """As few connections as there may be survive many who leave in the middle of whatever was read for them."""
    with serving(database, tmp_path / "other", pool_size=3) as address, calling(address, referrer.token) as caller:
        for number in range(30):
            with subscribed(caller):
                append(referrer, pending, "CLIENT_CONTACTED", payload={"number": number})
        assert caller.get("/api/events").status_code == 200


def test_a_terminated_service_ends_its_streams_and_itself(database: Database, referrer: Caller, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BROKERFLOW_")},
        "BROKERFLOW_APP_URL": database.app_url,
        "BROKERFLOW_OWNER_URL": database.owner_url,
        "BROKERFLOW_HOME": str(tmp_path),
    }
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "ready at" in line)
        with calling(line.split()[-1], referrer.token) as caller, subscribed(caller) as feed:
            assert feed.comment() == "keep-alive"
            process.send_signal(signal.SIGTERM)
            end = feed.next()
            assert (end["event"], msgspec.json.decode(end["data"])) == ("end", {"code": "closing"})
            assert process.wait(PATIENCE) == 0


def test_the_overlap_begins_thirty_seconds_before() -> None:
    event = UUID("019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23")
    assert earlier(event, timedelta(seconds=30)).int >> 80 == (event.int >> 80) - 30_000
