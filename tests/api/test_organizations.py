"""Organizations and their members: who founds, sees, adds, promotes and leaves."""

import uuid
from collections.abc import Callable

import httpx
import pytest

from tests.api.conftest import (
    Caller,
    Json,
    Look,
    add_member,
    at_once,
    bearer,
    created,
    fields,
    found_organization,
    problem,
)

Enrol = Callable[..., Caller]
Hire = Callable[[str, str], Caller]


@pytest.fixture
def owner(enrol: Enrol) -> Caller:
    """The founder of the organization `north`."""
    return enrol("olga", organization="north")


@pytest.fixture
def hire(owner: Caller, enrol: Enrol) -> Hire:
    """Make somebody a member of `north`: by name and role."""

    def hired(name: str, role: str) -> Caller:
        person = enrol(name)
        add_member(owner, owner.token, owner.organization, person.email, role)
        return person

    return hired


@pytest.fixture
def outsider(enrol: Enrol) -> Caller:
    """The founder of another organization."""
    return enrol("wanda", organization="west")


def path(organization: Json, *rest: str) -> str:
    return "/".join(["/api/organizations", str(organization["id"]), *rest])


def members(person: Caller, organization: Json) -> dict[str, str]:
    """Return who is a member, as what."""
    items = person.get(path(organization, "members")).json()["items"]
    return {item["email"]: item["role"] for item in items}


def make(person: Caller, member: Caller, organization: Json, role: str) -> httpx.Response:
    return person.patch(path(organization, "members", member.user_id), json={"role": role})


def remove(person: Caller, member: Caller, organization: Json) -> httpx.Response:
    return person.delete(path(organization, "members", member.user_id))


def test_the_founder_owns_what_he_founds(owner: Caller) -> None:
    north = owner.organization
    assert owner.get(path(north)).json() == north
    assert owner.get("/api/organizations").json() == {"items": [north], "next_cursor": None}
    assert members(owner, north) == {owner.email: "owner"}
    whoami = owner.get("/api/whoami").json()
    assert (whoami["organization_id"], whoami["organization"], whoami["role"]) == (north["id"], "north", "owner")


def test_a_slug_is_taken_once(owner: Caller, outsider: Caller) -> None:
    for person in (owner, outsider):
        response = person.post("/api/organizations", json={"title": "Other", "slug": "north"})
        assert fields(problem(response, 409, "conflict")) == ["slug"]


@pytest.mark.parametrize("slug", ["", "North", "-north", "north-", "no--rth", "no rth", "nörth", "north\n", "n" * 64])
def test_a_slug_is_a_label(owner: Caller, slug: str) -> None:
    response = owner.post("/api/organizations", json={"title": "N", "slug": slug})
    [told] = problem(response, 422, "invalid")["errors"]
    assert told == {"field": "slug", "message": "must hold: slug is lowercase letters digits and hyphens"}


def test_a_title_is_present_and_not_endless(owner: Caller) -> None:
    for title in ("", " ", "x" * 201):
        response = owner.post("/api/organizations", json={"title": title, "slug": "n"})
        assert fields(problem(response, 422, "invalid")) == ["title"]


def test_organizations_are_listed_page_by_page(owner: Caller) -> None:
    slugs = ["north", *(found_organization(owner, owner.token, f"branch-{number}")["slug"] for number in range(3))]
    first = owner.get("/api/organizations", params={"limit": 3}).json()
    second = owner.get("/api/organizations", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [item["slug"] for item in [*first["items"], *second["items"]]] == slugs
    assert second["next_cursor"] is None


def test_a_stranger_gets_404_on_everything(owner: Caller, outsider: Caller, look: Look) -> None:
    north = owner.organization
    body = {"email": outsider.email, "role": "owner"}
    for response in (
        outsider.get(path(north)),
        outsider.get(path(north, "members")),
        outsider.post(path(north, "members"), json=body),
        make(outsider, owner, north, "viewer"),
        make(outsider, outsider, north, "owner"),
        remove(outsider, owner, north),
        remove(outsider, outsider, north),
    ):
        strange = problem(response, 404, "not_found")
        assert "north" not in str(strange).lower()
    assert outsider.get("/api/organizations").json()["items"] == [outsider.organization]
    assert members(owner, north) == {owner.email: "owner"}


def test_a_cursor_opens_no_other_organization(owner: Caller, hire: Hire, outsider: Caller) -> None:
    hire("ada", "agent")
    cursor = owner.get(path(owner.organization, "members"), params={"limit": 1}).json()["next_cursor"]
    response = outsider.get(path(owner.organization, "members"), params={"cursor": cursor})
    problem(response, 404, "not_found")


def test_to_a_stranger_it_looks_as_if_it_were_not_there(owner: Caller, outsider: Caller) -> None:
    for organization in (owner.organization, {"id": uuid.uuid4()}):
        body = {"email": owner.email, "role": "viewer"}
        answers = [outsider.get(path(organization)), outsider.post(path(organization, "members"), json=body)]
        details = [problem(answer, 404, "not_found")["detail"] for answer in answers]
        assert details == [
            "There is no such thing, or it is not yours.",
            "There is no such organization, or it is not yours.",
        ]


def test_an_admin_adds_members_up_to_his_own_role(owner: Caller, hire: Hire, enrol: Enrol) -> None:
    admin = hire("adam", "admin")
    for role in ("viewer", "agent", "admin"):
        person = enrol(f"new-{role}")
        membership = add_member(admin, admin.token, owner.organization, person.email.upper(), role)
        assert (membership["user_id"], membership["role"]) == (person.user_id, role)
    response = admin.post(path(owner.organization, "members"), json={"email": enrol("x").email, "role": "owner"})
    assert problem(response, 403, "forbidden")["detail"] == "This takes the role owner, yours is admin."


@pytest.mark.parametrize("role", ["viewer", "agent"])
def test_others_than_admins_change_nothing(owner: Caller, hire: Hire, enrol: Enrol, role: str) -> None:
    north, person, colleague, other = owner.organization, hire("ada", role), hire("carl", "viewer"), enrol("x")
    before = members(owner, north)
    problem(person.post(path(north, "members"), json={"email": other.email, "role": "viewer"}), 403, "forbidden")
    problem(person.post(path(north, "members"), json={"email": "no@no.no", "role": "viewer"}), 403, "forbidden")
    problem(make(person, colleague, north, "agent"), 403, "forbidden")
    problem(remove(person, colleague, north), 403, "forbidden")
    assert members(person, north) == before, "but they see their colleagues"


def test_an_unknown_email_is_404_and_says_so(owner: Caller) -> None:
    response = owner.post(path(owner.organization, "members"), json={"email": "no@no.example", "role": "agent"})
    assert problem(response, 404, "not_found")["detail"] == "Nobody is registered with this email."


def test_nobody_is_a_member_twice(owner: Caller, hire: Hire) -> None:
    agent = hire("ada", "agent")
    response = owner.post(path(owner.organization, "members"), json={"email": agent.email, "role": "admin"})
    assert problem(response, 409, "conflict")["detail"] == "Who is added is a member already."
    assert members(owner, owner.organization)[agent.email] == "agent"


def test_nobody_changes_his_own_role(owner: Caller, hire: Hire) -> None:
    north = owner.organization
    hire("oscar", "owner")
    people = {role: hire(role, role) for role in ("viewer", "agent", "admin")} | {"owner": owner}
    for person in people.values():
        for role in ("viewer", "owner"):
            problem(make(person, person, north, role), 403, "forbidden")
    assert {role: members(owner, north)[person.email] for role, person in people.items()} == {
        role: role for role in people
    }


def test_an_admin_neither_makes_nor_unmakes_owners(owner: Caller, hire: Hire) -> None:
    north, admin, agent = owner.organization, hire("adam", "admin"), hire("ada", "agent")
    problem(make(admin, agent, north, "owner"), 403, "forbidden")
    problem(make(admin, owner, north, "agent"), 403, "forbidden")
    problem(remove(admin, owner, north), 403, "forbidden")
    assert make(admin, agent, north, "admin").json()["role"] == "admin"


def test_an_owner_makes_and_unmakes_owners(owner: Caller, hire: Hire) -> None:
    second = hire("oscar", "agent")
    assert make(owner, second, owner.organization, "owner").json()["role"] == "owner"
    assert make(second, owner, owner.organization, "viewer").json()["role"] == "viewer"
    problem(make(owner, second, owner.organization, "viewer"), 403, "forbidden")


def test_the_last_owner_stays(owner: Caller, hire: Hire) -> None:
    north = owner.organization
    hire("adam", "admin")
    assert (
        problem(remove(owner, owner, north), 409, "conflict")["detail"] == "An organization keeps at least one owner."
    )
    second = hire("oscar", "owner")
    assert remove(owner, owner, north).status_code == 204
    problem(remove(second, second, north), 409, "conflict")
    problem(owner.get(path(north)), 404, "not_found")


def test_of_two_owners_who_leave_at_once_one_stays(owner: Caller, hire: Hire) -> None:
    second = hire("oscar", "owner")
    statuses = at_once(
        [
            lambda: remove(owner, owner, owner.organization).status_code,
            lambda: remove(second, second, owner.organization).status_code,
        ]
    )
    assert sorted(statuses) == [204, 409]


def test_of_two_owners_who_unmake_each_other_at_once_one_stays(owner: Caller, hire: Hire) -> None:
    second = hire("oscar", "owner")
    statuses = at_once(
        [
            lambda: make(owner, second, owner.organization, "viewer").status_code,
            lambda: make(second, owner, owner.organization, "viewer").status_code,
        ]
    )
    assert statuses.count(200) == 1
    assert {"owner", "viewer"} == set(members(owner, owner.organization).values())


def test_everybody_may_leave(owner: Caller, hire: Hire) -> None:
    for role in ("viewer", "agent", "admin"):
        person = hire(f"{role}-who-leaves", role)
        assert remove(person, person, owner.organization).status_code == 204
        problem(person.get(path(owner.organization)), 404, "not_found")
        assert person.get("/api/whoami").json()["organization"] is None
    assert members(owner, owner.organization) == {owner.email: "owner"}


def test_who_is_removed_loses_access_with_his_open_session(owner: Caller, hire: Hire) -> None:
    agent = hire("ada", "agent")
    assert agent.get(path(owner.organization)).is_success
    assert remove(owner, agent, owner.organization).status_code == 204
    problem(agent.get(path(owner.organization)), 404, "not_found")
    problem(remove(owner, agent, owner.organization), 404, "not_found")
    problem(make(owner, agent, owner.organization, "viewer"), 404, "not_found")


def test_a_role_counts_as_it_is_now(owner: Caller, hire: Hire, enrol: Enrol) -> None:
    admin, other = hire("adam", "admin"), enrol("x")
    make(owner, admin, owner.organization, "viewer")
    response = admin.post(path(owner.organization, "members"), json={"email": other.email, "role": "viewer"})
    problem(response, 403, "forbidden")


def test_members_are_listed_page_by_page(owner: Caller, hire: Hire) -> None:
    for number in range(4):
        hire(f"agent-{number}", "agent")
    first = owner.get(path(owner.organization, "members"), params={"limit": 3}).json()
    rest = {"limit": 3, "cursor": first["next_cursor"]}
    second = owner.get(path(owner.organization, "members"), params=rest).json()
    assert [len(first["items"]), len(second["items"]), second["next_cursor"]] == [3, 2, None]
    assert len({item["user_id"] for item in [*first["items"], *second["items"]]}) == 5
    assert first["items"][0].keys() == {"user_id", "email", "full_name", "role", "created_at"}


def test_the_header_picks_among_the_organizations_of_a_user(owner: Caller, outsider: Caller) -> None:
    found_organization(owner, owner.token, "branch")
    assert owner.get("/api/whoami").json()["organization"] == "north", "the first that he joined"
    whoami = owner.get("/api/whoami", headers={"X-Organization": "branch"}).json()
    assert (whoami["organization"], whoami["role"]) == ("branch", "owner")
    for slug in (outsider.organization["slug"], "nowhere", "NORTH", "' or true --"):
        problem(owner.get("/api/whoami", headers={"X-Organization": slug}), 403, "forbidden")


def test_a_token_needs_the_scope_to_change_organizations(owner: Caller, hire: Hire) -> None:
    agent = hire("ada", "agent")
    north = owner.organization

    def token(*scopes: str) -> dict[str, str]:
        body = {"name": "n", "expires_in_days": 1, "scopes": scopes}
        return bearer(created(owner.post("/api/tokens", json=body))["token"])

    reader, writer = token("agreements:read", "agreements:write", "tokens:write"), token("organizations:write")
    assert owner.get(path(north, "members"), headers=reader).is_success
    for response in (
        owner.post("/api/organizations", json={"title": "B", "slug": "branch"}, headers=reader),
        owner.post(path(north, "members"), json={"email": agent.email, "role": "agent"}, headers=reader),
        owner.patch(path(north, "members", agent.user_id), json={"role": "viewer"}, headers=reader),
        owner.delete(path(north, "members", agent.user_id), headers=reader),
        owner.delete(path(north, "members", owner.user_id), headers=reader),
    ):
        problem(response, 403, "insufficient_scope")
    created(owner.post("/api/organizations", json={"title": "B", "slug": "branch"}, headers=writer))
    assert owner.delete(path(north, "members", agent.user_id), headers=writer).status_code == 204


def test_changes_and_denials_are_in_the_audit_log(owner: Caller, hire: Hire, look: Look) -> None:
    north, agent = owner.organization, hire("ada", "agent")
    make(owner, agent, north, "viewer")
    denied = make(agent, owner, north, "viewer")
    rows = look.execute(
        "select user_id::text, action, detail ->> 'from', detail ->> 'to' from shared.audit_log "
        "where subject = %s order by id",
        [f"organization/{north['id']}"],
    ).fetchall()
    assert rows == [
        (owner.user_id, "membership.insert", None, "owner"),
        (owner.user_id, "membership.insert", None, "agent"),
        (owner.user_id, "membership.update", "agent", "viewer"),
    ]
    rows = look.execute(
        "select user_id::text, subject, reason, request_id from shared.audit_log where outcome = 'denied'"
    ).fetchall()
    assert rows == [
        (agent.user_id, path(north, "members", owner.user_id), "member_role", denied.headers["x-request-id"])
    ]
