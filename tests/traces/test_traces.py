"""What a day of use leaves behind: nothing in a dump or a log lets anybody in, or tells who the client is."""

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from tests.embedded.conftest import _folder
from tests.redis import running_redis
from tests.traces.story import Story, play, play_in_redis

# These take bytes too. What they are given is what they keep, or what they compare for who has entered already.
KEEPERS = {
    "close_session", "create_environment", "create_organization_token", "create_personal_token", "create_referral",
    "find_response", "grant_reads", "issue_environment_keys", "list_sessions", "mint_jwt",
    "put_version", "register", "request_device", "revoke_sessions", "seal_contact", "start_impersonation",
    "stop_impersonation",
    "take_reads",  # good for ten seconds: tests/schema/test_a11_secrets.py
}  # fmt: skip


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """The whole story, played once with statements and durations logged."""
    with ExitStack() as stack:
        told = Story(stack, stack.enter_context(_folder()) / "home")
        with told.watched():
            play(told)
        yield told


def spellings(secret: bytes) -> Iterator[bytes]:
    """Yield the ways in which PostgreSQL and Python write bytes down."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield base64.b64encode(secret)
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    yield repr(secret)[2:-1].encode()
    yield secret.decode("latin-1").encode("unicode_escape")


def found_in(text: bytes, story: Story) -> list[str]:
    """Name the secrets that stand in a text, however spelt."""
    return [name for name, secret in story.secrets.items() if any(way in text for way in spellings(secret))]


def tokens_in(text: bytes) -> list[bytes]:
    """Return whatever looks like a token of ours or a JWT, also one that nobody remembered."""
    return re.findall(rb"\b(?:bf|tr|pk)_[a-z]+_[0-9A-Za-z]{40}\b|\beyJ[\w-]{20,}[.][\w-]{20,}[.][\w-]{43}\b", text)


def bytes_in(text: bytes) -> set[bytes]:
    """Return whatever in a text may be the bytes of a digest, however spelt, and every field as long as one."""
    found = {bytes.fromhex(run.decode()) for run in re.findall(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", text)}
    for run in re.findall(rb"(?<![\w+/-])[\w+/-]{43}(?![\w+/-])", text):
        found.add(base64.b64decode(run.translate(bytes.maketrans(b"-_", b"+/")) + b"="))
    return found | {field for field in re.split(rb"[\t\n]", text) if len(field) == 32}


def test_a_dump_lets_nobody_in_and_names_no_client(story: Story) -> None:
    dump = story.dump()
    for name in ("session of rita", "token", "organization_token", "device code one"):
        assert hashlib.sha256(story.secrets[f"digest of the {name}"]).hexdigest().encode() in dump, name
    assert found_in(dump, story) == []


def test_the_write_ahead_log_lets_nobody_in_and_names_no_client(story: Story) -> None:
    """What is backed up all along holds rows and pages as they were, values that are gone as well."""
    log = story.write_ahead_log
    assert b"rita@north.example" in log, "the log is not of the story"
    assert found_in(log, story) == []


def test_the_servers_log_holds_statements_and_no_secret(story: Story) -> None:
    log = story.server_log
    for name in ("session", "token", "organization_token", "secret_key", "public_key", "jwt", "esign"):
        assert f"apiauth.enter_{name}($1".encode() in log, "statements were not logged"
    assert b"brokerflow_login@brokerflow" in log, "the login at the provider was not logged"
    assert b"users_email_in_any_case" in log, "refusals were not logged"
    assert found_in(log, story) == []


def test_the_services_log_tells_of_requests_and_no_secret(story: Story) -> None:
    log = story.service.log.read_bytes()
    assert log.count(b"/api/") > 50, "requests were not logged"
    assert b"/auth/oidc/callback" in log, "the login at the provider was not logged"
    assert found_in(log, story) == []


def test_pg_stat_activity_shows_statements_and_no_secret(story: Story) -> None:
    assert b"($1" in story.activity, "nothing was seen"
    assert found_in(story.activity, story) == []


def test_nothing_that_was_left_behind_looks_like_a_token(story: Story) -> None:
    minted = b"\n".join(story.secrets.values())
    assert len(tokens_in(minted)) > 20, "no token looks like one"
    for text in (story.dump(), story.write_ahead_log, story.server_log, story.activity, story.service.log.read_bytes()):
        assert tokens_in(text) == []


def test_every_function_that_takes_bytes_is_a_way_in_or_known_as_none(story: Story) -> None:
    named = story.ask(
        "select array_agg(distinct p.proname::text) from pg_proc as p "
        "where p.pronamespace <> 'pg_catalog'::regnamespace "
        "and has_function_privilege('brokerflow_app', p.oid, 'execute') "
        "and p.proargtypes::oid[] && array['bytea'::regtype, 'bytea[]'::regtype]::oid[]"
    )
    assert isinstance(named, list)
    assert {way.partition(",")[0] for way in story.ways} == {*named} - KEEPERS


def test_sessions_in_redis_leave_nothing_more(story: Story) -> None:
    with running_redis() as redis:
        with story.watched():
            service = play_in_redis(story, redis.url)
        story.kept = redis.written
    tickets = re.findall(rb"[0-9a-f]{64}[{][^\r\n]*[}]", story.kept)
    assert len(tickets) >= 4, "there were no sessions in Redis"
    assert found_in(story.kept, story) == []
    for number, ticket in enumerate(tickets):
        story.remember(f"ticket {number} in Redis", ticket)
        story.remember(f"seal of ticket {number} in Redis", bytes.fromhex(ticket[:64].decode()))
    assert b"apiauth.enter_ticket($1" in story.server_log, "they were not used"
    for text in (story.dump(), story.server_log, service.log.read_bytes(), story.activity):
        assert found_in(text, story) == []


def test_nothing_that_was_left_behind_enters(story: Story) -> None:
    """Last, since PostgreSQL logs every try."""
    texts = (story.dump(), story.server_log, story.activity, story.service.log.read_bytes(), story.kept)
    values = set[bytes]().union(*map(bytes_in, texts))
    assert len(values) > 100, "there is more than that in the story"
    with psycopg.connect(story.database.app_url, autocommit=True) as connection:
        assert [name for name, way in story.ways.items() if not way.admits(connection, way.key)] == []
        assert [name for name, way in story.ways.items() for value in values if way.admits(connection, value)] == []
