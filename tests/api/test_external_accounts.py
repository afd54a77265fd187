"""External accounts over HTTP: kept by members, programs and keys of an environment under identifiers of their own."""

import uuid
from collections.abc import Callable

import httpx
import pytest

from tests.api.conftest import Caller, Json, add_member, at_once, bearer, created, fields, found_organization, problem

Enrol = Callable[..., Caller]


@pytest.fixture
def owner(enrol: Enrol) -> Caller:
    """The founder of the organization `north`."""
    return enrol("olga", organization="north")


@pytest.fixture
def environment(owner: Caller) -> Json:
    """An environment of `north`, with its keys."""
    return new_environment(owner)


def new_environment(owner: Caller) -> Json:
    slug = uuid.uuid4().hex[:8]
    path = f"/api/organizations/{owner.organization['id']}/projects"
    project = created(owner.post(path, json={"name": "Web", "slug": slug}))
    return created(owner.post(f"/api/projects/{project['id']}/environments", json={"slug": "e", "type": "PRODUCTION"}))


def path(environment: Json, *rest: str) -> str:
    return "/".join(["/api/environments", str(environment["id"]), "external-accounts", *rest])


def keep(client: httpx.Client, environment: Json, identifier: object = "user_1", **body: object) -> httpx.Response:
    return client.post(path(environment), json={"identifier": identifier} | body)


def test_an_account_is_kept_read_changed_and_deleted(owner: Caller, environment: Json) -> None:
    account = created(keep(owner, environment, metadata={"plan": {"name": "pro", "seats": 3}}))
    assert account.keys() == {"id", "environment_id", "identifier", "metadata", "created_at"}
    where = path(environment, account["id"])
    assert owner.get(where).json() == account
    changed = owner.patch(where, json={"metadata": {"plan": None}}).json()
    assert changed == account | {"metadata": {"plan": None}}
    assert owner.delete(where).status_code == 204
    for response in (owner.get(where), owner.delete(where), owner.patch(where, json={"metadata": {}})):
        problem(response, 404, "not_found")
    assert created(keep(owner, environment))["metadata"] == {}


def test_an_identifier_is_of_one_account_an_environment(owner: Caller, environment: Json) -> None:
    created(keep(owner, environment))
    assert fields(problem(keep(owner, environment), 409, "conflict")) == ["identifier"]
    created(keep(owner, new_environment(owner)))
    created(keep(owner, environment, "USER_1"))
    statuses = at_once([lambda: keep(owner, environment, "at-once").status_code] * 5)
    assert sorted(statuses) == [201, 409, 409, 409, 409]


def test_accounts_are_listed_page_by_page_and_found_by_identifier(owner: Caller, environment: Json) -> None:
    made = [created(keep(owner, environment, f"user_{number}%_/\N{HOUSE BUILDING}")) for number in range(3)]
    first = owner.get(path(environment), params={"limit": 2}).json()
    second = owner.get(path(environment), params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [*first["items"], *second["items"]] == made
    for account in made:
        found = owner.get(path(environment), params={"identifier": account["identifier"]}).json()
        assert found == {"items": [account], "next_cursor": None}
    assert owner.get(path(environment), params={"identifier": "user_"}).json()["items"] == []


def test_a_key_has_those_of_its_own_environment(owner: Caller, client: httpx.Client, environment: Json) -> None:
    other = new_environment(owner)
    theirs = created(keep(owner, other))
    body = {"scopes": ["accounts:read", "accounts:write"]}
    secret = bearer(environment["secret_key"])
    jwt = created(client.post(f"/api/environments/{environment['id']}/jwt", json=body, headers=secret))["token"]
    for number, headers in enumerate((secret, bearer(jwt))):
        client.headers.update(headers)
        mine = created(keep(client, environment, f"user_{number}"))
        assert client.get(path(environment, mine["id"])).json() == mine
        for response in (
            keep(client, other, "x"),
            client.get(path(other)),
            client.get(path(other, theirs["id"])),
            client.get(path(environment, theirs["id"])),
            client.patch(path(other, theirs["id"]), json={"metadata": {}}),
            client.delete(path(environment, theirs["id"])),
        ):
            problem(response, 404, "not_found")
    assert owner.get(path(other)).json()["items"] == [theirs]


def test_scope_role_and_organization_decide(owner: Caller, environment: Json, enrol: Enrol) -> None:
    viewer, outsider = enrol("vera"), enrol("wanda", organization="west")
    add_member(owner, owner.token, owner.organization, viewer.email, "viewer")
    account = created(keep(owner, environment))
    problem(keep(viewer, environment, "x"), 403, "forbidden")
    problem(viewer.get(path(environment)), 403, "forbidden")
    for response in (
        keep(outsider, environment, "x"),
        outsider.get(path(environment)),
        outsider.get(path(environment, account["id"])),
        outsider.delete(path(environment, account["id"])),
    ):
        problem(response, 404, "not_found")
    body = {"name": "n", "expires_in_days": 1, "scopes": ["accounts:read"]}
    reader = bearer(created(owner.post("/api/tokens", json=body))["token"])
    assert owner.get(path(environment), headers=reader).json()["items"] == [account]
    problem(owner.delete(path(environment, account["id"]), headers=reader), 403, "insufficient_scope")
    found_organization(owner, owner.token, "branch")
    problem(owner.get(path(environment), headers={"X-Organization": "branch"}), 404, "not_found")


def test_bad_accounts_are_422(owner: Caller, environment: Json) -> None:
    for identifier in ("", " ", " a", "a\nb", "a\0b", "x" * 256, None, 1):
        assert fields(problem(keep(owner, environment, identifier), 422, "invalid")) == ["identifier"]
    wrong: tuple[object, ...] = ([], None, "x", {"a": "x" * 65536})
    for metadata in wrong:
        assert fields(problem(keep(owner, environment, metadata=metadata), 422, "invalid")) == ["metadata"]
    assert fields(problem(keep(owner, environment, metadata={"a": {"b": "\0"}}), 422, "invalid")) == ["metadata.a.b"]
    assert owner.get(path(environment)).json()["items"] == []


def test_who_works_for_no_organization_is_told_so(environment: Json, enrol: Enrol) -> None:
    nobody = enrol("anna")
    for response in (keep(nobody, environment), nobody.get(path(environment))):
        told = problem(response, 403, "forbidden")
        assert told["detail"] == "This takes an organization, and the actor works for none."
