"""Logging in at a real OpenID provider, as a browser does."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.apiauth import oidc_flows
from app.errors import Refusal
from app.sealing import Sealer
from tests.api.conftest import PASSWORD, Json, Look, bearer, created, log_in, problem, register, serving
from tests.api.steps import count
from tests.conftest import Database
from tests.oidc.conftest import Browser, RealProvider, Serve, Site
from tests.redis import running_redis

ADA = "ada@example.org"


def refused(response: httpx.Response, reason: str) -> None:
    """Check that a login was refused for this reason."""
    assert reason in problem(response, 401, "unauthenticated")["detail"]


def log_in_with(client: httpx.Client, password: str) -> int:
    return client.post("/auth/login", json={"email": ADA, "password": password}).status_code


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """Somebody at the service without a browser."""
    with httpx.Client(base_url=site.address, timeout=30) as client:
        yield client


def test_a_person_logs_in_and_is_a_user_from_then_on(site: Site, browser: Browser, look: Look) -> None:
    done = browser.come_back(browser.log_in_at(site.address, ADA))
    assert (done.status_code, done.headers["location"]) == (303, "/api/me")
    me = browser.get(f"{site.address}/api/me").json()
    assert (me["email"], me["full_name"]) == (ADA, "ada of the provider")
    whoami = browser.get(f"{site.address}/api/whoami").json()
    assert (whoami["kind"], whoami["organization_id"]) == ("session", None)
    with Browser(timeout=30) as another:
        another.come_back(another.log_in_at(site.address, ADA))
        assert another.get(f"{site.address}/api/me").json() == me
    trail = look.execute("select action, subject, outcome from shared.audit_log order by id").fetchall()
    subject = f"user/{me['id']}"
    assert trail == [("identity.link", subject, "done"), *[("session.open", subject, "done")] * 2]
    assert look.execute("select issuer, subject from apiauth.identities").fetchall() == [(site.provider.issuer, ADA)]


def test_the_session_cookie_is_like_that_of_a_password(site: Site, browser: Browser, client: httpx.Client) -> None:
    back = browser.log_in_at(site.address, ADA)
    flow, session = browser.come_back(back).headers.get_list("set-cookie")[::-1]
    register(client, "rita@north.example")
    login = client.post("/auth/login", json={"email": "rita@north.example", "password": PASSWORD})
    assert session.partition(";")[2] == login.headers["set-cookie"].partition(";")[2]
    assert session.startswith("brokerflow_session=bf_ses_")
    assert flow.startswith("brokerflow_login=")
    assert "Max-Age=0" in flow


def test_the_provider_is_asked_as_it_should_be(site: Site, browser: Browser) -> None:
    begun = browser.get(f"{site.address}/auth/oidc/login")
    query = {name: value for name, [value] in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    secrets = [query.pop(name) for name in ("state", "nonce", "code_challenge")]
    assert query == {
        "response_type": "code",
        "client_id": "brokerflow",
        "redirect_uri": f"{site.address}/auth/oidc/callback",
        "scope": "openid email profile",
        "code_challenge_method": "S256",
    }
    assert len(set(secrets)) == 3
    assert all(len(secret) == 43 for secret in secrets)
    [cookie] = begun.headers.get_list("set-cookie")
    assert not any(secret in cookie for secret in secrets), "it is sealed"
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=600"} <= set(cookie.split("; "))
    assert begun.headers["cache-control"] == "no-store"
    assert begun.headers["referrer-policy"] == "no-referrer"


def test_a_login_may_be_cancelled(site: Site, browser: Browser, look: Look) -> None:
    told = problem(browser.come_back(browser.cancel_at(site.address)), 401, "unauthenticated")
    assert told["detail"] == "The login was cancelled at the provider."
    assert count(look, "select count(*) from shared.users") == 0


def test_an_address_that_the_provider_has_not_verified_opens_nothing(site: Site, browser: Browser, look: Look) -> None:
    refused(browser.come_back(browser.log_in_at(site.address, "unverified-ada@example.org")), "not verified")
    assert count(look, "select count(*) from shared.users") == 0


def test_a_code_is_worth_one_session(site: Site, browser: Browser, look: Look) -> None:
    back = browser.log_in_at(site.address, ADA)
    kept = browser.cookies.get("brokerflow_login")
    assert browser.come_back(back).status_code == 303
    browser.cookies.set("brokerflow_login", kept or "")
    refused(browser.come_back(back), "used before")
    assert count(look, "select count(*) from apiauth.sessions") == 1


def test_the_answer_to_another_browser_is_refused(site: Site, browser: Browser) -> None:
    """An attacker sends his own answer to his victim, whose deeds would then be in the attacker's account."""
    back = browser.log_in_at(site.address, "attacker@example.org")
    with Browser(timeout=30) as victim:
        refused(victim.come_back(back), "no login is under way")
        victim.get(f"{site.address}/auth/oidc/login")
        refused(victim.come_back(back), "another browser's")


def test_who_registered_the_address_before_is_put_out(site: Site, browser: Browser, client: httpx.Client) -> None:
    """He never showed that it is his: he may have been waiting for its owner."""
    user = register(client, ADA)
    session = log_in(client, ADA)
    body: Json = {"name": "x", "expires_in_days": 1}
    token = created(client.post("/api/tokens", json=body, headers=bearer(session)))["token"]
    browser.come_back(browser.log_in_at(site.address, ADA))
    assert browser.get(f"{site.address}/api/me").json() == user
    assert log_in_with(client, PASSWORD) == 401
    for credential in (session, token):
        problem(client.get("/api/me", headers=bearer(credential)), 401, "unauthenticated")


def test_a_session_in_redis_is_opened_alike(serve: Serve, provider: RealProvider, browser: Browser, look: Look) -> None:
    """And one that lives there shows that the account is the same person's."""
    with running_redis() as redis, serve(provider.issuer, provider.secret, session_url=redis.url) as address:
        with httpx.Client(base_url=address, timeout=30) as client:
            register(client, ADA)
        assert browser.post(f"{address}/auth/login", json={"email": ADA, "password": PASSWORD}).status_code == 200
        browser.come_back(browser.log_in_at(address, ADA))
        assert browser.get(f"{address}/api/me").json()["email"] == ADA
        assert count(look, "select count(*) from apiauth.sessions") == 0
        assert count(look, "select count(*) from apiauth.passwords") == 1, "he was disowned"


def test_who_is_logged_in_already_keeps_his_password(site: Site, browser: Browser, client: httpx.Client) -> None:
    user = register(client, ADA)
    assert browser.post(f"{site.address}/auth/login", json={"email": ADA, "password": PASSWORD}).status_code == 200
    browser.come_back(browser.log_in_at(site.address, ADA))
    assert browser.get(f"{site.address}/api/me").json() == user
    assert log_in_with(client, PASSWORD) == 200


def test_the_session_of_another_does_not_help(site: Site, browser: Browser, client: httpx.Client) -> None:
    register(client, ADA)
    register(client, "rita@north.example")
    body = {"email": "rita@north.example", "password": PASSWORD}
    assert browser.post(f"{site.address}/auth/login", json=body).status_code == 200
    browser.come_back(browser.log_in_at(site.address, ADA))
    assert browser.get(f"{site.address}/api/me").json()["email"] == ADA
    assert log_in_with(client, PASSWORD) == 401


def test_new_keys_of_the_provider_are_found(site: Site, browser: Browser) -> None:
    assert browser.come_back(browser.log_in_at(site.address, ADA)).status_code == 303
    site.provider.stop()
    site.provider.start()
    with Browser(timeout=30) as another:
        assert another.come_back(another.log_in_at(site.address, ADA)).status_code == 303


def test_a_provider_that_is_down_is_told_and_comes_back(site: Site, browser: Browser) -> None:
    site.provider.stop()
    response = browser.get(f"{site.address}/auth/oidc/login")
    problem(response, 503, "provider_unavailable")
    assert response.headers["retry-after"]
    site.provider.start()
    back = browser.log_in_at(site.address, ADA)
    site.provider.stop()
    problem(browser.come_back(back), 503, "provider_unavailable")
    assert browser.get(f"{site.address}/healthz").status_code == 200
    site.provider.start()


def test_it_ends_where_it_was_to_end(site: Site, browser: Browser) -> None:
    for path in ("/schema", "/a/b?c=d&e=%20f#g", "/"):
        assert browser.come_back(browser.log_in_at(site.address, ADA, next=path)).headers["location"] == path


ELSEWHERE = (
    "", "//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "evil",
    "javascript:alert(1)", "/\r\nSet-Cookie: a=b", "/\u2028", "//", "/\0", "/a" * 1001, "@evil.example", " /", "/ ",
)  # fmt: skip


def test_it_never_ends_on_another_site(site: Site, browser: Browser) -> None:
    for path in ELSEWHERE:
        told = problem(browser.get(f"{site.address}/auth/oidc/login", params={"next": path}), 422, "invalid")
        assert told["errors"] == [{"field": "next", "message": "is not a path of this service"}], path


def test_attempts_have_a_limit(serve: Serve, site: Site, browser: Browser) -> None:
    with serve(site.provider.issuer, site.provider.secret, login_limit=2) as address:
        for _ in range(2):
            refused(browser.come_back(browser.cancel_at(address)), "cancelled")
        problem(browser.come_back(browser.cancel_at(address)), 429, "too_many_requests")


def test_without_a_provider_there_is_no_such_login(database: Database, tmp_path: Path) -> None:
    with serving(database, tmp_path) as address, httpx.Client(base_url=address) as client:
        for path in ("/auth/oidc/login", "/auth/oidc/callback"):
            assert "log in with a password" in problem(client.get(path), 404, "not_found")["detail"]


def test_a_login_that_took_too_long_is_refused() -> None:
    sealer = Sealer(bytes(32), oidc_flows.PURPOSE)
    flow = oidc_flows.begin("/")
    kept = oidc_flows.cookie(flow, sealer, production=True)
    assert kept.key == "__Host-brokerflow_login"
    assert kept.secure
    assert oidc_flows.opened(kept.value, flow.state, sealer) == flow
    late = oidc_flows.Flow(flow.state, flow.nonce, flow.verifier, flow.path, time.time() - 1)
    with pytest.raises(Refusal, match="ten minutes"):
        oidc_flows.opened(oidc_flows.cookie(late, sealer, production=True).value, flow.state, sealer)
    with pytest.raises(Refusal, match="no login is under way"):
        oidc_flows.opened(kept.value, flow.state, Sealer(bytes(32), "another purpose"))
