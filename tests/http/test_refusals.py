"""Every refusal is a problem: the table from SQLSTATE and constraint to HTTP, and what Litestar refuses itself."""

import httpx
import psycopg
import pytest

from tests.conftest import Database
from tests.http import probe
from tests.http.conftest import enrolled, problem

Look = psycopg.Connection[tuple[object, ...]]

GOOD = {"title": "North", "slug": "north"}


def refuse(proposition: str, code: str, message: str = "the reason") -> str:
    return f"select shared.refuse('{proposition}', '{message}', '{code}')"


def run(client: httpx.Client, sql: str, label: str = "") -> httpx.Response:
    return client.post("/probe/statements", json={"sql": sql, "label": label})


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("select 1 / 0", 422, "invalid"),
        ("select 'x'::integer", 422, "invalid"),
        ("select '99999999999999'::text::integer", 422, "invalid"),
        ("select 'yesterday or so'::timestamptz", 422, "invalid"),
        ("select '{'::jsonb", 422, "invalid"),
        ("select chr(0)", 422, "invalid"),
        ("select * from apiauth.sessions", 403, "forbidden"),
        ("selec", 500, "internal"),
        ("select nothing_such()", 500, "internal"),
        ("select pg_sleep(5)", 503, "database_unavailable"),
        (refuse("p", "28000"), 401, "unauthenticated"),
        (refuse("p", "42501"), 403, "forbidden"),
        (refuse("credential_scope", "42501"), 403, "insufficient_scope"),
        (refuse("p", "P0002"), 404, "not_found"),
        (refuse("p", "P0001"), 409, "conflict"),
        (refuse("p", "23514"), 409, "conflict"),
        (refuse("p", "23505"), 409, "conflict"),
        (refuse("p", "23P01"), 409, "conflict"),
        (refuse("p", "55000"), 409, "conflict"),
        (refuse("p", "23503"), 422, "invalid"),
        (refuse("p", "23502"), 422, "invalid"),
        (refuse("agreements_version_matches", "55000"), 412, "version_mismatch"),
        (refuse("idempotency_keys_once_an_actor", "55P03"), 409, "idempotency_in_flight"),
        (refuse("idempotency_keys_once_an_actor", "23514"), 422, "idempotency_key_reused"),
        (refuse("p", "55P03"), 503, "database_unavailable"),
        (refuse("p", "53300"), 503, "database_unavailable"),
        (refuse("p", "57P03"), 503, "database_unavailable"),
        (refuse("p", "08006"), 503, "database_unavailable"),
        (refuse("p", "25006"), 503, "database_unavailable"),
        (refuse("p", "XX000"), 500, "internal"),
        (refuse("agreements_one_live_per_referral", "23505"), 409, "conflict"),
    ],
)
def test_a_refusal_of_the_database_has_its_status(client: httpx.Client, sql: str, status: int, code: str) -> None:
    response = run(client, sql)
    refused = problem(response, status, code)
    assert ("retry-after" in response.headers) == (status == 503 or code == "idempotency_in_flight")
    assert not {"select", "apiauth.", "psycopg", "Traceback", "::"} & set(str(refused).split())
    assert run(client, "select 1").json() == ["1"]


def test_a_broken_axiom_is_named_with_the_reason(client: httpx.Client) -> None:
    refused = problem(run(client, refuse("agreements_one_live_per_referral", "23505")), 409, "conflict")
    assert refused["axiom"] == "A1"
    assert refused["detail"] == "The reason."
    assert "axiom" not in problem(run(client, refuse("p", "23505")), 409, "conflict")


def test_row_security_is_axiom_nine(client: httpx.Client) -> None:
    sql = """
        insert into shared.idempotency_keys (user_id, key, route, request_digest, status, response)
        values (shared.uuidv7(), 'k', 'r', sha256(''), 200, '')
    """
    assert problem(run(client, sql), 403, "forbidden")["axiom"] == "A9"


def test_a_trigger_tells_its_reason_and_postgresql_does_not(client: httpx.Client) -> None:
    assert problem(run(client, refuse("p", "23514")), 409, "conflict")["detail"] == "The reason."
    client.post("/probe/organizations", json=GOOD)
    refused = problem(client.post("/probe/organizations", json=GOOD), 409, "conflict")
    assert refused["errors"] == [{"field": "slug", "message": "is taken"}]
    assert "duplicate key" not in str(refused)


def test_a_broken_check_names_the_field(client: httpx.Client) -> None:
    refused = problem(client.post("/probe/organizations", json={**GOOD, "slug": "No!"}), 422, "invalid")
    assert [error["field"] for error in refused["errors"]] == ["slug"]  # type: ignore[attr-defined]
    assert "No!" not in str(refused)


def test_a_row_still_in_use_is_a_conflict_and_a_missing_one_is_invalid(client: httpx.Client) -> None:
    problem(run(client, refuse("p_q_fkey", "23503")), 422, "invalid")
    problem(client.delete("/probe/organizations/00000000-0000-7000-8000-000000000000"), 403, "forbidden")


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_a_serialization_failure_is_tried_three_times(client: httpx.Client, code: str) -> None:
    probe.runs.pop(code, None)
    response = run(client, refuse("p", code), label=code)
    problem(response, 409, "contention")
    assert response.headers["retry-after"] == "1"
    assert probe.runs[code] == 3


def test_what_failed_once_and_succeeds_is_answered(client: httpx.Client, look: Look) -> None:
    look.execute("create sequence public.tries")  # which no rollback turns back
    look.execute("grant usage on sequence public.tries to brokerflow_app")
    probe.runs.pop("again", None)
    sql = f"select case nextval('public.tries') when 1 then ({refuse('p', '40001')})::text else 'done' end"
    assert run(client, sql, label="again").json() == ["done"]
    assert probe.runs["again"] == 2
    look.execute("drop sequence public.tries")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/probe/organizations/not-a-uuid", 404, "not_found"),
        ("GET", "/probe/organizations/%00", 404, "not_found"),
        ("GET", "/probe/organizations/../../etc/passwd", 404, "not_found"),
        ("PUT", "/probe/organizations", 405, "method_not_allowed"),
        ("HEAD", "/probe/organizations", 405, "method_not_allowed"),
        ("TRACE", "/probe/organizations", 405, "method_not_allowed"),
        ("GET", "/schema/nothing.json", 404, "not_found"),
        ("GET", "/schema/assets/../../main.py", 404, "not_found"),
        ("GET", "/probe/broken", 500, "internal"),
    ],
)
def test_what_the_router_refuses_is_a_problem_too(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    if method != "HEAD":
        assert "secret words" not in str(problem(response, status, code))
    assert ("allow" in response.headers) == (status == 405)


def test_a_row_of_nobody_is_not_found(client: httpx.Client, database: Database) -> None:
    made = client.post("/probe/organizations", json=GOOD, headers=enrolled(database.app_url).bearer).json()
    problem(client.get(f"/probe/organizations/{made['id']}"), 404, "not_found")


def denials(look: Look) -> list[tuple[object, ...]]:
    return look.execute(
        "select action, subject, reason, request_id from shared.audit_log where outcome = 'denied' order by id"
    ).fetchall()


def test_a_refused_command_leaves_a_denial(client: httpx.Client, look: Look) -> None:
    client.post("/probe/organizations", json=GOOD)
    client.post("/probe/organizations", json=GOOD, headers={"X-Request-Id": "the-second"})
    path = "/probe/organizations/00000000-0000-7000-8000-000000000000"
    client.patch(path, json=GOOD, headers={"X-Request-Id": "the-third"})
    client.patch(path, json=GOOD, headers={"X-Request-Id": "the-fourth", "X-Organization": "others"})
    assert denials(look) == [
        ("POST /probe/organizations", "/probe/organizations", "organizations_slug_key", "the-second"),
        ("PATCH /probe/organizations/{organization_id}", path, "not_found", "the-third"),
        ("PATCH /probe/organizations/{organization_id}", path, "actor_is_member", "the-fourth"),
    ]


def test_reading_typos_and_strangers_leave_none(client: httpx.Client, anybody: httpx.Client, look: Look) -> None:
    client.get("/probe/organizations/00000000-0000-7000-8000-000000000000")
    client.post("/probe/organizations", json={"title": ""})
    client.post("/probe/organizations", json={**GOOD, "slug": "No!"})
    anybody.post("/probe/organizations", json=GOOD)
    run(client, refuse("p", "XX000"))
    assert denials(look) == []
