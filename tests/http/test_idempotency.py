"""A command with an Idempotency-Key happens once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.conftest import Database
from tests.http import probe
from tests.http.conftest import enrolled, problem, serving

Look = psycopg.Connection[tuple[object, ...]]

PATH = "/probe/organizations"
GOOD = {"title": "North", "slug": "north"}
KEY = {"Idempotency-Key": "one"}


def organizations(look: Look) -> object:
    return (look.execute("select count(*) from shared.organizations").fetchone() or [None])[0]


def test_a_repeated_request_reads_the_stored_answer(client: httpx.Client, look: Look) -> None:
    first = client.post(PATH, json=GOOD, headers=KEY)
    again = client.post(PATH, json=GOOD, headers=KEY)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert first.headers["etag"] == again.headers["etag"] == '"3"'
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == "application/json"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert organizations(look) == 1


@pytest.mark.parametrize("change", ["body", "query", "path", "method", "if-match"])
def test_the_key_with_another_request_is_refused(client: httpx.Client, look: Look, change: str) -> None:
    made = client.post(PATH, json=GOOD).json()
    one = f"{PATH}/{made['id']}"
    assert client.patch(one, json=GOOD, headers=KEY).status_code == 200
    method, path, body, headers = {
        "body": ("PATCH", one, {**GOOD, "title": "South"}, KEY),
        "query": ("PATCH", f"{one}?x=1", GOOD, KEY),
        "path": ("PATCH", f"{PATH}/00000000-0000-7000-8000-000000000000", GOOD, KEY),
        "method": ("POST", PATH, GOOD, KEY),
        "if-match": ("PATCH", one, GOOD, {**KEY, "If-Match": '"3"'}),
    }[change]
    problem(client.request(method, path, json=body, headers=headers), 422, "idempotency_key_reused")
    assert organizations(look) == 1


def test_each_actor_has_keys_of_his_own(client: httpx.Client, database: Database, look: Look) -> None:
    client.post(PATH, json=GOOD, headers=KEY)
    other = client.post(PATH, json={**GOOD, "slug": "other"}, headers={**KEY, **enrolled(database.app_url).bearer})
    assert other.status_code == 201
    assert organizations(look) == 2


def test_a_refused_command_may_be_tried_again_with_its_key(client: httpx.Client) -> None:
    problem(client.post(PATH, json={**GOOD, "slug": "No!"}, headers=KEY), 422, "invalid")
    assert client.post(PATH, json=GOOD, headers=KEY).status_code == 201


def test_a_request_in_flight_is_told_apart(client: httpx.Client) -> None:
    slow = {"sql": "select pg_sleep(1)"}

    def send(_: int) -> httpx.Response:
        return client.post("/probe/statements", json=slow, headers=KEY)

    probe.runs.pop("", None)
    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(send, range(4)), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 409, 409, 409]
    for answer in answers[1:]:
        problem(answer, 409, "idempotency_in_flight")
        assert answer.headers["retry-after"] == "1"
    assert client.post("/probe/statements", json=slow, headers=KEY).headers["idempotency-replayed"] == "true"
    assert probe.runs.pop("") == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "a\tb", "é"])
def test_a_key_of_other_characters_or_length_is_refused(client: httpx.Client, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    refused = problem(client.post(PATH, json=GOOD, headers=headers), 422, "invalid")
    assert [error["field"] for error in refused["errors"]] == ["Idempotency-Key"]  # type: ignore[attr-defined]


def test_a_key_of_255_visible_characters_is_taken(client: httpx.Client) -> None:
    key = "".join(chr(code) for code in range(0x21, 0x7F)) * 3
    assert client.post(PATH, json=GOOD, headers={"Idempotency-Key": key[:255]}).status_code == 201


def test_reading_and_visitors_ignore_the_key(client: httpx.Client, anybody: httpx.Client, look: Look) -> None:
    client.get(PATH, headers=KEY)
    sql = {"sql": "select gen_random_uuid()"}
    answers = {anybody.post("/probe/anybody", json=sql, headers=KEY).text for _ in range(2)}
    assert len(answers) == 2
    assert look.execute("select count(*) from shared.idempotency_keys").fetchone() == (0,)


def test_the_stored_answer_is_sealed(client: httpx.Client, look: Look) -> None:
    made = client.post(PATH, json={**GOOD, "title": "Unmistakable"}, headers=KEY).json()
    rows = look.execute("select response from shared.idempotency_keys").fetchall()
    assert len(rows) == 1
    stored = bytes(rows[0][0])  # type: ignore[call-overload]
    assert b"Unmistakable" not in stored
    assert made["id"].encode() not in stored


def test_an_answer_moved_to_another_key_does_not_open(client: httpx.Client, look: Look) -> None:
    client.post(PATH, json=GOOD, headers=KEY)
    look.execute("update shared.idempotency_keys set key = 'two'")
    problem(client.post(PATH, json=GOOD, headers={"Idempotency-Key": "two"}), 500, "internal")


def test_another_service_with_the_same_master_key_replays(client: httpx.Client, database: Database, home: Path) -> None:
    first = client.post(PATH, json=GOOD, headers=KEY)
    with serving(database.app_url, home) as address:
        again = client.post(f"{address}{PATH}", json=GOOD, headers=KEY)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"


def test_an_effect_without_a_body_is_replayed(client: httpx.Client) -> None:
    sql = {"sql": "select 1"}
    assert client.post("/probe/statements", json=sql, headers=KEY).json() == ["1"]
    assert client.post("/probe/statements", json=sql, headers=KEY).json() == ["1"]


def test_if_match_is_kept_to(client: httpx.Client) -> None:
    made = client.post(PATH, json=GOOD)
    one = f"{PATH}/{made.json()['id']}"
    assert client.get(one).headers["etag"] == '"3"'
    for held in ('"3"', "*", None):
        headers = {} if held is None else {"If-Match": held}
        assert client.patch(one, json=GOOD, headers=headers).status_code == 200
    problem(client.patch(one, json=GOOD, headers={"If-Match": '"2"'}), 412, "version_mismatch")
    for malformed in ("3", 'W/"3"', '"3", "4"', '"x"', "", '"-1"', '"9999999999"', '"03"'):
        problem(client.patch(one, json=GOOD, headers={"If-Match": malformed}), 400, "malformed")
