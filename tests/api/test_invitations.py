"""Invitations over HTTP: an admin asks an address to join; whoever is logged in with it accepts or declines."""

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
    log_in,
    problem,
    register,
)

Enrol = Callable[..., Caller]


@pytest.fixture
def owner(enrol: Enrol) -> Caller:
    """The founder of the organization `north`."""
    return enrol("olga", organization="north")


@pytest.fixture
def anna(enrol: Enrol) -> Caller:
    """Somebody of no organization."""
    return enrol("anna")


def path(person: Caller, *rest: str) -> str:
    return "/".join(["/api/organizations", str(person.organization["id"]), "invitations", *rest])


def invite(person: Caller, email: str, role: str = "agent", **body: object) -> httpx.Response:
    return person.post(path(person), json={"email": email, "role": role} | body)


def answer(person: httpx.Client, invitation: Json, state: str, **options: object) -> httpx.Response:
    return person.patch(f"/api/invitations/{invitation['id']}", json={"state": state}, **options)  # type: ignore[arg-type]


def received(person: httpx.Client) -> list[Json]:
    items: list[Json] = person.get("/api/invitations").json()["items"]
    return items


def members(person: Caller) -> dict[str, str]:
    items = person.get(f"/api/organizations/{person.organization['id']}/members").json()["items"]
    return {item["email"]: item["role"] for item in items}


def test_who_is_invited_sees_it_and_joins(owner: Caller, anna: Caller) -> None:
    invitation = created(invite(owner, anna.email.upper()))
    assert invitation.keys() == {
        "id", "organization_id", "email", "role", "state", "invited_by", "created_at", "expires_at", "settled_at",
    }  # fmt: skip
    assert (invitation["state"], invitation["invited_by"]) == ("open", owner.user_id)
    [seen] = received(anna)
    assert (seen["id"], seen["organization"], seen["title"], seen["role"]) == (
        invitation["id"], "north", owner.organization["title"], "agent",
    )  # fmt: skip
    assert answer(anna, invitation, "accepted").json()["state"] == "accepted"
    assert members(owner) == {owner.email: "owner", anna.email: "agent"}
    assert anna.get("/api/whoami").json()["organization"] == "north"
    assert received(anna) == []
    assert owner.get(path(owner)).json()["items"][0]["state"] == "accepted"


def test_who_declines_does_not_join_and_may_be_asked_again(owner: Caller, anna: Caller) -> None:
    invitation = created(invite(owner, anna.email))
    assert answer(anna, invitation, "declined").json()["state"] == "declined"
    assert members(owner) == {owner.email: "owner"}
    for state in ("accepted", "declined"):
        told = problem(answer(anna, invitation, state), 409, "conflict")
        assert told["detail"] == "The invitation was declined already."
    created(invite(owner, anna.email))


def test_whoever_registers_later_finds_it(owner: Caller, client: httpx.Client) -> None:
    invitation = created(invite(owner, "Rene\u0301e@north.example"))
    register(client, "ren\u00e9e@north.example")
    headers = bearer(log_in(client, "ren\u00e9e@north.example"))
    [seen] = client.get("/api/invitations", headers=headers).json()["items"]
    assert seen["id"] == invitation["id"]
    assert answer(client, invitation, "accepted", headers=headers).is_success


def test_to_anybody_else_there_is_no_such_invitation(owner: Caller, anna: Caller, enrol: Enrol) -> None:
    invitation, outsider = created(invite(owner, anna.email)), enrol("wanda", organization="west")
    for someone in (owner, outsider):
        assert received(someone) == []
        for state in ("accepted", "declined"):
            problem(answer(someone, invitation, state), 404, "not_found")
    problem(answer(anna, {"id": uuid.uuid4()}, "accepted"), 404, "not_found")
    for response in (
        outsider.get(path(owner)),
        outsider.post(path(owner), json={"email": "x@x.example", "role": "viewer"}),
        outsider.delete(path(owner, invitation["id"])),
        outsider.delete(path(outsider, invitation["id"])),
    ):
        problem(response, 404, "not_found")
    assert [item["id"] for item in received(anna)] == [invitation["id"]]


def test_a_duplicate_is_409_in_any_spelling(owner: Caller) -> None:
    created(invite(owner, "\u00e4nne@north.example"))
    for email in ("\u00e4nne@north.example", "\u00c4NNE@North.Example", "a\u0308nne@north.example"):
        assert fields(problem(invite(owner, email), 409, "conflict")) == ["email"]
    statuses = at_once([lambda: invite(owner, "at@once.example").status_code] * 5)
    assert sorted(statuses) == [201, 409, 409, 409, 409]


def test_nobody_invites_himself_or_a_member(owner: Caller, anna: Caller) -> None:
    add_member(owner, owner.token, owner.organization, anna.email, "viewer")
    assert problem(invite(owner, owner.email.upper()), 409, "conflict")["detail"] == "Nobody invites himself."
    assert problem(invite(owner, anna.email), 409, "conflict")["detail"] == "Who is invited is a member already."
    assert owner.get(path(owner)).json()["items"] == []


def test_who_joined_otherwise_does_not_accept(owner: Caller, anna: Caller) -> None:
    invitation = created(invite(owner, anna.email, "admin"))
    add_member(owner, owner.token, owner.organization, anna.email, "viewer")
    told = problem(answer(anna, invitation, "accepted"), 409, "conflict")
    assert told["detail"] == "Who was invited has become a member otherwise."
    assert members(owner)[anna.email] == "viewer"


def test_of_two_who_accept_at_once_one_joins(owner: Caller, anna: Caller) -> None:
    invitation = created(invite(owner, anna.email))
    statuses = at_once([lambda: answer(anna, invitation, "accepted").status_code] * 5)
    assert sorted(statuses) == [200, 409, 409, 409, 409]


def test_what_was_revoked_or_has_expired_is_not_accepted(owner: Caller, anna: Caller, look: Look) -> None:
    first = created(invite(owner, anna.email))
    assert owner.delete(path(owner, first["id"])).status_code == 204
    assert problem(owner.delete(path(owner, first["id"])), 409, "conflict")["detail"] == (
        "The invitation was revoked already."
    )
    second = created(invite(owner, anna.email, expires_in_days=1))
    look.execute("update shared.invitations set created_at = now() - interval '2 days', expires_at = now()")
    assert received(anna) == []
    assert problem(answer(anna, first, "accepted"), 409, "conflict")["detail"] == "The invitation was revoked already."
    assert problem(answer(anna, second, "accepted"), 409, "conflict")["detail"] == "The invitation has expired."
    created(invite(owner, anna.email))
    assert members(owner) == {owner.email: "owner"}


def test_inviting_is_an_admins_and_owners_are_an_owners(owner: Caller, enrol: Enrol) -> None:
    admin, agent = enrol("adam"), enrol("ada")
    for person, role in ((admin, "admin"), (agent, "agent")):
        add_member(owner, owner.token, owner.organization, person.email, role)
    body = {"email": "new@x.example", "role": "viewer"}
    for response in (agent.post(path(owner), json=body), agent.get(path(owner))):
        problem(response, 403, "forbidden")
    problem(admin.post(path(owner), json=body | {"role": "owner"}), 403, "forbidden")
    invitation = created(admin.post(path(owner), json=body))
    problem(agent.delete(path(owner, invitation["id"])), 403, "forbidden")
    created(invite(owner, "second@x.example", "owner"))


def test_invitations_are_listed_page_by_page(owner: Caller) -> None:
    made = [created(invite(owner, f"x{number}@x.example")) for number in range(3)]
    first = owner.get(path(owner), params={"limit": 2}).json()
    second = owner.get(path(owner), params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [*first["items"], *second["items"]] == [*reversed(made)]
    assert second["next_cursor"] is None


def test_the_message_holds_no_token(owner: Caller, anna: Caller, look: Look) -> None:
    invitation = created(invite(owner, anna.email))
    rows = look.execute("select event_id::text, topic, payload from shared.outbox").fetchall()
    assert [(row[0], row[1]) for row in rows] == [(invitation["id"], "organization.invitation")]
    assert rows[0][2] == {
        "invitation_id": invitation["id"], "email": anna.email, "role": "agent", "invited_by": owner.user["full_name"],
        "organization_id": owner.organization["id"], "organization": "north", "title": owner.organization["title"],
        "expires_at": rows[0][2]["expires_at"],
    }  # fmt: skip


def test_bad_invitations_are_422(owner: Caller, look: Look) -> None:
    good = {"email": "new@x.example", "role": "viewer"}
    for change in (
        {"email": ""}, {"email": "a@b"}, {"email": "x" * 255}, {"email": "a\0@b.de"}, {"email": None},
        {"role": "god"}, {"role": "OWNER"}, {"expires_in_days": 0}, {"expires_in_days": 31}, {"expires_in_days": "7"},
        {"more": 1},
    ):  # fmt: skip
        response = owner.post(path(owner), json=good | change)
        assert fields(problem(response, 422, "invalid")) == [*change]
    invitation = created(owner.post(path(owner), json=good))
    for state in ("open", "revoked", "", None, 1):
        assert fields(problem(answer(owner, invitation, state), 422, "invalid")) == ["state"]  # type: ignore[arg-type]
    assert look.execute("select count(*) from shared.invitations").fetchone() == (1,)
