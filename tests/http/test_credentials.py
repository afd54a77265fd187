"""Who is let in: bearer tokens and cookies, and what is refused before PostgreSQL is asked."""

from pathlib import Path

import httpx
import pytest

from app.shared import tokens
from app.shared.credentials import session_cookie
from app.shared.tokens import Prefix
from tests.conftest import Database
from tests.http.conftest import Person, enrolled, problem, serving

LIST = "/probe/organizations"
GOOD = {"title": "North", "slug": "north"}


def test_a_session_lets_in(client: httpx.Client) -> None:
    assert client.get(LIST).json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer x",
        "Basic eDp5",
        "Bearer bf_ses_" + "0" * 40,
        pytest.param("Bearer " + tokens.mint(Prefix.SESSION) + "x", id="a token and a letter more"),
        "Bearer sk_live_123",
        "Bearer a.b.c",
        "Bearer é".encode(),
    ],
)
def test_what_is_no_token_of_ours_is_unauthenticated(anybody: httpx.Client, authorization: str | bytes) -> None:
    value = authorization if isinstance(authorization, bytes) else authorization.encode()
    response = anybody.get(LIST, headers=[(b"authorization", value)])
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


def test_no_credential_is_unauthenticated(anybody: httpx.Client) -> None:
    problem(anybody.get(LIST), 401, "unauthenticated")
    problem(anybody.post(LIST, content=b"{"), 401, "unauthenticated")


@pytest.mark.parametrize("prefix", list(Prefix))
def test_a_token_that_nobody_was_given_is_unauthenticated(anybody: httpx.Client, prefix: Prefix) -> None:
    problem(anybody.get(LIST, headers={"Authorization": f"Bearer {tokens.mint(prefix)}"}), 401, "unauthenticated")


def test_a_scheme_in_any_case_is_read(anybody: httpx.Client, person: Person) -> None:
    assert anybody.get(LIST, headers={"Authorization": f"bearer {person.token}"}).status_code == 200


def test_a_cookie_lets_read(anybody: httpx.Client, person: Person) -> None:
    assert anybody.get(LIST, headers={"Cookie": f"brokerflow_session={person.token}"}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [None, "", "null", "http://evil.example", "http://evil.example:80", "//{host}", "{host}", "ftp://{host}",
     "http://{host}.evil.example", "http://evil@{host}", "http://{host}:1"],
)  # fmt: skip
def test_a_cookie_from_another_site_cannot_change_anything(
    anybody: httpx.Client, person: Person, origin: str | None
) -> None:
    headers = {"Cookie": f"brokerflow_session={person.token}"}
    if origin is not None:
        headers["Origin"] = origin.format(host=anybody.base_url.netloc.decode())
    problem(anybody.post(LIST, json=GOOD, headers=headers), 403, "forbidden")


def test_a_cookie_from_this_site_changes_what_it_may(anybody: httpx.Client, person: Person) -> None:
    origin = f"http://{anybody.base_url.netloc.decode()}"
    headers = {"Cookie": f"brokerflow_session={person.token}", "Origin": origin}
    assert anybody.post(LIST, json=GOOD, headers=headers).status_code == 201


def test_a_bearer_wins_over_a_cookie(anybody: httpx.Client, person: Person) -> None:
    headers = {"Cookie": f"brokerflow_session={tokens.mint(Prefix.SESSION)}", **person.bearer}
    assert anybody.post(LIST, json=GOOD, headers=headers).status_code == 201
    headers = {"Cookie": f"brokerflow_session={person.token}", "Authorization": "Bearer x"}
    problem(anybody.get(LIST, headers=headers), 401, "unauthenticated")


def test_a_personal_token_in_a_cookie_is_refused(anybody: httpx.Client) -> None:
    headers = {"Cookie": f"brokerflow_session={tokens.mint(Prefix.PERSONAL)}"}
    problem(anybody.get(LIST, headers=headers), 401, "unauthenticated")


@pytest.mark.parametrize(
    "name", ["Authorization", "Idempotency-Key", "If-Match", "X-Organization", "Origin", "Content-Type"]
)
def test_a_header_sent_twice_is_malformed(client: httpx.Client, person: Person, name: str) -> None:
    value = f"Bearer {person.token}" if name == "Authorization" else "application/json"
    headers = [*person.bearer.items(), (name, value), (name, value)]
    with httpx.Client(base_url=client.base_url) as bare:
        problem(bare.post(LIST, content=b'{"title":"a","slug":"b"}', headers=headers), 400, "malformed")


def test_an_organization_of_others_is_forbidden(client: httpx.Client, database: Database) -> None:
    stranger = enrolled(database.app_url)
    client.post(LIST, json=GOOD, headers=stranger.bearer)
    problem(client.get(LIST, headers={"X-Organization": "north"}), 403, "forbidden")
    problem(client.get(LIST, headers={"X-Organization": "none"}), 403, "forbidden")
    problem(client.get(LIST, headers={"X-Organization": ""}), 400, "malformed")
    problem(client.get(LIST, headers={"X-Organization": "x" * 256}), 400, "malformed")


def test_an_organization_of_ones_own_is_acted_in(client: httpx.Client) -> None:
    client.post(LIST, json=GOOD)
    assert client.get(LIST, headers={"X-Organization": "north"}).status_code == 200


def test_production_takes_the_host_cookie_and_an_https_origin_only(database: Database, tmp_path: Path) -> None:
    person = enrolled(database.app_url)
    secrets = {"given_master_key": "A" * 43 + "=", "given_esign_secret": "whsec_" + "A" * 43 + "="}
    with (
        serving(database.app_url, tmp_path, env="production", **secrets) as address,
        httpx.Client(base_url=address) as client,
    ):
        host = client.base_url.netloc.decode()
        problem(client.get(LIST, headers={"Cookie": f"brokerflow_session={person.token}"}), 401, "unauthenticated")
        cookie = {"Cookie": f"__Host-brokerflow_session={person.token}"}
        assert client.get(LIST, headers=cookie).status_code == 200
        http = client.post(LIST, json=GOOD, headers={**cookie, "Origin": f"http://{host}"})
        problem(http, 403, "forbidden")
        assert client.post(LIST, json=GOOD, headers={**cookie, "Origin": f"https://{host}"}).status_code == 201


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    cookie = session_cookie("t", max_age=60, production=True).to_header(header="")
    assert cookie.startswith("__Host-brokerflow_session=t; ")
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax", "Max-Age=60"} <= set(cookie.split("; "))
    assert "Secure" not in session_cookie("t", max_age=60, production=False).to_header(header="")
