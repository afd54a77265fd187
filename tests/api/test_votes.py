"""Votes: one a user an API, counted for everybody, gone with their user."""

from collections.abc import Callable

from tests.api.conftest import Caller, Look, at_once, bearer, created, problem

Enrol = Callable[..., Caller]


def tallies(person: Caller) -> dict[str, tuple[int, bool]]:
    items = person.get("/api/votes").json()["items"]
    return {item["api_identifier"]: (item["votes"], item["is_mine"]) for item in items}


def test_a_vote_counts_once(enrol: Enrol) -> None:
    rita, seth = enrol("rita"), enrol("seth")
    told = [rita.put("/api/votes/listings.v2").json() for _ in range(2)]
    assert told == [{"api_identifier": "listings.v2", "is_new_vote": is_new} for is_new in (True, False)]
    assert seth.put("/api/votes/listings.v2").json()["is_new_vote"] is True
    assert tallies(rita) == {"listings.v2": (2, True)}


def test_a_withdrawn_vote_may_be_cast_anew(enrol: Enrol) -> None:
    rita, seth = enrol("rita"), enrol("seth")
    for voter in (rita, seth):
        voter.put("/api/votes/listings")
    for _ in range(2):
        response = rita.delete("/api/votes/listings")
        assert (response.status_code, response.json()) == (200, {"api_identifier": "listings", "is_new_vote": False})
    assert tallies(rita) == {"listings": (1, False)}
    assert rita.put("/api/votes/listings").json()["is_new_vote"] is True


def test_of_fifty_votes_at_once_one_is_new(enrol: Enrol, look: Look) -> None:
    rita = enrol("rita")
    told = at_once([lambda: rita.put("/api/votes/listings").json()["is_new_vote"]] * 50)
    assert sorted(told) == [False] * 49 + [True]
    assert look.execute("select count(*) from vote.votes").fetchone() == (1,)


def test_tallies_are_listed_page_by_page(enrol: Enrol) -> None:
    rita = enrol("rita")
    for name in ("c", "a", "b"):
        rita.put(f"/api/votes/{name}")
    first = rita.get("/api/votes", params={"limit": 2}).json()
    second = rita.get("/api/votes", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["api_identifier"] for item in (*first["items"], *second["items"])] == ["a", "b", "c"]
    assert second["next_cursor"] is None


def test_votes_go_with_their_user(enrol: Enrol, look: Look) -> None:
    rita, seth = enrol("rita"), enrol("seth")
    rita.put("/api/votes/listings")
    look.execute("delete from shared.users where id = %s", [rita.user_id])
    assert tallies(seth) == {}


def test_an_api_has_a_name(enrol: Enrol) -> None:
    rita = enrol("rita")
    for name in ("a%20b", "%F0%9F%8F%A0", "x" * 129, "%00", ".a"):
        problem(rita.put(f"/api/votes/{name}"), 422, "invalid")
    problem(rita.put("/api/votes/a%2Fb"), 404, "not_found")
    assert tallies(rita) == {}


def test_a_token_votes_if_its_scopes_say_so(enrol: Enrol) -> None:
    rita = enrol("rita", organization="north")

    def token(scope: str) -> dict[str, str]:
        body = {"name": "x", "expires_in_days": 1, "scopes": [scope]}
        return bearer(created(rita.post("/api/tokens", json=body))["token"])

    problem(rita.put("/api/votes/listings", headers=token("agreements:read")), 403, "insufficient_scope")
    assert rita.put("/api/votes/listings", headers=token("votes:write")).json()["is_new_vote"] is True
