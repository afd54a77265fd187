"""What actors do: each deed turns a decision into a request over HTTP or over SQL, and tells the board what came of it.

A deed that finds nothing to be about is not done, and returns None.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import httpx
import msgspec

from app.shared import tokens
from app.shared.tokens import Prefix
from app.signing import Signer
from app.stress.actors import Actor
from app.stress.board import Thing
from app.stress.log import Decision
from app.stress.ways import Answer, Call, Statement, statement

Deed = Callable[[Actor, Decision], Awaitable[Answer | None]]

KINDS_OF_EVENT = ("CLIENT_CONTACTED", "PROPERTY_SHOWN", "OFFER_MADE", "DEAL_CLOSED")
LISTENING = 0.5  # seconds that a follower listens at a time
REFERRAL = {
    "region": ["Lakeside"], "price_min": "350000.00", "price_max": "520000.00", "deal_type": "purchase",
    "languages": ["en"], "sla_hours": 48,
}  # fmt: skip


async def refer(actor: Actor, decision: Decision) -> Answer | None:
    """Open a referral, mostly with its client's contact; astray with its prices the wrong way round."""
    body: dict[str, Any] = {**REFERRAL, "property_type": decision.mark}
    if decision.astray:
        body["price_min"] = "900000.00"
    if has_contact := decision.over == "http" and decision.chance % 5 > 0:
        body["client"] = _contact(decision.mark)
    call = Call("POST", "/api/referrals", body)
    answer = await actor.do(decision, "referrals", decision.mark, call, statement("refer", mark=decision.mark))
    if answer.is_committed:
        actor.board.add("referral", answer.body["id"], "open", mark=decision.mark if has_contact else None)
    return answer


def _contact(mark: str) -> dict[str, str]:
    return {"name": f"Client of {mark}", "email": "client@client.example", "phone": "+1 555 0100"}


async def invite(actor: Actor, decision: Decision) -> Answer | None:
    """Invite one of the candidates."""
    if (referral := actor.board.pick("referral", decision, "open")) is None:
        return None
    candidate = actor.scene.accepters[decision.chance % len(actor.scene.accepters)]
    answer = await actor.do(
        decision,
        "invitations",
        f"{referral.id} {candidate}",
        Call("POST", f"/api/referrals/{referral.id}/matches", {"candidate_user_id": candidate}),
        statement("invite", referral_id=referral.id, candidate_user_id=candidate),
    )
    if answer.is_committed:
        actor.board.add("match", answer.body["id"], "invited", referral=referral, candidate=candidate)
    return answer


async def draft(actor: Actor, decision: Decision) -> Answer | None:
    """Draft an agreement without an invitation."""
    if (referral := actor.board.pick("referral", decision, "open")) is None:
        return None
    # Of four decimals, so that the rate is a mark: the actor's number before the point, the decision's behind it.
    rate, to = Decimal(f"{actor.index}.{decision.number % 10000:04}"), actor.scene.brokers["south"]
    body = {"referral_id": referral.id, "to_broker_id": to, "fee_rate": str(rate), "protect_days": 90}
    answer = await actor.do(
        decision,
        "drafts",
        f"{rate.normalize():f}",
        Call("POST", "/api/agreements", body),
        statement("draft", referral_id=referral.id, to_broker_id=to, fee_rate=rate),
    )
    if answer.is_committed:
        actor.board.add("agreement", answer.body["id"], "draft", referral=referral)
    return answer


async def send(actor: Actor, decision: Decision) -> Answer | None:
    """Send a draft to be signed."""
    return await _move(actor, decision, actor.board.pick("agreement", decision, "draft"), "pending_signature")


async def move(actor: Actor, decision: Decision) -> Answer | None:
    """Move an agreement on, by a party's word."""
    status = ("success", "void", "closed", "success")[decision.chance % 4]
    return await _move(actor, decision, actor.board.pick("agreement", decision, "effective", "success"), status)


async def _move(actor: Actor, decision: Decision, agreement: Thing | None, status: str) -> Answer | None:
    if agreement is None:
        return None
    if decision.over == "sql":
        answer = await actor.ask_sql(actor.person.credential, statement("move", id=agreement.id, status=status))
    else:
        call = Call("PATCH", f"/api/agreements/{agreement.id}", {"status": status})
        answer = await actor.ask_http(call, decision.mark if decision.keyed else None)
    if answer.is_committed:
        agreement.state = status
        mark = f"{agreement.id} {answer.body['version']} {status}"
        actor.scene.ledger.open("moves", mark, actor.name).close(answer)
    return answer


async def accept(actor: Actor, decision: Decision) -> Answer | None:
    """Accept an invitation; astray, also another's or one that was answered."""
    return await _answer(actor, decision, "accepted")


async def decline(actor: Actor, decision: Decision) -> Answer | None:
    """Decline an invitation."""
    return await _answer(actor, decision, "declined")


async def _answer(actor: Actor, decision: Decision, state: str) -> Answer | None:
    mine = actor.person.id
    match = actor.board.pick("match", decision, "invited", where=lambda each: each.about["candidate"] == mine)
    if match is None:
        return None
    referral: Thing = match.about["referral"]
    more = [statement("agreement_of", match_id=match.id)] if state == "accepted" else []
    answer = await actor.do(
        decision,
        "answers",
        f"{match.id} {state}",
        Call("PATCH", f"/api/referrals/{referral.id}/matches/{match.id}", {"state": state}),
        statement("answer", id=match.id, state=state),
        *more,
    )
    if answer.is_committed:
        match.state = state
        if state == "accepted":
            referral.state = "matched"
            made = answer.body.get("agreement_id") or answer.body["agreement"]["id"]
            actor.board.add("agreement", made, "pending_signature", referral=referral)
    return _leaving(match, decision, answer)


def _leaving(thing: Thing, decision: Decision, answer: Answer) -> Answer:
    """Leave a thing alone that refused what its turn was."""
    if answer.verdict == "refused" and not decision.astray:
        thing.state = "left"
    return answer


async def sign(actor: Actor, decision: Decision) -> Answer | None:
    """Report a signature, at times once more; astray, of any agreement."""
    if (agreement := actor.board.pick("agreement", decision, "pending_signature")) is None:
        return None
    envelope = agreement.about.get("envelope") if decision.chance % 3 == 0 else None
    envelope = envelope or decision.mark
    entry = actor.scene.ledger.open("signatures", envelope, actor.name)
    if decision.over == "sql":
        said = statement("sign", agreement_id=agreement.id, envelope_id=envelope)
        answer = await actor.ask_sql(actor.scene.esign, said)
    else:
        answer = await actor.ask_http(_report(actor.scene.signer, agreement, envelope), token=None, again=True)
    entry.close(answer)
    if answer.is_committed and answer.body["status"] == "effective":
        agreement.state, agreement.about["envelope"] = "effective", envelope
        agreement.about["referral"].state = "signed"
    return _leaving(agreement, decision, answer)


def _report(signer: Signer, agreement: Thing, envelope: str) -> Call:
    signed_at = datetime.now(UTC) - timedelta(seconds=1)
    body = msgspec.json.encode({"agreement_id": agreement.id, "signed_at": signed_at, "envelope_id": envelope})
    headers = signer.headers(f"message of {envelope}", int(time.time()), body)
    return Call("POST", "/webhooks/esign", headers=headers, content=body)


async def read(actor: Actor, decision: Decision) -> Answer | None:
    """Read the client's contact, which must be the referral's own."""
    if (agreement := actor.board.pick("agreement", decision, "effective")) is None:
        return None
    entry = actor.scene.ledger.open("reads", decision.mark, actor.name)
    if decision.over == "sql":
        answer = await _read_over_sql(actor, decision, agreement)
    else:
        answer = await actor.ask_http(
            Call("POST", f"/api/agreements/{agreement.id}/contact-reads", {"purpose": decision.mark})
        )
        expected = f"Client of {agreement.about['referral'].about['mark']}"
        if answer.is_committed and answer.body["name"] != expected:
            actor.scene.lies.append(f"the contact of agreement {agreement.id} is not its referral's")
    entry.close(answer)
    return answer


async def _read_over_sql(actor: Actor, decision: Decision, agreement: Thing) -> Answer:
    credential = actor.person.credential
    said = statement("grant_read", agreement_id=agreement.id, purpose=decision.mark)
    granted = await actor.ask_sql(credential, said)
    if not granted.is_committed:
        return granted
    consumed = await actor.ask_sql(credential, statement("consume_read", id=granted.body["id"]))
    return msgspec.structs.replace(consumed, body=granted.body)


async def append(actor: Actor, decision: Decision) -> Answer | None:
    """Append an event; astray, of the future or under an agreement that is not effective."""
    if (agreement := actor.board.pick("agreement", decision, "effective", "success")) is None:
        return None
    body: dict[str, Any] = {"type": KINDS_OF_EVENT[decision.chance % 4], "payload": {"mark": decision.mark}}
    if decision.astray and decision.chance % 3 == 0:
        body["occurred_at"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    return await _append(actor, decision, agreement, body)


async def correct(actor: Actor, decision: Decision) -> Answer | None:
    """Correct an event; astray, one that is not there."""
    if (agreement := actor.board.pick("agreement", decision, "effective", "success")) is None:
        return None
    seq = 100_000 if decision.astray else 1
    body = {"type": "CORRECTION_ADDED", "payload": {"mark": decision.mark}, "corrects_seq": seq}
    return await _append(actor, decision, agreement, body)


async def _append(actor: Actor, decision: Decision, agreement: Thing, body: dict[str, Any]) -> Answer:
    call = Call("POST", f"/api/agreements/{agreement.id}/events", body)
    said = statement("append", agreement_id=agreement.id, **body)
    return await actor.do(decision, "events", decision.mark, call, said)


async def dispute(actor: Actor, decision: Decision) -> Answer | None:
    """Open a dispute."""
    if (agreement := actor.board.pick("agreement", decision, "effective")) is None:
        return None
    answer = await actor.do(
        decision,
        "disputes",
        decision.mark,
        Call("POST", "/api/disputes", {"agreement_id": agreement.id, "reason": decision.mark}),
        statement("dispute", agreement_id=agreement.id, reason=decision.mark),
    )
    if answer.is_committed:
        agreement.state = "disputed"
        actor.board.add("dispute", answer.body["id"], "open", agreement=agreement)
    return answer


async def judge(actor: Actor, decision: Decision) -> Answer | None:
    """Decide a dispute, mostly to dismiss it; astray, also one that is decided."""
    if (case := actor.board.pick("dispute", decision, "open")) is None:
        return None
    outcome = "upheld" if decision.chance % 4 == 0 else "dismissed"
    answer = await actor.do(
        decision,
        "verdicts",
        decision.mark,
        Call("PATCH", f"/api/disputes/{case.id}", {"outcome": outcome, "note": decision.mark}),
        statement("judge", id=case.id, outcome=outcome, note=decision.mark),
    )
    if answer.is_committed:
        case.state = outcome
        case.about["agreement"].state = "void" if outcome == "upheld" else "effective"
    return _leaving(case, decision, answer)


async def invoice(actor: Actor, decision: Decision) -> Answer | None:
    """Issue an invoice; its amount is its mark."""
    if (agreement := actor.board.pick("agreement", decision, "effective", "success")) is None:
        return None
    amount = f"{actor.index * 1_000_000 + decision.number}.00"
    answer = await actor.do(
        decision,
        "invoices",
        amount,
        Call("POST", f"/api/agreements/{agreement.id}/invoices", {"amount": amount, "currency": "USD"}),
        statement("invoice", agreement_id=agreement.id, amount=amount),
    )
    if answer.is_committed:
        actor.board.add("invoice", answer.body["id"], "issued")
    return answer


async def settle(actor: Actor, decision: Decision) -> Answer | None:
    """Pay an invoice, or write it off; astray, also one that is settled."""
    if (owed := actor.board.pick("invoice", decision, "issued")) is None:
        return None
    status = "paid" if decision.chance % 2 else "written_off"
    answer = await actor.do(
        decision,
        "settlements",
        f"{owed.id} {status}",
        Call("PATCH", f"/api/invoices/{owed.id}", {"status": status}),
        statement("settle", id=owed.id, status=status),
    )
    if answer.is_committed:
        owed.state = status
    return _leaving(owed, decision, answer)


async def cancel(actor: Actor, decision: Decision) -> Answer | None:
    """Cancel a referral; astray, also one that is signed."""
    if (referral := actor.board.pick("referral", decision, "open", "matched")) is None:
        return None
    answer = await actor.do(
        decision,
        "cancellations",
        decision.mark,
        Call("POST", f"/api/referrals/{referral.id}/cancel", {"reason": decision.mark}),
        statement("cancel", id=referral.id, reason=decision.mark),
    )
    if answer.is_committed:
        referral.state = "cancelled"
    return _leaving(referral, decision, answer)


async def repeat(actor: Actor, decision: Decision) -> Answer | None:
    """Append an event by three requests at once under one Idempotency-Key, and by one more when they are answered."""
    if (agreement := actor.board.pick("agreement", decision, "effective", "success")) is None:
        return None
    once = msgspec.structs.replace(decision, over="http", keyed=True)
    body = {"type": "CLIENT_CONTACTED", "payload": {"mark": decision.mark}}
    together = await asyncio.gather(*(_append(actor, once, agreement, body) for _ in range(3)))
    last = await _append(actor, once, agreement, body)
    told = {str(each.body["id"]) for each in (*together, last) if each.is_committed}
    if len(told) > 1:
        actor.scene.lies.append(f"one Idempotency-Key, {decision.mark}, made {len(told)} events")
    return last


async def reuse(actor: Actor, decision: Decision) -> Answer | None:
    """Use an Idempotency-Key once more, for another request: that must be refused."""
    if (agreement := actor.board.pick("agreement", decision, "effective", "success")) is None:
        return None
    once = msgspec.structs.replace(decision, over="http", keyed=True)
    first = await _append(actor, once, agreement, {"type": "CLIENT_CONTACTED", "payload": {"mark": decision.mark}})
    if not first.is_committed:
        return first
    other = {"type": "CLIENT_CONTACTED", "payload": {"mark": decision.mark, "other": True}}
    second = await _append(actor, once, agreement, other)
    if second.is_committed:
        actor.scene.lies.append(f"one Idempotency-Key, {decision.mark}, served two requests")
    return second


async def put(actor: Actor, decision: Decision) -> Answer | None:
    """Put a secret under a key of its own; astray, as if there were versions of it."""
    body = {"value": {"mark": decision.mark}, "expected_version": 7 if decision.astray else 0}
    call = Call("PUT", f"/api/secrets/{decision.mark}", body)
    answer = await actor.do(decision, "secrets", decision.mark, call, None)
    if answer.is_committed:
        actor.board.add(f"secret of {actor.name}", decision.mark, "there")
    return answer


async def get(actor: Actor, decision: Decision) -> Answer | None:
    """Read a secret back, as it was put."""
    if (secret := actor.board.pick(f"secret of {actor.name}", decision, "there")) is None:
        return None
    answer = await actor.ask_http(Call("GET", f"/api/secrets/{secret.id}"))
    if answer.is_committed and answer.body["value"] != {"mark": secret.id}:
        actor.scene.lies.append(f"the secret {secret.id} is another than was put")
    return answer


async def vote(actor: Actor, decision: Decision) -> Answer | None:
    """Vote for an API; astray, for one whose name is none."""
    name = decision.mark.replace("/", ":")
    name = f"-{name}" if decision.astray else name
    return await actor.do(
        decision, "votes", name, Call("PUT", f"/api/votes/{name}"), statement("vote", api_identifier=name)
    )


async def follow(actor: Actor, decision: Decision) -> Answer | None:
    """Listen to the stream of events for a moment, from where one was."""
    del decision
    headers = {"Authorization": f"Bearer {actor.person.token}", "Last-Event-ID": actor.newest}
    answer = Answer("committed")
    try:
        async with actor.scene.http.client.stream("GET", "/api/events/stream", headers=headers) as response:
            if response.is_success:
                with suppress(TimeoutError):
                    await asyncio.wait_for(_listen(actor, response), LISTENING)
            else:
                answer = Answer("unknown" if response.is_server_error else "refused", str(response.status_code))
    except httpx.TransportError as error:
        answer = Answer("unknown", type(error).__name__)
    return actor.count(answer)


async def _listen(actor: Actor, response: httpx.Response) -> None:
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            actor.seen.add(value)
            actor.newest = max(actor.newest, value)


async def page(actor: Actor, decision: Decision) -> Answer | None:
    """List events; astray, by a cursor that nobody made."""
    path = "/api/events?cursor=bm9ib2R5" if decision.astray else "/api/events?limit=100"
    return await actor.ask_http(Call("GET", path))


async def trespass(actor: Actor, decision: Decision) -> Answer | None:
    """Try what only a party may."""
    if (agreement := actor.board.pick("agreement", msgspec.structs.replace(decision, astray=True))) is None:
        return None
    kind, call, said = _TRESPASSES[decision.chance % len(_TRESPASSES)](agreement.id, decision.mark)
    answer = await actor.do(decision, kind, decision.mark, call, said)
    if answer.is_committed:
        actor.scene.lies.append(f"{actor.name} was let through: {call.method} {call.path}, over {decision.over}")
    return answer


Trespass = Callable[[str, str], tuple[str, Call, Statement | None]]
_TRESPASSES: Final[tuple[Trespass, ...]] = (
    lambda id_, _: ("looks", Call("GET", f"/api/agreements/{id_}"), statement("look_at", agreement_id=id_)),
    lambda id_, _: ("looks", Call("GET", f"/api/agreements/{id_}/proof"), None),
    lambda id_, _: (
        "trespasses",
        Call("PATCH", f"/api/agreements/{id_}", {"status": "void"}),
        statement("move", id=id_, status="void"),
    ),
    lambda id_, mark: (
        "events",
        Call("POST", f"/api/agreements/{id_}/events", {"type": "CLIENT_CONTACTED", "payload": {"mark": mark}}),
        statement("append", agreement_id=id_, type="CLIENT_CONTACTED", payload={"mark": mark}),
    ),
    lambda id_, mark: (
        "reads",
        Call("POST", f"/api/agreements/{id_}/contact-reads", {"purpose": mark}),
        statement("grant_read", agreement_id=id_, purpose=mark),
    ),
    lambda id_, mark: (
        "disputes",
        Call("POST", "/api/disputes", {"agreement_id": id_, "reason": mark}),
        statement("dispute", agreement_id=id_, reason=mark),
    ),
    lambda id_, _: (
        "trespasses",
        Call("POST", f"/api/agreements/{id_}/invoices", {"amount": "0.01", "currency": "USD"}),
        statement("invoice", agreement_id=id_, amount="0.01"),
    ),
)


async def forge(actor: Actor, decision: Decision) -> Answer | None:
    """Pretend to be somebody: by a made-up token, a webhook with another's signature, or a seal in one's own hand."""
    if (agreement := actor.board.pick("agreement", msgspec.structs.replace(decision, astray=True))) is None:
        return None
    if decision.over == "sql":
        answer = await _forge_seal(actor, decision, agreement)
    else:
        answer = await _forge_request(actor, decision, agreement)
    if answer.is_committed:
        actor.scene.lies.append(f"{actor.name} was believed, over {decision.over}: {decision.mark}")
    return answer


async def _forge_request(actor: Actor, decision: Decision, agreement: Thing) -> Answer:
    if decision.chance % 2:
        entry = actor.scene.ledger.open("signatures", decision.mark, actor.name)
        call = _report(Signer(decision.mark.encode()), agreement, decision.mark)
        answer = await actor.ask_http(call, token=None)
    else:
        entry = actor.scene.ledger.open("referrals", decision.mark, actor.name)
        call = Call("POST", "/api/referrals", {**REFERRAL, "property_type": decision.mark})
        answer = await actor.ask_http(call, token=tokens.mint(Prefix.SESSION))
    entry.close(answer)
    return answer


async def _forge_seal(actor: Actor, decision: Decision, agreement: Thing) -> Answer:
    """Write down an actor: one made up, or the seal that an entrance made for another transaction."""
    seal = "0" * 100 + "(session,,,,,owner,,t)"
    if decision.chance % 2:
        stolen = await actor.sql.run(actor.person.credential, statement("seal"))
        seal = stolen.body.get("seal", seal)
    payload = {"mark": decision.mark}
    said = statement("append", agreement_id=agreement.id, type="CLIENT_CONTACTED", payload=payload)
    entry = actor.scene.ledger.open("events", decision.mark, actor.name)
    answer = await actor.ask_sql(None, statement("forge", seal=seal), said)
    entry.close(answer)
    return answer


DEEDS: Final[Mapping[str, Deed]] = {
    deed.__name__: deed
    for deed in (
        refer, invite, draft, send, accept, decline, sign, read, append, correct, dispute, judge, invoice, settle,
        cancel, move, repeat, reuse, put, get, vote, follow, page, trespass, forge,
    )
}  # fmt: skip
