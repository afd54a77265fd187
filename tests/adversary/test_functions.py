"""Every function that the service may execute, called with nothing, with too much and with what belongs to others."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from psycopg import sql

from tests.adversary.arguments import Call, calls
from tests.schema.stage import Actor, Given, Stage
from tests.schema.test_a09_tenants import SCHEMAS, TABLES, UNKNOWN, populate

FUNCTIONS = (
    "select p.oid::regproc::text, array(select format_type(a, null) from unnest(p.proargtypes) as a) "
    f"from pg_proc as p where p.pronamespace::regnamespace::text in {SCHEMAS} "
    "and p.prorettype <> 'trigger'::regtype and has_function_privilege('brokerflow_app', p.oid, 'execute') order by 1"
)
LABELS = (
    "select format_type(t.oid, null), array_agg(e.enumlabel::text order by e.enumsortorder) "
    "from pg_type as t join pg_enum as e on e.enumtypid = t.oid group by t.oid"
)
# The tables whose ids are passed: one of each, another tenant's.
NAMED = (
    "agreement.agreements", "agreement.contact_reads", "agreement.disputes", "agreement.invoices", "agreement.matches",
    "agreement.referrals", "apiauth.personal_tokens", "apiauth.sessions", "secretstore.secrets", "shared.environments",
    "shared.external_accounts", "shared.invitations", "shared.organizations", "shared.preview_branches",
    "shared.projects", "shared.users",
)  # fmt: skip
# One script calls a function a hundred times, each call alone and with all that waits for the commit.
SCRIPT = Path(__file__).with_name("calls.sql").read_text()
CHANGING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d \d\d:[0-9:.+]+")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Classes of SQLSTATE and SQLSTATEs for which app/errors.py has an answer that is no failure of the service.
REFUSALS = {"22", "23", "28", "54", "42501", "55000", "55P03", "P0001", "P0002"}
# It raises what its caller asks for, by name.
RAISES = {"shared.refuse": {"42704"}}
# What counts attempts, and what makes room once it is past its time: nobody's rows.
NOBODYS = {"apiauth.ended_tickets", "apiauth.rate_buckets", "apiauth.used_jwts"}
# Who is added by his address is known by it; a referral's id is the caller's
# choice, so that he can seal the contact to it, and a taken one is refused.
KNOWN = {
    ("shared.add_member", "shared.users"),
    ("agreement.create_referral", "agreement.contacts"), ("agreement.create_referral", "agreement.referrals"),
}  # fmt: skip


class Told(NamedTuple):
    """What a caller learns: the rows, or the refusal."""

    state: str | None
    text: str


class House:
    """What belongs to others, and the functions to try on it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        stranger = stage.party("stranger")
        self.own = {str(stranger.user_id), str(stranger.organization_id)}
        self.before: set[tuple[str, str]] = set()
        self.ids: list[str] = []
        self.labels: dict[str, list[str]] = {}
        self.functions: list[tuple[str, list[str]]] = []

    async def look(self) -> None:
        """See what there is."""
        self.before = await self.rows()
        self.labels = dict(await self.stage.as_postgres(LABELS))
        self.functions = [(name, types) for name, types in await self.stage.as_postgres(FUNCTIONS)]
        for table in NAMED:
            every = await self.stage.as_postgres(f"select id::text, x::text from {table} as x order by id desc")
            self.ids.append(next(key for key, row in every if not self.own & {*UUID.findall(row)}))

    async def rows(self) -> set[tuple[str, str]]:
        """Return every row there is, as text, with its table."""
        tables = [name for (name,) in await self.stage.as_postgres(TABLES)]
        every = " union all ".join(f"select '{name}', x::text from {name} as x" for name in tables)
        return {(table, row) for table, row in await self.stage.as_postgres(every)}

    def foreign(self) -> dict[str, str]:
        """Return the ids in rows that do not speak of the stranger, with the table of one such row."""
        rows = [(table, set(UUID.findall(row))) for table, row in sorted(self.before)]
        return {each: table for table, ids in rows if not self.own & ids for each in ids - self.own}

    async def answers(self, actor: Actor, name: str, arguments: Sequence[str], *, keep: bool = True) -> list[Told]:
        """Call a function as an attacker's script would, and keep what that did for the next call."""
        statements = [f"select array_agg(x::text) from {name}({each}) as x" for each in arguments]
        await actor.enter()
        await self.stage.run("select set_config('adversary.calls', %s, true)", json.dumps(statements))
        await self.stage.run("select set_config('adversary.keep', %s, true)", str(keep))
        await self.stage.run(SCRIPT)
        [[answers]] = await self.stage.run("select current_setting('adversary.told')::jsonb")
        return [Told(answer["state"], answer["told"] or "") for answer in answers]

    async def touched(self) -> list[tuple[str, str]]:
        """Return the rows of others that are gone or altered, and new rows that speak of others alone."""
        foreign, after = {*self.foreign()}, await self.rows()
        spoken = {(table, row): {*UUID.findall(row)} for table, row in self.before ^ after}
        return sorted(
            key for key, ids in spoken.items() if not self.own & ids and (key in self.before or ids & foreign)
        )


@pytest.fixture
async def house(stage: Stage, given: Given) -> House:
    """A row of the referrer's and the referee's in every table."""
    await populate(given)
    await stage.as_postgres("set constraints all immediate")
    house = House(stage)
    await house.look()
    return house


def written(call: Call, types: Sequence[str]) -> str:
    """Write arguments down."""
    return ", ".join(f"{sql.Literal(value).as_string()}::{name}" for value, name in zip(call, types, strict=True))


async def key_of(stage: Stage, kind: int) -> Actor:
    keys = await stage.given.keys(by="stranger")
    return keys[kind]


ACTORS: dict[str, Callable[[Stage], Awaitable[Actor]]] = {
    "a stranger": lambda stage: _ready(stage.as_stranger),
    "nobody": lambda stage: _ready(stage.as_nobody),
    "his organization's token": lambda stage: stage.party("stranger").organization_token(
        "accounts:write", "agreements:read", "organizations:write", "secrets:write", "tokens:write"
    ),
    "his secret key": lambda stage: key_of(stage, 0),
    "his public key": lambda stage: key_of(stage, 1),
}


async def _ready(actor: Actor) -> Actor:
    return actor


@pytest.mark.parametrize("who", ACTORS)
async def test_no_function_tells_or_touches_what_is_anothers_nor_fails(stage: Stage, house: House, who: str) -> None:
    actor = await ACTORS[who](stage)
    house.before = await house.rows()
    foreign, wrong = house.foreign(), []
    for name, types in house.functions:
        tried = [written(call, types) for call in calls(types, house.labels, house.ids)]
        async with stage.connection.transaction(force_rollback=True):
            for call, (state, text) in zip(tried, await house.answers(actor, name, tried), strict=True):
                if state and not {state, state[:2]} & (REFUSALS | RAISES.get(name, set())):
                    wrong.append((name, call[:300], state, text[:200]))
                told = {*UUID.findall(text)} & {*foreign} - {*UUID.findall(call)}
                if any((name, foreign[each]) not in KNOWN for each in told):
                    wrong.append((name, call[:300], "tells", text[:200]))
            wrong += [
                (name, "touches", table, row)
                for table, row in await house.touched()
                if table not in NOBODYS and (name, table) not in KNOWN
            ]
    assert wrong == []


async def test_every_function_answers_what_is_anothers_as_what_is_not(stage: Stage, house: House) -> None:
    tables, wrong = dict(zip(house.ids, NAMED, strict=True)), []
    for name, types in house.functions:
        tried = [call for call in calls(types, house.labels, house.ids) if {*house.ids} & {*call}]
        absent = [[UNKNOWN if value in house.ids else value for value in call] for call in tried]
        pairs = [written(each, types) for pair in zip(tried, absent, strict=True) for each in pair]
        async with stage.connection.transaction(force_rollback=True):
            answers = await house.answers(stage.as_stranger, name, pairs, keep=False)
        told = [(state, CHANGING.sub("", text)) for state, text in answers]
        for call, theirs, nobodys in zip(pairs[::2], told[::2], told[1::2], strict=True):
            named = {tables.get(each) for each in UUID.findall(call)}
            if theirs != nobodys and not any((name, table) in KNOWN for table in named):
                wrong.append((name, call[:300], theirs, nobodys))
    assert wrong == []
