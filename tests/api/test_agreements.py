"""Agreements: drafted or accepted, moved along their states, seen by their parties only."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.api.conftest import Caller, Json, Look, created, fields, problem
from tests.api.steps import (
    CONTACT,
    SigningService,
    accept,
    agreement_of,
    append,
    axiom_of,
    count,
    draft,
    invite,
    issue,
    move,
    open_dispute,
    read_contact,
    refer,
    resolve,
    settle,
    timeline,
    types,
)

pytest_plugins = ("tests.api.brokerage",)


def test_two_brokers_carry_a_client_from_referral_to_an_effective_agreement(
    referrer: Caller, referee: Caller, signing: SigningService
) -> None:
    referral = refer(referrer, client=CONTACT)
    path = f"/api/referrals/{referral['id']}"
    assert (referral["status"], referral["broker_id"]) == ("open", referrer.broker_id)
    invitation = invite(referrer, referral, referee)
    [item] = referee.get("/api/matches").json()["items"]
    assert (item["id"], item["region"], item["broker_name"]) == (invitation["id"], referral["region"], "North Realty")
    agreement = accept(referee, invitation)
    assert agreement == agreement_of(referrer, agreement["id"]) == agreement_of(referee, agreement["id"])
    assert (agreement["status"], agreement["fee_rate"]) == ("pending_signature", "25.0000")
    assert referrer.get(path).json()["status"] == "matched"
    signed = signing.report(agreement).json()
    assert (signed["id"], signed["status"]) == (agreement["id"], "effective")
    assert referrer.get(path).json()["status"] == "signed"


def test_an_effective_agreement_is_worked_disputed_and_settled(
    referrer: Caller, referee: Caller, judge: Caller, effective: Json, look: Look
) -> None:
    assert read_contact(referee, effective).json()["name"] == CONTACT["name"]
    shown = created(append(referee, effective, "PROPERTY_SHOWN", payload={"address": "Xinyi 5"}))
    paid, unpaid = (created(issue(referrer, effective, amount)) for amount in ("1500.00", "200.00"))
    assert settle(referee, paid).json()["status"] == "paid"
    assert resolve(judge, open_dispute(referrer, effective), "upheld").json()["outcome"] == "upheld"
    invoices = referee.get(f"/api/agreements/{effective['id']}/invoices").json()["items"]
    assert {item["id"]: item["status"] for item in invoices} == {paid["id"]: "paid", unpaid["id"]: "invalidated"}
    assert move(referee, effective, "closed").json()["status"] == "closed"
    assert referrer.get(f"/api/referrals/{effective['referral_id']}").json()["status"] == "closed"
    events = timeline(referee, effective)
    assert [(event["seq"], event["type"]) for event in events] == [
        (1, "AGREEMENT_CREATED"),
        (2, "ESIGN_COMPLETED"),
        (3, "PII_VIEWED"),
        (4, "PROPERTY_SHOWN"),
        (5, "DISPUTE_OPENED"),
        (6, "DISPUTE_RESOLVED"),
        (7, "AGREEMENT_STATUS_CHANGED"),
    ]
    assert (events[1]["credential_kind"], events[3]) == ("esign", shown)
    outbox = look.execute("select event_id::text from shared.outbox order by event_id").fetchall()
    assert [event_id for (event_id,) in outbox] == [event["id"] for event in events]


def test_the_referrals_broker_drafts_an_agreement_with_its_event(referrer: Caller, referee: Caller, look: Look) -> None:
    agreement = created(draft(referrer, refer(referrer), referee))
    assert (agreement["status"], agreement["version"], agreement["match_id"]) == ("draft", 1, None)
    assert agreement["region"] == ["Taipei", "Da'an"]
    assert types(timeline(referee, agreement)) == ["AGREEMENT_CREATED"]
    assert count(look, "select count(*) from shared.outbox") == 1


def test_a_draft_moves_to_pending_signature_with_an_event(referrer: Caller, referee: Caller) -> None:
    agreement = created(draft(referrer, refer(referrer), referee))
    assert move(referrer, agreement, "pending_signature").json()["status"] == "pending_signature"
    assert types(timeline(referrer, agreement)) == ["AGREEMENT_CREATED", "ESIGN_REQUESTED"]


NO_TERMS: list[tuple[Json, list[str]]] = [
    ({"fee_rate": "-5"}, ["fee_rate"]),
    ({"fee_rate": "100.01"}, ["fee_rate"]),
    ({"fee_rate": "NaN"}, ["fee_rate"]),
    ({"protect_days": -1}, ["protect_days"]),
    ({"protect_days": "90"}, ["protect_days"]),
    ({"status": "effective"}, ["status"]),
    ({"region": ["x"]}, ["region"]),
    ({"from_broker_id": "00000000-0000-7000-8000-000000000000"}, ["from_broker_id"]),
]


def test_terms_out_of_range_and_terms_not_to_choose_are_refused(referrer: Caller, referee: Caller, look: Look) -> None:
    referral = refer(referrer)
    for changes, named in NO_TERMS:
        assert fields(problem(draft(referrer, referral, referee, **changes), 422, "invalid")) == named, changes
    assert count(look, "select count(*) from agreement.agreements") == 0


def test_a_broker_agrees_with_another_one_only(referrer: Caller, look: Look) -> None:
    problem(draft(referrer, refer(referrer), referrer), 422, "invalid")
    assert count(look, "select count(*) from agreement.agreements") == 0


def test_nobody_drafts_about_anothers_referral(referrer: Caller, stranger: Caller, look: Look) -> None:
    referral = refer(referrer)
    problem(draft(stranger, referral, referrer), 404, "not_found")
    problem(draft(stranger, {"id": stranger.broker_id}, referrer), 404, "not_found")
    invite(referrer, referral, stranger)
    problem(draft(stranger, referral, referrer), 404, "not_found")
    assert count(look, "select count(*) from agreement.agreements") == 0


def test_a_referral_has_at_most_one_live_agreement(referrer: Caller, stranger: Caller, pending: Json) -> None:
    second = created(draft(referrer, {"id": pending["referral_id"]}, stranger))
    axiom_of(move(referrer, second, "pending_signature"), 409, "A1")
    assert agreement_of(referrer, second["id"])["status"] == "draft"


def test_what_the_state_machine_does_not_allow_is_refused(referee: Caller, pending: Json) -> None:
    for status in ("draft", "success", "closed"):
        axiom_of(move(referee, pending, status), 409, "A8")
    assert agreement_of(referee, pending["id"]) == pending


def test_no_party_makes_an_agreement_effective(referrer: Caller, referee: Caller, pending: Json) -> None:
    for party in (referrer, referee):
        axiom_of(move(party, pending, "effective"), 409, "A8")
    assert agreement_of(referee, pending["id"])["effective_at"] is None


def test_no_party_makes_an_agreement_disputed_without_a_dispute(referrer: Caller, effective: Json) -> None:
    axiom_of(move(referrer, effective, "disputed"), 409, "A12")


@pytest.mark.parametrize("status", ["success", "void", "closed"])
def test_an_effective_agreement_ends_as_its_parties_say(referrer: Caller, effective: Json, status: str) -> None:
    ended = move(referrer, effective, status).json()
    assert (ended["status"], ended["effective_at"]) == (status, effective["effective_at"])


def test_a_closed_agreement_is_not_revived(referrer: Caller, effective: Json) -> None:
    assert move(referrer, effective, "closed").status_code == 200
    for status in ("draft", "pending_signature", "effective", "success", "disputed", "void"):
        assert move(referrer, effective, status).status_code == 409
    assert agreement_of(referrer, effective["id"])["status"] == "closed"


def test_an_attempt_on_the_region_is_refused_and_recorded(referrer: Caller, pending: Json, look: Look) -> None:
    path = f"/api/agreements/{pending['id']}"
    refusal = axiom_of(referrer.patch(path, json={"region": ["Kaohsiung"]}), 409, "A8")
    assert agreement_of(referrer, pending["id"]) == pending
    denial = look.execute(
        "select action, subject, reason, user_id::text, request_id from shared.audit_log where outcome = 'denied'"
    ).fetchall()
    assert denial == [
        (
            "PATCH /api/agreements/{agreement_id}",
            path,
            "agreements_region_fixed",
            referrer.user_id,
            refusal["request_id"],
        )
    ]


def test_a_change_without_a_status_is_invalid(referrer: Caller, pending: Json) -> None:
    refusal = problem(referrer.patch(f"/api/agreements/{pending['id']}", json={}), 422, "invalid")
    assert fields(refusal) == ["status"]


def test_the_etag_guards_a_change(referrer: Caller, pending: Json) -> None:
    path = f"/api/agreements/{pending['id']}"
    assert referrer.get(path).headers["etag"] == '"1"'
    problem(move(referrer, pending, "void", headers={"If-Match": '"2"'}), 412, "version_mismatch")
    moved = move(referrer, pending, "void", headers={"If-Match": '"1"'})
    assert (moved.status_code, moved.headers["etag"], moved.json()["version"]) == (200, '"2"', 2)
    problem(move(referrer, pending, "closed", headers={"If-Match": '"1"'}), 412, "version_mismatch")
    problem(move(referrer, pending, "closed", headers={"If-Match": "2"}), 400, "malformed")


def test_a_repeated_draft_happens_once(referrer: Caller, referee: Caller, look: Look) -> None:
    referral = refer(referrer)
    body = {"referral_id": referral["id"], "to_broker_id": referee.broker_id, "fee_rate": "25", "protect_days": 90}
    first, second = (
        referrer.post("/api/agreements", json=body, headers={"Idempotency-Key": "draft-1"}) for _ in range(2)
    )
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert (second.headers["idempotency-replayed"], second.headers["etag"]) == ("true", '"1"')
    assert "idempotency-replayed" not in first.headers
    other = {**body, "fee_rate": "30"}
    problem(
        referrer.post("/api/agreements", json=other, headers={"Idempotency-Key": "draft-1"}),
        422,
        "idempotency_key_reused",
    )
    assert count(look, "select count(*) from agreement.agreements") == 1
    assert count(look, "select count(*) from shared.outbox") == 1


def test_both_parties_list_their_agreements_by_status(
    referrer: Caller, referee: Caller, stranger: Caller, effective: Json
) -> None:
    drafted = created(draft(referrer, refer(referrer), referee))
    for party in (referrer, referee):
        items = party.get("/api/agreements").json()["items"]
        assert [item["id"] for item in items] == [drafted["id"], effective["id"]]
        items = party.get("/api/agreements", params={"status": "effective"}).json()["items"]
        assert [item["id"] for item in items] == [effective["id"]]
    assert stranger.get("/api/agreements").json() == {"items": [], "next_cursor": None}
    problem(referrer.get("/api/agreements", params={"status": "good"}), 422, "invalid")


def test_a_page_continues_where_the_one_before_ended(referrer: Caller, referee: Caller) -> None:
    drafted = [created(draft(referrer, refer(referrer), referee))["id"] for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        body = referrer.get("/api/agreements", params=params).json()
        seen += [item["id"] for item in body["items"]]
        cursor = body["next_cursor"]
    assert (seen, cursor) == (drafted[::-1], None)


def _party_requests(agreement: Json, invoice: Json, dispute: Json) -> list[tuple[str, str, Json | None]]:
    path = f"/api/agreements/{agreement['id']}"
    return [
        ("GET", path, None),
        ("PATCH", path, {"status": "closed"}),
        ("GET", f"{path}/events", None),
        ("POST", f"{path}/events", {"type": "CLIENT_CONTACTED"}),
        ("GET", f"{path}/proof", None),
        ("POST", f"{path}/contact-reads", {"purpose": "Curiosity"}),
        ("GET", f"{path}/contact-reads", None),
        ("POST", f"{path}/invoices", {"amount": "1.00", "currency": "TWD"}),
        ("GET", f"{path}/invoices", None),
        ("PATCH", f"/api/invoices/{invoice['id']}", {"status": "paid"}),
        ("POST", "/api/disputes", {"agreement_id": agreement["id"], "reason": "Envy"}),
        ("PATCH", f"/api/disputes/{dispute['id']}", {"outcome": "upheld", "note": "Envy"}),
    ]


def test_to_a_stranger_nothing_of_an_agreement_exists(
    referrer: Caller, stranger: Caller, enrol: Callable[..., Caller], effective: Json, look: Look
) -> None:
    invoice = created(issue(referrer, effective))
    dispute = open_dispute(referrer, effective)
    before = timeline(referrer, effective)
    nobody = enrol("noah")
    for caller in (stranger, nobody):
        for method, path, body in _party_requests(effective, invoice, dispute):
            response = caller.request(method, path, json=body)
            assert response.status_code == 404, (method, path, response.text)
            problem(response, 404, "not_found")
    assert timeline(referrer, effective) == before
    denials = count(look, "select count(*) from shared.audit_log where outcome = 'denied'")
    assert denials == 2 * sum(method != "GET" for method, _, _ in _party_requests(effective, invoice, dispute))


def test_a_viewer_sees_and_does_not_write(
    referrer: Caller, enrol: Callable[..., Caller], effective: Json, look: Look
) -> None:
    viewer = enrol("vera")
    members = f"/api/organizations/{referrer.broker_id}/members"
    created(referrer.post(members, json={"email": viewer.email, "role": "viewer"}))
    assert agreement_of(viewer, effective["id"]) == effective
    for response in (
        move(viewer, effective, "closed"),
        append(viewer, effective, "CLIENT_CONTACTED"),
        read_contact(viewer, effective),
        issue(viewer, effective),
    ):
        problem(response, 403, "forbidden")


def test_a_token_without_a_scope_is_told_so(referrer: Caller, effective: Json) -> None:
    body = {"name": "reader", "expires_in_days": 1, "scopes": ["agreements:read"]}
    token = created(referrer.post("/api/tokens", json=body))["token"]
    reader = {"Authorization": f"Bearer {token}"}
    path = f"/api/agreements/{effective['id']}"
    assert referrer.get(path, headers=reader).status_code == 200
    problem(referrer.patch(path, json={"status": "closed"}, headers=reader), 403, "insufficient_scope")
    problem(referrer.post(f"{path}/contact-reads", json={"purpose": "Call"}, headers=reader), 403, "insufficient_scope")


def test_the_database_dates_what_happens(effective: Json) -> None:
    effective_at = datetime.fromisoformat(effective["effective_at"])
    assert abs((datetime.now(UTC) - effective_at).total_seconds()) < 60
    assert datetime.fromisoformat(effective["signed_at"]) <= effective_at
