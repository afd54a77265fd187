"""A stage on which actors meet the database: each enters as the service does, nothing outlives the test."""

import asyncio
import base64
import hashlib
import inspect
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from app.errors import proposition_of

Rows = list[tuple[Any, ...]]
Test = TypeVar("Test", bound=Callable[..., Awaitable[None]])

APP, OWNER, GUARD, VAULT = "brokerflow_app", "brokerflow_owner", "brokerflow_guard", "brokerflow_vault"
AUDITOR, LOGIN, WORKER = "brokerflow_auditor", "brokerflow_login", "brokerflow_worker"
ESIGN = hashlib.sha256(b"the signing service's secret").digest()
HALF = hashlib.sha256(b"the service's half of the key that signs JWTs").digest()
METHOD = "$argon2id$v=19$m=8,t=1,p=1"  # how passwords were stretched, had they been
# What PostgreSQL sees of a value: bytes of the right length, and the name of a master key.
SEALED = (b"the sealed value".ljust(45), b"the wrapped key".ljust(61), "0123456789abcdef")
STATUSES = ("draft", "pending_signature", "effective", "success", "disputed", "void", "closed")

KEEPERS: dict[str, list[Callable[..., Awaitable[None]]]] = {}


def keeps(*propositions: str) -> Callable[[Test], Test]:
    """Name the objects whose absence a test notices; test_mutations takes each away and runs it."""

    def register(test: Test) -> Test:
        for proposition in propositions:
            KEEPERS.setdefault(proposition, []).append(test)
        return test

    return register


class LetThrough(AssertionError):  # noqa: N818 - what happened, not a mistake
    """What should have been refused was done."""


class Person(NamedTuple):
    """Who holds a session: the digest that enters, and what it proves."""

    name: str
    user_id: UUID
    organization_id: UUID | None
    digest: bytes


class World(NamedTuple):
    """The people of a database, by name."""

    app_url: str
    login_url: str
    superuser_url: str
    people: dict[str, Person]


class Actor:
    """Somebody who runs statements on a connection, each after an entrance of his own."""

    def __init__(self, stage: "Stage", entrance: tuple[Any, ...] | None, role: str = APP) -> None:
        self.stage = stage
        self.entrance = entrance
        self.role = role

    async def __call__(self, statement: str, *parameters: object) -> Rows:
        """Enter, run a statement and return its rows."""
        await self.enter()
        return await self.stage.run(statement, *parameters)

    async def value(self, statement: str, *parameters: object) -> Any:
        """Return the only column of the only row."""
        [[value]] = await self(statement, *parameters)
        return value

    async def enter(self) -> None:
        """Put the proved actor into the transaction; who has no entrance takes any actor out."""
        await self.stage.become(APP)
        if self.entrance is None:
            await self.stage.run("select set_config('brokerflow.actor', '', true)")
        else:
            function, *arguments = self.entrance
            await self.stage.run(f"select apiauth.{function}({', '.join(['%s'] * len(arguments))})", *arguments)
        if self.role != APP:
            await self.stage.become(self.role)

    def turned(self, role: str) -> "Actor":
        """Return the same proved actor in the hands of another role, such as the owner."""
        return Actor(self.stage, self.entrance, role)


class Party(Actor):
    """A person on the stage."""

    def __init__(self, stage: "Stage", person: Person) -> None:
        super().__init__(stage, ("enter_session", person.digest))
        self.person = person
        self.user_id = person.user_id
        self.organization_id = person.organization_id

    async def token(self, *scopes: str) -> Actor:
        """Return the person with a personal access token of these scopes."""
        digest = secrets.token_bytes(32)
        await self(
            "select apiauth.create_personal_token('a token', %s, 'abcd', %s, interval '1 day')", digest, list(scopes)
        )
        return Actor(self.stage, ("enter_token", digest))

    async def organization_token(self, *scopes: str) -> Actor:
        """Return an access token of these scopes of the person's organization."""
        digest = secrets.token_bytes(32)
        await self(
            "select apiauth.create_organization_token(%s, 'a token', %s, 'abcd', %s, interval '1 day')",
            self.organization_id, digest, list(scopes),
        )  # fmt: skip
        return Actor(self.stage, ("enter_organization_token", digest))


class Stage:
    """A connection, and the actors on it."""

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]], world: World) -> None:
        self.connection = connection
        self.people = world.people
        self.world = world
        self.is_superuser = connection.info.user != APP
        self.given = Given(self)
        self.stage = self

    def __getattr__(self, name: str) -> Actor:
        """Return an actor: as_owner, as_esign, as_nobody, or a person of the world such as as_referrer."""
        match name:
            case "as_nobody":
                return Actor(self, None)
            case "as_esign":
                return Actor(self, ("enter_esign", ESIGN))
            case "as_owner" | "as_guard" | "as_vault" | "as_auditor" | "as_login" | "as_worker" | "as_postgres":
                return Actor(self, None, {"as_postgres": "postgres"}.get(name, f"brokerflow_{name[3:]}"))
            case _ if name.startswith("as_") and name[3:] in self.people:
                return Party(self, self.people[name[3:]])
        raise AttributeError(name)

    def party(self, name: str) -> Party:
        """Return a person of the world."""
        return Party(self, self.people[name])

    async def become(self, role: str) -> None:
        """Continue as another role, in this transaction."""
        if self.is_superuser:
            name = self.connection.info.user if role == "postgres" else role
            await self.connection.execute(f'set local session authorization "{name}"'.encode())

    async def run(self, statement: str, *parameters: object) -> Rows:
        """Run a statement as whoever stands on the stage."""
        cursor = await self.connection.execute(statement.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []

    async def unbound(self, statement: str, *parameters: object) -> Rows:
        """Run a statement that no trigger and no foreign key sees, as only a superuser can."""
        await self.become("postgres")
        await self.run("set local session_replication_role to replica")
        rows = await self.run(statement, *parameters)
        await self.run("set local session_replication_role to origin")
        return rows

    @asynccontextmanager
    async def refused(self, proposition: str | None = None, sqlstate: str | None = None) -> AsyncIterator[None]:
        """Expect that the body is refused by this constraint, or with this SQLSTATE where no constraint is named."""
        try:
            async with self.connection.transaction():
                yield
                await self.run("set constraints all immediate")
        except psycopg.Error as error:
            told = (proposition_of(error.diag.constraint_name), error.sqlstate)
            if told != (proposition, sqlstate or error.sqlstate):
                raise AssertionError(f"{proposition} {sqlstate or ''} expected, refused by {told}: {error}") from error
        else:
            raise LetThrough(f"{proposition or sqlstate} let it through")

    async def perform(self, test: Callable[..., Awaitable[None]]) -> None:
        """Run a test function on this stage: its parameters are names on it."""
        await test(**{name: getattr(self, name) for name in inspect.signature(test).parameters})


class Given:
    """What a test begins with, made through the entrances."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def referral(self, by: str = "referrer", **columns: object) -> UUID:
        """Open a referral."""
        actor = self.stage.party(by)
        values: dict[str, object] = {
            "broker_id": actor.organization_id, "region": ["Taipei"], "price_min": 1, "price_max": 2,
            "property_type": "flat", "deal_type": "sale", "sla_hours": 24, "created_by": actor.user_id, **columns,
        }  # fmt: skip
        names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        statement = f"insert into agreement.referrals ({names}) values ({marks}) returning id"
        return await _id(actor.value(statement, *values.values()))

    async def project(self, by: str = "referrer", slug: str | None = None) -> UUID:
        """Create a project of a founder's organization."""
        actor = self.stage.party(by)
        statement = "select (shared.create_project(%s, 'A project', %s)).id"
        return await _id(actor.value(statement, actor.organization_id, slug or f"p-{secrets.token_hex(4)}"))

    async def environment(self, type_: str = "DEVELOPMENT", by: str = "referrer", project: UUID | None = None) -> UUID:
        """Create an environment, of a project of its own unless one is named."""
        statement = "select (shared.create_environment(%s, %s, %s)).id"
        project = project or await self.project(by)
        return await _id(self.stage.party(by).value(statement, project, f"e-{secrets.token_hex(4)}", type_))

    async def keys(
        self, environment: UUID | None = None, grace: str = "1 day", by: str = "referrer", branch: str | None = None
    ) -> tuple[Actor, Actor]:
        """Issue keys of an environment; return its secret and its public key, in a branch where one is named."""
        secret, public = secrets.token_bytes(32), secrets.token_bytes(32)
        await self.stage.party(by)(
            "select apiauth.issue_environment_keys(%s, %s, 'abcd', %s, 'abcd', %s)",
            environment or await self.environment(by=by), secret, public, grace,
        )  # fmt: skip
        where: tuple[object, ...] = () if branch is None else (None, [], branch)
        return (
            Actor(self.stage, ("enter_secret_key", secret, *where)),
            Actor(self.stage, ("enter_public_key", public, *where)),
        )

    async def invitation(self, email: str = "newcomer@example.org", role: str = "agent", by: str = "referrer") -> UUID:
        """Invite an address to somebody's organization."""
        actor = self.stage.party(by)
        statement = "select (shared.create_invitation(%s, %s, %s, interval '7 days')).id"
        return await _id(actor.value(statement, actor.organization_id, email, role))

    async def account(self, environment: UUID | None = None, identifier: str = "user_1", by: str = "referrer") -> UUID:
        """Keep an external account of an environment, of one of its own unless it is named."""
        statement = "select (shared.create_external_account(%s, %s, '{}')).id"
        environment = environment or await self.environment(by=by)
        return await _id(self.stage.party(by).value(statement, environment, identifier))

    async def branch(self, environment: UUID, name: str = "main", by: str = "referrer") -> UUID:
        """Create a branch of a PREVIEW environment."""
        return await _id(self.stage.party(by).value("select (shared.create_branch(%s, %s)).id", environment, name))

    async def jwt(self, secret: Actor, *scopes: str, lifetime: str = "15 minutes", one_time: bool = False) -> Actor:
        """Mint a JWT with a secret key."""
        [[token]] = await secret(
            "select token from apiauth.mint_jwt(shared.current_environment_id(), %s, %s::interval, %s, %s)",
            list(scopes), lifetime, one_time, HALF,
        )  # fmt: skip
        assert secret.entrance
        return jwt(self.stage, token, branch=secret.entrance[4] if len(secret.entrance) > 4 else None)

    async def device(self, name: str = "a machine", lifetime: str = "90 days", *scopes: str) -> None:
        """Let a machine ask for a token; its codes are made of its name."""
        await self.stage.as_nobody(
            "select * from apiauth.request_device(%s, %s, %s, '192.0.2.7', %s, %s)",
            device_code(name), user_code(name), name, list(scopes) or ["agreements:read"], lifetime,
        )  # fmt: skip

    async def secret(self, key: str = "key", by: str = "referrer", environment: UUID | None = None) -> UUID:
        """Put a value under a key; return the secret."""
        actor = self.stage.party(by)
        [[secret, version]] = await actor(
            "select secret_id, version from secretstore.reserve_version(%s, %s, null, null, null)", key, environment
        )
        statement = "select (secretstore.put_version(%s, %s, %s, %s, %s, null, null, null, 'r', null)).id"
        return await _id(actor.value(statement, secret, version, *SEALED))

    async def read_grant(self, key: str = "key", by: str = "referrer") -> bytes:
        """Grant a read of a key, in this very transaction; return the number that takes it."""
        number = secrets.token_bytes(32)
        await self.stage.party(by)(
            "select * from secretstore.grant_reads(%s, %s, null, null, '{r}', null)",
            hashlib.sha256(number).digest(), [key],
        )  # fmt: skip
        return number

    async def committed_read_grant(self, key: str = "key", by: str = "referrer") -> bytes:
        """Grant a read that looks as if an earlier transaction had."""
        number = await self.read_grant(key, by)
        await self.stage.unbound("update secretstore.read_grants set granted_in = '3'")
        return number

    async def match(self, referral: UUID, candidate: str = "referee", by: str = "referrer") -> UUID:
        """Invite a candidate."""
        return await _id(
            self.stage.party(by).value(
                "insert into agreement.matches (referral_id, candidate_user_id) values (%s, %s) returning id",
                referral, self.stage.people[candidate].user_id,
            )
        )  # fmt: skip

    async def accepted(self, referral: UUID, candidate: str = "referee") -> UUID:
        """Invite a candidate who accepts; return the agreement."""
        match = await self.match(referral, candidate)
        await self.stage.party(candidate)("update agreement.matches set state = 'accepted' where id = %s", match)
        return await _id(
            self.stage.party(candidate).value("select id from agreement.agreements where match_id = %s", match)
        )

    async def draft(self, referral: UUID | None = None) -> UUID:
        """Draft an agreement of the referrer's broker with the referee's."""
        actor = self.stage.party("referrer")
        return await _id(
            actor.value(
                "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id) "
                "values (%s, %s, %s) returning id",
                referral or await self.referral(), actor.organization_id, self.stage.people["referee"].organization_id,
            )
        )  # fmt: skip

    async def agreement(self, status: str = "effective", referral: UUID | None = None) -> UUID:
        """Bring an agreement to a status, along the state machine."""
        agreement = await self.draft(referral)
        ways = {
            "draft": [], "pending_signature": ["pending_signature"], "effective": ["pending_signature", "effective"],
            "success": ["pending_signature", "effective", "success"], "void": ["void"],
            "disputed": ["pending_signature", "effective", "disputed"], "closed": ["void", "closed"],
        }  # fmt: skip
        for step in ways[status]:
            await self.move(agreement, step)
        return agreement

    async def move(self, agreement: UUID, status: str) -> None:
        """Move an agreement by its legal cause."""
        if status == "effective":
            await self.sign(agreement)
        elif status == "disputed":
            await self.dispute(agreement)
        else:
            await self.stage.as_referrer("update agreement.agreements set status = %s where id = %s", status, agreement)

    async def sign(self, agreement: UUID, signed_at: datetime | str | None = None) -> None:
        """Report the signature of an agreement."""
        await self.stage.as_esign(
            "select agreement.complete_signature(%s, coalesce(%s::timestamptz, clock_timestamp()), %s)",
            agreement, signed_at, f"envelope {agreement}",
        )  # fmt: skip

    async def dispute(self, agreement: UUID, by: str = "referee") -> UUID:
        """Open a dispute."""
        statement = "insert into agreement.disputes (agreement_id, reason) values (%s, 'late') returning id"
        return await _id(self.stage.party(by).value(statement, agreement))

    async def judged(self, dispute: UUID, outcome: str) -> None:
        """Judge a dispute."""
        rows = await self.stage.as_judge(
            "update agreement.disputes set outcome = %s, note = 'so' where id = %s returning id", outcome, dispute
        )
        assert rows == [(dispute,)]

    async def invoice(self, agreement: UUID, by: str = "referrer") -> UUID:
        """Issue an invoice."""
        statement = (
            "insert into agreement.invoices (agreement_id, amount, currency) values (%s, 10, 'USD') returning id"
        )
        return await _id(self.stage.party(by).value(statement, agreement))

    async def event(self, agreement: UUID, kind: str = "CLIENT_CONTACTED", by: str = "referee") -> int:
        """Append an event; return its number."""
        statement = "insert into agreement.timeline_events (agreement_id, type) values (%s, %s) returning seq"
        return int(await self.stage.party(by).value(statement, agreement, kind))

    async def contact(self, referral: UUID) -> None:
        """Seal a contact to a referral."""
        await self.stage.as_referrer(
            "select agreement.seal_contact(%s, %s, %s)", referral, b"the sealed contact".ljust(40), b"the wrapped key"
        )

    async def grant(self, agreement: UUID, by: str = "referee") -> UUID:
        """Grant a read, in this very transaction."""
        statement = "insert into agreement.contact_reads (agreement_id, purpose) values (%s, 'to call') returning id"
        return await _id(self.stage.party(by).value(statement, agreement))

    async def committed_grant(self, agreement: UUID, by: str = "referee") -> UUID:
        """Grant a read that looks as if an earlier transaction had."""
        grant = await self.grant(agreement, by)
        await self.stage.unbound("update agreement.contact_reads set granted_in = '3' where id = %s", grant)
        return grant

    async def impersonator(self, of: str = "referee", by: str = "judge", lifetime: str = "1 hour") -> Actor:
        """Log a platform admin in once more, and let him act as a user."""
        own, acting = secrets.token_bytes(32), secrets.token_bytes(32)
        await self.stage.as_nobody(
            "select apiauth.open_session(%s, %s, %s, '1 hour', '1 day')", f"{by}@example.org", by.encode(), own
        )
        await Actor(self.stage, ("enter_session", own))(
            "select apiauth.start_impersonation(%s, 'ticket 4711', %s, %s)",
            self.stage.people[of].user_id, lifetime, acting,
        )  # fmt: skip
        return Actor(self.stage, ("enter_session", acting))

    async def status(self, agreement: UUID) -> str:
        """Return an agreement's status."""
        return str(await self.stage.as_owner.value("select status from agreement.agreements where id = %s", agreement))

    async def referral_of(self, agreement: UUID) -> tuple[UUID, str]:
        """Return the referral of an agreement and its status."""
        [[referral, status]] = await self.stage.as_owner(
            "select r.id, r.status from agreement.agreements as a "
            "join agreement.referrals as r on r.id = a.referral_id where a.id = %s",
            agreement,
        )
        return referral, status

    async def events(self, agreement: UUID) -> list[str]:
        """Return the types of an agreement's events, in order."""
        statement = "select type from agreement.timeline_events where agreement_id = %s order by seq"
        return [kind for (kind,) in await self.stage.as_owner(statement, agreement)]


def jwt(stage: Stage, token: str, half: bytes = HALF, request: bytes | None = None, branch: str | None = None) -> Actor:
    """Return whoever brings a JWT, in a request of his own unless one is named."""
    signed, _, signature = token.rpartition(".")
    digest = hashlib.sha256(base64.urlsafe_b64decode(signature + "=")).digest()
    return Actor(stage, ("enter_jwt", digest, None, [], branch, signed, half, request or secrets.token_bytes(16)))


def device_code(name: str = "a machine") -> bytes:
    """Return what the service hands over for a machine's own code."""
    return hashlib.sha256(f"device code of {name}".encode()).digest()


def user_code(name: str = "a machine") -> bytes:
    """Return what the service hands over for the code that it shows."""
    return hashlib.sha256(f"user code of {name}".encode()).digest()


async def _id(value: Awaitable[Any]) -> UUID:
    found = await value
    assert isinstance(found, UUID)
    return found


async def waits_for_a_lock(observer: Stage, waiting: Stage) -> None:
    """Return once the other connection's statement is blocked."""
    process = waiting.connection.info.backend_pid
    for _ in range(10_000):
        if (await observer.run("select cardinality(pg_blocking_pids(%s)) > 0", process))[0][0]:
            return
        await asyncio.sleep(0)
    raise AssertionError("nothing blocks the second connection")
