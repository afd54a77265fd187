"""Invitations: made to agents of other brokers, answered once by their candidate."""

from collections.abc import Callable

from tests.api.conftest import Caller, Json, Look, created, fields, problem
from tests.api.steps import accept, agreement_of, axiom_of, count, invite, refer, reply

pytest_plugins = ("tests.api.brokerage",)


def test_an_invitation_starts_invited_and_reaches_the_inbox(
    referrer: Caller, referee: Caller, stranger: Caller, referral: Json
) -> None:
    invitation = invite(referrer, referral, referee)
    assert (invitation["state"], invitation["responded_at"]) == ("invited", None)
    assert invitation["candidate_broker_id"] == referee.broker_id
    [item] = referee.get("/api/matches", params={"state": "invited"}).json()["items"]
    assert (item["id"], item["price_min"], item["sla_hours"]) == (invitation["id"], "12000000.00", 24)
    assert referee.get("/api/matches", params={"state": "declined"}).json()["items"] == []
    assert stranger.get("/api/matches").json()["items"] == []
    [listed] = referrer.get(f"/api/referrals/{referral['id']}/matches").json()["items"]
    assert listed == invitation


def test_a_referral_without_invitations_has_an_empty_list(referrer: Caller, referral: Json) -> None:
    response = referrer.get(f"/api/referrals/{referral['id']}/matches")
    assert (response.status_code, response.json()) == (200, {"items": [], "next_cursor": None})


def test_nobody_is_invited_twice_or_as_accepted(referrer: Caller, referee: Caller, invitation: Json) -> None:
    path = f"/api/referrals/{invitation['referral_id']}/matches"
    body = {"candidate_user_id": referee.user_id}
    problem(referrer.post(path, json=body), 409, "conflict")
    assert fields(problem(referrer.post(path, json={**body, "state": "accepted"}), 422, "invalid")) == ["state"]


def test_a_candidate_works_for_another_broker(
    referrer: Caller, enrol: Callable[..., Caller], referral: Json, look: Look
) -> None:
    path = f"/api/referrals/{referral['id']}/matches"
    for candidate in (referrer, enrol("noah"), enrol("olga", organization="office")):
        axiom_of(referrer.post(path, json={"candidate_user_id": candidate.user_id}), 409, "A9")
    axiom_of(referrer.post(path, json={"candidate_user_id": referral["id"]}), 409, "A9")
    assert count(look, "select count(*) from agreement.matches") == 0


def test_accepting_answers_with_the_agreement(referrer: Caller, referee: Caller, invitation: Json) -> None:
    answer = reply(referee, invitation, "accepted").json()
    assert (answer["state"], answer["responded_at"] is None) == ("accepted", False)
    agreement = answer["agreement"]
    assert (agreement["match_id"], agreement["status"]) == (invitation["id"], "pending_signature")
    assert (agreement["from_broker_id"], agreement["to_broker_id"]) == (referrer.broker_id, referee.broker_id)
    assert agreement == agreement_of(referee, agreement["id"])


def test_accepting_again_answers_with_the_same_agreement(referee: Caller, invitation: Json, look: Look) -> None:
    first, second = (reply(referee, invitation, "accepted") for _ in range(2))
    assert first.json() == second.json()
    assert count(look, "select count(*) from agreement.agreements") == 1


def test_declining_makes_no_agreement(referee: Caller, invitation: Json, look: Look) -> None:
    answer = reply(referee, invitation, "declined").json()
    assert (answer["state"], answer["agreement"]) == ("declined", None)
    assert count(look, "select count(*) from agreement.agreements") == 0


def test_an_answer_is_not_changed(referrer: Caller, referee: Caller, stranger: Caller, referral: Json) -> None:
    declined = invite(referrer, referral, stranger)
    assert reply(stranger, declined, "declined").status_code == 200
    axiom_of(reply(stranger, declined, "accepted"), 409, "A8")
    axiom_of(reply(stranger, declined, "declined"), 409, "A8")
    accepted = invite(referrer, referral, referee)
    agreement = accept(referee, accepted)
    axiom_of(reply(referee, accepted, "declined"), 409, "A8")
    assert agreement_of(referee, agreement["id"]) == agreement


def test_only_an_answer_is_an_answer(referee: Caller, invitation: Json) -> None:
    path = f"/api/referrals/{invitation['referral_id']}/matches/{invitation['id']}"
    for state in ("invited", "cancelled", None, 1):
        assert fields(problem(referee.patch(path, json={"state": state}), 422, "invalid")) == ["state"]


def test_the_inviting_broker_does_not_answer_for_its_candidate(referrer: Caller, invitation: Json, look: Look) -> None:
    axiom_of(reply(referrer, invitation, "accepted"), 403, "A9")
    assert count(look, "select count(*) from agreement.agreements") == 0


def test_to_a_stranger_an_invitation_does_not_exist(
    referrer: Caller, stranger: Caller, referee: Caller, invitation: Json
) -> None:
    problem(reply(stranger, invitation, "accepted"), 404, "not_found")
    elsewhere = {**invitation, "referral_id": refer(referrer)["id"]}
    problem(reply(referee, elsewhere, "accepted"), 404, "not_found")


def test_the_slower_candidate_is_refused_and_keeps_his_invitation(
    referrer: Caller, referee: Caller, stranger: Caller, referral: Json
) -> None:
    first, second = invite(referrer, referral, referee), invite(referrer, referral, stranger)
    accept(referee, first)
    axiom_of(reply(stranger, second, "accepted"), 409, "A1")
    [kept] = stranger.get("/api/matches").json()["items"]
    assert kept["state"] == "invited"
    assert reply(stranger, second, "declined").status_code == 200


def test_a_void_agreement_lets_the_next_candidate_in(
    referrer: Caller, referee: Caller, stranger: Caller, referral: Json
) -> None:
    first, second = invite(referrer, referral, referee), invite(referrer, referral, stranger)
    agreement = accept(referee, first)
    assert referrer.patch(f"/api/agreements/{agreement['id']}", json={"status": "void"}).status_code == 200
    assert referrer.get(f"/api/referrals/{referral['id']}").json()["status"] == "open"
    assert accept(stranger, second)["to_broker_id"] == stranger.broker_id


def test_a_repeated_invitation_with_a_key_happens_once(
    referrer: Caller, referee: Caller, referral: Json, look: Look
) -> None:
    path = f"/api/referrals/{referral['id']}/matches"
    body, headers = {"candidate_user_id": referee.user_id}, {"Idempotency-Key": "invite"}
    first, second = (created(referrer.post(path, json=body, headers=headers)) for _ in range(2))
    assert first == second
    assert count(look, "select count(*) from agreement.matches") == 1
