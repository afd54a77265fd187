"""People register, log in and out; their sessions end in time; nothing tells who has an account."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from app import queries
from app.apiauth import passwords, routes
from app.shared import tokens
from tests.api.conftest import (
    FAST,
    PASSWORD,
    Caller,
    Look,
    at_once,
    bearer,
    created,
    fields,
    log_in,
    problem,
    register,
    register_and_login,
    serving,
)
from tests.conftest import Database

Enrol = Callable[..., Caller]


def sessions(look: Look) -> int:
    row = look.execute("select count(*) from apiauth.sessions").fetchone()
    assert row is not None
    return int(row[0])


def test_who_registers_and_logs_in_reads_himself(client: httpx.Client) -> None:
    user = register(client, "rita@north.example")
    response = client.post("/auth/login", json={"email": "rita@north.example", "password": PASSWORD})
    answer = response.json()
    assert answer.keys() == {"token", "expires_at", "user"}
    assert answer["user"] == user
    assert tokens.prefix_of(answer["token"]) is tokens.Prefix.SESSION
    assert client.get("/api/me", headers=bearer(answer["token"])).json() == user


def test_a_new_user_has_no_organization_and_no_role(enrol: Enrol) -> None:
    whoami = enrol("rita").get("/api/whoami").json()
    assert whoami["kind"] == "session"
    assert whoami["is_platform_admin"] is False
    nothing = ("organization_id", "organization", "role", "environment", "scopes")
    assert [whoami[name] for name in nothing] == [None] * len(nothing)


@pytest.mark.parametrize("field", ["role", "is_platform_admin", "organization_id", "id"])
def test_nobody_chooses_a_role_by_registering(client: httpx.Client, look: Look, field: str) -> None:
    body = {"email": "eve@east.example", "password": PASSWORD, "full_name": "Eve", field: "owner"}
    assert fields(problem(client.post("/auth/register", json=body), 422, "invalid")) == [field]
    assert look.execute("select from shared.users").fetchall() == []


@pytest.mark.parametrize(
    "again", ["rita@north.example", "RITA@North.Example", "\uff52\uff49\uff54\uff41@north.example"]
)
def test_an_email_is_taken_in_any_case_and_form(client: httpx.Client, again: str) -> None:
    register(client, "rita@north.example")
    body = {"email": again, "password": PASSWORD, "full_name": "Rita"}
    assert fields(problem(client.post("/auth/register", json=body), 409, "conflict")) == ["email"]


def test_an_accented_email_is_one_in_every_unicode_form(client: httpx.Client) -> None:
    register(client, "ren\u00e9e@north.example")
    body = {"email": "rene\u0301e@north.example", "password": PASSWORD, "full_name": "Renée"}
    problem(client.post("/auth/register", json=body), 409, "conflict")
    assert log_in(client, "RENE\u0301E@north.example")


def test_of_those_who_register_an_email_at_once_one_has_it(client: httpx.Client, look: Look) -> None:
    def attempt(email: str) -> Callable[[], int]:
        body = {"email": email, "password": PASSWORD, "full_name": "Rita"}
        return lambda: client.post("/auth/register", json=body).status_code

    statuses = at_once([attempt(email) for email in ("rita@n.example", "Rita@n.example") * 4])
    assert sorted(statuses) == [201] + [409] * 7
    assert look.execute("select count(*) from apiauth.passwords").fetchone() == (1,)


@pytest.mark.parametrize(
    "email", ["rita", "rita@", "@north.example", "rita@north", "ri ta@north.example", "a@b@c.de", ""]
)
def test_what_is_no_address_is_refused_by_field(client: httpx.Client, email: str) -> None:
    body = {"email": email, "password": PASSWORD, "full_name": "Rita"}
    assert fields(problem(client.post("/auth/register", json=body), 422, "invalid")) == ["email"]


def test_a_name_is_present_and_not_endless(client: httpx.Client) -> None:
    for name in ("", " \n", "x" * 201):
        body = {"email": "rita@north.example", "password": PASSWORD, "full_name": name}
        assert fields(problem(client.post("/auth/register", json=body), 422, "invalid")) == ["full_name"]


def test_a_password_has_eight_to_1024_characters_of_any_kind(client: httpx.Client) -> None:
    for password in ("seven77", "x" * 1025):
        body = {"email": "rita@north.example", "password": password, "full_name": "Rita"}
        assert fields(problem(client.post("/auth/register", json=body), 422, "invalid")) == ["password"]
    for number, password in enumerate(("        ", "x" * 1024, "\x07\t\n🔑🔑🔑🔑🔑", "пароль-пароль")):
        register(client, f"{number}@north.example", password)
        assert log_in(client, f"{number}@north.example", password)


def test_a_password_is_the_same_on_every_keyboard(client: httpx.Client) -> None:
    register(client, "rita@north.example", "cre\u0300me bru\u0302le\u0301e")
    assert log_in(client, "rita@north.example", "cr\u00e8me br\u00fbl\u00e9e")


def test_a_wrong_password_and_an_unknown_email_are_one_answer(client: httpx.Client, look: Look) -> None:
    register(client, "rita@north.example")
    answers = []
    for email, password in (("rita@north.example", PASSWORD + "!"), ("nobody@north.example", PASSWORD), ("", "x")):
        response = client.post("/auth/login", json={"email": email, "password": password})
        answers.append(problem(response, 401, "unauthenticated") | {"request_id": ""})
        assert "set-cookie" not in response.headers
    assert answers[1:] == answers[:1] * 2
    assert sessions(look) == 0


def test_a_wrong_password_and_an_unknown_email_take_the_same_work(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same queries and the same argon2id: counted, since time would say it on a quiet machine only."""
    register(client, "rita@north.example")
    work: list[tuple[object, ...]] = []
    salts: list[bytes] = []
    stretched, asked = passwords._stretched, queries._rows

    def stretch(password: bytes, salt: bytes, cost: passwords.Cost) -> bytes:
        work.append(("argon2id", cost, len(password), len(salt)))
        salts.append(salt)
        return stretched(password, salt, cost)

    async def ask(db: queries.Connection, query: queries.Query, arguments: Mapping[str, object]) -> list[Any]:
        work.append((query.name, *arguments))
        return await asked(db, query, arguments)

    monkeypatch.setattr(passwords, "_stretched", stretch)
    monkeypatch.setattr(queries, "_rows", ask)

    def work_of(email: str) -> list[tuple[object, ...]]:
        work.clear()
        problem(
            client.post("/auth/login", json={"email": email, "password": "not the password"}), 401, "unauthenticated"
        )
        return [*work]

    known, unknown = work_of("rita@north.example"), work_of("nobody@north.example")
    assert known == unknown == work_of("nobody@north.example")
    assert [name for name, *_ in known][-3:] == ["find_stretching", "argon2id", "open_session"]
    assert salts[1] == salts[2] != salts[0], "each email has a salt of its own, and keeps it"


def test_a_password_costs_what_rfc_9106_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert passwords.COST == FAST, "the fixture spares the other tests"
    monkeypatch.undo()
    from argon2.low_level import Type, hash_secret_raw  # noqa: PLC0415

    cost = passwords.Cost(3, 64 * 1024)
    expected = hash_secret_raw(b"password", b"s" * 16, 3, 65536, 1, 32, Type.ID)
    assert passwords._stretched(b"password", b"s" * 16, cost) == expected


def test_what_a_password_costs_may_rise_and_nobody_is_locked_out(
    client: httpx.Client, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    for email in ("rita@north.example", "seth@south.example"):
        register(client, email)
    dearer = passwords.Cost(rounds=2, kibibytes=16)
    monkeypatch.setattr(passwords, "COST", dearer)
    register(client, "tom@north.example")
    wrong = {"email": "rita@north.example", "password": "not the password"}
    problem(client.post("/auth/login", json=wrong), 401, "unauthenticated")
    assert kept(look) == {"rita": FAST.method, "seth": FAST.method, "tom": dearer.method}
    for _ in range(2):
        assert log_in(client, "rita@north.example")
    assert log_in(client, "tom@north.example")
    assert kept(look) == {"rita": dearer.method, "seth": FAST.method, "tom": dearer.method}
    monkeypatch.setattr(passwords, "COST", FAST)
    assert log_in(client, "rita@north.example"), "and fall again"


def kept(look: Look) -> dict[str, str]:
    """How each password is kept, by the name of whose it is."""
    statement = "select split_part(email, '@', 1), method from apiauth.passwords join shared.users on id = user_id"
    return dict(look.execute(statement.encode()).fetchall())


def test_a_password_that_costs_more_finds_no_place_and_is_proved_all_the_same(
    client: httpx.Client, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(client, "rita@north.example")
    monkeypatch.setattr(passwords, "COST", passwords.Cost(rounds=2, kibibytes=16))
    opened, taken = routes._open_session, []

    async def crowded(*arguments: Any) -> Any:
        while passwords._places.acquire(blocking=False):
            taken.append(True)
        return await opened(*arguments)

    monkeypatch.setattr(routes, "_open_session", crowded)
    try:
        assert log_in(client, "rita@north.example")
        assert kept(look) == {"rita": FAST.method}
    finally:
        passwords._places.release(len(taken))


def test_too_many_logins_at_once_are_told_to_come_back(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(passwords.AT_ONCE + passwords.WAITING):
        assert passwords._places.acquire(blocking=False)
    try:
        response = client.post("/auth/login", json={"email": "rita@north.example", "password": PASSWORD})
    finally:
        passwords._places.release(passwords.AT_ONCE + passwords.WAITING)
    problem(response, 429, "too_many_requests")
    assert int(response.headers["retry-after"]) > 0
    register_and_login(client, "rita@north.example")


def test_a_login_while_logged_in_makes_another_session(client: httpx.Client, look: Look) -> None:
    first = register_and_login(client, "rita@north.example")
    body = {"email": "rita@north.example", "password": PASSWORD}
    second = client.post("/auth/login", json=body, headers=bearer(first)).json()["token"]
    assert first != second
    assert [client.get("/api/me", headers=bearer(token)).status_code for token in (first, second)] == [200, 200]
    assert sessions(look) == 2


def test_logging_out_ends_this_session_alone(client: httpx.Client) -> None:
    first, second = register_and_login(client, "rita@north.example"), log_in(client, "rita@north.example")
    response = client.post("/auth/logout", headers=bearer(first))
    assert (response.status_code, response.content) == (204, b"")
    problem(client.get("/api/me", headers=bearer(first)), 401, "unauthenticated")
    problem(client.post("/auth/logout", headers=bearer(first)), 401, "unauthenticated")
    assert client.get("/api/me", headers=bearer(second)).is_success


def test_who_logs_out_twice_at_once_is_out(client: httpx.Client) -> None:
    token = register_and_login(client, "rita@north.example")
    statuses = at_once([lambda: client.post("/auth/logout", headers=bearer(token)).status_code] * 6)
    assert set(statuses) <= {204, 401}
    assert 204 in statuses
    problem(client.get("/api/me", headers=bearer(token)), 401, "unauthenticated")


def test_a_token_is_no_session_that_could_log_out(enrol: Enrol) -> None:
    rita = enrol("rita")
    token = created(rita.post("/api/tokens", json={"name": "n", "expires_in_days": 1}))["token"]
    problem(rita.post("/auth/logout", headers=bearer(token)), 401, "unauthenticated")
    assert rita.get("/api/me", headers=bearer(token)).is_success


def test_an_idle_session_ends(client: httpx.Client, look: Look) -> None:
    token = register_and_login(client, "rita@north.example")
    look.execute("update apiauth.sessions set last_seen_at = last_seen_at - idle + interval '1 minute'")
    assert client.get("/api/me", headers=bearer(token)).is_success
    row = look.execute("select last_seen_at > now() - interval '1 minute' from apiauth.sessions").fetchone()
    assert row == (True,), "being seen postpones idleness"
    look.execute("update apiauth.sessions set last_seen_at = last_seen_at - idle")
    problem(client.get("/api/me", headers=bearer(token)), 401, "unauthenticated")


def test_no_activity_keeps_a_session_beyond_its_end(client: httpx.Client, look: Look) -> None:
    token = register_and_login(client, "rita@north.example")
    look.execute("update apiauth.sessions set expires_at = now(), created_at = now() - interval '30 days'")
    problem(client.get("/api/me", headers=bearer(token)), 401, "unauthenticated")


def test_the_settings_say_how_long_a_session_lives(database: Database, tmp_path: Path, look: Look) -> None:
    with (
        serving(database, tmp_path, session_idle=60, session_absolute=120) as address,
        httpx.Client(base_url=address) as client,
    ):
        token = register_and_login(client, "rita@north.example")
        row = look.execute("select idle::text, (expires_at - created_at)::text from apiauth.sessions").fetchone()
        assert row == ("00:01:00", "00:02:00")
        look.execute("update apiauth.sessions set last_seen_at = last_seen_at - interval '61 seconds'")
        problem(client.get("/api/me", headers=bearer(token)), 401, "unauthenticated")


def test_the_longest_session_opens_every_time(client: httpx.Client) -> None:
    register(client, "rita@north.example")
    for _ in range(100):  # thirty days are the default and the longest that the database admits
        log_in(client, "rita@north.example")


def test_a_session_dies_with_its_user(client: httpx.Client, look: Look) -> None:
    token = register_and_login(client, "rita@north.example")
    look.execute("delete from shared.users")
    problem(client.get("/api/me", headers=bearer(token)), 401, "unauthenticated")


def test_the_cookie_is_a_session_too(client: httpx.Client) -> None:
    register(client, "rita@north.example")
    response = client.post("/auth/login", json={"email": "rita@north.example", "password": PASSWORD})
    cookie = response.headers["set-cookie"]
    assert cookie.startswith(f"brokerflow_session={response.json()['token']};")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=2592000"} <= set(cookie.split("; "))
    assert client.get("/api/whoami").json()["kind"] == "session"


def test_the_cookie_changes_things_from_this_origin_only(client: httpx.Client, look: Look) -> None:
    register(client, "rita@north.example")
    client.post("/auth/login", json={"email": "rita@north.example", "password": PASSWORD})
    body = {"title": "North", "slug": "north"}
    port = client.base_url.port
    for origin in (None, "null", "https://evil.example", "http://127.0.0.1", f"http://127.0.0.1:{port}.evil.example"):
        headers = {} if origin is None else {"Origin": origin}
        problem(client.post("/api/organizations", json=body, headers=headers), 403, "forbidden")
        problem(client.post("/auth/logout", headers=headers), 403, "forbidden")
    assert look.execute("select from shared.organizations").fetchall() == []
    created(client.post("/api/organizations", json=body, headers={"Origin": f"http://127.0.0.1:{port}"}))


def test_logging_out_takes_the_cookie_back(client: httpx.Client) -> None:
    register(client, "rita@north.example")
    client.post("/auth/login", json={"email": "rita@north.example", "password": PASSWORD})
    origin = str(client.base_url).rstrip("/")
    assert client.post("/auth/logout", headers={"Origin": origin}).status_code == 204
    assert not client.cookies
    problem(client.get("/api/me"), 401, "unauthenticated")


def test_in_production_the_cookie_is_bound_to_this_host_and_to_tls(database: Database, tmp_path: Path) -> None:
    secret = base64.b64encode(bytes(32)).decode()
    settings = {
        "env": "production",
        "given_master_key": SecretStr(secret),
        "given_esign_secret": SecretStr(f"whsec_{secret}"),
    }
    with serving(database, tmp_path, **settings) as address, httpx.Client(base_url=address) as client:
        register(client, "rita@north.example")
        response = client.post("/auth/login", json={"email": "rita@north.example", "password": PASSWORD})
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("__Host-brokerflow_session=")
        assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
        assert "Domain" not in cookie


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Basic cml0YTpwYXNz",
        "Bearer bf_ses_short",
        "Bearer bf_ses_" + "0" * 40,
        "Bearer \xff",
        "x",
    ],
)
def test_what_is_no_credential_is_401(client: httpx.Client, authorization: str) -> None:
    response = client.get("/api/me", headers={b"Authorization": authorization.encode("latin-1")})
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_token_that_was_never_issued_is_401(client: httpx.Client) -> None:
    for prefix in tokens.Prefix:
        problem(client.get("/api/me", headers=bearer(tokens.mint(prefix))), 401, "unauthenticated")


def stored(look: Look) -> str:
    """Everything in every table, as text."""
    schemas = ["shared", "apiauth", "secretstore", "agreement", "vote"]
    tables = look.execute(
        "select format('%%I.%%I', schemaname, tablename) from pg_tables where schemaname = any (%s)", [schemas]
    ).fetchall()
    rows: list[tuple[Any, ...]] = []
    for (table,) in tables:
        rows += look.execute(f"select t::text from {table} as t").fetchall()
    return "\n".join(str(row) for (row,) in rows)


def secrets_of(token: str) -> list[str]:
    """What would let somebody in: the token, and the digest that an entrance takes."""
    return [token, token.encode().hex(), hashlib.sha256(token.encode()).hexdigest()]


def test_nothing_at_rest_lets_anybody_in(
    enrol: Enrol, database: Database, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    stretched = passwords._stretched

    def observed(password: bytes, salt: bytes, cost: passwords.Cost) -> bytes:
        key = stretched(password, salt, cost)
        keys.append(key.hex())
        return key

    monkeypatch.setattr(passwords, "_stretched", observed)
    rita = enrol("rita", organization="north")
    body = {"name": "n", "expires_in_days": 1}
    token = created(rita.post("/api/tokens", json=body, headers={"Idempotency-Key": "k"}))["token"]
    everything = stored(look)
    assert "rita@north.example" in everything
    assert len(keys) == 2
    for secret in [*secrets_of(rita.token), *secrets_of(token), *keys, PASSWORD, PASSWORD.encode().hex()]:
        assert secret not in everything

    with psycopg.connect(database.app_url, autocommit=True) as thief:
        for column in ("apiauth.sessions.digest", "apiauth.personal_tokens.digest", "apiauth.passwords.key_digest"):
            table, _, name = column.rpartition(".")
            for (digest,) in look.execute(f"select {name} from {table}").fetchall():
                for entrance in ("enter_session", "enter_token", "enter_esign"):
                    with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
                        thief.execute(f"select apiauth.{entrance}(%s)", [digest])
                with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
                    thief.execute(
                        "select apiauth.open_session(%s, %s, '\\x01', '1 hour', '1 day')", [rita.email, digest]
                    )


def test_no_log_holds_a_password_or_a_token(
    enrol: Enrol, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    rita = enrol("rita", organization="north")
    token = created(rita.post("/api/tokens", json={"name": "n", "expires_in_days": 1}))["token"]
    rita.get("/api/me", headers=bearer(token))
    client.get("/api/me", headers={"Cookie": f"brokerflow_session={rita.token}"})
    client.post("/auth/login", json={"email": rita.email, "password": PASSWORD + "!"})
    client.post("/auth/login", json={"email": rita.email, "password": PASSWORD, "mistake": PASSWORD})
    client.post("/auth/register", json={"email": rita.email, "password": PASSWORD, "full_name": "R"})
    client.get("/api/me", headers=bearer(token[:-1]))
    rita.post("/auth/logout")
    # What the client of these tests logs of itself is not the service's.
    log = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert log.count("/auth/login") >= 3, "the requests were logged"
    for secret in [*secrets_of(rita.token), *secrets_of(token), PASSWORD, token[:-1], rita.email]:
        assert secret not in log


def test_logins_and_logouts_are_in_the_audit_log(enrol: Enrol, look: Look) -> None:
    rita = enrol("rita")
    rita.post("/auth/logout")
    rows = look.execute(
        "select action, outcome from shared.audit_log where subject = %s order by id", [f"user/{rita.user_id}"]
    )
    assert rows.fetchall() == [("session.open", "done"), ("session.close", "done")]
