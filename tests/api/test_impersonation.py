"""Impersonation over HTTP, wherever sessions live: a new token each way, both names, and what stays closed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import Caller, Json, Look, bearer, created, fields, log_in, problem, register, serving
from tests.api.steps import CONTACT, accept, append, invite, read_contact, refer
from tests.conftest import Database
from tests.redis import running_redis

Enrol = Callable[..., Caller]


@pytest.fixture(params=["postgresql", "redis"])
def address(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a service, once for each store of sessions."""
    with ExitStack() as stack:
        store = {"session_url": stack.enter_context(running_redis()).url} if request.param == "redis" else {}
        yield stack.enter_context(serving(database, tmp_path, **store))


def start(client: httpx.Client, user: Caller, **body: object) -> httpx.Response:
    return client.post("/api/impersonations", json={"user_id": user.user_id, "reason": "ticket 4711", **body})


def stop(client: httpx.Client, token: str) -> httpx.Response:
    return client.delete("/api/impersonations/current", headers=bearer(token))


def whoami(client: httpx.Client, token: str) -> httpx.Response:
    return client.get("/api/whoami", headers=bearer(token))


@pytest.fixture
def acting(judge: Caller, referee: Caller, address: str) -> Iterator[Caller]:
    """The judge, who acts as the referee."""
    token = created(start(judge, referee))["token"]
    with Caller(
        address, email=judge.email, token=token, user=referee.user, organization=referee.organization
    ) as acting:
        yield acting


def test_there_and_back(client: httpx.Client, judge: Caller, referee: Caller) -> None:
    started = start(judge, referee, minutes=5)
    told = created(started)
    assert told.keys() == {"id", "user_id", "started_at", "ends_at", "token"}
    assert f"session={told['token']}" in started.headers["Set-Cookie"]
    problem(whoami(client, judge.token), 401, "unauthenticated")
    who = whoami(client, told["token"]).json()
    assert (who["kind"], who["user_id"], who["impersonator_id"]) == ("session", referee.user_id, judge.user_id)
    assert who["is_platform_admin"] is False
    assert whoami(client, referee.token).json()["impersonator_id"] is None
    stopped = stop(client, told["token"])
    assert stopped.status_code == 200
    own = stopped.json()["token"]
    assert f"session={own}" in stopped.headers["Set-Cookie"]
    problem(whoami(client, told["token"]), 401, "unauthenticated")
    who = whoami(client, own).json()
    assert (who["user_id"], who["impersonator_id"], who["is_platform_admin"]) == (judge.user_id, None, True)
    problem(stop(client, own), 404, "not_found")
    assert stopped.json()["expires_at"] == _ends_at(client, own)


def _ends_at(client: httpx.Client, token: str) -> str:
    [session] = client.get("/api/sessions", headers=bearer(token)).json()["items"]
    assert session["is_current"]
    return str(session["expires_at"])


def test_start_and_stop_are_in_the_audit_log(client: httpx.Client, judge: Caller, referee: Caller, look: Look) -> None:
    assert stop(client, created(start(judge, referee))["token"]).is_success
    rows = look.execute(
        "select action, user_id::text, impersonator_id::text, detail ->> 'reason' from shared.audit_log "
        "where action like 'impersonation.%' order by id"
    )
    assert rows.fetchall() == [
        ("impersonation.start", judge.user_id, None, "ticket 4711"),
        ("impersonation.stop", referee.user_id, judge.user_id, None),
    ]


def test_only_a_platform_admin_may_in_his_own_session(referee: Caller, referrer: Caller, acting: Caller) -> None:
    for caller in (referrer, acting):
        assert problem(start(caller, referee), 403, "forbidden")["axiom"] == "A9"
    token = created(referee.post("/api/tokens", json={"name": "x", "expires_in_days": 1}))["token"]
    answer = referrer.post("/api/impersonations", json={}, headers=bearer(token))
    told = problem(answer, 401, "unauthenticated")["detail"]
    assert told == "This takes a session, not a personal access token."


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"minutes": 0}, "minutes"),
        ({"minutes": 61}, "minutes"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"user_id": "x"}, "user_id"),
    ],
)
def test_bad_input_is_told_by_its_field(judge: Caller, referee: Caller, body: Json, field: str) -> None:
    answer = problem(start(judge, referee, **body), 422, "invalid")
    assert [error["field"] for error in answer["errors"]] == [field]
    assert judge.get("/api/me").is_success, "the session stayed what it was"


def test_of_nobody_and_of_oneself_nothing_comes(judge: Caller) -> None:
    unknown = {"user_id": "019b3c5e-7d10-7a42-9c1f-5b8f0d6e2a11"}
    problem(start(judge, judge, **unknown), 404, "not_found")
    assert fields(problem(start(judge, judge), 422, "invalid")) == ["user_id"]
    assert judge.get("/api/me").is_success


def test_he_works_as_the_user_and_both_are_named(
    referrer: Caller, referee: Caller, judge: Caller, acting: Caller
) -> None:
    agreement = accept(acting, invite(referrer, refer(referrer), referee))
    event = created(append(acting, agreement, "CLIENT_CONTACTED"))
    assert (event["user_id"], event["impersonator_id"]) == (referee.user_id, judge.user_id)
    events = referrer.get(f"/api/agreements/{agreement['id']}/events").json()["items"]
    assert {(each["user_id"], each["impersonator_id"]) for each in events} == {(referee.user_id, judge.user_id)}


def test_contacts_secrets_and_credentials_stay_closed(referee: Caller, acting: Caller, look: Look) -> None:
    own = refer(referee, client=CONTACT)
    project = created(referee.post(f"/api/organizations/{referee.broker_id}/projects", json={"name": "x", "slug": "x"}))
    body = {"slug": "e", "type": "STAGING"}
    environment = created(referee.post(f"/api/projects/{project['id']}/environments", json=body))
    assert referee.put("/api/secrets/key", json={"value": 1}).is_success
    token = {"name": "x", "expires_in_days": 1, "scopes": ["agreements:read"]}
    organization = f"/api/organizations/{referee.broker_id}"
    for answer in (
        read_contact(acting, {"id": own["id"]}),
        acting.get("/api/secrets/key"),
        acting.get("/api/secrets"),
        acting.put("/api/secrets/key", json={"value": 2}),
        acting.post("/api/tokens", json=token),
        acting.post(f"{organization}/tokens", json={"name": "x", "scopes": ["agreements:read"]}),
        acting.post(f"/api/environments/{environment['id']}/keys/rotate", json={"grace_hours": 0}),
        acting.post(f"{organization}/members", json={"email": "x@example.org", "role": "agent"}),
        acting.put("/api/votes/listings"),
        acting.post("/api/organizations", json={"title": "x", "slug": "x"}),
    ):
        problem(answer, 403, "insufficient_scope")
    for answer in (
        acting.put(f"/api/referrals/{own['id']}/contact", json=CONTACT),
        acting.delete(f"/api/referrals/{own['id']}/contact"),
        acting.delete("/api/sessions"),
    ):
        problem(answer, 403, "forbidden")
    assert acting.get("/api/sessions").json()["items"] == []
    denials = look.execute(
        "select count(*), bool_and(user_id is not null) from shared.audit_log "
        "where outcome = 'denied' and impersonator_id is not null"
    )
    assert denials.fetchone() == (13, True), "each left a trace"


def test_a_demoted_admin_loses_it_on_the_next_request(acting: Caller, judge: Caller, look: Look) -> None:
    assert acting.get("/api/me").is_success
    look.execute("select shared.revoke_platform_admin(%s)", [judge.email])
    problem(acting.get("/api/me"), 401, "unauthenticated")
    look.execute("select shared.grant_platform_admin(%s)", [judge.email])
    problem(acting.get("/api/me"), 401, "unauthenticated")


def test_after_its_time_the_session_is_over(client: httpx.Client, acting: Caller, look: Look) -> None:
    look.execute("alter table apiauth.impersonations disable trigger impersonations_stop_once")
    look.execute("update apiauth.impersonations set started_at = started_at - '1 hour'::interval, ends_at = started_at")
    problem(acting.get("/api/me"), 401, "unauthenticated")
    problem(stop(client, acting.token), 401, "unauthenticated")


def test_logging_out_ends_it_and_leaves_the_user_alone(acting: Caller, referee: Caller, client: httpx.Client) -> None:
    assert acting.post("/auth/logout").status_code == 204
    problem(acting.get("/api/me"), 401, "unauthenticated")
    assert referee.get("/api/me").is_success
    register(client, "later@example.org")
    assert whoami(client, log_in(client, "later@example.org")).is_success
