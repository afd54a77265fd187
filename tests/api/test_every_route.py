"""Every route with every kind of credential, valid, ended, elsewhere and without the scope: its exact answer."""

import uuid
from collections.abc import Callable, Iterator
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
from tests.api.conftest import Caller, Json, Look, bearer, created, log_in

SCOPES = {
    "accounts:read", "accounts:write", "agreements:read", "agreements:write", "contacts:read", "organizations:write",
    "secrets:read", "secrets:write", "tokens:write", "votes:write",
}  # fmt: skip
IMPERSONAL = SCOPES - {"agreements:write", "contacts:read", "votes:write"}
# A secret key's are fixed; a public key has none.
OF_SECRET_KEYS = {"accounts:read", "accounts:write", "agreements:read", "secrets:read", "secrets:write", "tokens:write"}

# What a request ends when it is let in: a credential that is asked for once more each time.
ENDING: dict[str, Kind] = {
    "DELETE /api/tokens/current": "personal_token", "POST /auth/logout": "session", "DELETE /api/sessions": "session",
}  # fmt: skip
REVOKED = "revoked_at = now()"


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
    """A credential that somebody holds; scopes None are all."""

    name: str
    kind: Kind
    token: str
    scopes: set[str] | None
    is_live: bool = True


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


def call(client: httpx.Client, route: Route, token: str, **headers: str) -> tuple[int, str]:
    """Return the status and the code of a problem; a stream is left at its first byte."""
    path = "/".join(str(uuid.uuid4()) if part.startswith("{") else part for part in route.path.split("/"))
    json = None if route.body is None else route.body
    with client.stream(route.method, path, json=json, headers={**bearer(token), **headers}) as response:
        problem = {} if response.status_code < 400 else msgspec.json.decode(response.read())
        return response.status_code, problem.get("code", "")


def expected(route: Route, held: Held, *, elsewhere: bool) -> tuple[int, str] | None:
    """Tell the answer; None for what the entrance lets in."""
    if held.kind not in route.taken.kinds or not held.is_live:
        return 401, "unauthenticated"
    if elsewhere:
        return 403, "forbidden"
    if held.scopes is not None and not set(route.taken.scopes) <= held.scopes:
        return 403, "insufficient_scope"
    return None


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

    def jwt(self, environment: Json, scopes: set[str], **body: object) -> str:
        """Make a JWT with an environment's secret key."""
        path, headers = f"/api/environments/{environment['id']}/jwt", bearer(environment["secret_key"])
        return str(created(self.owner.post(path, json={"scopes": sorted(scopes)} | body, headers=headers))["token"])


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
    yield Held("public in production", "public_key", production["public_key"], set(), is_live=False)


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
            yield Held(f"{kind}: {end}", kind, token, None, is_live=False)
    environment = organization.environment("STAGING")
    jwt, spent = (organization.jwt(environment, set(), one_time=one_time) for one_time in (False, True))
    for token in (jwt, spent):
        assert client.get("/api/whoami", headers=bearer(token)).is_success
    yield Held("jwt: spent", "jwt", spent, None, is_live=False)
    rotate = f"/api/environments/{environment['id']}/keys/rotate"
    assert organization.owner.post(rotate, json={"grace_hours": 0}).is_success
    yield Held("jwt: its key rotated", "jwt", jwt, None, is_live=False)


@pytest.fixture
def organization(enrol: Any) -> Organization:
    """The broker `north`, beside which there is `west`."""
    enrol("wanda", organization="west")
    return Organization(enrol("olga", organization="north", broker=True))


def test_every_route_answers_every_credential_as_it_says(
    organization: Organization, client: httpx.Client, look: Look, tmp_path: Path
) -> None:
    wrong = []
    credentials = [*live(organization), *ended(organization, client, look)]

    def again(held: Held) -> str:
        return log_in(client, organization.owner.email) if held.scopes is None else organization.personal(held.scopes)

    every = list(routes(tmp_path / "described"))
    assert len(every) > 40
    for route in every:
        assert route.taken.kinds, f"{route} says nothing of what it takes"
        for held in credentials:
            for elsewhere in (True, False):
                is_spent = held.is_live and held.kind == ENDING.get(str(route))
                token = again(held) if is_spent else held.token
                told = call(client, route, token, **({"X-Organization": "west"} if elsewhere else {}))
                answer = expected(route, held, elsewhere=elsewhere)
                is_right = told == answer if answer else told[0] not in {401, 500} and told[1] != "insufficient_scope"
                if not is_right:
                    wrong.append((str(route), held.name, elsewhere, told, answer))
    assert wrong == []
