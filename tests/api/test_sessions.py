"""Sessions: listed, ended one by one and everywhere, by sessions only and at once."""

import uuid
from collections.abc import Callable

import httpx

from tests.api.conftest import Caller, Look, bearer, created, log_in, problem

Enrol = Callable[..., Caller]


def test_a_user_sees_where_he_is_logged_in(enrol: Enrol, client: httpx.Client) -> None:
    rita, _ = enrol("rita"), enrol("seth")
    later = log_in(client, rita.email)
    items = rita.get("/api/sessions").json()["items"]
    assert [item["is_current"] for item in items] == [False, True]
    assert items[0].keys() == {"id", "created_at", "last_seen_at", "expires_at", "is_current"}
    assert later not in str(items)


def test_an_ended_session_is_401_on_the_next_request(enrol: Enrol, client: httpx.Client) -> None:
    rita, seth = enrol("rita"), enrol("seth")
    later = log_in(client, rita.email)
    [session, own] = rita.get("/api/sessions").json()["items"]
    problem(seth.delete(f"/api/sessions/{session['id']}"), 404, "not_found")
    assert client.get("/api/me", headers=bearer(later)).is_success
    assert rita.delete(f"/api/sessions/{session['id']}").status_code == 204
    problem(client.get("/api/me", headers=bearer(later)), 401, "unauthenticated")
    assert rita.get("/api/sessions").json()["items"] == [own]
    for gone in (session["id"], uuid.uuid4()):
        problem(rita.delete(f"/api/sessions/{gone}"), 404, "not_found")


def test_logging_out_everywhere_ends_every_session_and_no_token(enrol: Enrol, client: httpx.Client, look: Look) -> None:
    rita, seth = enrol("rita"), enrol("seth")
    others = [log_in(client, rita.email) for _ in range(2)]
    token = created(rita.post("/api/tokens", json={"name": "x", "expires_in_days": 1}))["token"]
    response = rita.delete("/api/sessions")
    assert response.status_code == 204
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    for ended in (rita.token, *others):
        problem(client.get("/api/me", headers=bearer(ended)), 401, "unauthenticated")
    assert client.get("/api/me", headers=bearer(token)).is_success
    assert seth.get("/api/me").is_success
    [[detail]] = look.execute("select detail from shared.audit_log where action = 'session.revoke'").fetchall()
    assert len(detail["session_ids"]) == 3


def test_an_ended_or_expired_session_is_not_listed(enrol: Enrol, client: httpx.Client, look: Look) -> None:
    rita = enrol("rita")
    for end in ("revoked_at = now()", "created_at = now() - interval '1 day', expires_at = now()",
                "last_seen_at = now() - idle"):  # fmt: skip
        log_in(client, rita.email)
        look.execute(f"update apiauth.sessions set {end} where id = (select max(id::text)::uuid from apiauth.sessions)")
    assert [item["is_current"] for item in rita.get("/api/sessions").json()["items"]] == [True]
