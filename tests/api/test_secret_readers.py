"""Who could read a secret at a time, and who had: told from memberships, credentials and the audit log."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import Caller, Look, add_member, bearer, created, fields, problem

Readers = Callable[..., dict[str, tuple[bool, int]]]


@pytest.fixture
def readers(owner: Caller) -> Readers:
    """Ask who could read a key, and how often each had, by name."""

    def ask(key: str = "k", **parameters: Any) -> dict[str, tuple[bool, int]]:
        response = owner.get(f"/api/secrets/{key}/who", params=parameters)
        assert response.status_code == 200, response.text
        items = response.json()["items"]
        return {item["name"] or item["id"]: (item["could_read"], item["reads"]) for item in items}

    return ask


def moment(look: Look) -> str:
    row = look.execute("select shared.iso8601(clock_timestamp())").fetchone()
    assert row is not None
    return str(row[0])


def put(caller: httpx.Client, key: str, value: object, **body: object) -> None:
    response = caller.put(f"/api/secrets/{key}", json={"value": value, **body})
    assert response.status_code == 200, response.text


def member(owner: Caller, person: Caller) -> str:
    return f"/api/organizations/{owner.broker_id}/members/{person.user_id}"


def test_members_are_told_by_the_roles_that_they_had(
    client: httpx.Client, owner: Caller, enrol: Callable[..., Caller], look: Look, readers: Readers
) -> None:
    put(owner, "k", 1)
    ann, vic, stranger = enrol("ann"), enrol("vic"), enrol("sam", organization="south")
    alone = moment(look)
    for person, role in ((ann, "agent"), (vic, "viewer")):
        add_member(client, owner.token, owner.organization, person.email, role)
    joined = moment(look)
    assert ann.get("/api/secrets/k").status_code == 200
    assert vic.get("/api/secrets/k").status_code == 403
    owner.patch(member(owner, ann), json={"role": "viewer"}).raise_for_status()
    demoted = moment(look)
    owner.delete(member(owner, ann)).raise_for_status()
    assert stranger.get("/api/secrets/k").status_code == 404

    nora, names = owner.user["full_name"], {each: each.user["full_name"] for each in (ann, vic)}
    assert readers(at=alone) == {nora: (True, 0)}
    assert readers(at=joined) == {nora: (True, 0), ann.user_id: (True, 0)}
    assert readers(at=demoted) == {nora: (True, 0), ann.user_id: (False, 1), names[vic]: (False, 0)}
    assert readers() == readers(at=demoted)
    items = {item["id"]: item for item in owner.get("/api/secrets/k/who").json()["items"]}
    assert (items[vic.user_id]["denials"], items[vic.user_id]["role"]) == (1, "viewer")
    assert (items[ann.user_id]["role"], joined < items[ann.user_id]["last_read_at"] < demoted) == (None, True)


def test_programs_are_told_by_the_life_of_their_tokens_and_keys(
    client: httpx.Client, owner: Caller, look: Look, readers: Readers
) -> None:
    path = f"/api/organizations/{owner.broker_id}"
    project = created(owner.post(f"{path}/projects", json={"name": "Web", "slug": "web"}))
    place = created(owner.post(f"/api/projects/{project['id']}/environments", json={"slug": "one", "type": "STAGING"}))
    put(owner, "k", 1)
    put(owner, f"k?environment={place['id']}", 1)
    token = created(owner.post(f"{path}/tokens", json={"name": "deploy", "scopes": ["secrets:read"]}))
    created(owner.post(f"{path}/tokens", json={"name": "blind", "scopes": ["secrets:write"]}))
    hint = f"...{place['secret_key'][-4:]}"
    minted = {"scopes": ["secrets:read"], "expires_in": 60, "one_time": False}
    jwt = client.post(f"/api/environments/{place['id']}/jwt", json=minted, headers=bearer(place["secret_key"]))
    for credential in (place["secret_key"], created(jwt)["token"], token["token"]):
        assert client.get("/api/secrets/k", headers=bearer(credential)).status_code == 200
    both = moment(look)
    owner.delete(f"{path}/tokens/{token['id']}").raise_for_status()
    created(owner.post(f"/api/environments/{place['id']}/keys/rotate", json={"grace_hours": 0}))

    nora = owner.user["full_name"]
    assert readers(at=both) == {nora: (True, 0), "deploy": (True, 1)}
    assert readers() == {nora: (True, 0), "deploy": (False, 1)}
    here = {"environment": place["id"]}
    assert readers(**here, at=both) == {nora: (True, 0), "deploy": (True, 0), hint: (True, 1), place["id"]: (False, 1)}
    assert sorted(readers(**here).values()) == [(False, 1), (False, 1), (True, 0), (True, 0)]


def test_what_had_no_value_could_be_read_by_nobody(owner: Caller, look: Look, readers: Readers) -> None:
    before = moment(look)
    put(owner, "k", 1)
    one = moment(look)
    owner.delete("/api/secrets/k").raise_for_status()
    deleted = moment(look)
    owner.post("/api/secrets/k/undelete").raise_for_status()
    back = moment(look)
    owner.post("/api/secrets/k/destroy", json={"version": 1}).raise_for_status()
    destroyed = moment(look)
    put(owner, "k", 2, expires_at="2099-01-01T00:00:00Z")
    assert [bool(readers(at=each)) for each in (before, one, deleted, back, destroyed)] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert bool(readers()) is True
    assert readers(at="2098-12-31T23:59:59Z") != {}
    assert readers(at="2099-01-01T00:00:00Z") == {}


def test_who_may_ask(client: httpx.Client, owner: Caller, enrol: Callable[..., Caller]) -> None:
    put(owner, "k", 1)
    ann, other = enrol("ann"), enrol("sam", organization="south")
    add_member(client, owner.token, owner.organization, ann.email, "agent")
    problem(ann.get("/api/secrets/k/who"), 403, "forbidden")
    answers = [problem(other.get(f"/api/secrets/{key}/who"), 404, "not_found") for key in ("k", "none")]
    assert answers[0]["detail"] == answers[1]["detail"]
    problem(client.get("/api/secrets/k/who"), 401, "unauthenticated")
    path = f"/api/organizations/{owner.broker_id}/tokens"
    program = created(owner.post(path, json={"name": "t", "scopes": ["secrets:write"]}))
    problem(client.get("/api/secrets/k/who", headers=bearer(program["token"])), 401, "unauthenticated")
    for at in ("2026-01-01T00:00:00", "yesterday"):
        assert fields(problem(owner.get("/api/secrets/k/who", params={"at": at}), 422, "invalid")) == ["at"]


def test_readers_come_in_pages(client: httpx.Client, owner: Caller, enrol: Callable[..., Caller]) -> None:
    put(owner, "k", 1)
    for name in ("ann", "ben", "cat"):
        add_member(client, owner.token, owner.organization, enrol(name).email, "agent")
    seen: list[str] = []
    parameters: dict[str, Any] = {"limit": 3}
    while True:
        page = owner.get("/api/secrets/k/who", params=parameters).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
    assert seen == sorted(seen)
    assert len(seen) == 4
