"""Preview branches over HTTP: admins make and archive them, an environment's credentials name one with X-Branch."""

import uuid
from collections.abc import Callable

import httpx
import pytest

from tests.api.conftest import Caller, Json, Look, add_member, at_once, bearer, created, fields, problem

Enrol = Callable[..., Caller]


@pytest.fixture
def owner(enrol: Enrol) -> Caller:
    """The founder of the organization `north`."""
    return enrol("olga", organization="north")


@pytest.fixture
def preview(owner: Caller) -> Json:
    """A PREVIEW environment of `north`, with its keys."""
    return new_environment(owner, "PREVIEW")


def new_environment(owner: Caller, type_: str) -> Json:
    slug = uuid.uuid4().hex[:8]
    path = f"/api/organizations/{owner.organization['id']}/projects"
    project = created(owner.post(path, json={"name": "Web", "slug": slug}))
    return created(owner.post(f"/api/projects/{project['id']}/environments", json={"slug": "e", "type": type_}))


def path(environment: Json, *rest: str) -> str:
    return "/".join(["/api/environments", str(environment["id"]), "branches", *rest])


def new_branch(person: httpx.Client, environment: Json, name: object = "main") -> httpx.Response:
    return person.post(path(environment), json={"name": name})


def whoami(client: httpx.Client, key: str, branch: str | None = None) -> httpx.Response:
    return client.get("/api/whoami", headers=bearer(key) | ({} if branch is None else {"X-Branch": branch}))


def credentials(client: httpx.Client, environment: Json, branch: str | None = None) -> list[str]:
    """Return a credential of each kind that an environment has."""
    headers = bearer(environment["secret_key"]) | ({} if branch is None else {"X-Branch": branch})
    body = {"scopes": ["secrets:read"]}
    minted = created(client.post(f"/api/environments/{environment['id']}/jwt", json=body, headers=headers))
    return [environment["secret_key"], environment["public_key"], minted["token"]]


def test_a_branch_is_made_listed_and_archived(owner: Caller, preview: Json) -> None:
    main, other = created(new_branch(owner, preview)), created(new_branch(owner, preview, "feature/other"))
    assert main.keys() == {"id", "environment_id", "name", "created_at", "archived_at"}
    assert (main["environment_id"], main["name"], main["archived_at"]) == (preview["id"], "main", None)
    assert owner.get(path(preview)).json() == {"items": [main, other], "next_cursor": None}
    first = owner.get(path(preview), params={"limit": 1}).json()
    rest = owner.get(path(preview), params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [first["items"], rest["items"]] == [[main], [other]]
    assert owner.delete(path(preview, main["id"])).status_code == 204
    assert [item["archived_at"] is None for item in owner.get(path(preview)).json()["items"]] == [False, True]
    problem(owner.delete(path(preview, main["id"])), 404, "not_found")
    problem(owner.delete(path(new_environment(owner, "PREVIEW"), other["id"])), 404, "not_found")


def test_a_name_is_taken_once_among_the_live(owner: Caller, preview: Json) -> None:
    main = created(new_branch(owner, preview))
    assert fields(problem(new_branch(owner, preview), 409, "conflict")) == ["name"]
    assert owner.delete(path(preview, main["id"])).status_code == 204
    assert created(new_branch(owner, preview))["id"] != main["id"]
    statuses = at_once([lambda: new_branch(owner, preview, "at-once").status_code] * 5)
    assert sorted(statuses) == [201, 409, 409, 409, 409]


def test_a_name_is_what_git_calls_a_branch(owner: Caller, preview: Json) -> None:
    for name in ("", " ", "a..b", "a.lock", "/a", "a b", "\N{HOUSE BUILDING}", "x" * 256, "a\0b", 1, None):
        assert fields(problem(new_branch(owner, preview, name), 422, "invalid")) == ["name"]


@pytest.mark.parametrize("type_", ["DEVELOPMENT", "STAGING", "PRODUCTION"])
def test_only_a_preview_environment_has_branches(owner: Caller, type_: str) -> None:
    environment = new_environment(owner, type_)
    assert fields(problem(new_branch(owner, environment), 422, "invalid")) == ["environment_id"]
    assert owner.get(path(environment)).json() == {"items": [], "next_cursor": None}


def test_each_credential_acts_in_the_branch_that_it_names(owner: Caller, client: httpx.Client, preview: Json) -> None:
    for name in ("main", "feature/other"):
        created(new_branch(owner, preview, name))
    for token in credentials(client, preview, "main"):
        for name in ("main", "feature/other"):
            assert whoami(client, token, name).json()["branch"] == name
    assert owner.get("/api/whoami").json()["branch"] is None


def test_without_a_live_branch_of_its_own_none_is_let_in(owner: Caller, client: httpx.Client, preview: Json) -> None:
    main = created(new_branch(owner, preview))
    other = new_environment(owner, "PREVIEW")
    created(new_branch(owner, other, "theirs"))
    tokens = credentials(client, preview, "main")
    for token in tokens:
        for name in (None, "theirs", "unknown", "MAIN", "m" * 255):
            answer = problem(whoami(client, token, name), 401, "branch_required")
            assert (
                answer["detail"] == "A credential of a PREVIEW environment needs X-Branch to name a live branch of it."
            )
        problem(whoami(client, token, "m" * 256), 400, "malformed")
        problem(whoami(client, token, ""), 400, "malformed")
        twice = [("Authorization", f"Bearer {token}"), ("X-Branch", "main"), ("X-Branch", "main")]
        problem(client.get("/api/whoami", headers=twice), 400, "malformed")
    assert owner.delete(path(preview, main["id"])).status_code == 204
    for token in tokens:
        problem(whoami(client, token, "main"), 401, "branch_required")


def test_elsewhere_a_branch_is_refused_and_not_ignored(owner: Caller, client: httpx.Client) -> None:
    production, staging = new_environment(owner, "PRODUCTION"), new_environment(owner, "STAGING")
    body = {"name": "x", "scopes": ["secrets:read"]}
    program = created(owner.post(f"/api/organizations/{owner.organization['id']}/tokens", json=body))["token"]
    secret, _, jwt = credentials(client, production)
    for token in (*credentials(client, staging), secret, jwt, program, owner.token):
        assert whoami(client, token).json()["branch"] is None
        answer = problem(whoami(client, token, "main"), 403, "forbidden")
        assert answer["detail"] == "X-Branch goes with a credential of a PREVIEW environment."


def test_who_may_make_archive_and_see_them(owner: Caller, preview: Json, enrol: Enrol) -> None:
    main = created(new_branch(owner, preview))
    agent, outsider = enrol("ada"), enrol("wanda", organization="west")
    add_member(owner, owner.token, owner.organization, agent.email, "agent")
    problem(new_branch(agent, preview, "x"), 403, "forbidden")
    problem(agent.delete(path(preview, main["id"])), 403, "forbidden")
    assert agent.get(path(preview)).json()["items"] == [main]
    for response in (
        new_branch(outsider, preview, "x"),
        outsider.get(path(preview)),
        outsider.delete(path(preview, main["id"])),
    ):
        problem(response, 404, "not_found")
    problem(new_branch(owner, {"id": uuid.uuid4()}), 404, "not_found")
    assert owner.get(path(preview)).json()["items"] == [main]


def test_one_key_is_another_request_in_another_branch(owner: Caller, client: httpx.Client, preview: Json) -> None:
    for name in ("main", "other"):
        created(new_branch(owner, preview, name))
    headers = bearer(preview["secret_key"]) | {"Idempotency-Key": "once"}

    def put(branch: str) -> httpx.Response:
        return client.put("/api/secrets/key", json={"value": 1}, headers=headers | {"X-Branch": branch})

    assert put("main").is_success
    assert put("main").headers["idempotency-replayed"] == "true"
    problem(put("other"), 422, "idempotency_key_reused")


def test_denials_in_a_branch_and_for_a_branch_are_recorded(
    owner: Caller, client: httpx.Client, preview: Json, look: Look
) -> None:
    branch = created(new_branch(owner, preview))
    problem(
        client.delete("/api/secrets/none", headers=bearer(preview["secret_key"]) | {"X-Branch": "main"}),
        404,
        "not_found",
    )
    production = new_environment(owner, "PRODUCTION")
    problem(
        client.delete("/api/secrets/none", headers=bearer(production["secret_key"]) | {"X-Branch": "main"}),
        403,
        "forbidden",
    )
    rows = look.execute(
        "select environment_id::text, branch_id::text, reason from shared.audit_log "
        "where outcome = 'denied' order by id"
    ).fetchall()
    assert rows == [(preview["id"], branch["id"], "not_found"), (production["id"], None, "branch_of_preview")]


def test_the_header_is_told_where_it_may_be_needed(client: httpx.Client) -> None:
    paths = client.get("/schema/openapi.json").json()["paths"]

    def headers(path: str, method: str) -> set[str]:
        return {each["name"] for each in paths[path][method].get("parameters", ()) if each["in"] == "header"}

    assert headers("/api/whoami", "get") == {"X-Organization", "X-Branch"}
    assert headers("/api/secrets/batch", "post") == {"X-Organization", "X-Branch"}
    assert headers("/api/secrets/{key}/rollback", "post") > {"X-Branch", "Idempotency-Key"}
    assert headers("/api/organizations", "post") == {"X-Organization", "Idempotency-Key"}
