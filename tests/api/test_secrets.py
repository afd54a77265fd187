"""Secrets over HTTP: kept to the byte, versioned, audited, sealed to where they belong."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.secretstore.values import is_deeper
from tests.api.conftest import Caller, Json, Look, add_member, at_once, bearer, created, fields, problem
from tests.api.steps import count

CANARY = "canary-7f3a-Zaunkönig"
VALUES = [
    "null", "true", "0", '""', "[]", "{}", '"plain"', "12345678901234567890123", "1.50", "-0.0", "1e400", "1E-7",
    '{"a": {"b": [1, {"c": null}]}, "d": [[], {}]}', '{"b":1, "a" : 2}', '{"a":1,"a":2}', '"\\u0000"', '"\\u00e9"',
    '{"\\ud83d\\ude00":["\\uD83D\\uDE00"]}', "-0", "1.10", "-1E+400", "[ 1 , 2 ]",
    "9007199254740993", '{"":""}', '"\U0010ffff\ufffe\u2028"',
    '"é 漢字 🐦 \\" \\\\ \\/ \\n"', '"infinity"', "[" * 64 + "]" * 64, '"' + "x" * (1024 * 1024 - 2) + '"',
]  # fmt: skip


def put(caller: httpx.Client, key: str, value: object, **body: object) -> httpx.Response:
    return caller.put(f"/api/secrets/{key}", json={"value": value, **body})


def put_raw(caller: httpx.Client, key: str, value: str, **options: Any) -> httpx.Response:
    body = f'{{"value": {value}}}'.encode()
    return caller.put(f"/api/secrets/{key}", content=body, headers={"content-type": "application/json"}, **options)


def is_put(response: httpx.Response) -> Json:
    assert response.status_code == 200, response.text
    body: Json = response.json()
    return body


def value_of(caller: httpx.Client, key: str, **parameters: object) -> Any:
    response = caller.get(f"/api/secrets/{key}", params=parameters)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return response.json()["value"]


def audited(look: Look, key: str) -> list[tuple[Any, ...]]:
    return look.execute(
        "select action, outcome, reason, (detail ->> 'version')::int from shared.audit_log "
        "where subject like 'secret/%%' and subject like %s order by id",
        [f"%/{key}"],
    ).fetchall()


def token(caller: Caller, *scopes: str) -> dict[str, str]:
    body = {"name": "a token", "expires_in_days": 1, "scopes": scopes}
    return bearer(created(caller.post("/api/tokens", json=body))["token"])


def environment(look: Look, organization: Json, slug: str) -> UUID:
    """Make an environment of an organization."""
    row = look.execute(
        "with p as (insert into shared.projects (organization_id, name, slug) values (%s, %s, %s) returning id) "
        "insert into shared.environments (organization_id, project_id, slug, type) "
        "select %s, p.id, %s, 'DEVELOPMENT' from p returning id",
        [organization["id"], slug, slug, organization["id"], slug],
    ).fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:20])
def test_any_value_comes_back_to_the_byte(owner: Caller, value: str) -> None:
    assert put_raw(owner, "any/value", value).status_code == 200
    response = owner.get("/api/secrets/any/value")
    assert response.content == b'{"key":"any/value","version":1,"value":' + value.encode() + b"}"
    assert response.headers["etag"] == '"1"'


def test_a_value_is_described_as_any_json(client: httpx.Client) -> None:
    schemas = client.get("/schema/openapi.json").json()["components"]["schemas"]
    for name in ("NewValue", "ReadValue"):
        value = schemas[name]["properties"]["value"]
        assert (value["description"], "type" in value) == ("Any JSON value.", False)


def nested(value: str, depth: int) -> str:
    return '[{"a":' * (depth // 2) + value + "}]" * (depth // 2)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.one_of(
    st.integers(-(2**80), 2**80).map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(lambda number: format(number, "f")),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
JSON_TEXTS = st.recursive(
    st.one_of(
        st.sampled_from(["null", "true", "false", "[]", "{}", '""']),
        NUMBERS,
        TEXTS.map(json.dumps),
        TEXTS.map(lambda text: json.dumps(text, ensure_ascii=False)),
    ),
    lambda parts: st.one_of(
        st.lists(parts).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(TEXTS.map(json.dumps), parts).map(
            lambda items: "{" + ",".join(f"{name}:{value}" for name, value in items.items()) + "}"
        ),
        st.builds(nested, parts, st.integers(0, 40)),
    ),
    max_leaves=20,
).filter(lambda text: not is_deeper(text.encode(), 64))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=JSON_TEXTS)
def test_whatever_json_comes_back_to_the_byte(owner: Caller, text: str) -> None:
    version = is_put(put_raw(owner, "any", text))["version"]
    answer = owner.get("/api/secrets/any")
    assert answer.content == f'{{"key":"any","version":{version},"value":{text}}}'.encode()


@pytest.mark.parametrize(
    ("value", "status", "code", "told"),
    [
        ('"' + "x" * (1024 * 1024 - 1) + '"', 413, "too_large", "1048576"),
        ("[" * 65 + "]" * 65, 422, "invalid", "64"),
        ('{"a":' * 65 + "1" + "}" * 65, 422, "invalid", "64"),
        ("tru", 400, "malformed", "JSON"),
        ("01", 400, "malformed", "JSON"),
        ('"\\x"', 400, "malformed", "JSON"),
        ("", 400, "malformed", "JSON"),
        ('"\\ud800"', 400, "malformed", "JSON"),
        ('"\\udfff\\ud83d"', 400, "malformed", "JSON"),
        ('{"\\udc00":1}', 400, "malformed", "JSON"),
    ],
    ids=[
        "large",
        "deep list",
        "deep object",
        "word",
        "number",
        "escape",
        "nothing",
        "half a pair",
        "pair the wrong way",
        "half a pair in a name",
    ],
)
def test_what_is_no_value_is_refused_with_the_limit(
    owner: Caller, value: str, status: int, code: str, told: str
) -> None:
    assert told in json.dumps(problem(put_raw(owner, "k", value), status, code))
    problem(owner.get("/api/secrets/k"), 404, "not_found")


def test_bytes_that_are_no_text_are_refused(owner: Caller) -> None:
    headers = {"content-type": "application/json"}
    response = owner.put("/api/secrets/k", content=b'{"value": "\xff"}', headers=headers)
    assert fields(problem(response, 422, "invalid")) == ["value"]


def test_a_key_has_versions_which_say_who_put_them(owner: Caller) -> None:
    for number in (1, 2, 3):
        answer = is_put(put(owner, "db/main", f"value {number}"))
        assert (answer["key"], answer["version"], "value" in answer) == ("db/main", number, False)
    assert value_of(owner, "db/main") == "value 3"
    assert value_of(owner, "db/main", version=2) == "value 2"
    problem(owner.get("/api/secrets/db/main", params={"version": 4}), 404, "not_found")
    items = owner.get("/api/secrets/db/main/versions").json()["items"]
    assert [(item["version"], item["created_by"]) for item in items] == [(n, owner.user_id) for n in (3, 2, 1)]
    page = owner.get("/api/secrets/db/main/versions", params={"limit": 2}).json()
    rest = owner.get("/api/secrets/db/main/versions", params={"cursor": page["next_cursor"]}).json()
    assert [item["version"] for item in rest["items"]] == [1]


def test_compare_and_set(owner: Caller) -> None:
    assert put(owner, "k", 1, expected_version=0).status_code == 200
    assert "at version 1" in problem(put(owner, "k", 2, expected_version=0), 412, "version_mismatch")["detail"]
    assert put(owner, "k", 2, expected_version=1).status_code == 200
    for stale in (0, 1, 3):
        problem(put(owner, "k", 3, expected_version=stale), 412, "version_mismatch")
    problem(put(owner, "new", 1, expected_version=1), 412, "version_mismatch")
    problem(owner.get("/api/secrets/new"), 404, "not_found")
    headers = {"If-Match": '"2"'}
    assert owner.put("/api/secrets/k", json={"value": 3}, headers=headers).headers["etag"] == '"3"'
    problem(owner.put("/api/secrets/k", json={"value": 4}, headers=headers), 412, "version_mismatch")
    both = owner.put("/api/secrets/k", json={"value": 4, "expected_version": 3}, headers=headers)
    assert fields(problem(both, 422, "invalid")) == ["expected_version"]
    problem(owner.delete("/api/secrets/k", headers=headers), 412, "version_mismatch")
    assert value_of(owner, "k") == 3


def test_of_a_hundred_who_expect_one_version_one_wins(owner: Caller, look: Look) -> None:
    assert put(owner, "k", 0).status_code == 200
    answers = at_once([lambda n=n: put(owner, "k", n, expected_version=1) for n in range(100)])  # type: ignore[misc]
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 99
    [winner] = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert value_of(owner, "k") == winner
    assert count(look, "select count(*) from secretstore.secret_versions") == 2
    assert audited(look, "k").count(("secret.write", "denied", "secrets_version_matches", None)) == 99


def test_a_thousand_puts_over_ten_keys_number_without_a_gap(owner: Caller, look: Look) -> None:
    for _ in range(10):
        calls = [lambda n=n: put(owner, f"k{n % 10}", n) for n in range(100)]
        assert {answer.status_code for answer in at_once(calls)} == {200}
    rows = look.execute(
        "select s.version, array_agg(v.version order by v.version) from secretstore.secrets as s "
        "join secretstore.secret_versions as v on v.secret_id = s.id group by s.id"
    ).fetchall()
    assert rows == [(100, list(range(1, 101)))] * 10


def test_what_changed_meanwhile_is_not_undeleted_or_destroyed(owner: Caller) -> None:
    for value in (1, 2):
        put(owner, "k", value)
    stale, right = {"If-Match": '"1"'}, {"If-Match": '"2"'}
    assert owner.delete("/api/secrets/k", headers=right).status_code == 204
    problem(owner.post("/api/secrets/k/undelete", headers=stale), 412, "version_mismatch")
    is_put(owner.post("/api/secrets/k/undelete", headers=right))
    problem(owner.post("/api/secrets/k/destroy", json={"version": 1}, headers=stale), 412, "version_mismatch")
    assert value_of(owner, "k", version=1) == 1
    assert owner.post("/api/secrets/k/destroy", json={"version": 1}, headers=right).status_code == 204


def test_a_rollback_that_is_replayed_reads_nothing(owner: Caller, look: Look) -> None:
    """Nor does it ask for what was destroyed meanwhile: the answer is stored."""
    for value in (1, 2):
        put(owner, "k", value)
    again = {"Idempotency-Key": "once"}
    first = owner.post("/api/secrets/k/rollback", json={"version": 1}, headers=again)
    assert is_put(first)["version"] == 3
    reads = audited(look, "k")
    assert owner.post("/api/secrets/k/destroy", json={"version": 1}).status_code == 204
    replayed = owner.post("/api/secrets/k/rollback", json={"version": 1}, headers=again)
    assert (replayed.json(), replayed.headers["Idempotency-Replayed"]) == (first.json(), "true")
    assert audited(look, "k")[: len(reads)] == reads
    assert audited(look, "k")[len(reads) :] == [("secret.destroy", "done", None, 1)]


def test_rollback_makes_a_new_version_equal_to_the_old(owner: Caller, look: Look) -> None:
    put(owner, "k", {"a": 1})
    put(owner, "k", {"a": 2})
    answer = is_put(owner.post("/api/secrets/k/rollback", json={"version": 1}))
    assert (answer["version"], value_of(owner, "k")) == (3, {"a": 1})
    [latest, *_] = owner.get("/api/secrets/k/versions").json()["items"]
    assert (latest["version"], latest["restores"]) == (3, 1)
    rows = look.execute("select ciphertext from secretstore.secret_versions where version in (1, 3)").fetchall()
    assert rows[0] != rows[1], "it is sealed anew"
    assert audited(look, "k")[2:4] == [("secret.read", "done", None, 1), ("secret.rollback", "done", None, 3)]
    problem(owner.post("/api/secrets/k/rollback", json={"version": 9}), 404, "not_found")
    problem(owner.post("/api/secrets/none/rollback", json={"version": 1}), 404, "not_found")
    stale = owner.post("/api/secrets/k/rollback", json={"version": 1}, headers={"If-Match": '"2"'})
    problem(stale, 412, "version_mismatch")


def test_a_rollback_with_a_key_happens_once(owner: Caller) -> None:
    put(owner, "k", 1)
    put(owner, "k", 2)
    headers = {"Idempotency-Key": "back"}
    answers = [owner.post("/api/secrets/k/rollback", json={"version": 1}, headers=headers) for _ in range(2)]
    assert {answer.content for answer in answers} == {answers[0].content}
    assert is_put(answers[1])["version"] == 3
    assert owner.get("/api/secrets/k/versions").json()["items"][0]["version"] == 3


def test_a_put_with_a_key_happens_once_and_its_answer_holds_no_value(owner: Caller, look: Look) -> None:
    headers = {"Idempotency-Key": "put"}
    for _ in range(2):
        assert owner.put("/api/secrets/k", json={"value": CANARY}, headers=headers).json()["version"] == 1
    changed = owner.put("/api/secrets/k", json={"value": "another"}, headers=headers)
    problem(changed, 422, "idempotency_key_reused")


def test_delete_undelete_and_put_again(owner: Caller) -> None:
    put(owner, "k", 1)
    assert owner.delete("/api/secrets/k").status_code == 204
    for call in (owner.get, owner.delete):
        problem(call("/api/secrets/k"), 404, "not_found")
    assert owner.get("/api/secrets").json()["items"] == []
    assert owner.get("/api/secrets/count").json() == {"count": 0}
    assert [item["version"] for item in owner.get("/api/secrets/k/versions").json()["items"]] == [1]
    assert is_put(owner.post("/api/secrets/k/undelete"))["version"] == 1
    assert value_of(owner, "k") == 1
    problem(owner.post("/api/secrets/k/undelete"), 404, "not_found")
    problem(owner.post("/api/secrets/none/undelete"), 404, "not_found")
    owner.delete("/api/secrets/k")
    problem(put(owner, "k", 2, expected_version=1), 412, "version_mismatch")
    assert is_put(put(owner, "k", 2, expected_version=0))["version"] == 2
    assert value_of(owner, "k") == 2


def test_a_destroyed_version_opens_for_nobody_and_leaves_a_tombstone(owner: Caller) -> None:
    put(owner, "k", 1)
    put(owner, "k", 2)
    assert owner.post("/api/secrets/k/destroy", json={"version": 1}).status_code == 204
    problem(owner.get("/api/secrets/k", params={"version": 1}), 404, "not_found")
    problem(owner.post("/api/secrets/k/rollback", json={"version": 1}), 404, "not_found")
    problem(owner.post("/api/secrets/k/destroy", json={"version": 1}), 404, "not_found")
    items = owner.get("/api/secrets/k/versions").json()["items"]
    assert [item["destroyed_at"] is None for item in items] == [True, False]
    assert value_of(owner, "k") == 2


def test_versions_beyond_the_limit_are_destroyed(owner: Caller) -> None:
    put(owner, "k", 1, max_versions=2)
    for number in (2, 3, 4):
        put(owner, "k", number)
    assert [value_of(owner, "k", version=number) for number in (3, 4)] == [3, 4]
    for number in (1, 2):
        problem(owner.get("/api/secrets/k", params={"version": number}), 404, "not_found")


def test_an_expired_secret_is_not_there(owner: Caller, look: Look) -> None:
    put(owner, "k", 1, expires_at="2099-01-01T00:00:00Z")
    assert value_of(owner, "k") == 1
    is_put(put(owner, "k", 1, expires_at="2020-01-01T00:00:00Z"))
    problem(owner.get("/api/secrets/k"), 404, "not_found")
    assert owner.get("/api/secrets").json()["items"] == []
    assert audited(look, "k")[-1][:3] == ("secret.read", "denied", "expired")
    assert is_put(put(owner, "k", 2, expected_version=0))["expires_at"] is None
    assert fields(problem(put(owner, "k", 2, expires_at="2099-01-01T00:00:00"), 422, "invalid")) == ["expires_at"]


@pytest.mark.parametrize(
    "key",
    ["a b", "ä", "a%25b", "K\u0430", "a\u2215b", "x" * 256, "a//b", "a/%2e/b", "a/%2e%2e/b", "a/", "/a", "a:b", "a%00b",
     "versions", "rollback", "%2Fa%2F"],
)  # fmt: skip
def test_a_key_that_is_none_is_refused_and_never_found(owner: Caller, key: str) -> None:
    response = owner.put(f"/api/secrets/{key}", json={"value": 1})
    assert fields(problem(response, 422, "invalid")) in (["key"], []), "PostgreSQL does not name where a NUL was"
    assert owner.get("/api/secrets/count").json() == {"count": 0}
    assert owner.get(f"/api/secrets/{key}").status_code in (404, 422)


def test_a_word_of_the_routes_ends_no_key(owner: Caller) -> None:
    for key in ("a/versions", "a/b/rollback", "a/undelete", "a/destroy", "batch", "count"):
        problem(put(owner, key, 1), 405, "method_not_allowed")


@pytest.mark.parametrize("key", ["a", "A.b_c-d/1", "x" * 255, "..a", "a/versions.old", "batch/count", "who/knows", "-"])
def test_a_key_is_a_path(owner: Caller, key: str) -> None:
    assert is_put(put(owner, key, key))["key"] == key
    assert value_of(owner, key) == key
    assert value_of(owner, key.replace("/", "%2F")) == key
    assert [item["key"] for item in owner.get("/api/secrets").json()["items"]] == [key]
    assert owner.get(f"/api/secrets/{key}/versions").json()["items"][0]["version"] == 1


def test_lists_go_by_a_literal_prefix_and_hold_no_value(owner: Caller) -> None:
    keys = ["a/1", "a/2", "a_b", "axb", "b", "a.b"]
    for key in keys:
        put(owner, key, CANARY)
    response = owner.get("/api/secrets", params={"prefix": "a/"})
    assert [item["key"] for item in response.json()["items"]] == ["a/1", "a/2"]
    assert CANARY not in response.text
    for prefix, expected in {"a_": 1, "%": 0, "_": 0, "a": 5, "": 6, "\\": 0, "a.": 1, "A": 0}.items():
        assert len(owner.get("/api/secrets", params={"prefix": prefix}).json()["items"]) == expected, prefix
        assert owner.get("/api/secrets/count", params={"prefix": prefix}).json() == {"count": expected}
    seen, cursor = [], None
    while True:
        page = owner.get("/api/secrets", params={"limit": 4, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["key"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == sorted(keys)


def test_a_batch_answers_by_key(owner: Caller, look: Look) -> None:
    put(owner, "a", 1)
    put(owner, "b/c", {"x": [1.50]})
    put(owner, "gone", 1)
    owner.delete("/api/secrets/gone")
    response = owner.post("/api/secrets/batch", json={"keys": ["a", "b/c", "gone", "none", "a"]})
    body = response.json()
    assert response.status_code == 200
    assert {key: value["value"] for key, value in body["values"].items()} == {"a": 1, "b/c": {"x": [1.5]}}
    assert {key: error["code"] for key, error in body["errors"].items()} == dict.fromkeys(["gone", "none"], "not_found")
    assert [audited(look, key)[-1][:3] for key in ("a", "b/c", "gone", "none")] == [
        ("secret.read", "done", None), ("secret.read", "done", None),
        ("secret.read", "denied", "deleted"), ("secret.read", "denied", "missing"),
    ]  # fmt: skip
    for keys in ([], ["k"] * 101, ["x" * 256], "a", None):
        problem(owner.post("/api/secrets/batch", json={"keys": keys}), 422, "invalid")
    hundred = owner.post("/api/secrets/batch", json={"keys": [f"k{n}" for n in range(100)]})
    assert len(hundred.json()["errors"]) == 100


def test_another_organizations_key_is_as_one_that_is_not(owner: Caller, other: Caller, look: Look) -> None:
    put(owner, "shared/key", CANARY)
    put(owner, "versioned", 1)
    calls: list[Callable[[Caller, str], httpx.Response]] = [
        lambda caller, key: caller.get(f"/api/secrets/{key}"),
        lambda caller, key: caller.delete(f"/api/secrets/{key}"),
        lambda caller, key: caller.get(f"/api/secrets/{key}/versions"),
        lambda caller, key: caller.post(f"/api/secrets/{key}/rollback", json={"version": 1}),
        lambda caller, key: caller.post(f"/api/secrets/{key}/undelete"),
        lambda caller, key: caller.post(f"/api/secrets/{key}/destroy", json={"version": 1}),
    ]
    for call in calls:
        answers = [problem(call(other, key), 404, "not_found") for key in ("shared/key", "no/such")]
        for answer in answers:
            answer.pop("request_id")
        assert answers[0] == answers[1]
    assert is_put(put(other, "shared/key", "his own"))["version"] == 1
    assert value_of(owner, "shared/key") == CANARY
    assert {key["key"] for key in other.get("/api/secrets").json()["items"]} == {"shared/key"}


def test_environments_are_scopes_of_their_own(owner: Caller, other: Caller, look: Look) -> None:
    one, two = (environment(look, owner.organization, slug) for slug in ("one", "two"))
    his = environment(look, other.organization, "his")
    put(owner, "k", "organization")
    for each in (one, two):
        assert owner.put(f"/api/secrets/k?environment={each}", json={"value": str(each)}).json()["version"] == 1
    assert [value_of(owner, "k", environment=each) for each in (one, two)] == [str(one), str(two)]
    assert value_of(owner, "k") == "organization"
    owner.put(f"/api/secrets/only?environment={one}", json={"value": 1})
    problem(owner.get(f"/api/secrets/only?environment={two}"), 404, "not_found")
    problem(owner.get("/api/secrets/only"), 404, "not_found")
    assert owner.get(f"/api/secrets/count?environment={one}").json() == {"count": 2}
    for each in (his, UUID(int=0)):
        problem(owner.get(f"/api/secrets/k?environment={each}"), 404, "not_found")
        problem(owner.put(f"/api/secrets/k?environment={each}", json={"value": 1}), 404, "not_found")
        problem(owner.get(f"/api/secrets?environment={each}"), 404, "not_found")
        problem(owner.get(f"/api/secrets/count?environment={each}"), 404, "not_found")
    assert fields(problem(owner.get("/api/secrets/k?environment=dev"), 422, "invalid")) == ["environment"]


def test_an_environments_key_has_its_own_scope_and_no_other(owner: Caller, client: httpx.Client, look: Look) -> None:
    path = f"/api/organizations/{owner.broker_id}"
    project = created(owner.post(f"{path}/projects", json={"name": "Web", "slug": "web"}))
    one, two = (
        created(owner.post(f"/api/projects/{project['id']}/environments", json={"slug": slug, "type": "PRODUCTION"}))
        for slug in ("one", "two")
    )
    put(owner, "k", "organization")
    for each in (one, two):
        owner.put(f"/api/secrets/k?environment={each['id']}", json={"value": each["slug"]})
    key = bearer(one["secret_key"])
    assert client.get("/api/secrets/k", headers=key).json()["value"] == "one"
    assert client.get(f"/api/secrets/k?environment={one['id']}", headers=key).json()["value"] == "one"
    assert is_put(client.put("/api/secrets/k", json={"value": "anew"}, headers=key))["environment_id"] == one["id"]
    assert client.get("/api/secrets/count", headers=key).json() == {"count": 1}
    assert len(client.get("/api/secrets/k/versions", headers=key).json()["items"]) == 2
    for other in (two["id"], UUID(int=0)):
        problem(client.get(f"/api/secrets/k?environment={other}", headers=key), 404, "not_found")
        problem(client.put(f"/api/secrets/k?environment={other}", json={"value": 1}, headers=key), 404, "not_found")
        problem(client.get(f"/api/secrets?environment={other}", headers=key), 404, "not_found")
    rows = look.execute(
        "select distinct credential_kind::text, environment_id::text, user_id from shared.audit_log "
        "where subject = %s and credential_kind = 'secret_key'",
        [f"secret/{owner.broker_id}/{one['id']}/k"],
    ).fetchall()
    assert rows == [("secret_key", one["id"], None)]


def test_an_organizations_token_reaches_all_of_it(owner: Caller, client: httpx.Client, look: Look) -> None:
    place = environment(look, owner.organization, "one")
    put(owner, "k", "organization")
    owner.put(f"/api/secrets/k?environment={place}", json={"value": "one"})
    path = f"/api/organizations/{owner.broker_id}/tokens"
    program = created(owner.post(path, json={"name": "deploy", "scopes": ["secrets:read"]}))
    headers = bearer(program["token"])
    assert client.get("/api/secrets/k", headers=headers).json()["value"] == "organization"
    assert client.get(f"/api/secrets/k?environment={place}", headers=headers).json()["value"] == "one"
    problem(client.delete("/api/secrets/k", headers=headers), 403, "insufficient_scope")


def test_scopes_are_needed_and_their_denials_recorded(client: httpx.Client, owner: Caller, look: Look) -> None:
    put(owner, "k", 1)
    reads, writes = token(owner, "secrets:read"), token(owner, "secrets:write")
    assert client.get("/api/secrets/k", headers=reads).json()["value"] == 1
    assert client.put("/api/secrets/k", json={"value": 2}, headers=writes).status_code == 200
    denied: dict[str, list[str]] = {"k": [], "another": [], "": []}
    for method, path, body, headers, action, keys in (
        ("PUT", "/k", {"value": 3}, reads, "secret.write", ["k"]),
        ("GET", "/k", None, writes, "secret.read", ["k"]),
        ("GET", "", None, writes, "secret.list", [""]),
        ("GET", "/count", None, writes, "secret.list", [""]),
        ("GET", "/k/versions", None, writes, "secret.versions", ["k"]),
        ("GET", "/k/who", None, reads, "secret.who", ["k"]),
        ("POST", "/batch", {"keys": ["k", "another"]}, writes, "secret.read", ["k", "another"]),
        ("POST", "/k/rollback", {"version": 1}, writes, "secret.rollback", ["k"]),
    ):
        problem(client.request(method, f"/api/secrets{path}", json=body, headers=headers), 403, "insufficient_scope")
        for key in keys:
            denied[key].append(action)
    for key, actions in denied.items():
        rows = [row[:3] for row in audited(look, key) if row[1] == "denied"]
        assert rows == [(action, "denied", "credential_scope") for action in actions]


def test_roles_are_needed_and_their_denials_recorded(
    client: httpx.Client, owner: Caller, enrol: Callable[..., Caller], look: Look
) -> None:
    put(owner, "k", 2)
    agent, viewer = enrol("ann"), enrol("vic")
    for person, role in ((agent, "agent"), (viewer, "viewer")):
        add_member(client, owner.token, owner.organization, person.email, role)
    assert value_of(agent, "k") == 2
    problem(put(agent, "k", 3), 403, "forbidden")
    problem(viewer.get("/api/secrets/k"), 403, "forbidden")
    assert audited(look, "k")[-1][:3] == ("secret.read", "denied", "member_role")
    problem(client.get("/api/secrets/k"), 401, "unauthenticated")
    problem(enrol("nobody").get("/api/secrets/k"), 403, "forbidden")


def test_reads_writes_and_denials_each_leave_a_row(owner: Caller, look: Look) -> None:
    put(owner, "k", 1)
    request_id = owner.get("/api/secrets/k").headers["x-request-id"]
    owner.get("/api/secrets/k?version=2")
    put(owner, "k", 2, expected_version=7)
    owner.delete("/api/secrets/k")
    owner.get("/api/secrets/k")
    owner.post("/api/secrets/k/undelete")
    owner.post("/api/secrets/k/destroy", json={"version": 1})
    owner.get("/api/secrets/k")
    assert audited(look, "k") == [
        ("secret.write", "done", None, 1),
        ("secret.read", "done", None, 1),
        ("secret.read", "denied", "missing_version", 2),
        ("secret.write", "denied", "secrets_version_matches", None),
        ("secret.delete", "done", None, 1),
        ("secret.read", "denied", "deleted", 1),
        ("secret.undelete", "done", None, 1),
        ("secret.destroy", "done", None, 1),
        ("secret.read", "denied", "destroyed", 1),
    ]
    row = look.execute(
        "select user_id::text, organization_id::text, credential_kind::text, detail ->> 'address', subject "
        "from shared.audit_log where request_id = %s",
        [request_id],
    ).fetchall()
    subject = f"secret/{owner.broker_id}/-/k"
    assert row == [(owner.user_id, owner.broker_id, "session", "127.0.0.1", subject)]


def test_no_column_and_no_log_holds_a_value(owner: Caller, look: Look, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        put(owner, "k", {"password": CANARY}, expected_version=0)
        put(owner, "k", {"password": CANARY}, expected_version=0)
        owner.put("/api/secrets/k", json={"value": CANARY, "unknown": 1})
        owner.put("/api/secrets/k", json={"value": CANARY, "expected_version": "x"})
        put_raw(owner, "k", f'"{CANARY}')
        owner.put("/api/secrets/k", json={"value": CANARY}, headers={"Idempotency-Key": "k"})
        assert CANARY in owner.get("/api/secrets/k").text
        look.execute("alter table secretstore.secret_versions disable trigger all")
        look.execute("update secretstore.secret_versions set ciphertext = wrapped_key")
        assert owner.get("/api/secrets/k").status_code == 500
    for needle in (CANARY, json.dumps(CANARY)[1:-1], CANARY.encode().hex()):
        assert needle not in caplog.text
        tables = look.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables "
            "where schemaname in ('shared', 'apiauth', 'secretstore', 'agreement')"
        ).fetchall()
        for (table,) in tables:
            assert count(look, f"select count(*) from {table} as t where position(%s in t::text) > 0", needle) == 0


FLIPS = {
    "ciphertext": "set_bit(ciphertext, (%s * 7919) %% (length(ciphertext) * 8), "
    "1 - get_bit(ciphertext, (%s * 7919) %% (length(ciphertext) * 8)))",
    "wrapped_key": "set_bit(wrapped_key, (%s * 31) %% (length(wrapped_key) * 8), "
    "1 - get_bit(wrapped_key, (%s * 31) %% (length(wrapped_key) * 8)))",
}


@pytest.mark.parametrize("column", FLIPS)
def test_a_flipped_bit_is_an_error_of_integrity_and_never_a_wrong_value(owner: Caller, look: Look, column: str) -> None:
    put(owner, "k", CANARY)
    look.execute("alter table secretstore.secret_versions disable trigger all")
    look.execute("create table public.whole as select * from secretstore.secret_versions")
    for number in range(40):
        look.execute(f"update secretstore.secret_versions set {column} = {FLIPS[column]}".encode(), [number, number])
        body = problem(owner.get("/api/secrets/k"), 500, "secret_integrity")
        assert body["axiom"] == "A11"
        look.execute(
            f"update secretstore.secret_versions as v set {column} = w.{column} from public.whole as w".encode()
        )
    assert value_of(owner, "k") == CANARY
    assert [row[:3] for row in audited(look, "k")].count(("secret.read", "denied", "secret_integrity")) == 40


def flipped_uuid(column: str) -> str:
    """A uuid with a bit flipped."""
    return f"encode(set_bit(uuid_send({column}), 5, 1 - get_bit(uuid_send({column}), 5)), 'hex')::uuid"


# A moment's last bit is a microsecond, and its highest lies beyond what Python calls a year.
OF_VERSIONS = {
    "secret_id": [flipped_uuid("secret_id")],
    "version": ["version # 4"],
    "master_key_id": ["translate(master_key_id, '0123456789abcdef', '1032547698badcfe')"],
    "restores": ["null", "restores # 3"],
    "expires_at": ["null", "expires_at + interval '1 microsecond'", "expires_at + interval '280000 years'"],
    "credential_kind": ["'esign'"],
    "credential_id": ["null", flipped_uuid("credential_id")],
    "created_by": ["null", flipped_uuid("created_by")],
    "created_at": ["created_at + interval '1 microsecond'", "created_at + interval '280000 years'"],
    "destroyed_at": ["now()"],
    "wrapped_key": ["null"],
}
# A secret tells where its latest version is to be found, and until when it is good: as the version does, or not at all.
OF_SECRETS = {
    "version": ["version # 1"],
    "expires_at": ["null", "expires_at + interval '1 microsecond'", "expires_at + interval '280000 years'"],
}
EVERY_FLIP = [
    (table, column, flip)
    for table, columns in (("secret_versions", OF_VERSIONS), ("secrets", OF_SECRETS))
    for column, flips in columns.items()
    for flip in flips
]


@pytest.mark.parametrize(("table", "column", "flip"), EVERY_FLIP)
def test_what_stands_beside_a_value_is_sealed_with_it(
    owner: Caller, look: Look, table: str, column: str, flip: str
) -> None:
    """Who put it and when, what it restores and when it ends."""
    for value in (CANARY, "another"):
        put(owner, "k", value)
    told = {"value": "the latest", "expires_at": "2199-01-01T00:00:00Z"}
    is_put(owner.put("/api/secrets/k", json=told))
    if column == "restores":
        is_put(owner.post("/api/secrets/k/rollback", json={"version": 2}))
    look.execute(f"alter table secretstore.{table} disable trigger all".encode())
    look.execute("alter table secretstore.secret_versions drop constraint secret_versions_key_until_destroyed")
    latest = "where version = (select max(version) from secretstore.secret_versions)"
    look.execute(f"update secretstore.{table} set {column} = {flip} {latest}".encode())
    problem(owner.get("/api/secrets/k"), 500, "secret_integrity")
    assert audited(look, "k")[-1][:3] == ("secret.read", "denied", "secret_integrity")


def test_no_column_beside_a_value_is_forgotten(look: Look) -> None:
    rows = look.execute(
        "select column_name from information_schema.columns "
        "where table_schema = 'secretstore' and table_name = 'secret_versions'"
    ).fetchall()
    assert {str(column) for (column,) in rows} == {*OF_VERSIONS, *FLIPS}


# What is not sealed says nothing of a value, and makes none wrong: when a key came and changed, how many versions it
# keeps, whether it is hidden. Whoever owns the rows may falsify it.
BOOKKEEPING = {
    "created_at": "created_at + interval '1 day'", "updated_at": "updated_at + interval '1 day'", "max_versions": "7",
    "deleted_at": "now()",
}  # fmt: skip


@pytest.mark.parametrize("column", BOOKKEEPING)
def test_bookkeeping_makes_no_value_wrong(owner: Caller, look: Look, column: str) -> None:
    put(owner, "k", CANARY)
    look.execute("alter table secretstore.secrets disable trigger all")
    look.execute(f"update secretstore.secrets set {column} = {BOOKKEEPING[column]}".encode())
    if column == "deleted_at":
        problem(owner.get("/api/secrets/k"), 404, "not_found")
    else:
        assert value_of(owner, "k") == CANARY


OTHER_VERSION = "from secretstore.secret_versions as o where o.secret_id = v.secret_id and o.version = 3 - v.version"
OTHER_SECRET = "from secretstore.secret_versions as o where o.secret_id <> v.secret_id and o.version = v.version"
TAMPERING = f"""
update secretstore.secrets set version = version - 1 where key = 'a'
update secretstore.secrets set version = version + 1 where key = 'a'
update secretstore.secret_versions set version = 7 where version = 2
update secretstore.secret_versions set master_key_id = 'ffffffffffffffff'
update secretstore.secrets set key = case key when 'a' then 'b' else 'a' end
update secretstore.secrets set environment_id = (select min(id::text)::uuid from shared.environments)
update secretstore.secrets set organization_id = (select id from shared.organizations where slug = 'south')
update secretstore.secret_versions as v set ciphertext = o.ciphertext {OTHER_VERSION}
update secretstore.secret_versions as v set (ciphertext, wrapped_key) = (o.ciphertext, o.wrapped_key) {OTHER_VERSION}
update secretstore.secret_versions as v set (ciphertext, wrapped_key) = (o.ciphertext, o.wrapped_key) {OTHER_SECRET}
update secretstore.secret_versions as v set secret_id = s.id from secretstore.secrets as s where s.id <> v.secret_id
"""


@pytest.mark.parametrize("tampering", TAMPERING.strip().splitlines())
def test_what_was_moved_does_not_open(owner: Caller, other: Caller, look: Look, tampering: str) -> None:
    for key in ("a", "b"):
        for number in (1, 2):
            put(owner, key, f"{key}{number}")
    place = environment(look, owner.organization, "one")
    for table in ("secrets", "secret_versions"):
        look.execute(f"alter table secretstore.{table} disable trigger all".encode())
    look.execute("alter table secretstore.secrets drop constraint secrets_one_per_key")
    look.execute("alter table secretstore.secret_versions drop constraint secret_versions_gapless cascade")
    look.execute(tampering.encode())
    if "environment_id" in tampering:
        problem(owner.get("/api/secrets/a"), 404, "not_found")
        problem(owner.get(f"/api/secrets/a?environment={place}"), 500, "secret_integrity")
    elif "organization_id" in tampering:
        problem(owner.get("/api/secrets/a"), 404, "not_found")
        problem(other.get("/api/secrets/a"), 500, "secret_integrity")
    else:
        problem(owner.get("/api/secrets/a"), 500, "secret_integrity")
        batch = owner.post("/api/secrets/batch", json={"keys": ["a"]}).json()
        assert (batch["values"], batch["errors"]["a"]["code"]) == ({}, "secret_integrity")


def test_who_works_for_no_organization_is_told_so(enrol: Callable[..., Caller]) -> None:
    nobody = enrol("anna")
    for response in (
        nobody.put("/api/secrets/k", json={"value": 1}),
        nobody.put(f"/api/secrets/k?environment={uuid4()}", json={"value": 1}),
        nobody.get("/api/secrets/k"),
        nobody.get("/api/secrets"),
        nobody.get("/api/secrets/count"),
        nobody.get("/api/secrets/k/versions"),
        nobody.delete("/api/secrets/k"),
        nobody.post("/api/secrets/batch", json={"keys": ["k"]}),
    ):
        told = problem(response, 403, "forbidden")
        assert told["detail"] == "This takes an organization, and the actor works for none."
