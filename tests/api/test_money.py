"""Invoices and disputes: a dispute freezes the money until a judge of neither party decides."""

from collections.abc import Callable

from tests.api.conftest import Caller, Json, Look, created, fields, problem
from tests.api.steps import (
    SigningService,
    accept,
    agreement_of,
    axiom_of,
    count,
    invite,
    issue,
    move,
    open_dispute,
    refer,
    resolve,
    settle,
    timeline,
)

pytest_plugins = ("tests.api.brokerage",)


def statuses(caller: Caller, agreement: Json) -> dict[str, str]:
    items = caller.get(f"/api/agreements/{agreement['id']}/invoices").json()["items"]
    return {item["id"]: item["status"] for item in items}


def test_an_invoice_is_issued_and_paid_by_either_party(referrer: Caller, referee: Caller, effective: Json) -> None:
    invoice = created(issue(referrer, effective, "1500.5"))
    assert (invoice["amount"], invoice["currency"], invoice["status"]) == ("1500.50", "TWD", "issued")
    paid = settle(referee, invoice).json()
    assert (paid["status"], paid["settled_at"] is None) == ("paid", False)
    assert statuses(referrer, effective) == {invoice["id"]: "paid"}


def test_what_is_settled_stays_settled(referrer: Caller, effective: Json) -> None:
    for status in ("paid", "written_off"):
        invoice = created(issue(referrer, effective))
        assert settle(referrer, invoice, status).status_code == 200
        for again in ("paid", "written_off"):
            axiom_of(settle(referrer, invoice, again), 409, "A12")


NO_INVOICES: list[tuple[Json, list[str]]] = [
    ({"amount": "-5", "currency": "TWD"}, ["amount"]),
    ({"amount": "0", "currency": "TWD"}, ["amount"]),
    ({"amount": "0.001", "currency": "TWD"}, ["amount"]),
    ({"amount": "NaN", "currency": "TWD"}, ["amount"]),
    ({"amount": "Infinity", "currency": "TWD"}, ["amount"]),
    ({"amount": "ten", "currency": "TWD"}, ["amount"]),
    ({"amount": "1e15", "currency": "TWD"}, []),
    ({"amount": "5", "currency": "twd"}, ["currency"]),
    ({"amount": "5", "currency": "dollars"}, ["currency"]),
    ({"amount": "5", "currency": None}, ["currency"]),
    ({"amount": "5"}, ["currency"]),
    ({"amount": "5", "currency": "TWD", "status": "paid"}, ["status"]),
]


def test_an_invoice_that_is_none_is_refused(referrer: Caller, effective: Json, look: Look) -> None:
    for body, named in NO_INVOICES:
        response = referrer.post(f"/api/agreements/{effective['id']}/invoices", json=body)
        assert fields(problem(response, 422, "invalid")) == named, body
    assert count(look, "select count(*) from agreement.invoices") == 0


def test_nothing_is_invoiced_before_the_signature(referrer: Caller, pending: Json) -> None:
    axiom_of(issue(referrer, pending), 409, "A12")


def test_only_paying_and_writing_off_are_a_partys(referrer: Caller, effective: Json) -> None:
    invoice = created(issue(referrer, effective))
    for status in ("issued", "frozen", "invalidated", "PAID"):
        assert fields(problem(settle(referrer, invoice, status), 422, "invalid")) == ["status"]


def test_opening_a_dispute_freezes(referrer: Caller, referee: Caller, effective: Json) -> None:
    paid, unpaid = (created(issue(referrer, effective)) for _ in range(2))
    assert settle(referrer, paid).status_code == 200
    dispute = open_dispute(referee, effective)
    assert (dispute["outcome"], dispute["opened_by_broker_id"]) == (None, referee.broker_id)
    assert agreement_of(referrer, effective["id"])["status"] == "disputed"
    assert statuses(referrer, effective) == {paid["id"]: "paid", unpaid["id"]: "frozen"}
    axiom_of(settle(referrer, unpaid), 409, "A12")
    axiom_of(issue(referrer, effective), 409, "A12")
    for status in ("void", "effective", "success"):
        assert move(referrer, effective, status).status_code == 409
    body = {"agreement_id": effective["id"], "reason": "Again"}
    assert referrer.post("/api/disputes", json=body).status_code == 409


def test_upholding_voids_and_invalidates_what_is_unpaid(
    referrer: Caller, referee: Caller, judge: Caller, effective: Json
) -> None:
    paid, written_off, unpaid = (created(issue(referrer, effective)) for _ in range(3))
    settle(referrer, paid)
    settle(referrer, written_off, "written_off")
    verdict = resolve(judge, open_dispute(referee, effective), "upheld").json()
    assert (verdict["outcome"], verdict["resolved_by"], verdict["note"]) == ("upheld", judge.user_id, "So it is")
    assert agreement_of(referrer, effective["id"])["status"] == "void"
    assert statuses(referrer, effective) == {
        paid["id"]: "paid",
        written_off["id"]: "written_off",
        unpaid["id"]: "invalidated",
    }
    last = timeline(referrer, effective)[-1]
    assert (last["type"], last["payload"]["outcome"]) == ("DISPUTE_RESOLVED", "upheld")


def test_dismissing_restores(referrer: Caller, referee: Caller, judge: Caller, effective: Json) -> None:
    invoice = created(issue(referrer, effective))
    dispute = open_dispute(referee, effective)
    assert resolve(judge, dispute, "dismissed").json()["outcome"] == "dismissed"
    restored = agreement_of(referrer, effective["id"])
    assert (restored["status"], restored["effective_at"]) == ("effective", effective["effective_at"])
    assert statuses(referrer, effective) == {invoice["id"]: "issued"}
    assert settle(referrer, invoice).status_code == 200
    axiom_of(resolve(judge, dispute, "upheld"), 409, "A12")
    assert open_dispute(referrer, effective)["id"] != dispute["id"]


def test_a_party_never_judges_its_own_case(referrer: Caller, referee: Caller, effective: Json, look: Look) -> None:
    dispute = open_dispute(referee, effective)
    for party in (referrer, referee):
        for outcome in ("upheld", "dismissed"):
            axiom_of(resolve(party, dispute, outcome), 403, "A12")
    assert agreement_of(referee, effective["id"])["status"] == "disputed"
    reasons = look.execute("select distinct reason from shared.audit_log where outcome = 'denied'").fetchall()
    assert reasons == [("disputes_judged_by_neither_party",)]


def test_a_judge_who_works_for_a_party_does_not_judge(
    referrer: Caller, judge: Caller, effective: Json, enrol: Callable[..., Caller]
) -> None:
    dispute = open_dispute(referrer, effective)
    members = f"/api/organizations/{referrer.broker_id}/members"
    created(referrer.post(members, json={"email": judge.email, "role": "viewer"}))
    axiom_of(resolve(judge, dispute, "upheld"), 403, "A12")
    assert agreement_of(referrer, effective["id"])["status"] == "disputed"


def test_a_party_who_is_a_platform_admin_does_not_judge(referrer: Caller, effective: Json, look: Look) -> None:
    look.execute("select shared.grant_platform_admin(%s)", [referrer.email])
    axiom_of(resolve(referrer, open_dispute(referrer, effective), "upheld"), 403, "A12")


def test_to_a_stranger_a_dispute_does_not_exist(stranger: Caller, referrer: Caller, effective: Json) -> None:
    dispute = open_dispute(referrer, effective)
    problem(resolve(stranger, dispute, "upheld"), 404, "not_found")
    assert stranger.get("/api/disputes").json()["items"] == []


def test_parties_list_their_disputes_and_a_judge_all(
    referrer: Caller, referee: Caller, judge: Caller, effective: Json
) -> None:
    dispute = open_dispute(referee, effective)
    for caller in (referrer, referee, judge):
        assert caller.get("/api/disputes").json() == {"items": [dispute], "next_cursor": None}


def test_who_complained_may_settle_and_the_other_may_not(referrer: Caller, referee: Caller, effective: Json) -> None:
    open_dispute(referee, effective)
    axiom_of(move(referrer, effective, "closed"), 409, "A12")
    assert move(referee, effective, "closed").json()["status"] == "closed"
    [dispute] = referee.get("/api/disputes").json()["items"]
    assert dispute["outcome"] == "withdrawn"


def test_no_dispute_begins_decided_or_before_the_signature(
    referrer: Caller, referee: Caller, pending: Json, signing: SigningService
) -> None:
    body = {"agreement_id": pending["id"], "reason": "Too slow"}
    axiom_of(referrer.post("/api/disputes", json=body), 409, "A8")
    assert fields(problem(referrer.post("/api/disputes", json={**body, "outcome": "upheld"}), 422, "invalid")) == [
        "outcome"
    ]
    other = accept(referee, invite(referrer, refer(referrer), referee))
    signing.report(other)
    path = f"/api/disputes/{open_dispute(referrer, other)['id']}"
    for outcome in ("withdrawn", "won", None):
        verdict = {"outcome": outcome, "note": "So it is"}
        assert fields(problem(referrer.patch(path, json=verdict), 422, "invalid")) == ["outcome"]


def test_a_repeated_invoice_with_a_key_is_issued_once(referrer: Caller, effective: Json) -> None:
    path = f"/api/agreements/{effective['id']}/invoices"
    body, headers = {"amount": "10.00", "currency": "EUR"}, {"Idempotency-Key": "invoice-1"}
    first, second = (created(referrer.post(path, json=body, headers=headers)) for _ in range(2))
    assert first == second
    assert list(statuses(referrer, effective)) == [first["id"]]
