"""Every route with every kind of credential: valid, ended, elsewhere, lacking a scope or a branch: its exact answer."""

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from pydantic import SecretStr

from app.database import Kind
from app.main import create_app
from app.settings import Settings
from app.shared.credentials import Taken, taken_by
from tests.api.conftest import Caller, Json, Look, bearer, created, fields, log_in

SCOPES = {
    "accounts:read", "accounts:write", "agreements:read", "agreements:write", "contacts:read", "organizations:write",
    "secrets:read", "secrets:write", "tokens:write", "votes:write",
}  # fmt: skip
IMPERSONAL = SCOPES - {"agreements:write", "contacts:read", "votes:write"}
# A secret key's are fixed; a public key has none.
OF_SECRET_KEYS = {"accounts:read", "accounts:write", "agreements:read", "secrets:read", "secrets:write", "tokens:write"}

# What a request ends when it is let in: a credential that is asked for once more each time.
ENDING: dict[str, Kind] = {
    "DELETE /api/tokens/current": "personal_token", "DELETE /api/impersonations/current": "session",
    "POST /auth/logout": "session", "DELETE /api/sessions": "session",
}  # fmt: skip
REVOKED = "revoked_at = now()"
MAIN = {"X-Branch": "main"}
UNKNOWN = (401, "unauthenticated")

# What a route answers whom it lets in, with an example of its body and ids of nothing. Unless it stands here: to a path
# with an id that there is no such thing, to another GET a list.
ANSWERS = {
    "POST /api/agreements": (404, "not_found"),
    "POST /api/disputes": (404, "not_found"),
    "POST /api/impersonations": (403, "forbidden"),
    "DELETE /api/impersonations/current": (404, "not_found"),
    "POST /api/organizations": (409, "conflict"),
    "POST /api/referrals": (201, ""),
    "POST /api/secrets/batch": (200, ""),
    "PUT /api/secrets/{key:str}": (200, ""),
    "DELETE /api/sessions": (204, ""),
    "POST /api/tokens": (201, ""),
    "DELETE /api/tokens/current": (204, ""),
    "DELETE /api/votes/{api_identifier:str}": (200, ""),
    "PUT /api/votes/{api_identifier:str}": (200, ""),
    "GET /auth/device": (422, "invalid"),
    "POST /auth/device/decision": (404, "not_found"),
    "POST /auth/logout": (204, ""),
}


# What a platform admin is answered who acts as the user, where it is not the scopes that make the difference.
TO_IMPERSONATORS = {
    "DELETE /api/impersonations/current": (200, ""),
    "DELETE /api/sessions": (403, "forbidden"),
    "DELETE /api/sessions/{session_id:uuid}": (403, "forbidden"),
}
OF_IMPERSONATORS = {"agreements:read", "agreements:write"}


class Route(NamedTuple):
    """A route that takes a credential, and a request that it would read."""

    method: str
    path: str
    taken: Taken
    body: Any

    def __str__(self) -> str:
        """Name it as people do."""
        return f"{self.method} {self.path}"


class Held(NamedTuple):
    """A credential that somebody brings, scopes None being all; and how it is refused wherever its kind is taken."""

    name: str
    kind: Kind
    token: str
    scopes: set[str] | None = None
    headers: Mapping[str, str] = {}
    refused: tuple[int, str] | None = None
    answers: Mapping[str, tuple[int, str]] = ANSWERS


def example(schema: Json, definitions: Json) -> Any:
    """Make a value of a JSON schema."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if told := schema.get("examples") or schema.get("enum"):
        return told[0]
    if "anyOf" in schema:
        return example(schema["anyOf"][-1], definitions)
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        names = schema.get("required") or list(properties)[:1]
        return {name: example(properties[name], definitions) for name in names}
    return [example(schema["items"], definitions)] if schema.get("type") == "array" else str(uuid.uuid4())


def body_of(handler: HTTPRouteHandler) -> Any:
    data = handler.parsed_fn_signature.parameters.get("data")
    if data is None:
        return None
    schema = msgspec.json.schema(data.annotation)
    return example(schema, schema.get("$defs", {}))


def routes(home: Path) -> Iterator[Route]:
    """Name the routes that take a credential; those that end one come last."""
    app = create_app(Settings(app_url=SecretStr("postgresql://nobody@127.0.0.1:1/nothing"), home=home))
    found = [
        Route(method, route.path, taken_by(handler), body_of(handler))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS" and "actor" in handler.parsed_fn_signature.parameters
    ]
    last = {route: number for number, route in enumerate(ENDING)}
    yield from sorted(found, key=lambda route: (last.get(str(route), -1), route.path, route.method))


def ask(client: httpx.Client, route: Route, token: str, headers: Mapping[str, str]) -> tuple[int, Json]:
    """Return the status and the problem, if it is one; a stream is left at its first byte."""
    path = "/".join(str(uuid.uuid4()) if part.startswith("{") else part for part in route.path.split("/"))
    json = None if route.body is None else route.body
    with client.stream(route.method, path, json=json, headers={**bearer(token), **headers}) as response:
        problem = {} if response.status_code < 400 else msgspec.json.decode(response.read())
        return response.status_code, problem


def call(client: httpx.Client, route: Route, token: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Return the status and the code of a problem."""
    status, problem = ask(client, route, token, headers)
    return status, problem.get("code", "")


def expected(route: Route, held: Held) -> tuple[int, str]:
    """Tell the answer."""
    if held.kind not in route.taken.kinds:
        return UNKNOWN
    if held.refused is not None:
        return held.refused
    if held.scopes is not None and not set(route.taken.scopes) <= held.scopes:
        return 403, "insufficient_scope"
    return held.answers.get(str(route)) or ((404, "not_found") if "{" in route.path else (200, ""))


class Organization:
    """An organization's owner and what he can mint."""

    def __init__(self, owner: Caller) -> None:
        self.owner = owner
        self._path = f"/api/organizations/{owner.organization['id']}"

    def personal(self, scopes: set[str]) -> str:
        """Make a personal access token."""
        body = {"name": "x", "expires_in_days": 1, "scopes": sorted(scopes)}
        return str(created(self.owner.post("/api/tokens", json=body))["token"])

    def program(self, scopes: set[str]) -> str:
        """Make an organization access token."""
        body = {"name": "x", "scopes": sorted(scopes)}
        return str(created(self.owner.post(f"{self._path}/tokens", json=body))["token"])

    def environment(self, type_: str) -> Json:
        """Make an environment, with its keys."""
        slug = uuid.uuid4().hex[:8]
        project = created(self.owner.post(f"{self._path}/projects", json={"name": "x", "slug": slug}))
        body = {"slug": "e", "type": type_}
        return created(self.owner.post(f"/api/projects/{project['id']}/environments", json=body))

    def branch(self, environment: Json, name: str) -> Json:
        """Make a branch of a PREVIEW environment."""
        return created(self.owner.post(f"/api/environments/{environment['id']}/branches", json={"name": name}))

    def jwt(self, environment: Json, scopes: set[str], headers: Mapping[str, str] = {}, **body: object) -> str:
        """Make a JWT with an environment's secret key."""
        path, key = f"/api/environments/{environment['id']}/jwt", bearer(environment["secret_key"])
        response = self.owner.post(path, json={"scopes": sorted(scopes)} | body, headers={**key, **headers})
        return str(created(response)["token"])


def live(organization: Organization) -> Iterator[Held]:
    """Yield credentials of every kind, with all scopes and with as good as none."""
    yield Held("session", "session", organization.owner.token, None)
    for scopes in (SCOPES, {"secrets:read"}):
        yield Held(f"personal {len(scopes)}", "personal_token", organization.personal(scopes), scopes)
    for scopes in (IMPERSONAL, {"secrets:read"}):
        yield Held(f"organization {len(scopes)}", "organization_token", organization.program(scopes), scopes)
    staging, production = organization.environment("STAGING"), organization.environment("PRODUCTION")
    for environment in (staging, production):
        yield Held(f"secret {environment['type']}", "secret_key", environment["secret_key"], OF_SECRET_KEYS)
    for scopes in (OF_SECRET_KEYS, {"secrets:read"}):
        yield Held(f"jwt {len(scopes)}", "jwt", organization.jwt(production, scopes), scopes)
    yield Held("public", "public_key", staging["public_key"], set())


def impersonate(judge: Caller, user: Caller) -> str:
    """Let a platform admin, logged in once more, act as a user."""
    body, own = {"user_id": user.user_id, "reason": "a call"}, bearer(log_in(judge, judge.email))
    return str(created(judge.post("/api/impersonations", json=body, headers=own))["token"])


def elsewhere(held: Held) -> Held:
    """Return the same credential with the name of an organization that is not its bearer's."""
    return held._replace(name=f"{held.name} elsewhere", headers={"X-Organization": "west"}, refused=(403, "forbidden"))


def branched(organization: Organization) -> Iterator[Held]:
    """Yield credentials of a PREVIEW environment in its branches and in none, and others with a branch."""
    preview, other = organization.environment("PREVIEW"), organization.environment("PREVIEW")
    archived = organization.branch(preview, "archived")
    organization.branch(preview, "main")
    organization.branch(other, "theirs")
    path = f"/api/environments/{preview['id']}/branches/{archived['id']}"
    assert organization.owner.delete(path).status_code == 204
    branch_required = (401, "branch_required")
    jwt = organization.jwt(preview, OF_SECRET_KEYS, MAIN)
    for kind, token, scopes in (*keys(preview), ("jwt", jwt, OF_SECRET_KEYS)):
        yield Held(f"{kind} in a branch", kind, token, scopes, MAIN)
        yield Held(f"{kind} in no branch", kind, token, scopes, {}, branch_required)
        for name in ("archived", "theirs", "unknown"):
            yield Held(f"{kind} in {name}", kind, token, scopes, {"X-Branch": name}, branch_required)
    staging = organization.environment("STAGING")
    for kind, token, scopes in (
        *keys(staging), ("jwt", organization.jwt(staging, set()), set()), ("session", organization.owner.token, None),
        ("personal_token", organization.personal(SCOPES), SCOPES),
        ("organization_token", organization.program(IMPERSONAL), IMPERSONAL),
    ):  # fmt: skip
        yield Held(f"{kind} that has no branch", kind, token, scopes, MAIN, (403, "forbidden"))


def keys(environment: Json) -> list[tuple[Kind, str, set[str] | None]]:
    return [
        ("secret_key", environment["secret_key"], OF_SECRET_KEYS), ("public_key", environment["public_key"], set())
    ]  # fmt: skip


def ended(organization: Organization, client: httpx.Client, look: Look) -> Iterator[Held]:
    """Yield credentials of every kind that expired or were revoked; all of them entered once."""
    past = "created_at = now() - interval '2 days', expires_at = now()"
    rotated = "rotated_at = now(), expires_at = now()"
    kinds: list[tuple[Kind, str, list[str], Callable[[], str]]] = [
        (
            "session", "sessions", [REVOKED, past, "last_seen_at = now() - interval '9 days'"],
            lambda: log_in(client, organization.owner.email),
        ),
        ("personal_token", "personal_tokens", [REVOKED, past], lambda: organization.personal(SCOPES)),
        ("organization_token", "organization_tokens", [REVOKED, past], lambda: organization.program(IMPERSONAL)),
        ("secret_key", "environment_keys", [rotated], lambda: str(organization.environment("STAGING")["secret_key"])),
        ("public_key", "environment_keys", [rotated], lambda: str(organization.environment("STAGING")["public_key"])),
    ]  # fmt: skip
    for kind, table, ends, mint in kinds:
        for end in ends:
            token = mint()
            assert client.get("/api/whoami", headers=bearer(token)).is_success
            done = look.execute(
                f"update apiauth.{table} set {end} where digest = sha256(sha256(%s::bytea))".encode(), [token]
            )
            assert done.rowcount == 1
            yield Held(f"{kind}: {end}", kind, token, refused=UNKNOWN)
    production = organization.environment("PRODUCTION")
    yield Held("public in production", "public_key", production["public_key"], refused=UNKNOWN)
    yield from ended_jwts(organization, client)


def ended_jwts(organization: Organization, client: httpx.Client) -> Iterator[Held]:
    """Yield JWTs that expired, were used up, or whose key is no more; all of them entered once."""
    environment = organization.environment("STAGING")
    jwt, spent = (organization.jwt(environment, set(), one_time=one_time) for one_time in (False, True))
    for token in (jwt, spent):
        assert client.get("/api/whoami", headers=bearer(token)).is_success
    yield Held("jwt: spent", "jwt", spent, refused=UNKNOWN)
    brief, deadline = organization.jwt(environment, set(), expires_in=1), time.monotonic() + 10
    while client.get("/api/whoami", headers=bearer(brief)).is_success:
        assert time.monotonic() < deadline, "it does not end"
    yield Held("jwt: expired", "jwt", brief, refused=UNKNOWN)
    rotate = f"/api/environments/{environment['id']}/keys/rotate"
    assert organization.owner.post(rotate, json={"grace_hours": 0}).is_success
    yield Held("jwt: its key rotated", "jwt", jwt, refused=UNKNOWN)


@pytest.fixture
def organization(enrol: Any) -> Organization:
    """The broker `north`, beside which there is `west`."""
    enrol("wanda", organization="west")
    return Organization(enrol("olga", organization="north", broker=True))


def brought_to(route: Route, credentials: Sequence[Held]) -> Iterator[Held]:
    """Yield what is tried on a route; of a kind that it does not take, one is as good as another."""
    seen: set[Kind] = set()
    for held in credentials:
        if held.kind in route.taken.kinds or held.kind not in seen:
            yield held
        seen.add(held.kind)


def test_every_route_answers_every_credential_as_it_says(
    organization: Organization, judge: Caller, client: httpx.Client, look: Look, tmp_path: Path
) -> None:
    every, wrong = list(routes(tmp_path / "described")), []
    [founding] = [route.body for route in every if str(route) == "POST /api/organizations"]
    created(organization.owner.post("/api/organizations", json=founding))
    acting = Held(
        "acting", "session", impersonate(judge, organization.owner), OF_IMPERSONATORS,
        answers={**ANSWERS, **TO_IMPERSONATORS},
    )  # fmt: skip
    good = [*live(organization), acting]
    first = {held.kind: held for held in reversed(good)}.values()
    credentials = [*good, *map(elsewhere, first), *branched(organization), *ended(organization, client, look)]

    def again(held: Held) -> str:
        if held is acting:
            return impersonate(judge, organization.owner)
        return log_in(client, organization.owner.email) if held.scopes is None else organization.personal(held.scopes)

    assert len(every) > 40
    for route in every:
        assert route.taken.kinds, f"{route} says nothing of what it takes"
        for held in brought_to(route, credentials):
            is_spent = held.refused != UNKNOWN and held.kind == ENDING.get(str(route))
            token = again(held) if is_spent else held.token
            told, answer = call(client, route, token, held.headers), expected(route, held)
            if told != answer:
                wrong.append((str(route), held.name, told, answer))
    assert wrong == []
    assert {str(route) for route in every} >= {*ANSWERS, *ENDING}


def test_an_idempotency_key_is_promised_where_it_is_read(
    organization: Organization, client: httpx.Client, tmp_path: Path
) -> None:
    """Whoever would look for a stored answer refuses what is no key, before anything happens."""
    paths = client.get("/schema/openapi.json").json()["paths"]
    operations = {f"{method.upper()} {path}": each for path in paths for method, each in paths[path].items()}
    promised = {
        name
        for name, operation in operations.items()
        if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))
    }
    staging = organization.environment("STAGING")
    bearers: dict[Kind, str] = {
        "session": organization.owner.token, "personal_token": organization.personal(SCOPES),
        "secret_key": staging["secret_key"],
    }  # fmt: skip
    read = set()
    for route in routes(tmp_path / "described"):
        token = next(token for kind, token in bearers.items() if kind in route.taken.kinds)
        if fields(ask(client, route, token, {"Idempotency-Key": "no key"})[1]) == ["Idempotency-Key"]:
            read.add(re.sub(r":\w+}", "}", str(route)))
    assert len(read) > 30
    assert promised == read
    assert {name for name, operation in operations.items() if "idempotency_key_reused" in str(operation)} <= read
