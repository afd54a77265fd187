"""Organization access tokens: they act for an organization, never for a user, within their scopes and their time."""

import uuid
from collections.abc import Callable

import httpx
import pytest

from app.shared import tokens
from tests.api.conftest import Caller, Json, Look, add_member, bearer, created, fields, problem

Enrol = Callable[..., Caller]


@pytest.fixture
def owner(enrol: Enrol) -> Caller:
    """The founder of the broker `north`."""
    return enrol("olga", organization="north", broker=True)


@pytest.fixture
def outsider(enrol: Enrol) -> Caller:
    """The founder of another organization."""
    return enrol("wanda", organization="west")


def path(organization: Json, *rest: str) -> str:
    return "/".join([f"/api/organizations/{organization['id']}/tokens", *rest])


def mint(person: Caller, organization: Json | None = None, **body: object) -> httpx.Response:
    body = {"name": "deployment", "scopes": ["agreements:read"]} | body
    return person.post(path(organization or person.organization), json=body)


def test_a_token_is_shown_once_and_then_by_its_hint(owner: Caller) -> None:
    answer = created(mint(owner, expires_in_days=30))
    token = answer.pop("token")
    assert tokens.prefix_of(token) is tokens.Prefix.ORGANIZATION
    listed = owner.get(path(owner.organization))
    assert listed.json() == {"items": [answer | {"last_used_at": None}], "next_cursor": None}
    assert token not in listed.text


def test_it_resolves_an_organization_and_never_a_user(owner: Caller) -> None:
    token = created(mint(owner))["token"]
    told = owner.get("/api/whoami", headers=bearer(token)).json()
    assert (told["kind"], told["user_id"], told["role"]) == ("organization_token", None, None)
    assert (told["organization"], told["environment"]) == ("north", None)
    assert told["scopes"] == ["agreements:read"]
    problem(owner.get("/api/me", headers=bearer(token)), 401, "unauthenticated")


def test_it_need_not_expire_but_may(owner: Caller, look: Look) -> None:
    assert created(mint(owner))["expires_at"] is None
    token = created(mint(owner, expires_in_days=1))["token"]
    assert owner.get("/api/whoami", headers=bearer(token)).is_success
    look.execute("update apiauth.organization_tokens set created_at = now() - interval '1 day', expires_at = now() "
                 "where expires_at is not null")  # fmt: skip
    problem(owner.get("/api/whoami", headers=bearer(token)), 401, "unauthenticated")
    for wrong in (0, -1, 3651, 1.5, "30"):
        assert fields(problem(mint(owner, expires_in_days=wrong), 422, "invalid")) == ["expires_in_days"]


def test_a_revoked_token_is_401_on_the_next_request(owner: Caller, outsider: Caller) -> None:
    answer = created(mint(owner))
    problem(outsider.delete(path(owner.organization, answer["id"])), 404, "not_found")
    problem(outsider.delete(path(outsider.organization, answer["id"])), 404, "not_found")
    assert owner.get("/api/whoami", headers=bearer(answer["token"])).is_success
    assert owner.delete(path(owner.organization, answer["id"])).status_code == 204
    problem(owner.get("/api/whoami", headers=bearer(answer["token"])), 401, "unauthenticated")
    problem(owner.delete(path(owner.organization, answer["id"])), 404, "not_found")
    assert owner.get(path(owner.organization)).json()["items"] == []


def test_what_records_a_person_is_in_no_such_token(owner: Caller) -> None:
    for scope in ("agreements:write", "contacts:read"):
        body = problem(mint(owner, scopes=[scope]), 409, "conflict")
        assert body["axiom"] == "A9"
    assert fields(problem(mint(owner, scopes=["everything"]), 422, "invalid")) == ["scopes"]
    assert fields(problem(mint(owner, scopes=[]), 422, "invalid")) == ["scopes"]


def test_scopes_never_exceed_the_minters(owner: Caller) -> None:
    scopes = ["organizations:write", "tokens:write"]
    personal = created(owner.post("/api/tokens", json={"name": "x", "expires_in_days": 1, "scopes": scopes}))["token"]
    body = {"name": "x", "scopes": ["agreements:read"]}
    response = owner.post(path(owner.organization), json=body, headers=bearer(personal))
    problem(response, 403, "insufficient_scope")
    body["scopes"] = ["organizations:write"]
    created(owner.post(path(owner.organization), json=body, headers=bearer(personal)))


def test_only_admins_mint_list_and_revoke(owner: Caller, enrol: Enrol, outsider: Caller) -> None:
    agent = enrol("ada")
    add_member(owner, owner.token, owner.organization, agent.email, "agent")
    token = created(mint(owner))
    for person, status, code in ((agent, 403, "forbidden"), (outsider, 404, "not_found")):
        problem(mint(person, owner.organization), status, code)
        problem(person.get(path(owner.organization)), status, code)
        problem(person.delete(path(owner.organization, token["id"])), status if person is agent else 404, code)
    problem(mint(owner, {"id": str(uuid.uuid4())}), 404, "not_found")


def test_it_mints_no_successor_and_appoints_nobody(owner: Caller) -> None:
    token = bearer(created(mint(owner, scopes=["organizations:write", "tokens:write"]))["token"])
    body = {"name": "x", "scopes": ["agreements:read"]}
    problem(owner.post(path(owner.organization), json=body, headers=token), 401, "unauthenticated")
    members = f"/api/organizations/{owner.organization['id']}/members"
    problem(owner.post(members, json={"email": owner.email, "role": "owner"}, headers=token), 401, "unauthenticated")
    assert owner.get(members, headers=token).is_success


def test_it_builds_projects_and_environments(owner: Caller) -> None:
    token = bearer(created(mint(owner, scopes=["organizations:write"]))["token"])
    projects = f"/api/organizations/{owner.organization['id']}/projects"
    project = created(owner.post(projects, json={"name": "Web", "slug": "web"}, headers=token))
    environments = f"/api/projects/{project['id']}/environments"
    body = {"slug": "live", "type": "PRODUCTION"}
    first, again = (
        created(owner.post(environments, json=body, headers=token | {"Idempotency-Key": "one"})) for _ in range(2)
    )
    assert first == again
    reader = bearer(created(mint(owner))["token"])
    response = owner.post(projects, json={"name": "App", "slug": "app"}, headers=reader)
    problem(response, 403, "insufficient_scope")
