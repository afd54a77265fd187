"""Wrong tokens, slugs, addresses, invitations and departures: each a clear problem, and nothing is written."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import msgspec
import pytest

from app.shared import tokens
from app.shared.tokens import Prefix
from tests.api.conftest import PASSWORD, Caller, Json, Look, created, fields, log_in, problem

Enrol = Callable[..., Caller]

# But for the log of what was refused.
COUNTS = """
select string_agg(format('select %L, count(*)::int from %s', oid::regclass, oid::regclass), ' union all ')
from pg_class
where relkind in ('r', 'p') and oid not in ('shared.audit_log'::regclass, 'apiauth.rate_buckets'::regclass)
    and relnamespace::regnamespace::text in ('shared', 'apiauth', 'secretstore', 'agreement', 'vote')
"""


class Case(NamedTuple):
    """A request, how it is refused, and the field that is to blame."""

    name: str
    method: str
    path: str
    body: Json | None
    status: int
    code: str
    field: str | None = None
    detail: str | None = None


@pytest.fixture
def owner(enrol: Enrol) -> Caller:
    """The founder of the organization `north`."""
    return enrol("olga", organization="north")


@contextmanager
def nothing_written(look: Look) -> Iterator[None]:
    """Compare how many rows each table has."""

    def rows() -> dict[str, int]:
        [[counts]] = look.execute(COUNTS)
        return dict(look.execute(str(counts).encode()).fetchall())

    before = rows()
    yield
    assert rows() == before


def misspelt(token: str) -> Iterator[tuple[str, bytes]]:
    """Spell a token in ways that are not it."""
    prefix, secret = token[: token.rindex("_") + 1], token[token.rindex("_") + 1 :]
    last = "0" if secret[-1] != "0" else "1"
    for name, wrong in {
        "no character": "", "one character": "b", "only the prefix": prefix, "one character less": token[:-1],
        "one character more": f"{token}0", "a wrong checksum": token[:-1] + last, "a mixed case": token.swapcase(),
        "an upper case": token.upper(), "a prefix in capitals": prefix.upper() + secret, "twice": token + token,
        "a space within": f"{prefix} {secret}", "another prefix": f"tr_xyz_{secret}", "quotes": f'"{token}"',
        "a comma": f"{token},{token}", "an underscore more": f"{prefix}_{secret[1:]}", "null": "null",
        "a million characters": "x" * 10**6, "a million good characters": prefix + "0" * 10**6,
        "a million dotted characters": "a" * 5 * 10**5 + "." + "b" * 5 * 10**5 + ".c", "dots": "..",
    }.items():  # fmt: skip
        yield name, wrong.encode()
    yield "beyond ASCII", f"{prefix}\u00e9{secret[1:]}".encode()
    yield "no UTF-8", prefix.encode() + b"\xff" + secret[1:].encode()


def send(client: httpx.Client, *headers: tuple[bytes, bytes]) -> tuple[int, Json]:
    """Send a request by hand, for no client sends such headers; return the status and the problem."""
    url = client.base_url
    lines = [b"GET /api/whoami HTTP/1.1", b"Host: x", b"Connection: close", *(b": ".join(each) for each in headers)]
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", b""]))
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer[:300]
    return int(head.split()[1]), msgspec.json.decode(body)


def test_no_misspelt_token_is_a_credential(owner: Caller, client: httpx.Client, look: Look) -> None:
    with nothing_written(look):
        for token in (owner.token, *(tokens.mint(prefix) for prefix in Prefix)):
            for name, wrong in misspelt(token):
                status, told = send(client, (b"Authorization", b"Bearer " + wrong))
                assert (status, told["code"]) == (401, "unauthenticated"), (token, name, told)
        for name, wrong in misspelt(owner.token):
            if b"," not in wrong and b'"' not in wrong:  # these end a cookie
                status, told = send(client, (b"Cookie", b"brokerflow_session=" + wrong))
                assert (status, told["code"]) == (401, "unauthenticated"), (name, told)


def test_a_token_with_a_nul_is_no_request(owner: Caller, client: httpx.Client, look: Look) -> None:
    """HTTP has no such header, so the parser refuses it and no route is asked."""
    with nothing_written(look):
        for wrong in (b"\0", owner.token.encode() + b"\0", owner.token.replace("_", "\0").encode()):
            url = client.base_url
            with socket.create_connection((url.host, url.port), timeout=10) as connection:
                connection.sendall(
                    b"GET /api/whoami HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + wrong + b"\r\n\r\n"
                )
                answer = b"".join(iter(lambda: connection.recv(65_536), b""))
            assert answer.split()[1] == b"400", answer[:300]


def test_two_credentials_are_none(owner: Caller, client: httpx.Client, look: Look) -> None:
    bearer, other = (f"Bearer {token}".encode() for token in (owner.token, tokens.mint(Prefix.PERSONAL)))
    with nothing_written(look):
        for pair in ((bearer, bearer), (bearer, other), (other, bearer), (bearer, b"")):
            status, told = send(client, *((b"Authorization", each) for each in pair))
            assert (status, told["code"]) == (400, "malformed")
        status, told = send(client, (b"Authorization", bearer), (b"authorization", bearer))
        assert (status, told["code"]) == (400, "malformed")


SLUGS = (
    "", " ", "/", "a/b", "../a", ".", "..", "a.b", "a.", "\N{HOUSE BUILDING}", "a\N{HOUSE BUILDING}", "a\u200db", "A",
    "\u0430", "\uff41", "a b", "a_b", "-a", "a-", "a--b", "a%2fb", "a\\b", "a\nb", "a\n", "a\0b", "x" * 64, "a;b", "'",
)  # fmt: skip


def test_a_slug_is_a_label_or_refused(owner: Caller, look: Look) -> None:
    organization = f"/api/organizations/{owner.organization['id']}"
    project = created(owner.post(f"{organization}/projects", json={"name": "Web", "slug": "web"}))
    routes: Sequence[tuple[str, Json]] = (
        ("/api/organizations", {"title": "T"}), (f"{organization}/projects", {"name": "N"}),
        (f"/api/projects/{project['id']}/environments", {"type": "STAGING"}),
    )  # fmt: skip
    with nothing_written(look):
        for path, body in routes:
            for slug in SLUGS:
                response = owner.post(path, json={**body, "slug": slug})
                assert fields(problem(response, 422, "invalid")) == ["slug"], (path, slug)


SPELLINGS = {
    "anna@north.example": (
        "ANNA@north.example",
        "Anna@North.Example",
        "\uff41nna@north.example",
        "anna@\uff4eorth.example",
    ),
    "j\u00e4rvi@north.example": ("J\u00c4RVI@north.example", "ja\u0308rvi@north.example", "JA\u0308RVI@NORTH.EXAMPLE"),
    "\u01f0@north.example": ("J\u030c@north.example", "j\u030c@north.example"),
    "o\ufb03ce@north.example": ("office@north.example", "OFFICE@north.example"),
}


def test_an_address_is_one_in_every_spelling(owner: Caller, client: httpx.Client, look: Look) -> None:
    for email in SPELLINGS:
        created(register(client, email))
    invitations = f"/api/organizations/{owner.organization['id']}/invitations"
    members = f"/api/organizations/{owner.organization['id']}/members"
    for email in SPELLINGS:
        created(owner.post(invitations, json={"email": email, "role": "agent"}))
    with nothing_written(look):
        for others in SPELLINGS.values():
            for email in others:
                assert fields(problem(register(client, email), 409, "conflict")) == ["email"], ascii(email)
                again = owner.post(invitations, json={"email": email, "role": "agent"})
                assert fields(problem(again, 409, "conflict")) == ["email"], ascii(email)
    for email, others in SPELLINGS.items():
        for other in others:
            assert log_in(client, other)
        created(owner.post(members, json={"email": others[-1], "role": "agent"}))
        with nothing_written(look):
            for each in (email, *others):
                told = problem(owner.post(invitations, json={"email": each, "role": "agent"}), 409, "conflict")
                assert told["detail"] == "Who is invited is a member already."


def register(client: httpx.Client, email: str) -> httpx.Response:
    return client.post("/auth/register", json={"email": email, "password": PASSWORD, "full_name": "Somebody"})


ADDRESSES = (
    "", " ", "@", "a", "a@", "@b.de", "a@b", "a b@c.de", "a@b c.de", "a@@b.de", "a@b@c.de", "a@b.de\n", "a\0@b.de",
    "a@.", f"{'a' * 250}@b.de",
)  # fmt: skip


def test_what_is_no_address_is_refused(owner: Caller, client: httpx.Client, look: Look) -> None:
    invitations = f"/api/organizations/{owner.organization['id']}/invitations"
    with nothing_written(look):
        for email in ADDRESSES:
            assert fields(problem(register(client, email), 422, "invalid")) == ["email"], ascii(email)
            response = owner.post(invitations, json={"email": email, "role": "agent"})
            assert fields(problem(response, 422, "invalid")) == ["email"], ascii(email)


def test_who_overreaches_is_refused_by_name(owner: Caller, enrol: Enrol, look: Look) -> None:
    """Who invites himself, leaves as the last owner, gives himself a role, mixes projects and environments."""
    organization = f"/api/organizations/{owner.organization['id']}"
    myself = f"{organization}/members/{owner.user_id}"
    projects = [created(owner.post(f"{organization}/projects", json={"name": "N", "slug": s})) for s in ("web", "app")]
    environment = created(
        owner.post(f"/api/projects/{projects[0]['id']}/environments", json={"slug": "e", "type": "STAGING"})
    )
    strange = f"/api/projects/{projects[1]['id']}/environments/{environment['id']}"
    last = "An organization keeps at least one owner."
    cases = [
        Case("invites himself", "POST", f"{organization}/invitations", {"email": owner.email.upper(), "role": "agent"},
             409, "conflict", None, "Nobody invites himself."),
        Case("adds himself", "POST", f"{organization}/members", {"email": owner.email, "role": "agent"},
             409, "conflict"),
        Case("leaves as the last owner", "DELETE", myself, None, 409, "conflict", None, last),
        Case("steps down", "PATCH", myself, {"role": "viewer"}, 403, "forbidden", None, "Nobody gives himself a role."),
        Case("makes an owner of nothing", "PATCH", myself, {"role": "god"}, 422, "invalid", "role"),
        Case("mixes project and environment", "GET", strange, None, 404, "not_found"),
        Case("branches where there are none", "POST", f"/api/environments/{environment['id']}/branches",
             {"name": "main"}, 422, "invalid", "environment_id"),
    ]  # fmt: skip
    with nothing_written(look):
        for case in cases:
            told = problem(owner.request(case.method, case.path, json=case.body), case.status, case.code)
            assert fields(told) == ([case.field] if case.field else []), case.name
            assert case.detail in (None, told["detail"]), case.name
    assert owner.get(f"/api/projects/{projects[0]['id']}/environments/{environment['id']}").is_success


def test_the_last_owner_stays_whoever_removes_him(owner: Caller, enrol: Enrol, look: Look) -> None:
    organization = f"/api/organizations/{owner.organization['id']}"
    admin = enrol("adam")
    created(owner.post(f"{organization}/members", json={"email": admin.email, "role": "admin"}))
    with nothing_written(look):
        for method, body in (("DELETE", None), ("PATCH", {"role": "viewer"})):
            path = f"{organization}/members/{owner.user_id}"
            problem(admin.request(method, path, json=body), 403, "forbidden")
    [row] = look.execute("select role::text from shared.memberships where user_id = %s", [owner.user_id])
    assert row == ("owner",)
