"""Many at once: one agreement, whoever asks how often, and no number twice or missing."""

import httpx
import msgspec

from app.verify import verify
from tests.api.conftest import Caller, Json, Look, at_once, bearer, broker
from tests.api.steps import accept, append, axiom_of, count, invite, refer, reply, timeline

pytest_plugins = ("tests.api.brokerage",)

MANY = 50


def one_of_each(look: Look) -> None:
    """Check that exactly one agreement came of it, with one event and one message."""
    assert count(look, "select count(*) from agreement.agreements") == 1
    assert count(look, "select count(*) from agreement.timeline_events where type = 'AGREEMENT_CREATED'") == 1
    assert count(look, "select count(*) from shared.outbox") == 1
    assert count(look, "select count(*) from agreement.matches where state = 'accepted'") == 1


def test_fifty_acceptances_of_one_candidate_make_one_agreement(referee: Caller, invitation: Json, look: Look) -> None:
    answers = at_once([lambda: reply(referee, invitation, "accepted")] * MANY)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["agreement"]["id"] for answer in answers}) == 1
    one_of_each(look)


def test_fifty_candidates_who_accept_at_once_make_one_agreement(
    client: httpx.Client, referrer: Caller, look: Look
) -> None:
    agents = broker(client, "east", agents=MANY).agents
    referral = refer(referrer)
    people = [client.get("/api/me", headers=bearer(agent)).json() for agent in agents]
    path = f"/api/referrals/{referral['id']}/matches"
    invitations = [referrer.post(path, json={"candidate_user_id": person["id"]}).json() for person in people]
    calls = [
        lambda agent=agent, invitation=invitation: reply(client, invitation, "accepted", headers=bearer(agent))
        for agent, invitation in zip(agents, invitations, strict=True)
    ]
    answers = at_once(calls)
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (MANY - 1)
    for answer in answers:
        if answer.status_code == 409:
            axiom_of(answer, 409, "A1")
    one_of_each(look)


def test_two_hundred_appends_at_once_number_without_a_gap_and_prove(
    referrer: Caller, referee: Caller, pending: Json, look: Look
) -> None:
    calls = [
        lambda number=number: append(
            referrer if number % 2 else referee, pending, "CLIENT_CONTACTED", payload={"number": number}
        )
        for number in range(200)
    ]
    answers = at_once(calls)
    assert {answer.status_code for answer in answers} == {201}
    seqs = look.execute("select seq from agreement.timeline_events order by seq").fetchall()
    assert [seq for (seq,) in seqs] == list(range(1, 202))
    assert sorted(answer.json()["seq"] for answer in answers) == list(range(2, 202))
    proof = referee.get(f"/api/agreements/{pending['id']}/proof")
    verification = verify(proof.content)
    assert (verification.is_intact, verification.events) == (True, 201)
    assert count(look, "select count(*) from shared.outbox") == 201


def test_one_key_at_once_appends_one_event(referrer: Caller, pending: Json) -> None:
    path, headers = f"/api/agreements/{pending['id']}/events", {"Idempotency-Key": "once"}
    call = lambda: referrer.post(path, json={"type": "CLIENT_CONTACTED"}, headers=headers)  # noqa: E731
    answers = at_once([call] * 20)
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_in_flight"}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert len(timeline(referrer, pending)) == 2


def test_appends_to_different_agreements_do_not_wait_for_each_other(
    referrer: Caller, referee: Caller, look: Look
) -> None:
    agreements = [accept(referee, invite(referrer, refer(referrer), referee)) for _ in range(5)]
    calls = [
        lambda agreement=agreement: append(referee, agreement, "CLIENT_CONTACTED")
        for agreement in agreements
        for _ in range(10)
    ]
    assert {answer.status_code for answer in at_once(calls)} == {201}
    for agreement in agreements:
        proof = referrer.get(f"/api/agreements/{agreement['id']}/proof").content
        assert verify(proof).is_intact
        assert [event["seq"] for event in msgspec.json.decode(proof)["events"]] == list(range(1, 12))
