"""What a provider, or who pretends to be one, may not get away with: each is a clear problem, and opens nothing."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey
from pydantic import SecretStr

from app.apiauth import oidc_provider
from tests.api.conftest import Look, problem
from tests.api.steps import count
from tests.conftest import PREFIX, Server, _copy_grants, _create
from tests.oidc.conftest import Serve, client_of
from tests.oidc.rogue import KEY, NEXT, OTHER, Json, Rogue, misbehaving, signed

SECRET = "a secret: with % and /"


class Visit(NamedTuple):
    """A browser at the service, the provider that it is sent to, and a look at what was written."""

    browser: httpx.Client
    rogue: Rogue
    look: Look

    def written(self) -> int:
        """Count what a login writes."""
        return count(self.look, "select count(*) from apiauth.sessions") + count(
            self.look, "select count(*) from shared.users"
        )

    def log_in(self, **answer: str | None) -> httpx.Response:
        """Go to the provider and come back with its answer, changed as the test likes."""
        begun = self.browser.get("/auth/oidc/login")
        assert begun.status_code == 303, begun.text
        state = self.rogue.begun(begun.headers["location"])
        query = {"state": state, "code": "good", **answer}
        return self.browser.get(
            "/auth/oidc/callback", params={name: value for name, value in query.items() if value is not None}
        )


@pytest.fixture(scope="module")
def rogue() -> Iterator[Rogue]:
    with misbehaving(SECRET) as rogue:
        yield rogue


@pytest.fixture(scope="module")
def forgetful(
    server: Server, template: str, rogue: Rogue, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Look]]:
    """A service that asks the provider for everything anew each time, shared by the tests of this file."""
    name = f"{PREFIX}{server.run}_refusals"
    _create(server.admin, name, template)
    _copy_grants(server.admin, template, name)
    database = server.database(name)
    with (
        pytest.MonkeyPatch.context() as patch,
        client_of(database, tmp_path_factory.mktemp("refusals"), rogue.issuer, SECRET) as address,
        psycopg.connect(database.superuser_url, autocommit=True) as look,
    ):
        patch.setattr(oidc_provider, "KEPT", 0.0)
        yield address, look


@pytest.fixture
def visit(forgetful: tuple[str, Look], rogue: Rogue) -> Iterator[Visit]:
    """A new browser, and the provider as it should be."""
    rogue.behave()
    address, look = forgetful
    with httpx.Client(base_url=address, timeout=30) as browser:
        yield Visit(browser, rogue, look)


@pytest.fixture
def first_visit(serve: Serve, rogue: Rogue, look: Look, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """A visit to a service of the test's own, which keeps what it learned."""
    monkeypatch.setattr(oidc_provider, "KEPT", 3600.0)
    rogue.behave()
    with serve(rogue.issuer, SECRET) as address, httpx.Client(base_url=address, timeout=30) as browser:
        yield Visit(browser, rogue, look)


def refused(response: httpx.Response, reason: str) -> None:
    """Check that a login was refused for this reason, and that nobody is logged in."""
    assert reason in problem(response, 401, "unauthenticated")["detail"]
    assert response.headers.get_list("set-cookie") == []


def unsigned(claims: Json) -> str:
    parts = ({"alg": "none", "kid": "one"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def tampered(claims: Json) -> str:
    header, _, signature = signed(KEY)(claims).split(".")
    payload = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "another"}).encode()).decode().rstrip("=")
    return f"{header}.{payload}.{signature}"


def test_a_provider_that_behaves_logs_in(first_visit: Visit) -> None:
    response = first_visit.log_in()
    assert (response.status_code, response.headers["location"]) == (303, "/api/me")
    assert first_visit.browser.get("/api/me").json()["full_name"] == "Ada"
    identities = first_visit.look.execute("select issuer, subject from apiauth.identities").fetchall()
    assert identities == [(first_visit.rogue.issuer, "subject")]


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://id.example"}, "'iss'"),
        ({"iss": None}, "'iss'"),
        ({"aud": "another"}, "'aud'"),
        ({"aud": []}, "'aud'"),
        ({"aud": None}, "'aud'"),
        ({"aud": ["brokerflow", "another"]}, "another client"),
        ({"aud": ["brokerflow", "another"], "azp": "another"}, "another client"),
        ({"azp": "another"}, "another client"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"nonce": 7}, "nonce"),
        ({"exp": int(time.time()) - 120}, "expired"),
        ({"exp": None}, "'exp'"),
        ({"exp": "never"}, "'exp'"),
        ({"iat": int(time.time()) + 600}, "issued in the future"),
        ({"nbf": int(time.time()) + 600}, "not yet valid"),
        ({"sub": None}, "names nobody"),
        ({"sub": ""}, "names nobody"),
        ({"sub": "x" * 256}, "names nobody"),
        ({"sub": "\u00e9"}, "names nobody"),
        ({"sub": 7}, "'sub'"),
        ({"email_verified": False}, "not verified"),
        ({"email_verified": "true"}, "not verified"),
        ({"email_verified": None}, "not verified"),
        ({"email": None}, "not verified"),
        ({"email": "ada\u0000@example.org"}, "not verified"),
        ({"email": 7}, "not verified"),
    ],
)
def test_claims_that_do_not_hold(visit: Visit, claims: Json, reason: str) -> None:
    visit.rogue.claims, before = {"sub": "a stranger", **claims}, visit.written()
    refused(visit.log_in(), reason)
    assert visit.written() == before


PUBLIC = base64.urlsafe_b64encode(KEY.as_pem(private=False)).decode()


FORGERIES: dict[str, Callable[[Json], str]] = {
    "none": unsigned,
    "tampered": tampered,
    "another key": signed(OTHER),
    "another kind of key": signed(ECKey.generate_key("P-256", {"kid": "one"}), alg="ES256"),
    "an unknown key": signed(NEXT),
    "HS256 with the client's secret": signed(OctKey.import_key(SECRET), alg="HS256", kid="one"),
    "HS256 with the public key": signed(OctKey.import_key(PUBLIC), alg="HS256", kid="one"),
    "no JWT": lambda _: "no.jwt",
    "not base64": lambda _: "a.b.c",
    "dots": lambda _: "..",
    "nothing": lambda _: "",
    "huge": lambda _: "x" * 200_000,
}


@pytest.mark.parametrize("sign", FORGERIES.values(), ids=FORGERIES)
def test_signatures_that_are_not_the_providers(visit: Visit, sign: Callable[[Json], str]) -> None:
    visit.rogue.sign, before = sign, visit.written()
    refused(visit.log_in(), "not signed by the provider")
    assert visit.written() == before


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"state": "another"}, "another browser's"),
        ({"state": None}, "another browser's"),
        ({"code": None}, "holds no code"),
        ({"code": ""}, "holds no code"),
        ({"code": "bad"}, "used before"),
        ({"iss": "https://id.example"}, "another provider's"),
        ({"error": "access_denied", "code": None}, "cancelled"),
        ({"error": "invalid_scope", "code": None}, "invalid_scope"),
        ({"error": "<script>", "code": None}, "holds no code"),
        ({"error": "access_denied", "state": "another"}, "another browser's"),
    ],
)
def test_answers_that_are_not_this_logins(visit: Visit, answer: dict[str, str | None], reason: str) -> None:
    refused(visit.log_in(**answer), reason)


def test_a_provider_that_names_itself_must(visit: Visit) -> None:
    """RFC 9207: so that one provider's code does not go to another."""
    visit.rogue.description = {"authorization_response_iss_parameter_supported": True}
    refused(visit.log_in(), "another provider's")
    assert visit.log_in(iss=visit.rogue.issuer).status_code == 303


def test_another_browsers_login_is_refused(visit: Visit) -> None:
    """An attacker sends his own answer to his victim, whose deeds would then be in the attacker's account."""
    state = visit.rogue.begun(visit.browser.get("/auth/oidc/login").headers["location"])
    with httpx.Client(base_url=visit.browser.base_url, timeout=30) as victim:
        query = {"state": state, "code": "good"}
        refused(victim.get("/auth/oidc/callback", params=query), "no login is under way")
        victim.get("/auth/oidc/login")
        refused(victim.get("/auth/oidc/callback", params=query), "another browser's")
    visit.browser.cookies.set("brokerflow_login", "bm8gc2VhbGVkIGZsb3c=")
    refused(visit.browser.get("/auth/oidc/callback", params=query), "no login is under way")


def test_a_code_is_good_once(visit: Visit) -> None:
    state = visit.rogue.begun(visit.browser.get("/auth/oidc/login").headers["location"])
    query, kept = {"state": state, "code": "good"}, dict(visit.browser.cookies)
    assert visit.browser.get("/auth/oidc/callback", params=query).status_code == 303
    refused(visit.browser.get("/auth/oidc/callback", params=query), "no login is under way")
    visit.browser.cookies.update(kept)
    refused(visit.browser.get("/auth/oidc/callback", params=query), "used before")


def test_the_address_may_come_from_userinfo(visit: Visit) -> None:
    visit.rogue.claims = {"sub": "lady", "email": None, "email_verified": None, "name": None}
    visit.rogue.userinfo = {"sub": "lady", "email": "lady@example.org", "email_verified": True, "name": " Ada\n L. "}
    assert visit.log_in().status_code == 303
    assert visit.browser.get("/api/me").json()["full_name"] == "Ada L."


def test_the_claims_of_another_person_are_refused(visit: Visit) -> None:
    visit.rogue.claims = {"email": None, "email_verified": None}
    visit.rogue.userinfo = {"sub": "another", "email": "victim@example.org", "email_verified": True}
    refused(visit.log_in(), "another person's")


def test_an_address_that_is_none_is_refused(visit: Visit) -> None:
    visit.rogue.claims = {"sub": "root", "email": "root"}
    refused(visit.log_in(), "names no email address")


def test_new_keys_are_found_but_not_sought_all_the_time(first_visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    first_visit.rogue.asked.clear()
    assert first_visit.log_in().status_code == 303
    first_visit.rogue.published, first_visit.rogue.sign = [NEXT], signed(NEXT)
    assert first_visit.log_in().status_code == 303
    assert first_visit.rogue.asked.count("/keys") == 2
    third = RSAKey.generate_key(2048, {"kid": "three", "alg": "RS256", "use": "sig"})
    first_visit.rogue.published, first_visit.rogue.sign = [third], signed(third)
    for _ in range(3):
        refused(first_visit.log_in(), "not signed by the provider")
    assert first_visit.rogue.asked.count("/keys") == 2
    monkeypatch.setattr(oidc_provider, "REFETCH_PAUSE", 0.0)
    assert first_visit.log_in().status_code == 303
    assert first_visit.rogue.asked.count("/keys") == 3
    assert first_visit.rogue.asked.count("/.well-known/openid-configuration") == 1


def test_what_is_kept_is_asked_for_again_in_time(first_visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    first_visit.rogue.asked.clear()
    monkeypatch.setattr(oidc_provider, "KEPT", 0.0)
    assert first_visit.log_in().status_code == 303
    assert first_visit.log_in().status_code == 303
    assert first_visit.rogue.asked.count("/keys") == 2


def test_a_client_secret_may_travel_in_the_form(visit: Visit) -> None:
    visit.rogue.description = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert visit.log_in().status_code == 303


def test_a_query_that_the_provider_has_is_kept(visit: Visit) -> None:
    address = urlsplit(visit.browser.get("/auth/oidc/login").headers["location"])
    assert address.query.startswith("kept=1&response_type=code&")


def unavailable(response: httpx.Response) -> None:
    problem(response, 503, "provider_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers.get_list("set-cookie") == []


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", (404, b"")),
        ("/.well-known/openid-configuration", (200, b"<html>")),
        ("/.well-known/openid-configuration", (200, b"{}")),
        ("/.well-known/openid-configuration", (302, b"")),
        ("/.well-known/openid-configuration", (200, b" " * (oidc_provider.LARGEST + 1))),
    ],
    ids=["absent", "no json", "incomplete", "redirected", "huge"],
)
def test_a_provider_that_does_not_describe_itself(visit: Visit, path: str, answer: tuple[int, bytes]) -> None:
    visit.rogue.instead[path] = answer
    unavailable(visit.browser.get("/auth/oidc/login"))
    visit.rogue.behave()
    assert visit.log_in().status_code == 303, "it recovers by itself"


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://id.example"},
        {"token_endpoint": "ftp://id.example/token"},
        {"jwks_uri": None},
        {"code_challenge_methods_supported": ["plain"]},
    ],
)
def test_a_provider_that_is_not_as_it_must_be(visit: Visit, description: Json) -> None:
    visit.rogue.description = description
    unavailable(visit.browser.get("/auth/oidc/login"))


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/token", (500, b"")),
        ("/token", (400, b'{"error": "invalid_client"}')),
        ("/token", (400, b"no")),
        ("/token", (200, b"{}")),
        ("/keys", (200, b'{"keys": []}')),
        ("/keys", (200, b'{"keys": [{"kty": "RSA"}]}')),
        ("/keys", (200, b'{"keys": 7}')),
        ("/keys", (200, b"[]")),
        ("/keys", (500, b"")),
        ("/userinfo", (401, b"{}")),
        ("/userinfo", (200, b"ey.J.w")),
    ],
)
def test_a_provider_that_fails_on_the_way_back(visit: Visit, path: str, answer: tuple[int, bytes]) -> None:
    visit.rogue.claims, visit.rogue.userinfo = {"email_verified": None}, {}
    visit.rogue.instead[path] = answer
    unavailable(visit.log_in())


@pytest.mark.parametrize("code", ["server_error", "temporarily_unavailable"])
def test_a_provider_that_says_it_is_down(visit: Visit, code: str) -> None:
    unavailable(visit.log_in(error=code, code=None))


def test_a_provider_that_hangs_is_given_up(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc_provider, "PATIENCE", 0.2)
    begun = visit.browser.get("/auth/oidc/login")
    visit.rogue.silent = True
    started = time.monotonic()
    query = {"state": visit.rogue.begun(begun.headers["location"]), "code": "good"}
    unavailable(visit.browser.get("/auth/oidc/callback", params=query))
    assert time.monotonic() - started < 5
    visit.rogue.gone.set()


def test_a_lost_database_is_told_as_such(serve: Serve, rogue: Rogue, look: Look) -> None:
    rogue.behave()
    with (
        serve(
            rogue.issuer, SECRET, login_url=SecretStr("postgresql://brokerflow_login@127.0.0.1:1/nothing")
        ) as address,
        httpx.Client(base_url=address, timeout=30) as browser,
    ):
        problem(Visit(browser, rogue, look).log_in(), 503, "database_unavailable")
