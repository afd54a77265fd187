"""Logging a machine in over HTTP: asked for, approved on the page's routes, taken once."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx

from app.apiauth.device import ALPHABET
from tests.api.conftest import Caller, Json, Look, at_once, bearer, fields, log_in, problem, register, serving
from tests.conftest import Database

Enrol = Callable[..., Caller]
TIME_PASSES = (
    "set session_replication_role to replica; "
    "update apiauth.device_codes set created_at = created_at - interval '11 minutes', "
    "expires_at = expires_at - interval '11 minutes', decided_at = decided_at - interval '11 minutes'"
)


def ask(client: httpx.Client, **body: object) -> Json:
    response = client.post("/auth/device", json={"name": "build-7", **body})
    assert response.status_code == 200, response.text
    told: Json = response.json()
    return told


def decide(person: Caller, told: Json, decision: str = "approve") -> httpx.Response:
    return person.post("/auth/device/decision", json={"user_code": told["user_code"], "decision": decision})


def poll(client: httpx.Client, told: Json) -> httpx.Response:
    return client.post("/auth/device/token", json={"device_code": told["device_code"]})


def refused(response: httpx.Response, code: str) -> Json:
    """Check that a poll is refused as RFC 8628 says, in the form of all problems."""
    told = problem(response, 400, code)
    assert told["error"] == code
    return told


def test_a_machine_is_approved_and_acts_for_its_person(enrol: Enrol, client: httpx.Client) -> None:
    rita = enrol("rita")
    told = ask(client, scopes=["agreements:read"], expires_in_days=7)
    assert (told["expires_in"], told["interval"]) == (600, 5)
    waiting = poll(client, told)
    refused(waiting, "authorization_pending")
    assert waiting.headers["retry-after"] == "5"
    seen = rita.get("/auth/device", params={"user_code": told["user_code"].replace("-", " ").lower()}).json()
    assert (seen["name"], seen["address"]) == ("build-7", "127.0.0.1")
    assert (seen["scopes"], seen["token_days"]) == (["agreements:read"], 7)
    assert decide(rita, told).status_code == 204
    answer = poll(client, told)
    token = answer.json()
    assert answer.status_code == 200
    assert (token["token_type"], token["scope"], token["name"]) == ("Bearer", "agreements:read", "build-7")
    assert client.get("/api/me", headers=bearer(token["access_token"])).json()["id"] == rita.user_id
    [listed] = rita.get("/api/tokens").json()["items"]
    assert (listed["id"], listed["name"]) == (token["id"], "build-7")


def test_the_answers_are_those_of_the_rfc(enrol: Enrol, client: httpx.Client) -> None:
    told = ask(client, expires_in_days=1)
    assert told.keys() == {
        "device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval",
    }  # fmt: skip
    assert re.fullmatch(f"[{ALPHABET}]{{4}}-[{ALPHABET}]{{4}}", told["user_code"])
    assert told["verification_uri"] == f"{client.base_url}/device"
    assert told["verification_uri_complete"] == f"{client.base_url}/device?user_code={told['user_code']}"
    decide(enrol("rita"), told)
    token = poll(client, told)
    assert token.headers["cache-control"] == "no-store"
    assert token.json().keys() == {"access_token", "token_type", "expires_in", "scope", "id", "name"}
    assert 86400 - 60 < token.json()["expires_in"] <= 86400


def test_people_are_sent_to_where_browsers_reach_the_service(database: Database, tmp_path: Path) -> None:
    """Which need not be the address at which a machine does."""
    site = "https://flow.example"
    with serving(database, tmp_path, public_url=site) as address, httpx.Client(base_url=address) as client:
        told = ask(client)
    assert told["verification_uri"] == f"{site}/device"
    assert told["verification_uri_complete"] == f"{site}/device?user_code={told['user_code']}"


def test_a_consumed_code_yields_no_token(enrol: Enrol, client: httpx.Client) -> None:
    rita = enrol("rita")
    told = ask(client)
    decide(rita, told)
    assert poll(client, told).status_code == 200
    for _ in range(2):
        refused(poll(client, told), "invalid_grant")
    assert len(rita.get("/api/tokens").json()["items"]) == 1


def test_an_expired_code_yields_no_token(enrol: Enrol, client: httpx.Client, look: Look) -> None:
    rita = enrol("rita")
    approved, waiting = ask(client), ask(client)
    decide(rita, approved)
    look.execute(TIME_PASSES)
    for told in (approved, waiting):
        refused(poll(client, told), "expired_token")
        problem(decide(rita, told), 404, "not_found")
        problem(rita.get("/auth/device", params={"user_code": told["user_code"]}), 404, "not_found")
    assert rita.get("/api/tokens").json()["items"] == []


def test_a_denied_machine_gets_nothing(enrol: Enrol, client: httpx.Client) -> None:
    rita = enrol("rita")
    told = ask(client)
    assert decide(rita, told, "deny").status_code == 204
    for _ in range(2):
        refused(poll(client, told), "access_denied")
    problem(decide(rita, told), 404, "not_found")


def test_two_polls_at_once_yield_one_token(enrol: Enrol, client: httpx.Client) -> None:
    rita = enrol("rita")
    told = ask(client)
    decide(rita, told)
    statuses = at_once([lambda: poll(client, told).status_code] * 8)
    assert sorted(statuses) == [200] + [400] * 7
    assert len(rita.get("/api/tokens").json()["items"]) == 1


def test_who_polls_too_soon_is_told_to_slow_down(client: httpx.Client) -> None:
    told = ask(client)
    refused(poll(client, told), "authorization_pending")
    for interval in ("10", "15"):
        response = poll(client, told)
        refused(response, "slow_down")
        assert response.headers["retry-after"] == interval


def test_a_token_neither_looks_nor_decides(enrol: Enrol, client: httpx.Client) -> None:
    rita = enrol("rita")
    body = {"name": "x", "expires_in_days": 1, "scopes": ["tokens:write"]}
    token = bearer(rita.post("/api/tokens", json=body).json()["token"])
    told = ask(client)
    for headers in (token, {}):
        look = client.get("/auth/device", params={"user_code": told["user_code"]}, headers=headers)
        problem(look, 401, "unauthenticated")
        body = {"user_code": told["user_code"], "decision": "approve"}
        problem(client.post("/auth/device/decision", json=body, headers=headers), 401, "unauthenticated")
    refused(poll(client, told), "authorization_pending")


def test_what_cannot_be_a_code_is_told_by_field(enrol: Enrol) -> None:
    rita = enrol("rita")
    for code in ("", "WDJB", "WDJB-MJHTT", "AEIO-UYAE", "0000-0000", "x" * 40, "WDJB\u202eMJHT"):
        assert fields(problem(rita.get("/auth/device", params={"user_code": code}), 422, "invalid")) == ["user_code"]
        told = rita.post("/auth/device/decision", json={"user_code": code, "decision": "approve"})
        assert fields(problem(told, 422, "invalid")) == ["user_code"]


def test_a_machine_asks_for_what_there_is(client: httpx.Client) -> None:
    for field, value in (
        ("name", " "), ("name", "x" * 101), ("scopes", []), ("scopes", ["everything"]), ("expires_in_days", 366),
        ("expires_in_days", 0), ("user_id", "me"),
    ):  # fmt: skip
        response = client.post("/auth/device", json={"name": "build-7", field: value})
        assert fields(problem(response, 422, "invalid")) == [field]


def test_an_unknown_machine_is_told_so(client: httpx.Client) -> None:
    for code in ("", "x", "0" * 43, "\u00e9" * 20):
        refused(poll(client, {"device_code": code}), "invalid_grant")
    problem(client.post("/auth/device/token", json={"device_code": "x" * 101}), 422, "invalid")


def test_codes_cannot_be_tried_out(database: Database, tmp_path: Path) -> None:
    """A person has his attempts wherever he is, an address its own; a right guess comes too late."""
    with serving(database, tmp_path, login_limit=30) as address, httpx.Client(base_url=address) as client:
        register(client, "rita@north.example")
        token = log_in(client, "rita@north.example")
        told = ask(client)
        with Caller(address, email="", token=token, user={}) as rita:
            for number in range(5):
                guess = f"BCDF-GHJ{ALPHABET[number]}"
                problem(rita.get("/auth/device", params={"user_code": guess}), 404, "not_found")
            for response in (rita.get("/auth/device", params={"user_code": told["user_code"]}), decide(rita, told)):
                problem(response, 429, "too_many_requests")
                assert 1 <= int(response.headers["retry-after"]) <= 12
                assert response.headers["ratelimit-remaining"] == "0"
        refused(poll(client, told), "authorization_pending")


def test_machines_of_one_address_ask_so_often_and_no_more(database: Database, tmp_path: Path) -> None:
    with serving(database, tmp_path, login_limit=2) as address, httpx.Client(base_url=address) as client:
        for _ in range(2):
            ask(client)
        problem(client.post("/auth/device", json={"name": "x"}), 429, "too_many_requests")


def test_nothing_at_rest_is_a_code(enrol: Enrol, client: httpx.Client, look: Look) -> None:
    rita = enrol("rita")
    told = ask(client)
    decide(rita, told)
    token = poll(client, told).json()["access_token"]
    other = ask(client)
    tables = look.execute(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('apiauth', 'shared')"
    ).fetchall()
    rows = [str(look.execute(f"select t::text from {table} as t".encode()).fetchall()) for (table,) in tables]
    for secret in (told["device_code"], told["user_code"], token, other["device_code"], other["user_code"]):
        for form in (secret, secret.replace("-", ""), secret.encode().hex()):
            assert form not in "".join(rows)


def test_a_token_throws_itself_away(enrol: Enrol, client: httpx.Client) -> None:
    rita = enrol("rita")
    told = ask(client)
    decide(rita, told)
    token = bearer(poll(client, told).json()["access_token"])
    assert client.delete("/api/tokens/current", headers=token).status_code == 204
    problem(client.get("/api/me", headers=token), 401, "unauthenticated")
    problem(rita.delete("/api/tokens/current"), 401, "unauthenticated")


def test_the_page_loads_from_here_alone_and_runs_no_inline_code(client: httpx.Client) -> None:
    page = client.get("/device")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|\bon\w+=|\bstyle=|https?://", page.text)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page.text) == [""]
    addresses = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    kinds = {address.rpartition(".")[2]: client.get(address).headers["content-type"] for address in addresses}
    assert kinds == {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


def test_the_page_has_what_its_script_reaches_for_and_labels_its_fields(client: httpx.Client) -> None:
    page, script = client.get("/device").text, client.get("/device/assets/page.js").text
    ids = set(re.findall(r'\bid="([\w-]+)"', page))
    assert set(re.findall(r'\bat\("([\w-]+)"\)', script)) <= ids
    assert set(re.findall(r"<input id=\"(\w+)\"", page)) == set(re.findall(r'<label for="(\w+)"', page))
    assert re.search(r'<html lang="en">', page)
    assert re.search(r'id="problem" role="alert"', page)


def test_the_page_outlives_no_cache_and_sends_no_code_on(client: httpx.Client) -> None:
    page = client.get("/device", params={"user_code": "WDJB-MJHT"})
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "WDJB" not in page.text


def test_the_cookie_decides_from_this_origin_only(enrol: Enrol, client: httpx.Client) -> None:
    rita = enrol("rita")
    told = ask(client)
    body = {"user_code": told["user_code"], "decision": "approve"}
    cookie = {"Cookie": f"brokerflow_session={rita.token}"}
    for origin in ({}, {"Origin": "https://elsewhere.example"}):
        problem(client.post("/auth/device/decision", json=body, headers={**cookie, **origin}), 403, "forbidden")
    here = {"Origin": str(client.base_url)}
    assert client.post("/auth/device/decision", json=body, headers={**cookie, **here}).status_code == 204
