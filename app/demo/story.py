"""The story: a client goes from one broker to another, and whoever breaks a rule on the way is refused.

Every deed has an Idempotency-Key of its own, so that a second telling finds the first one's answers. What is refused
changes nothing; where a later telling might succeed, the agreement's status is asked before.
"""

import asyncio
import time
from datetime import datetime, timedelta

import httpx
import msgspec

from app.demo.people import PARTS, address, log_in, register, told
from app.demo.service import DemoError, appointed, password
from app.demo.stage import Call, Json, Stage
from app.signing import Signer

CONTACT = {"name": "Nora Client", "email": "nora@client.example", "phone": "+1 555 0100"}
REFERRAL = {
    "region": ["Lakeside", "Old Harbour"],
    "price_min": "350000.00",
    "price_max": "520000.00",
    "property_type": "house",
    "deal_type": "purchase",
    "languages": ["en", "pt"],
    "sla_hours": 48,
}


async def play(stage: Stage, signer: Signer | None, owner_url: str | None) -> None:
    """Play the whole story, or as much of it as this machine has the secrets for."""
    await introduce(stage)
    await refer(stage)
    await race(stage)
    await wait_for_signature(stage)
    if await sign(stage, signer):
        await work(stage)
        await quarrel(stage, owner_url)
        await forget(stage)


async def introduce(stage: Stage) -> None:
    """Let everybody register and log in, and two of them make their organizations brokers."""
    stage.tell.chapter("1. Two brokers, three people, and somebody who will judge")
    for part in PARTS.values():
        email = address(part, stage.namespace)
        secret = password(stage.settings, email)
        is_new = await register(stage.client, part, email, secret)
        stage.people[part.name] = await log_in(stage.client, part, email, secret)
        stage.tell.done(f"{part.name} registers as {email}", was_there=not is_new)
    await _refuse_outsiders(stage)
    await _found_broker(stage, "Alma", "Alder Realty", "12-3456789")
    organization = await _found_broker(stage, "Bruno", "Bayside Homes", "98-7654321")
    agent = {"email": stage.people["Carla"].email, "role": "agent"}
    call = Call("Bruno", "POST", f"/api/organizations/{organization['id']}/members", agent)
    await stage.do("Bruno takes Carla on as an agent", call, "member")


async def _refuse_outsiders(stage: Stage) -> None:
    body = {"email": "eve@example.com", "password": "correct horse", "full_name": "Eve", "role": "owner"}
    stage.expect_refusal("Eve registers as an owner", await stage.client.post("/auth/register", json=body))
    body = {"email": stage.people["Alma"].email, "password": "a guess"}
    stage.expect_refusal("Eve guesses Alma's password", await stage.client.post("/auth/login", json=body))


async def _found_broker(stage: Stage, who: str, name: str, fein: str) -> Json:
    founded = {"title": name, "slug": f"{stage.namespace}-{name.partition(' ')[0].lower()}"}
    call = Call(who, "POST", "/api/organizations", founded)
    organization: Json = await stage.do(f"{who} founds {name}", call, "organization")
    call = Call(who, "PUT", f"/api/organizations/{organization['id']}/brokerage", {"name": name, "fein": fein})
    await stage.do(f"{name} becomes a broker", call, "brokerage")
    return organization


async def refer(stage: Stage) -> None:
    """Let Alma offer a client, and invite two agents of the other broker."""
    stage.tell.chapter("2. A client is referred")
    call = Call("Alma", "POST", "/api/referrals", {**REFERRAL, "price_max": "1.00"})
    await stage.refused("Alma asks for a maximum below the minimum", call)
    call = Call("Alma", "POST", "/api/referrals", {**REFERRAL, "client": CONTACT})
    stage.referral = await stage.do("Alma refers a client, whose contact is sealed", call, "referral")
    path = f"/api/referrals/{stage.referral['id']}"
    await stage.refused("Bruno opens Alma's referral by its id", Call("Bruno", "GET", path))
    for who in ("Bruno", "Carla"):
        call = Call("Alma", "POST", f"{path}/matches", {"candidate_user_id": stage.people[who].id})
        stage.matches[who] = await stage.do(f"Alma invites {who}", call, f"invite-{who}")
    await stage.refused("Alma accepts in Bruno's name", _accepting("Alma", stage.match("Bruno")))


def _accepting(who: str, match: str) -> Call:
    return Call(who, "PATCH", match, {"state": "accepted"})


async def race(stage: Stage) -> None:
    """Let both candidates accept at the same moment; the database lets one of them win."""
    stage.tell.chapter("3. Bruno and Carla accept at the same moment")
    names = ("Bruno", "Carla")
    sent = [stage.send(_accepting(who, stage.match(who)), key=stage.key("accept")) for who in names]
    outcomes = dict(zip(names, await asyncio.gather(*sent), strict=True))
    winners = [who for who in names if outcomes[who].is_success]
    if len(winners) != 1:
        raise DemoError(f"One of two candidates should win, but {'; '.join(map(told, outcomes.values()))}")
    [stage.winner] = winners
    [loser] = {*names} - {*winners}
    won = outcomes[stage.winner]
    stage.agreement = won.json()["agreement"]
    stage.tell.done(f"{stage.winner} is first", was_there="Idempotency-Replayed" in won.headers)
    stage.expect_refusal(f"{loser} accepts too", outcomes[loser])
    await _answer_again(stage, stage.winner)


async def _answer_again(stage: Stage, who: str) -> None:
    match = stage.match(who)
    again = await stage.send(_accepting(who, match))
    if not again.is_success or again.json()["agreement"]["id"] != stage.agreement["id"]:
        raise DemoError(f"Accepting again should answer with the same agreement, but {told(again)}")
    stage.tell.same(f"{who} accepts again, and gets the same agreement")
    await stage.refused(f"{who} declines what was accepted", Call(who, "PATCH", match, {"state": "declined"}))


async def wait_for_signature(stage: Stage) -> None:
    """Try what depends on the signature before it is given."""
    stage.tell.chapter("4. Before the signature, and the signature")
    who = stage.winner
    for tried, method, rest, body in (
        (f"{who} reads the client's contact", "POST", "/contact-reads", {"purpose": "to call"}),
        (f"{who} shows a house", "POST", "/events", {"type": "PROPERTY_SHOWN", "payload": {}}),
        (f"{who} declares it signed", "PATCH", "", {"status": "effective"}),
    ):
        await stage.refused_while("pending_signature", tried, Call(who, method, stage.path(rest), body))
    await stage.refused("Judith, of neither broker, opens the agreement", Call("Judith", "GET", stage.path()))


async def sign(stage: Stage, signer: Signer | None) -> bool:
    """Report the signature as the signing service, twice; false where its secret is not known here."""
    stage.expect_refusal("Eve reports a signature", await _report(stage, Signer(b"a guess")))
    if signer is None:
        return _skip_signature(stage, "this machine does not know the service's e-sign secret")
    was_there = (await stage.current())["status"] != "pending_signature"
    first = await _report(stage, signer)
    if first.status_code == httpx.codes.UNAUTHORIZED:
        return _skip_signature(stage, "the service has another e-sign secret than this machine")
    second = await _report(stage, signer)
    if not first.is_success or second.content != first.content:
        raise DemoError(f"A signature should be accepted, and change nothing the second time, but {told(second)}")
    stage.tell.done("The signing service reports the signature: the agreement is effective", was_there=was_there)
    stage.tell.same("The signing service reports it again, and nothing changes")
    return True


def _skip_signature(stage: Stage, reason: str) -> bool:
    stage.tell.skipped(f"The signature and what follows it: {reason}. Set BROKERFLOW_ESIGN_SECRET to the service's.")
    return False


async def _report(stage: Stage, signer: Signer) -> httpx.Response:
    agreement = stage.agreement["id"]
    # Signed when it was made: this machine's clock may run ahead of the database's.
    report = {"agreement_id": agreement, "signed_at": stage.agreement["created_at"], "envelope_id": f"demo-{agreement}"}
    body = msgspec.json.encode(report)
    headers = signer.headers(f"msg-{agreement}", int(time.time()), body)
    return await stage.client.post("/webhooks/esign", content=body, headers=headers)


async def work(stage: Stage) -> None:
    """Read the contact, show a house, and correct what was written down wrongly."""
    stage.tell.chapter("5. Under an effective agreement")
    who, events = stage.winner, stage.path("/events")
    await _read_contact(stage)
    event = {"type": "CLIENT_CONTACTED", "payload": {"note": "called, and will visit on Saturday"}}
    await stage.do(f"{who} calls the client", Call(who, "POST", events, event), "contacted")
    event = {"type": "PROPERTY_SHOWN", "payload": {"note": "12 Lakeside Drive"}}
    shown = await stage.do(f"{who} shows a house", Call(who, "POST", events, event), "shown")
    await _misdate(stage)
    await _correct(stage, shown["seq"])


async def _read_contact(stage: Stage) -> None:
    """Read it once however often the story is told: each read is on record, and a stored answer holds no contact."""
    who, path = stage.winner, stage.path("/contact-reads")
    reads = (await stage.look("Alma", path))["items"]
    if reads:
        stage.tell.done(f"{who} reads the contact", was_there=True)
    else:
        answer = await stage.send(Call(who, "POST", path, {"purpose": "to arrange a first call"}))
        if not answer.is_success or answer.json()["email"] != CONTACT["email"]:
            raise DemoError(f"{who} should get the contact, but {told(answer)}")
        stage.tell.done(f"{who} reads the contact: {answer.json()['name']}, {answer.json()['phone']}")
        reads = (await stage.look("Alma", path))["items"]
    stage.tell.same(f"Alma sees who read it, when and why: {reads[0]['purpose']!r}")


async def _misdate(stage: Stage) -> None:
    who = stage.winner
    effective_at = datetime.fromisoformat((await stage.current())["effective_at"])
    for tried, days in (("before the signature", -1), ("in the future", 3650)):
        occurred_at = (effective_at + timedelta(days=days)).isoformat()
        offer = {"type": "OFFER_MADE", "payload": {}, "occurred_at": occurred_at}
        await stage.refused(f"{who} dates an offer {tried}", Call(who, "POST", stage.path("/events"), offer))


async def _correct(stage: Stage, seq: int) -> None:
    who, events = stage.winner, stage.path("/events")
    event = {"type": "CORRECTION_ADDED", "payload": {"note": "it was 14 Lakeside Drive"}, "corrects_seq": seq}
    call = Call(who, "POST", events, event)
    await stage.do(f"{who} corrects the address; what was written stays", call, "correction")
    call = Call(who, "POST", events, {**event, "corrects_seq": 9999})
    await stage.refused(f"{who} corrects an event that never was", call)
    call = Call(who, "POST", events, {**event, "seq": 1})
    await stage.refused(f"{who} chooses an event's number", call)
    call = Call(who, "PATCH", stage.path(), {"region": ["Elsewhere"]})
    await stage.refused(f"{who} moves the agreement to another region", call)
    call = Call(who, "PATCH", stage.path(), {"status": "success"})
    await stage.refused(f"{who} decides on a version that is gone", call, version=1)


async def quarrel(stage: Stage, owner_url: str | None) -> None:
    """Ask for money, and let a dispute freeze what is not paid."""
    stage.tell.chapter("6. Money, and a dispute about it")
    paid = await _invoice(stage, "1500.00", "invoice-paid")
    await stage.do(f"{stage.winner} pays it", _paying(stage, paid), "payment")
    unpaid = await _invoice(stage, "4200.00", "invoice-unpaid")
    call = Call("Alma", "POST", stage.path("/invoices"), {"amount": "9999.00", "currency": "USD"})
    await stage.refused("Alma repeats the Idempotency-Key with another amount", call, key=stage.key("invoice-unpaid"))
    complaint = {"agreement_id": stage.agreement["id"], "reason": "the second invoice is not paid"}
    dispute = await stage.do("Alma opens a dispute", Call("Alma", "POST", "/api/disputes", complaint), "dispute")
    await stage.refused(f"{stage.winner} pays the other one now", _paying(stage, unpaid))
    verdict = {"outcome": "upheld", "note": "the referral fee was due"}
    call = Call("Alma", "PATCH", f"/api/disputes/{dispute['id']}", verdict)
    await stage.refused("Alma judges her own case", call)
    await _judge(stage, dispute["id"], call._replace(who="Judith"), owner_url)


async def _invoice(stage: Stage, amount: str, step: str) -> Json:
    call = Call("Alma", "POST", stage.path("/invoices"), {"amount": amount, "currency": "USD"})
    invoice: Json = await stage.do(f"Alma sends an invoice of {amount} USD", call, step)
    return invoice


def _paying(stage: Stage, invoice: Json) -> Call:
    return Call(stage.winner, "PATCH", f"/api/invoices/{invoice['id']}", {"status": "paid"})


async def _judge(stage: Stage, dispute: str, verdict: Call, owner_url: str | None) -> None:
    """Make Judith a platform admin for as long as she judges: nobody stays one because of a demo."""
    deed = "Judith, a platform admin of neither broker, upholds it: the agreement is void"
    disputes = (await stage.look("Alma", "/api/disputes"))["items"]
    if any(each["id"] == dispute and each["outcome"] for each in disputes):
        await stage.do(deed, verdict, "verdict")
    elif owner_url is None:
        stage.tell.skipped("The verdict: the database's owner appoints who judges. Set BROKERFLOW_OWNER_URL.")
        return
    else:
        async with appointed(owner_url, stage.people["Judith"].email):
            await stage.do(deed, verdict, "verdict")
    call = Call(stage.winner, "PATCH", stage.path(), {"status": "effective"})
    await stage.refused(f"{stage.winner} revives the agreement", call)


async def forget(stage: Stage) -> None:
    """Forget the client for good; the chain keeps the receipt."""
    stage.tell.chapter("7. The client is forgotten, the history is not")
    path = f"/api/referrals/{stage.referral['id']}/contact"
    await stage.do("Alma shreds the contact: its key is destroyed", Call("Alma", "DELETE", path), "shred")
    await stage.refused("Alma puts the contact back", Call("Alma", "PUT", path, CONTACT))
