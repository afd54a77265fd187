"""The timeline: appended to by parties, numbered and dated by the database, provable without it."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.verify import FORMAT, Link, Proof, genesis_of, verify
from tests.api.conftest import Caller, Json, Look, created, fields, problem
from tests.api.steps import accept, append, axiom_of, count, invite, move, open_dispute, refer, timeline, types

pytest_plugins = ("tests.api.brokerage",)

COMMANDS_OWN = [
    "AGREEMENT_CREATED",
    "ESIGN_REQUESTED",
    "AGREEMENT_STATUS_CHANGED",
    "PII_VIEWED",
    "CONTACT_SHREDDED",
    "DISPUTE_OPENED",
    "DISPUTE_RESOLVED",
]
GATED = ["PROPERTY_SHOWN", "OFFER_MADE", "DEAL_CLOSED"]


AGREEMENT = UUID("019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23")
ANOTHER = UUID("019a9d2c-5071-7b02-9d14-2f8a7c6e5b40")


def proof_of(caller: Caller, agreement: Json) -> bytes:
    response = caller.get(f"/api/agreements/{agreement['id']}/proof")
    assert response.status_code == 200, response.text
    return response.content


def test_a_party_appends_what_happened(referrer: Caller, referee: Caller, effective: Json) -> None:
    payload = {"address": "Xinyi 5", "price": 1.10, "rooms": [1, {"deep": None}], "名": "好"}
    event = created(append(referee, effective, "PROPERTY_SHOWN", payload=payload))
    assert event["payload"] == payload
    assert (event["seq"], event["user_id"], event["organization_id"]) == (3, referee.user_id, referee.broker_id)
    assert (event["credential_kind"], event["corrects_seq"]) == ("session", None)
    assert event["occurred_at"] == event["recorded_at"]
    assert timeline(referrer, effective)[-1] == event


def test_numbers_in_a_payload_keep_their_digits(referrer: Caller, pending: Json) -> None:
    body = b'{"type":"CLIENT_CONTACTED","payload":{"a":1.10,"b":12345678901234567890.123456789}}'
    response = referrer.post(
        f"/api/agreements/{pending['id']}/events", content=body, headers={"content-type": "application/json"}
    )
    assert b'{"a": 1.10, "b": 12345678901234567890.123456789}' in response.content


def test_number_time_actor_and_hash_are_not_the_callers(referrer: Caller, effective: Json) -> None:
    for name, value in {
        "seq": 99,
        "recorded_at": "2020-01-01T00:00:00Z",
        "user_id": referrer.user_id,
        "hash": "00" * 32,
        "id": effective["id"],
    }.items():
        response = append(referrer, effective, "CLIENT_CONTACTED", **{name: value})
        assert fields(problem(response, 422, "invalid")) == [name]
    assert len(timeline(referrer, effective)) == 2


def test_what_commands_write_a_party_does_not(referrer: Caller, effective: Json, look: Look) -> None:
    for kind in COMMANDS_OWN:
        axiom_of(append(referrer, effective, kind), 403, "A9")
    assert append(referrer, effective, "ESIGN_COMPLETED").status_code in {403, 409}
    problem(append(referrer, effective, "PARTY"), 422, "invalid")
    assert count(look, "select count(*) from agreement.timeline_events") == 2


def test_gated_events_wait_for_the_signature(referee: Caller, pending: Json) -> None:
    for kind in GATED:
        axiom_of(append(referee, pending, kind), 409, "A3")
    assert append(referee, pending, "CLIENT_CONTACTED").status_code == 201
    assert types(timeline(referee, pending)) == ["AGREEMENT_CREATED", "CLIENT_CONTACTED"]


def test_gated_events_occur_between_effectiveness_and_now(referee: Caller, effective: Json) -> None:
    effective_at = datetime.fromisoformat(effective["effective_at"])
    for kind in GATED:
        for moment in (effective_at - timedelta(microseconds=1), datetime.now(UTC) + timedelta(minutes=1)):
            axiom_of(append(referee, effective, kind, occurred_at=moment.isoformat()), 409, "A3")
    event = created(append(referee, effective, "OFFER_MADE", occurred_at=effective["effective_at"]))
    assert event["occurred_at"] == effective["effective_at"] < event["recorded_at"]


def test_other_events_may_lie_in_the_past_and_not_in_the_future(referee: Caller, pending: Json) -> None:
    past = "2026-01-02T03:04:05+08:00"
    event = created(append(referee, pending, "CLIENT_CONTACTED", occurred_at=past))
    assert event["occurred_at"] == "2026-01-01T19:04:05Z"
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    axiom_of(append(referee, pending, "CLIENT_CONTACTED", occurred_at=future), 409, "A3")
    for moment in ("2026-01-02T03:04:05", "yesterday", "infinity", 1):
        response = append(referee, pending, "CLIENT_CONTACTED", occurred_at=moment)
        assert fields(problem(response, 422, "invalid")) == ["occurred_at"]


def test_gated_events_stop_while_disputed_and_once_closed(referee: Caller, effective: Json) -> None:
    open_dispute(referee, effective)
    axiom_of(append(referee, effective, "OFFER_MADE"), 409, "A3")
    assert move(referee, effective, "closed").status_code == 200
    axiom_of(append(referee, effective, "OFFER_MADE"), 409, "A3")
    assert append(referee, effective, "CLIENT_CONTACTED").status_code == 201


def test_a_correction_cites_an_earlier_event_of_the_same_agreement(
    referrer: Caller, referee: Caller, effective: Json
) -> None:
    shown = created(append(referee, effective, "PROPERTY_SHOWN", payload={"address": "Xinyi 5"}))
    correction = created(
        append(referee, effective, "CORRECTION_ADDED", corrects_seq=shown["seq"], payload={"address": "Xinyi 6"})
    )
    assert correction["corrects_seq"] == shown["seq"]
    axiom_of(append(referee, effective, "CORRECTION_ADDED"), 409, "A4")
    axiom_of(append(referee, effective, "CORRECTION_ADDED", corrects_seq=99), 409, "A4")
    axiom_of(append(referee, effective, "CORRECTION_ADDED", corrects_seq=correction["seq"] + 1), 409, "A4")
    axiom_of(append(referee, effective, "CLIENT_CONTACTED", corrects_seq=1), 409, "A4")
    for number in (0, -1, 2**31, 2**63, "1"):
        response = append(referee, effective, "CORRECTION_ADDED", corrects_seq=number)
        assert fields(problem(response, 422, "invalid")) == ["corrects_seq"]
    other = accept(referee, invite(referrer, refer(referrer), referee))
    axiom_of(append(referee, other, "CORRECTION_ADDED", corrects_seq=shown["seq"]), 409, "A4")


def test_a_payload_is_an_object_that_postgresql_can_keep(referrer: Caller, pending: Json, look: Look) -> None:
    path, headers = f"/api/agreements/{pending['id']}/events", {"content-type": "application/json"}
    for payload in (b"[]", b"1", b"null", b'"x"', rb'{"a":"\u0000"}', rb'{"\u0000":1}'):
        body = b'{"type":"CLIENT_CONTACTED","payload":' + payload + b"}"
        problem(referrer.post(path, content=body, headers=headers), 422, "invalid")
    body = rb'{"type":"CLIENT_CONTACTED","payload":{"a":"\ud800"}}'
    problem(referrer.post(path, content=body, headers=headers), 400, "malformed")
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    body = b'{"type":"CLIENT_CONTACTED","payload":' + deep + b"}"
    assert referrer.post(path, content=body, headers=headers).status_code in {400, 422}
    assert count(look, "select count(*) from agreement.timeline_events") == 1


def test_a_megabyte_commits_and_notify_carries_an_id_only(referrer: Caller, pending: Json, look: Look) -> None:
    look.execute("listen outbox")
    text = secrets.token_hex(512 * 1024)
    event = created(append(referrer, pending, "CLIENT_CONTACTED", payload={"text": text}))
    assert event["payload"]["text"] == text
    [notice] = list(look.notifies(timeout=5, stop_after=1))
    row = look.execute("select event_id::text from shared.outbox where event_id = %s", [notice.payload]).fetchone()
    assert row == (event["id"],)
    assert UUID(notice.payload).version == 7
    assert verify(proof_of(referrer, pending)).is_intact


def test_a_repeated_append_with_a_key_happens_once(referrer: Caller, pending: Json) -> None:
    path, headers = f"/api/agreements/{pending['id']}/events", {"Idempotency-Key": "event-1"}
    first, second = (referrer.post(path, json={"type": "CLIENT_CONTACTED"}, headers=headers) for _ in range(2))
    assert (first.content, second.headers["idempotency-replayed"]) == (second.content, "true")
    problem(referrer.post(path, json={"type": "OFFER_MADE"}, headers=headers), 422, "idempotency_key_reused")
    assert len(timeline(referrer, pending)) == 2


def test_a_refused_append_keeps_its_key_free(referrer: Caller, pending: Json) -> None:
    path, headers = f"/api/agreements/{pending['id']}/events", {"Idempotency-Key": "event-2"}
    axiom_of(referrer.post(path, json={"type": "OFFER_MADE"}, headers=headers), 409, "A3")
    created(referrer.post(path, json={"type": "CLIENT_CONTACTED"}, headers=headers))


def test_a_timeline_is_listed_page_by_page(referrer: Caller, pending: Json) -> None:
    for _ in range(4):
        append(referrer, pending, "CLIENT_CONTACTED")
    seen: list[int] = []
    params: dict[str, str] = {"limit": "2"}
    while True:
        page = referrer.get(f"/api/agreements/{pending['id']}/events", params=params).json()
        seen += [item["seq"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == [1, 2, 3, 4, 5]


def test_the_feed_lists_the_events_of_the_callers_agreements_only(
    referrer: Caller, referee: Caller, stranger: Caller, pending: Json
) -> None:
    others = accept(stranger, invite(referrer, refer(referrer), stranger))
    append(stranger, others, "CLIENT_CONTACTED")
    feeds = [caller.get("/api/events").json()["items"] for caller in (referrer, referee)]
    assert [[item["agreement_id"] for item in feed] for feed in feeds] == [
        [pending["id"], others["id"], others["id"]],
        [pending["id"]],
    ]
    assert stranger.get("/api/events").json()["items"] == timeline(stranger, others)
    first = referrer.get("/api/events", params={"limit": "1"}).json()
    rest = referrer.get("/api/events", params={"cursor": first["next_cursor"]}).json()
    assert [item["agreement_id"] for item in rest["items"]] == [others["id"], others["id"]]


def test_an_export_verifies_without_the_service(referrer: Caller, referee: Caller, effective: Json) -> None:
    append(referee, effective, "OFFER_MADE", payload={"名": "好", "price": 1.10})
    exported = proof_of(referrer, effective)
    assert exported == proof_of(referee, effective)
    document = msgspec.json.decode(exported)
    assert list(document) == ["format", "agreement_id", "genesis", "events", "head"]
    assert (document["format"], document["agreement_id"]) == ("brokerflow-timeline-v1", effective["id"])
    previous = hashlib.sha256(f"brokerflow timeline {effective['id']}".encode()).digest()
    assert document["genesis"] == previous.hex()
    for number, event in enumerate(document["events"], start=1):
        previous = hashlib.sha256(previous + event["body"].encode()).digest()
        assert (event["seq"], event["hash"]) == (number, previous.hex())
    assert document["head"] == previous.hex()
    bodies = [msgspec.json.decode(event["body"]) for event in document["events"]]
    listed = timeline(referrer, effective)
    assert [(body["id"], body["payload"]) for body in bodies] == [(each["id"], each["payload"]) for each in listed]
    result = verify(exported, head=document["head"])
    assert (result.is_intact, result.events, result.agreement_id) == (True, 3, UUID(effective["id"]))
    assert verify(exported + b"\n").is_intact


def test_a_later_export_continues_an_earlier_one(referrer: Caller, effective: Json) -> None:
    before = msgspec.json.decode(proof_of(referrer, effective))
    append(referrer, effective, "CLIENT_CONTACTED")
    later = proof_of(referrer, effective)
    assert msgspec.json.decode(later)["events"][: len(before["events"])] == before["events"]
    finding = verify(later, head=before["head"]).finding
    assert finding is not None
    assert "head that was kept" in finding.message


def chain(*payloads: Any, agreement_id: UUID = AGREEMENT) -> Proof:
    """Make a proof as the service does."""
    previous, links = genesis_of(agreement_id), []
    for seq, payload in enumerate(payloads, start=1):
        body = {"agreement_id": str(agreement_id), "seq": seq, "recorded_at": f"2026-11-22T10:00:{seq:02}.000000Z"}
        text = msgspec.json.encode({**body, "payload": payload}).decode()
        previous = hashlib.sha256(previous + text.encode()).digest()
        links.append(Link(seq, text, previous.hex()))
    return Proof(FORMAT, agreement_id, genesis_of(agreement_id).hex(), links, previous.hex())


def rehashed(proof: Proof, bodies: list[str], seqs: list[int] | None = None) -> bytes:
    """Write a chain anew whose hashes fit, as a forger would."""
    previous, links = genesis_of(proof.agreement_id), []
    for seq, body in zip(seqs or range(1, len(bodies) + 1), bodies, strict=True):
        previous = hashlib.sha256(previous + body.encode()).digest()
        links.append(Link(seq, body, previous.hex()))
    return msgspec.json.encode(msgspec.structs.replace(proof, events=links, head=previous.hex()))


WHOLE = msgspec.json.encode(chain({"名": 'quoted "好" \\ \n'}, {"b": [1.5, None, True]}, {}))


def test_every_flipped_bit_of_an_export_is_found() -> None:
    assert verify(WHOLE).is_intact
    for place in range(len(WHOLE)):
        for bit in range(8):
            altered = bytearray(WHOLE)
            altered[place] ^= 1 << bit
            assert not verify(bytes(altered)).is_intact, (place, bit)


@settings(max_examples=300)
@given(data=st.data())
def test_whatever_is_cut_inserted_or_replaced_is_found(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(WHOLE)))
    end = data.draw(st.integers(start, len(WHOLE)))
    altered = WHOLE[:start] + data.draw(st.binary(max_size=20)) + WHOLE[end:]
    assert verify(altered).is_intact == (altered.removesuffix(b"\n") == WHOLE)


@given(payloads=st.lists(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)))
@settings(max_examples=50)
def test_every_chain_that_is_whole_verifies(payloads: list[Any]) -> None:
    assert verify(msgspec.json.encode(chain(*payloads))).is_intact


def test_a_finding_says_which_event_and_what() -> None:
    whole = chain({}, {}, {})
    bodies = [link.body for link in whole.events]
    other = chain({}, agreement_id=ANOTHER).events[0].body
    changed = msgspec.structs.replace(whole.events[1], body=bodies[1].replace("{}", '{"a":1}'))
    first, _, third = whole.events
    for forged, finding in (
        (msgspec.json.encode(msgspec.structs.replace(whole, events=[first, changed, third])), "event 2: its hash"),
        (msgspec.json.encode(msgspec.structs.replace(whole, events=[first, third])), "event 3: stands where event 2"),
        (msgspec.json.encode(msgspec.structs.replace(whole, events=[first])), "the head is not"),
        (msgspec.json.encode(msgspec.structs.replace(whole, head="00" * 32)), "the head is not"),
        (msgspec.json.encode(msgspec.structs.replace(whole, format="v2")), "the format is 'v2'"),
        (msgspec.json.encode(msgspec.structs.replace(whole, genesis="00" * 32)), "the genesis is not"),
        (rehashed(whole, [bodies[0], bodies[2]]), "event 2: its body is of event 3"),
        (rehashed(whole, [bodies[0], bodies[0]], [1, 2]), "event 2: its body is of event 1"),
        (rehashed(whole, [other]), "event 1: its body is of agreement"),
        (rehashed(whole, ["{}"]), "event 1: its body is not an event's"),
        (rehashed(whole, [bodies[0], bodies[1].replace(":02.", ":00.")]), "event 2: it was recorded before"),
        (rehashed(whole, [bodies[0].replace("00Z", "00")]), "event 1: it was recorded"),
        (msgspec.json.format(msgspec.json.encode(whole)), "the document is not encoded"),
        (b" " + msgspec.json.encode(whole), "the document is not encoded"),
        (b"{}", "this is no exported timeline"),
        (b"", "this is no exported timeline"),
        (b"[" * 100_000, "this is no exported timeline"),
        (b"\xff\xfe", "this is no exported timeline"),
    ):
        assert str(verify(forged).finding).startswith(finding), (finding, verify(forged))


@pytest.mark.parametrize("head", ["00" * 32, "", "zz"])
def test_a_forger_who_recomputes_every_hash_is_found_by_a_head_that_was_kept(head: str) -> None:
    whole = chain({}, {})
    forged = rehashed(whole, [whole.events[0].body])
    assert verify(forged).is_intact
    assert not verify(forged, head=whole.head).is_intact
    assert not verify(forged, head=head).is_intact
    assert verify(msgspec.json.encode(whole), head=f" {whole.head.upper()}\n").is_intact
