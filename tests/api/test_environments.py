"""Projects, environments and their keys: made by admins, shown once, rotated with a grace, each proving only itself."""

import uuid
from collections.abc import Callable

import httpx
import pytest

from app.shared import tokens
from tests.api.conftest import Caller, Json, Look, add_member, bearer, created, fields, problem

Enrol = Callable[..., Caller]

TYPES = {"DEVELOPMENT": "dev", "STAGING": "stg", "PREVIEW": "prev", "PRODUCTION": "prod"}


@pytest.fixture
def owner(enrol: Enrol) -> Caller:
    """The founder of the organization `north`."""
    return enrol("olga", organization="north")


@pytest.fixture
def outsider(enrol: Enrol) -> Caller:
    """The founder of another organization."""
    return enrol("wanda", organization="west")


@pytest.fixture
def project(owner: Caller) -> Json:
    """A project of `north`."""
    return created(new_project(owner))


def new_project(person: Caller, organization: Json | None = None, **body: object) -> httpx.Response:
    path = f"/api/organizations/{(organization or person.organization)['id']}/projects"
    return person.post(path, json={"name": "Listings", "slug": "listings"} | body)


def new_environment(person: httpx.Client, project: Json, **body: object) -> httpx.Response:
    path = f"/api/projects/{project['id']}/environments"
    return person.post(path, json={"slug": "staging", "type": "STAGING"} | body)


def rotate(person: httpx.Client, environment: Json, hours: object) -> httpx.Response:
    return person.post(f"/api/environments/{environment['id']}/keys/rotate", json={"grace_hours": hours})


def whoami(client: httpx.Client, key: str) -> httpx.Response:
    return client.get("/api/whoami", headers=bearer(key))


def test_a_project_is_made_and_listed(owner: Caller, project: Json) -> None:
    assert project["organization_id"] == owner.organization["id"]
    path = f"/api/organizations/{owner.organization['id']}/projects"
    assert owner.get(path).json() == {"items": [project], "next_cursor": None}
    assert fields(problem(new_project(owner), 409, "conflict")) == ["slug"]
    for slug in ("", "a/b", "a.b", "\N{HOUSE BUILDING}", "Upper", "x" * 64):
        assert fields(problem(new_project(owner, slug=slug), 422, "invalid")) == ["slug"]
    assert fields(problem(new_project(owner, name=" ", slug="x"), 422, "invalid")) == ["name"]


def test_two_organizations_may_use_one_slug(owner: Caller, project: Json, outsider: Caller) -> None:
    assert created(new_project(outsider))["slug"] == project["slug"]


@pytest.mark.parametrize(("type_", "prefix"), TYPES.items())
def test_the_keys_of_an_environment_are_shown_once(owner: Caller, project: Json, type_: str, prefix: str) -> None:
    environment = created(new_environment(owner, project, type=type_))
    secret, public = environment.pop("secret_key"), environment.pop("public_key")
    assert secret.startswith(f"tr_{prefix}_")
    assert public.startswith(f"pk_{prefix}_")
    assert tokens.prefix_of(secret)
    assert tokens.prefix_of(public)
    listed = owner.get(f"/api/projects/{project['id']}/environments")
    assert listed.json() == {"items": [environment], "next_cursor": None}
    assert (environment["organization_id"], environment["project_id"]) == (project["organization_id"], project["id"])


def test_an_environment_is_found_under_its_own_project_only(owner: Caller, project: Json) -> None:
    environment = created(new_environment(owner, project))
    assert fields(problem(new_environment(owner, project), 409, "conflict")) == ["slug"]
    other = created(new_project(owner, slug="other"))
    created(new_environment(owner, other))
    shown = {name: value for name, value in environment.items() if not name.endswith("_key")}
    assert owner.get(f"/api/projects/{project['id']}/environments/{environment['id']}").json() == shown
    for mixed in (other["id"], uuid.uuid4()):
        problem(owner.get(f"/api/projects/{mixed}/environments/{environment['id']}"), 404, "not_found")


def test_a_key_proves_its_environment_and_never_a_user(owner: Caller, project: Json) -> None:
    environment = created(new_environment(owner, project))
    for name in ("secret_key", "public_key"):
        told = whoami(owner, environment[name]).json()
        assert (told["kind"], told["user_id"], told["role"]) == (name, None, None)
        assert (told["organization"], told["environment"]) == ("north", "staging")
        assert told["environment_id"] == environment["id"]
        assert not told["is_platform_admin"]
    assert whoami(owner, environment["public_key"]).json()["scopes"] == []


def test_a_public_key_is_nothing_in_production(owner: Caller, project: Json) -> None:
    environment = created(new_environment(owner, project, type="PRODUCTION"))
    assert whoami(owner, environment["secret_key"]).is_success
    problem(whoami(owner, environment["public_key"]), 401, "unauthenticated")


def test_a_public_key_is_taken_only_where_a_route_allows_it(owner: Caller, project: Json) -> None:
    environment = created(new_environment(owner, project))
    for path in ("/api/me", "/api/organizations", "/api/agreements", "/api/tokens"):
        problem(owner.get(path, headers=bearer(environment["public_key"])), 401, "unauthenticated")


def test_a_key_is_of_no_other_organization(owner: Caller, project: Json) -> None:
    key = created(new_environment(owner, project))["secret_key"]
    assert owner.get("/api/whoami", headers=bearer(key) | {"X-Organization": "north"}).is_success
    for other in ("west", "nowhere"):
        response = owner.get("/api/whoami", headers=bearer(key) | {"X-Organization": other})
        problem(response, 403, "forbidden")


def test_a_rotated_key_works_until_its_grace_ends(owner: Caller, project: Json, look: Look) -> None:
    environment = created(new_environment(owner, project))
    rotated = created(rotate(owner, environment, 24))
    assert rotated["environment_id"] == environment["id"]
    for keys in (environment, rotated):
        for name in ("secret_key", "public_key"):
            assert whoami(owner, keys[name]).is_success
    look.execute(
        "update apiauth.environment_keys set rotated_at = rotated_at - interval '1 day', "
        "expires_at = expires_at - interval '1 day' where expires_at is not null"
    )
    for name in ("secret_key", "public_key"):
        problem(whoami(owner, environment[name]), 401, "unauthenticated")
        assert whoami(owner, rotated[name]).is_success


def test_a_rotation_without_grace_ends_the_old_keys_at_once(owner: Caller, project: Json) -> None:
    environment = created(new_environment(owner, project))
    kept = created(rotate(owner, environment, 168))
    last = created(rotate(owner, environment, 0))
    for keys in (environment, kept):
        problem(whoami(owner, keys["secret_key"]), 401, "unauthenticated")
    assert whoami(owner, last["secret_key"]).is_success


def test_a_grace_is_a_number_of_hours_up_to_a_week(owner: Caller, project: Json) -> None:
    environment = created(new_environment(owner, project))
    for wrong in (-1, 169, 1.5, "1", None):
        assert fields(problem(rotate(owner, environment, wrong), 422, "invalid")) == ["grace_hours"]


def test_only_admins_build(owner: Caller, enrol: Enrol, project: Json) -> None:
    agent = enrol("ada")
    add_member(owner, owner.token, owner.organization, agent.email, "agent")
    environment = created(new_environment(owner, project))
    for response in (
        new_project(agent, owner.organization, slug="other"),
        new_environment(agent, project, slug="other"),
        rotate(agent, environment, 0),
    ):
        problem(response, 403, "forbidden")
    assert agent.get(f"/api/projects/{project['id']}/environments").json()["items"]
    assert whoami(owner, environment["secret_key"]).is_success


def test_to_a_stranger_nothing_is_there(owner: Caller, project: Json, outsider: Caller) -> None:
    environment = created(new_environment(owner, project))
    unknown = {"id": str(uuid.uuid4())}
    for organization, its_project, its_environment in (
        (owner.organization, project, environment),
        (unknown, unknown, unknown),
    ):
        for response in (
            outsider.get(f"/api/organizations/{organization['id']}/projects"),
            new_project(outsider, organization),
            outsider.get(f"/api/projects/{its_project['id']}/environments"),
            new_environment(outsider, its_project),
            rotate(outsider, its_environment, 0),
        ):
            problem(response, 404, "not_found")
    assert whoami(owner, environment["secret_key"]).is_success


def test_a_repeated_creation_shows_the_same_keys(owner: Caller, project: Json) -> None:
    path, body = f"/api/projects/{project['id']}/environments", {"slug": "staging", "type": "STAGING"}
    first, again = (owner.post(path, json=body, headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert created(first) == created(again)
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_dump_holds_no_key(owner: Caller, project: Json, look: Look) -> None:
    environment = created(new_environment(owner, project))
    rows = look.execute("select k::text from apiauth.environment_keys as k").fetchall()
    for name in ("secret_key", "public_key"):
        assert environment[name] not in str(rows)
        assert tokens.digest(environment[name]).hex() not in str(rows)
