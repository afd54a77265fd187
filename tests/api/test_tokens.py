"""Personal access tokens: shown once, limited by scope and time, revoked at once; and Idempotency-Key on them."""

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.shared import tokens
from tests.api.conftest import Caller, Json, Look, add_member, at_once, bearer, created, fields, problem

Enrol = Callable[..., Caller]

ALL = ["agreements:read", "agreements:write", "contacts:read", "organizations:write", "tokens:write"]


@pytest.fixture
def rita(enrol: Enrol) -> Caller:
    """Somebody with a session."""
    return enrol("rita", organization="north")


def mint(person: httpx.Client, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return person.post("/api/tokens", json={"name": "nightly import", "expires_in_days": 30} | body, headers=headers)


def how_many(look: Look) -> Any:
    row = look.execute("select count(*) from apiauth.personal_tokens").fetchone()
    return row[0] if row else None


def test_a_token_is_shown_once_and_then_by_its_hint(rita: Caller) -> None:
    answer = created(mint(rita))
    token = answer.pop("token")
    assert tokens.prefix_of(token) is tokens.Prefix.PERSONAL
    assert answer["token_hint"] == token[-4:]
    assert answer["scopes"] == ["agreements:read", "agreements:write"]
    listed = rita.get("/api/tokens")
    assert listed.json() == {"items": [answer | {"last_used_at": None}], "next_cursor": None}
    assert token not in listed.text


def test_a_token_acts_as_its_user_with_its_scopes(rita: Caller) -> None:
    answer = created(mint(rita, scopes=["contacts:read"]))
    whoami = rita.get("/api/whoami", headers=bearer(answer["token"])).json()
    assert whoami["kind"] == "personal_token"
    assert whoami["credential_id"] == answer["id"]
    assert (whoami["user_id"], whoami["organization"]) == (rita.user_id, "north")
    assert whoami["scopes"] == ["contacts:read"]
    (listed,) = rita.get("/api/tokens").json()["items"]
    assert listed["last_used_at"] is not None


def test_a_revoked_token_is_401_on_the_next_request(rita: Caller) -> None:
    answer = created(mint(rita))
    assert rita.get("/api/me", headers=bearer(answer["token"])).is_success
    assert rita.delete(f"/api/tokens/{answer['id']}").status_code == 204
    problem(rita.get("/api/me", headers=bearer(answer["token"])), 401, "unauthenticated")
    assert rita.get("/api/tokens").json()["items"] == []
    problem(rita.delete(f"/api/tokens/{answer['id']}"), 404, "not_found")


def test_an_expired_token_is_401_on_the_next_request(rita: Caller, look: Look) -> None:
    token = created(mint(rita, expires_in_days=1))["token"]
    assert rita.get("/api/me", headers=bearer(token)).is_success
    look.execute("update apiauth.personal_tokens set created_at = now() - interval '1 day', expires_at = now()")
    problem(rita.get("/api/me", headers=bearer(token)), 401, "unauthenticated")


def test_a_token_lives_for_a_day_to_a_year(rita: Caller, look: Look) -> None:
    for days in (1, 365):
        created(mint(rita, expires_in_days=days))
    lives = look.execute("select (expires_at - created_at)::text from apiauth.personal_tokens order by id").fetchall()
    assert lives == [("1 day",), ("365 days",)]
    for wrong in (0, -1, 366, 10**30, 1.5, "30", None, True):
        assert fields(problem(mint(rita, expires_in_days=wrong), 422, "invalid")) == ["expires_in_days"]
    assert how_many(look) == 2


def test_the_longest_token_is_made_every_time(rita: Caller) -> None:
    for _ in range(100):
        created(mint(rita, expires_in_days=365))


def test_a_scope_exists_in_the_database_or_nowhere(rita: Caller, look: Look) -> None:
    for scopes in (["agreements:all"], ["agreements:read", ""], [], ["AGREEMENTS:READ"]):
        assert fields(problem(mint(rita, scopes=scopes), 422, "invalid")) == ["scopes"]
    assert created(mint(rita, scopes=[*ALL, *ALL]))["scopes"] == ALL
    assert how_many(look) == 1


def test_a_name_is_present_and_not_endless(rita: Caller, look: Look) -> None:
    for name in ("", "  ", "x" * 101):
        assert fields(problem(mint(rita, name=name), 422, "invalid")) == ["name"]
    assert how_many(look) == 0


def test_a_token_without_the_scope_mints_and_revokes_none(rita: Caller, look: Look) -> None:
    answer = created(mint(rita))
    with_token = bearer(answer["token"])
    assert problem(mint(rita, with_token), 403, "insufficient_scope")["detail"]
    problem(rita.delete(f"/api/tokens/{answer['id']}", headers=with_token), 403, "insufficient_scope")
    assert how_many(look) == 1
    assert rita.get("/api/me", headers=with_token).is_success


def test_a_token_mints_no_scope_that_it_lacks(rita: Caller, look: Look) -> None:
    with_token = bearer(created(mint(rita, scopes=["tokens:write", "agreements:read"]))["token"])
    problem(mint(rita, with_token), 403, "insufficient_scope")
    problem(mint(rita, with_token, scopes=["contacts:read"]), 403, "insufficient_scope")
    assert created(mint(rita, with_token, scopes=["agreements:read"]))["scopes"] == ["agreements:read"]
    assert how_many(look) == 2


def test_nobody_sees_or_revokes_anothers_tokens(rita: Caller, enrol: Enrol) -> None:
    answer = created(mint(rita))
    stranger, colleague = enrol("wanda", organization="west"), enrol("carl")
    add_member(rita, rita.token, rita.organization, colleague.email, "owner")
    for other in (stranger, colleague):
        assert other.get("/api/tokens").json()["items"] == []
        problem(other.delete(f"/api/tokens/{answer['id']}"), 404, "not_found")
    problem(rita.delete(f"/api/tokens/{uuid.uuid4()}"), 404, "not_found")
    assert rita.get("/api/me", headers=bearer(answer["token"])).is_success


def test_tokens_are_listed_page_by_page_the_newest_first(rita: Caller) -> None:
    names = [created(mint(rita, name=f"token {number}"))["name"] for number in range(5)]
    pages = []
    asked: dict[str, str] = {"limit": "2"}
    while asked:
        page = rita.get("/api/tokens", params=asked).json()
        pages.append([item["name"] for item in page["items"]])
        asked = {"limit": "2", "cursor": page["next_cursor"]} if page["next_cursor"] else {}
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [name for page in pages for name in page] == names[::-1]


def test_minting_and_revoking_are_in_the_audit_log(rita: Caller, look: Look) -> None:
    answer = created(mint(rita))
    rita.delete(f"/api/tokens/{answer['id']}")
    rows = look.execute(
        "select action, user_id::text from shared.audit_log where subject = %s order by id", [f"token/{answer['id']}"]
    )
    assert rows.fetchall() == [("token.create", rita.user_id), ("token.revoke", rita.user_id)]


def test_a_repeated_request_reads_the_stored_answer(rita: Caller, look: Look) -> None:
    key = {"Idempotency-Key": "import-1"}
    first, second = mint(rita, key), mint(rita, key)
    assert created(first) == created(second)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert how_many(look) == 1
    row = look.execute("select status, response from shared.idempotency_keys").fetchone()
    assert row is not None
    assert first.json()["token"].encode() not in row[1], "the stored answer is sealed"


def test_a_key_serves_one_request(rita: Caller, look: Look) -> None:
    key = {"Idempotency-Key": "import-1"}
    created(mint(rita, key))
    problem(mint(rita, key, name="another"), 422, "idempotency_key_reused")
    other_route = rita.post("/api/organizations", json={"title": "N", "slug": "n"}, headers=key)
    problem(other_route, 422, "idempotency_key_reused")
    assert how_many(look) == 1


def test_a_key_is_its_users_own(rita: Caller, enrol: Enrol, look: Look) -> None:
    key = {"Idempotency-Key": "import-1"}
    assert created(mint(rita, key))["id"] != created(mint(enrol("wanda"), key))["id"]
    assert how_many(look) == 2


def test_a_refused_request_leaves_its_key_free(rita: Caller, look: Look) -> None:
    key = {"Idempotency-Key": "import-1"}
    problem(mint(rita, key, scopes=["nonsense"]), 422, "invalid")
    problem(mint(rita, key, expires_in_days=0), 422, "invalid")
    created(mint(rita, key))
    assert how_many(look) == 1


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "sch\xf6n"])
def test_a_key_is_visible_ascii(rita: Caller, look: Look, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    response = rita.post("/api/tokens", json={"name": "n", "expires_in_days": 1}, headers=headers)
    problem(response, 422, "invalid")
    assert how_many(look) == 0


def test_of_many_at_once_with_one_key_one_has_an_effect(rita: Caller, look: Look) -> None:
    answers = at_once([lambda: mint(rita, {"Idempotency-Key": "import-1"})] * 12)
    assert how_many(look) == 1
    made: list[Json] = []
    for answer in answers:
        if answer.status_code == 201:
            made.append(answer.json())
        else:
            problem(answer, 409, "idempotency_in_flight")
            assert answer.headers["retry-after"]
    assert made
    assert made == made[:1] * len(made)
