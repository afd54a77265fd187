"""Referrals: opened, listed, cancelled by who answers for them, and seen by their own broker."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.conftest import Caller, Json, Look, created, fields, problem
from tests.api.steps import (
    CONTACT,
    REFERRAL,
    SigningService,
    accept,
    agreement_of,
    axiom_of,
    count,
    draft,
    invite,
    move,
    refer,
    reply,
)

pytest_plugins = ("tests.api.brokerage",)


def colleague(enrol: Callable[..., Caller], boss: Caller, name: str, role: str) -> Caller:
    """Somebody who works for the same broker."""
    caller = enrol(name)
    members = f"/api/organizations/{boss.broker_id}/members"
    created(boss.post(members, json={"email": caller.email, "role": role}))
    return caller


def cancel(caller: Caller, referral: Json, reason: str = "The client decided to stay") -> object:
    return caller.post(f"/api/referrals/{referral['id']}/cancel", json={"reason": reason})


def test_a_referral_opens_with_its_terms_and_without_its_client(referrer: Caller) -> None:
    referral = refer(referrer, client=CONTACT)
    assert {name: referral[name] for name in REFERRAL} == REFERRAL
    assert (referral["status"], referral["created_by"]) == ("open", referrer.user_id)
    assert not {"client", "contact", "name", "email", "phone"} & referral.keys()
    assert referrer.get(f"/api/referrals/{referral['id']}").json() == referral
    assert referral["id"][14] == "7"


def test_languages_and_client_may_be_unknown(referrer: Caller) -> None:
    body = {name: value for name, value in REFERRAL.items() if name != "languages"}
    assert created(referrer.post("/api/referrals", json=body))["languages"] == []


NONSENSE: list[tuple[Json, list[str]]] = [
    ({"price_min": "-1"}, ["price_min"]),
    ({"price_min": "3", "price_max": "2"}, ["price_min"]),
    ({"price_max": "NaN"}, ["price_max"]),
    ({"price_max": "1000000000000"}, []),
    ({"sla_hours": 0}, ["sla_hours"]),
    ({"sla_hours": 721}, ["sla_hours"]),
    ({"sla_hours": "24"}, ["sla_hours"]),
    ({"region": []}, ["region"]),
    ({"region": [""]}, ["region[0]"]),
    ({"region": [" "]}, ["region"]),
    ({"region": "Taipei"}, ["region"]),
    ({"region": ["\0"]}, ["region.0"]),
    ({"region": [None]}, ["region[0]"]),
    ({"languages": ["x"] * 21}, ["languages"]),
    ({"property_type": ""}, ["property_type"]),
    ({"client": {"name": "Mei"}}, ["client"]),
    ({"client": {**CONTACT, "age": 40}}, ["client"]),
    ({"status": "signed"}, ["status"]),
    ({"broker_id": "00000000-0000-7000-8000-000000000000"}, ["broker_id"]),
]


def test_terms_that_make_no_sense_are_refused_and_nothing_is_written(referrer: Caller, look: Look) -> None:
    for changes, named in NONSENSE:
        refusal = problem(referrer.post("/api/referrals", json={**REFERRAL, **changes}), 422, "invalid")
        assert fields(refusal) == named, changes
    assert count(look, "select count(*) from agreement.referrals") == 0


def test_who_is_no_broker_opens_no_referral(enrol: Callable[..., Caller], look: Look) -> None:
    for caller in (enrol("noah"), enrol("olga", organization="office")):
        assert caller.post("/api/referrals", json=REFERRAL).status_code in {403, 422}
    assert count(look, "select count(*) from agreement.referrals") == 0


def test_filters_add_up(referrer: Caller) -> None:
    first = refer(referrer, region=["Taipei"], deal_type="sale", languages=["zh"])
    second = refer(referrer, region=["Taipei", "Tainan"], deal_type="rent", languages=["en", "zh"])
    third = refer(referrer, region=["Tainan"], deal_type="rent", languages=[])
    cancel(referrer, third)
    for params, expected in (
        ({}, [third, second, first]),
        ({"region": "Taipei"}, [second, first]),
        ({"region": "Tainan", "deal_type": "rent"}, [third, second]),
        ({"language": "en"}, [second]),
        ({"status": "open", "deal_type": "rent"}, [second]),
        ({"status": "cancelled"}, [third]),
        ({"region": "taipei' or true --"}, []),
    ):
        items = referrer.get("/api/referrals", params=params).json()["items"]
        assert [item["id"] for item in items] == [each["id"] for each in expected], params
    for params in ({"status": "gone"}, {"sort": "price_max"}, {"limit": "0"}, {"limit": "101"}, {"cursor": "abc"}):
        problem(referrer.get("/api/referrals", params=params), 422, "invalid")


@pytest.mark.parametrize("sort", ["-created_at", "created_at", "price_min", "-price_min"])
def test_each_order_is_kept_across_pages(referrer: Caller, sort: str) -> None:
    prices = ["30", "10", "20", "10", "20", "30.5"]
    opened = [refer(referrer, price_min=price, price_max="99") for price in prices]
    ordered = sorted(opened, key=lambda each: (float(each["price_min"]), each["id"])) if "price" in sort else opened
    expected = [each["id"] for each in (ordered[::-1] if sort.startswith("-") else ordered)]
    seen: list[str] = []
    params: dict[str, str] = {"sort": sort, "limit": "2"}
    while True:
        page = referrer.get("/api/referrals", params=params).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == expected


def test_a_cursor_survives_a_change_of_order(referrer: Caller) -> None:
    for _ in range(3):
        refer(referrer)
    cursor = referrer.get("/api/referrals", params={"limit": "1"}).json()["next_cursor"]
    for sort in ("created_at", "price_min", "-price_min"):
        assert referrer.get("/api/referrals", params={"cursor": cursor, "sort": sort}).status_code == 200


def test_to_another_broker_a_referral_does_not_exist(stranger: Caller, referral: Json, look: Look) -> None:
    path = f"/api/referrals/{referral['id']}"
    for method, below, body in (
        ("GET", "", None),
        ("GET", "/candidates", None),
        ("GET", "/matches", None),
        ("POST", "/matches", {"candidate_user_id": stranger.user_id}),
        ("POST", "/cancel", {"reason": "Envy"}),
        ("PUT", "/contact", CONTACT),
        ("DELETE", "/contact", None),
    ):
        problem(stranger.request(method, path + below, json=body), 404, "not_found")
    assert stranger.get("/api/referrals").json()["items"] == []
    assert count(look, "select count(*) from shared.audit_log where outcome = 'denied'") == 4


def test_a_candidate_sees_the_offer_and_not_the_referral(referee: Caller, invitation: Json) -> None:
    path = f"/api/referrals/{invitation['referral_id']}"
    problem(referee.get(path), 404, "not_found")
    problem(referee.get(f"{path}/candidates"), 404, "not_found")
    problem(referee.post(f"{path}/cancel", json={"reason": "Mine"}), 404, "not_found")
    assert [item["id"] for item in referee.get(f"{path}/matches").json()["items"]] == [invitation["id"]]
    assert referee.get("/api/referrals").json()["items"] == []


def test_candidates_are_agents_of_other_brokers_ranked_with_reasons(
    referrer: Caller, referee: Caller, stranger: Caller, signing: SigningService
) -> None:
    earlier = refer(referrer)
    agreement = accept(referee, invite(referrer, earlier, referee))
    assert signing.report(agreement).status_code == 200
    assert move(referee, agreement, "success").status_code == 200
    page = referrer.get(f"/api/referrals/{refer(referrer)['id']}/candidates").json()
    assert [item["user_id"] for item in page["items"]] == [referee.user_id, stranger.user_id]
    best, other = page["items"]
    assert best["score"] > other["score"]
    assert "closed 1 in the same region" in best["reasons"]
    assert other["reasons"] == ["new: no invitation yet"]
    assert page["next_cursor"] is None


def test_a_referral_without_other_brokers_has_no_candidates(referrer: Caller) -> None:
    page = referrer.get(f"/api/referrals/{refer(referrer)['id']}/candidates")
    assert (page.status_code, page.json()) == (200, {"items": [], "next_cursor": None})


def test_its_creator_cancels_a_referral_once(referrer: Caller, referral: Json) -> None:
    path = f"/api/referrals/{referral['id']}/cancel"
    body = referrer.post(path, json={"reason": "The client decided to stay"}).json()
    assert (body["status"], body["cancel_reason"]) == ("cancelled", "The client decided to stay")
    assert fields(problem(referrer.post(path, json={"reason": ""}), 422, "invalid")) == ["reason"]


def test_another_agent_of_the_broker_does_not_cancel_it_and_an_admin_does(
    referrer: Caller, enrol: Callable[..., Caller], look: Look
) -> None:
    agents = [colleague(enrol, referrer, name, "agent") for name in ("ada", "ben")]
    admin = colleague(enrol, referrer, "cleo", "admin")
    referral = refer(agents[0])
    path = f"/api/referrals/{referral['id']}/cancel"
    axiom_of(agents[1].post(path, json={"reason": "Tidy up"}), 403, "A9")
    assert agents[1].get(f"/api/referrals/{referral['id']}").json()["status"] == "open"
    reasons = look.execute("select reason from shared.audit_log where outcome = 'denied'").fetchall()
    assert reasons == [("referrals_cancelled_by_creator_or_admin",)]
    assert admin.post(path, json={"reason": "Tidy up"}).json()["status"] == "cancelled"


def test_cancelling_voids_what_is_pending_and_what_is_drafted(
    referrer: Caller, referee: Caller, stranger: Caller, pending: Json
) -> None:
    drafted = created(draft(referrer, {"id": pending["referral_id"]}, stranger))
    path = f"/api/referrals/{pending['referral_id']}/cancel"
    assert referrer.post(path, json={"reason": "Gone"}).json()["status"] == "cancelled"
    assert agreement_of(referee, pending["id"])["status"] == "void"
    assert agreement_of(stranger, drafted["id"])["status"] == "void"


def test_a_signed_referral_is_beyond_cancelling(referrer: Caller, effective: Json) -> None:
    path = f"/api/referrals/{effective['referral_id']}/cancel"
    axiom_of(referrer.post(path, json={"reason": "Regret"}), 409, "A8")
    assert agreement_of(referrer, effective["id"])["status"] == "effective"


def test_a_cancelled_referral_takes_no_invitation_and_no_acceptance(
    referrer: Caller, referee: Caller, stranger: Caller, invitation: Json, look: Look
) -> None:
    referral = {"id": invitation["referral_id"]}
    cancel(referrer, referral)
    path = f"/api/referrals/{referral['id']}/matches"
    axiom_of(referrer.post(path, json={"candidate_user_id": stranger.user_id}), 409, "A8")
    axiom_of(reply(referee, invitation, "accepted"), 409, "A8")
    assert count(look, "select count(*) from agreement.agreements") == 0


def test_cancelling_and_accepting_at_once_never_strands_an_agreement(
    referrer: Caller, referee: Caller, look: Look
) -> None:
    for _ in range(10):
        referral = refer(referrer)
        invitation = invite(referrer, referral, referee)
        with ThreadPoolExecutor(2) as pool:
            accepted = pool.submit(reply, referee, invitation, "accepted")
            cancelled = pool.submit(cancel, referrer, referral)
            assert accepted.result().status_code in {200, 409}
            cancelled.result()
    stranded = """
        select count(*) from agreement.agreements a join agreement.referrals r on r.id = a.referral_id
        where r.status = 'cancelled' and a.status <> 'void'
    """
    assert count(look, stranded) == 0


def test_the_owner_makes_a_broker_and_renames_it(referrer: Caller, referee: Caller) -> None:
    path = f"/api/organizations/{referrer.broker_id}/brokerage"
    renamed = referrer.put(path, json={"name": "North & Sons", "fein": "12-3456789"}).json()
    assert (renamed["id"], renamed["name"], renamed["fein"]) == (referrer.broker_id, "North & Sons", "12-3456789")
    seen = referee.get(f"/api/brokers/{referrer.broker_id}").json()
    assert (seen["name"], seen["fein"]) == ("North & Sons", None)


def test_a_broker_is_made_by_its_owner_with_a_number_that_is_one(
    referrer: Caller, stranger: Caller, enrol: Callable[..., Caller]
) -> None:
    path = f"/api/organizations/{referrer.broker_id}/brokerage"
    body = {"name": "North", "fein": "12-3456789"}
    problem(stranger.put(path, json=body), 404, "not_found")
    problem(colleague(enrol, referrer, "cleo", "admin").put(path, json=body), 403, "forbidden")
    assert fields(problem(referrer.put(path, json={**body, "fein": "12-345"}), 422, "invalid")) == ["fein"]
    problem(referrer.get(f"/api/brokers/{referrer.user_id}"), 404, "not_found")


def test_brokers_are_found_by_a_part_of_their_name(referrer: Caller, referee: Caller, stranger: Caller) -> None:
    def found(**params: str) -> list[str]:
        items = stranger.get("/api/brokers", params=params).json()["items"]
        return [item["name"] for item in items]

    assert found() == ["North Realty", "South Realty", "West Realty"]
    assert found(q="oUt") == ["South Realty"]
    assert found(q="%") == []
    first = stranger.get("/api/brokers", params={"limit": "2"}).json()
    rest = stranger.get("/api/brokers", params={"cursor": first["next_cursor"]}).json()
    assert [item["name"] for item in rest["items"]] == ["West Realty"]
    assert [item["fein"] is None for item in first["items"] + rest["items"]] == [True, True, False]


def test_who_works_for_no_organization_is_told_so(enrol: Callable[..., Caller]) -> None:
    told = problem(enrol("anna").post("/api/referrals", json=REFERRAL), 403, "forbidden")
    assert told["detail"] == "This takes an organization, and the actor works for none."
