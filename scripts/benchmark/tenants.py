"""Requests of many interleaved tenants, each answer of which is held to be the caller's own rows only."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import psycopg
import uvloop

from scripts.benchmark import cases, crowd
from scripts.benchmark.client import Answer, Request, encoded, send
from scripts.benchmark.world import Progress, World

FIRST = 3  # the number of the first tenant of the crowd
SECRET_KEY = "own"  # noqa: S105 - the same key of each
EVENT = {"type": "CLIENT_CONTACTED", "payload": {"by": "phone"}}
_TOLD_EVERY = 20_000

Found = str | None
Judge = Callable[["Tenant", int, Any], Found]


class Tenant(NamedTuple):
    """A tenant of the crowd: what proves him, who he is, and the agreements that he and no stranger may see."""

    number: int
    headers: dict[str, str]
    user_id: str
    organization_id: str
    agreements: frozenset[str]


class Question(NamedTuple):
    """A request of a tenant, and what must hold of its answer: a finding where it does not."""

    name: str
    tenant: Tenant
    request: Request
    judge: Judge


class Plan(NamedTuple):
    """How many requests are asked, how many of them at a time, and which: what the seed draws."""

    requests: int
    together: int
    seed: int


class Outcome(NamedTuple):
    """How many answers of each kind were looked at, and what was found."""

    asked: Counter[str]
    findings: list[str]


def cast_of(world: World, tokens: Sequence[str]) -> list[Tenant]:
    """Return the tenants whose tokens these are, with their agreements as the superuser sees them."""
    theirs = """
        select array_agg(a.id::text) from agreement.agreements as a
        where %(organization)s in (a.from_broker_id, a.to_broker_id)
    """
    tenants = []
    with psycopg.connect(world.superuser_url) as connection:
        for number, token in enumerate(tokens, FIRST):
            organization = crowd.row_id(crowd.ORGANIZATION, number)
            [found] = connection.execute(theirs, {"organization": organization}).fetchone() or [None]
            bearer = {"Authorization": f"Bearer {token}"}
            user = str(crowd.row_id(crowd.USER, number))
            tenants.append(Tenant(number, bearer, user, str(organization), frozenset(found or ())))
    return tenants


def asked(world: World, tenants: Sequence[Tenant], plan: Plan, say: Progress) -> Outcome:
    """Ask as many requests, of another tenant each, and look at every answer."""
    for tenant in tenants:
        _put_secret(world, tenant)
    questions = _questions(random.Random(plan.seed), tenants, plan.requests)  # noqa: S311 - what is asked is no secret
    outcome = Outcome(Counter(), [])
    looked_at = count(1)

    def hear(answer: Answer[Question]) -> None:
        question = answer.asked
        outcome.asked[question.name] += 1
        if (finding := judged(question, answer.status, answer.body)) is not None:
            outcome.findings.append(f"tenant {question.tenant.number}, {question.name}: {finding}")
        if (number := next(looked_at)) % _TOLD_EVERY == 0:
            say(f"looked at {number:,} of {plan.requests:,} answers, {len(outcome.findings)} findings")

    sent = ((question, encoded(world.url, question.request)) for question in questions)
    uvloop.run(send(world.url, sent, plan.together, hear))
    return outcome


def judged(question: Question, status: int, body: bytes) -> Found:
    """Return what is wrong with an answer, if anything is."""
    try:
        value = json.loads(body)
    except ValueError:
        return f"the answer {status} is no JSON"
    return question.judge(question.tenant, status, value)


def _questions(chance: random.Random, tenants: Sequence[Tenant], requests: int) -> Iterator[Question]:
    everything = sorted(set().union(*(tenant.agreements for tenant in tenants)))
    for _ in range(requests):
        tenant = chance.choice(tenants)
        own = chance.choice(sorted(tenant.agreements))
        stranger = chance.choice(everything)
        yield Question(*chance.choice(asks(tenant, own, stranger)))


def asks(tenant: Tenant, own: str, another: str) -> list[tuple[str, Tenant, Request, Judge]]:
    """Return what a tenant may ask: of an agreement of his, and of one that may be his or not."""
    headers, at = tenant.headers, "/api/agreements"
    sees_another = _is_agreement(another) if another in tenant.agreements else _is_refused
    return [
        ("own agreement", tenant, Request("GET", f"{at}/{own}", headers), _is_agreement(own)),
        ("any agreement", tenant, Request("GET", f"{at}/{another}", headers), sees_another),
        ("agreements", tenant, Request("GET", at, headers), _are_own),
        ("timeline", tenant, Request("GET", f"{at}/{own}/events", headers), _is_timeline(own)),
        ("feed", tenant, Request("GET", "/api/events?limit=50", headers), _is_feed),
        ("whoami", tenant, Request("GET", "/api/whoami", headers), _is_himself),
        ("append", tenant, cases.posted(f"{at}/{own}/events", EVENT, headers), _is_his_event(own)),
        ("secret", tenant, Request("GET", f"/api/secrets/{SECRET_KEY}", headers), _is_his_secret),
    ]


def _is_agreement(identifier: str) -> Judge:
    def judge(tenant: Tenant, status: int, value: Any) -> Found:
        if status != 200 or value["id"] != identifier:
            return f"asked for {identifier}, answered {status} {value}"
        return _of_stranger(tenant, value)

    return judge


def _is_refused(tenant: Tenant, status: int, value: Any) -> Found:
    del tenant
    return None if status == 404 else f"a stranger's agreement was answered {status} {value}"


def _are_own(tenant: Tenant, status: int, value: Any) -> Found:
    if status != 200 or not value["items"]:
        return f"answered {status} {value}"
    strange = [
        item["id"] for item in value["items"] if item["id"] not in tenant.agreements or _of_stranger(tenant, item)
    ]
    return f"others' agreements are in the list: {strange}" if strange else None


def _is_timeline(identifier: str) -> Judge:
    def judge(tenant: Tenant, status: int, value: Any) -> Found:
        del tenant
        if status != 200 or [item["seq"] for item in value["items"]] != list(range(1, len(value["items"]) + 1)):
            return f"answered {status} {value}"
        strange = {item["agreement_id"] for item in value["items"]} - {identifier}
        return f"events of others are in the timeline of {identifier}: {strange}" if strange else None

    return judge


def _is_feed(tenant: Tenant, status: int, value: Any) -> Found:
    if status != 200 or not value["items"]:
        return f"answered {status} {value}"
    strange = {item["agreement_id"] for item in value["items"]} - tenant.agreements
    return f"events of others are in the feed: {strange}" if strange else None


def _is_himself(tenant: Tenant, status: int, value: Any) -> Found:
    is_his = status == 200 and tenant.user_id in json.dumps(value)
    return None if is_his else f"he is {tenant.user_id}, and was told {status} {value}"


def _is_his_event(identifier: str) -> Judge:
    def judge(tenant: Tenant, status: int, value: Any) -> Found:
        expected = (identifier, tenant.user_id, tenant.organization_id)
        if status != 201 or (value["agreement_id"], value["user_id"], value["organization_id"]) != expected:
            return f"appended to {identifier}, answered {status} {value}"
        return None

    return judge


def _is_his_secret(tenant: Tenant, status: int, value: Any) -> Found:
    is_his = status == 200 and value["value"] == tenant.number
    return None if is_his else f"his secret was answered {status} {value}"


def _of_stranger(tenant: Tenant, agreement: Any) -> Found:
    is_party = tenant.organization_id in (agreement["from_broker_id"], agreement["to_broker_id"])
    return None if is_party else f"it is no party of {agreement}"


def _put_secret(world: World, tenant: Tenant) -> None:
    path = f"/api/secrets/{SECRET_KEY}"
    world.client.put(path, headers=tenant.headers, json={"value": tenant.number}).raise_for_status()
