"""What is malformed, mistyped or oversized is refused as a problem, and nothing of it is written."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from tests.api.conftest import PASSWORD, Caller, Json, Look, created, fields, found_organization, problem

Enrol = Callable[..., Caller]


class Route(NamedTuple):
    """A route that takes a body, and one that it accepts."""

    method: str
    path: str
    body: Json

    def send(self, client: httpx.Client, content: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
        """Send any bytes as JSON."""
        as_json = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        return client.request(self.method, self.path, content=content, headers=as_json)

    def texts(self) -> list[str]:
        """The fields that hold text."""
        return [name for name, value in self.body.items() if isinstance(value, str)]


@contextmanager
def case(**what: object) -> Iterator[None]:
    """Say in a failure which case it was."""
    try:
        yield
    except Exception as failure:
        failure.add_note(f"The case: {what}")
        raise


@pytest.fixture
def rita(enrol: Enrol) -> Caller:
    """The founder of an organization."""
    return enrol("rita", organization="north")


@pytest.fixture
def routes(rita: Caller) -> list[Route]:
    """Every route of accounts, organizations and tokens that takes a body."""
    members = f"/api/organizations/{rita.organization['id']}/members"
    return [
        Route("POST", "/auth/register", {"email": "new@north.example", "password": PASSWORD, "full_name": "New"}),
        Route("POST", "/auth/login", {"email": rita.email, "password": PASSWORD}),
        Route("POST", "/api/organizations", {"title": "Branch", "slug": "branch"}),
        Route("POST", members, {"email": "new@north.example", "role": "agent"}),
        Route("PATCH", f"{members}/{rita.user_id}", {"role": "viewer"}),
        Route("POST", "/api/tokens", {"name": "n", "expires_in_days": 30, "scopes": ["agreements:read"]}),
    ]


@pytest.fixture
def unchanged(rita: Caller, look: Look) -> Iterator[None]:
    """Nothing is written while the test runs."""

    def written() -> list[int]:
        tables = (
            "shared.users",
            "shared.organizations",
            "shared.memberships",
            "shared.idempotency_keys",
            "apiauth.passwords",
            "apiauth.sessions",
            "apiauth.personal_tokens",
        )
        rows = [look.execute(f"select count(*) from {table}").fetchone() for table in tables]
        return [row[0] for row in rows if row]

    before = written()
    yield
    assert written() == before


@pytest.mark.usefixtures("unchanged")
def test_what_is_no_json_is_400(rita: Caller, routes: list[Route]) -> None:
    for route in routes:
        whole = json.dumps(route.body).encode()
        bodies = [
            b"",
            b" ",
            b"{",
            whole[:-1],
            whole[: len(whole) // 2],
            whole + b"}",
            whole + whole,
            b"\xef\xbb\xbf" + whole,
            whole.replace(b'"', b"'"),
            b"\xff\xfe",
            whole.decode().encode("utf-16"),
            b'{"email": NaN}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ]
        for body in bodies:
            with case(route=route.path, body=body[:40]):
                problem(route.send(rita, body), 400, "malformed")


@pytest.mark.usefixtures("unchanged")
def test_what_is_no_text_is_refused(rita: Caller, routes: list[Route]) -> None:
    for route in routes:
        for name in route.texts():
            for text in (rb"a\ud800", rb"\udc00a", rb"\ud800\ud800", b"\xed\xa0\x80", b"\xff", b"a\x00b", b"a\nb"):
                body = json.dumps(route.body | {name: "?"}).encode().replace(b"?", text)
                with case(route=route.path, field=name, text=text):
                    problem(route.send(rita, body), 400, "malformed")


@pytest.mark.usefixtures("unchanged")
def test_a_text_with_a_nul_is_422(rita: Caller, routes: list[Route]) -> None:
    for route in routes:
        for name in route.texts():
            with case(route=route.path, field=name):
                response = rita.request(route.method, route.path, json=route.body | {name: "a\0b@north.example"})
                assert fields(problem(response, 422, "invalid")) == [name]


@pytest.mark.usefixtures("unchanged")
def test_what_is_no_object_is_422(rita: Caller, routes: list[Route]) -> None:
    for route in routes:
        for value in ([], [route.body], None, "text", 1, True):
            with case(route=route.path, value=value):
                response = route.send(rita, json.dumps(value).encode())
                assert fields(problem(response, 422, "invalid")) == ["body"]


@pytest.mark.usefixtures("unchanged")
def test_a_field_that_is_unknown_missing_or_mistyped_is_named(rita: Caller, routes: list[Route]) -> None:
    for route in routes:
        with case(route=route.path, unknown=True):
            response = rita.request(route.method, route.path, json=route.body | {"isAdmin": True})
            assert fields(problem(response, 422, "invalid")) == ["isAdmin"]
        for name in route.body:
            if name != "scopes":  # which has a default
                with case(route=route.path, missing=name):
                    response = rita.request(route.method, route.path, json=without(route.body, name))
                    assert fields(problem(response, 422, "invalid")) == [name]
            for value in mistyped(route.body[name]):
                with case(route=route.path, field=name, value=value):
                    response = rita.request(route.method, route.path, json=route.body | {name: value})
                    (field,) = fields(problem(response, 422, "invalid"))
                    assert field.startswith(name)


def without(body: Json, name: str) -> Json:
    return {other: value for other, value in body.items() if other != name}


def mistyped(value: Any) -> list[Any]:
    """Values of every other type."""
    others: list[Any] = [None, True, 1.5, {"a": 1}]
    match value:
        case str():
            return [*others, 1, ["x"]]
        case list():
            return [*others, 1, "x", [1], [None], [["x"]]]
        case _:
            return [*others, "1", ["x"], 10**400]


@pytest.mark.usefixtures("unchanged")
def test_a_wrong_word_is_answered_with_those_that_there_are(rita: Caller, routes: list[Route]) -> None:
    [adding] = [route for route in routes if route.method == "POST" and "role" in route.body]
    told = problem(rita.post(adding.path, json=adding.body | {"role": "boss"}), 422, "invalid")["errors"]
    sentence = "Invalid enum value 'boss': it is one of admin, agent, owner, viewer"
    assert told == [{"field": "role", "message": sentence}]


@pytest.mark.usefixtures("unchanged")
def test_every_wrong_field_is_named_at_once(client: httpx.Client) -> None:
    response = client.post("/auth/register", json={"email": 1, "full_name": None, "role": "owner"})
    assert fields(problem(response, 422, "invalid")) == ["email", "full_name", "password", "role"]


@pytest.mark.usefixtures("unchanged")
def test_a_body_of_ten_megabytes_is_413(rita: Caller, routes: list[Route]) -> None:
    for route in routes:
        body = json.dumps(route.body | {next(iter(route.body)): "x" * 10_000_000}).encode()
        with case(route=route.path):
            problem(route.send(rita, body), 413, "too_large")
        with case(route=route.path, chunked=True):
            problem(route.send(rita, (body[at : at + 65_536] for at in range(0, len(body), 65_536))), 413, "too_large")


@pytest.mark.usefixtures("unchanged")
def test_a_body_that_does_not_say_json_is_415(rita: Caller, routes: list[Route]) -> None:
    for route in routes:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"):
            with case(route=route.path, kind=kind):
                response = route.send(rita, json.dumps(route.body).encode(), Content_Type=kind)
                problem(response, 415, "unsupported_media_type")


@pytest.mark.usefixtures("unchanged")
def test_a_header_sent_twice_is_400(rita: Caller, routes: list[Route]) -> None:
    twice = {
        "Authorization": f"Bearer {rita.token}",
        "Content-Type": "application/json",
        "Idempotency-Key": "k",
        "X-Organization": "north",
    }
    for route in routes:
        for name, value in twice.items():
            with case(route=route.path, header=name):
                request = rita.build_request(route.method, route.path, json=route.body)
                request.headers = httpx.Headers([*request.headers.raw, *[(name.encode(), value.encode())] * 2])
                problem(rita.send(request), 400, "malformed")


def test_an_id_that_is_none_is_404(rita: Caller) -> None:
    organization = rita.organization["id"]
    for wrong in (
        "1",
        "me",
        organization[:-1],
        organization + "0",
        "'; drop table x --",
        "%00",
        "%ff",
        "..%2f..",
        "🔑",
    ):
        for method, path in (
            ("GET", f"/api/organizations/{wrong}"),
            ("GET", f"/api/organizations/{wrong}/members"),
            ("DELETE", f"/api/organizations/{organization}/members/{wrong}"),
            ("DELETE", f"/api/organizations/{wrong}/members/{rita.user_id}"),
            ("DELETE", f"/api/tokens/{wrong}"),
        ):
            with case(method=method, path=path):
                problem(rita.request(method, path), 404, "not_found")


def test_a_limit_is_one_to_a_hundred(rita: Caller) -> None:
    members = f"/api/organizations/{rita.organization['id']}/members"
    for path in ("/api/organizations", "/api/tokens", members):
        for limit in ("0", "101", "-1", "many", "", "1.5", "9" * 40):
            with case(path=path, limit=limit):
                assert fields(problem(rita.get(path, params={"limit": limit}), 422, "invalid")) == ["limit"]
        assert rita.get(path, params={"limit": "100"}).is_success


def test_a_cursor_that_was_altered_or_comes_from_elsewhere_is_422(rita: Caller) -> None:
    for number in range(2):
        created(rita.post("/api/tokens", json={"name": f"t{number}", "expires_in_days": 1}))
    found_organization(rita, rita.token, "branch")
    foreign = rita.get("/api/organizations", params={"limit": 1}).json()["next_cursor"]
    cursor = rita.get("/api/tokens", params={"limit": 1}).json()["next_cursor"]
    assert rita.get("/api/tokens", params={"cursor": cursor}).is_success
    altered = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]
    for wrong in (*altered, foreign, cursor[:-1], cursor + "A", cursor + "=", "", "x", "%00", "x" * 2000):
        with case(cursor=wrong[:80]):
            assert fields(problem(rita.get("/api/tokens", params={"cursor": wrong}), 422, "invalid")) == ["cursor"]


def test_a_header_that_makes_no_sense_is_refused(rita: Caller) -> None:
    problem(rita.get("/api/me", headers={"X-Organization": ""}), 400, "malformed")
    problem(rita.get("/api/me", headers={"X-Organization": "x" * 256}), 400, "malformed")
    problem(rita.get("/api/me", headers={b"X-Organization": b"\xff\xfe"}), 403, "forbidden")


def test_a_route_or_method_that_does_not_exist_is_a_problem_too(rita: Caller) -> None:
    problem(rita.get("/api/nothing"), 404, "not_found")
    problem(rita.get("/auth/login"), 405, "method_not_allowed")
    problem(rita.put("/api/tokens", json={}), 405, "method_not_allowed")


def test_every_route_that_needs_a_credential_says_so(client: httpx.Client, rita: Caller, routes: list[Route]) -> None:
    for route in routes:
        if not route.path.startswith("/auth/"):
            problem(client.request(route.method, route.path, json=route.body), 401, "unauthenticated")
    members = f"/api/organizations/{rita.organization['id']}/members"
    for path in ("/api/me", "/api/whoami", "/api/organizations", "/api/tokens", members):
        problem(client.get(path), 401, "unauthenticated")
