"""The database refuses exactly what the model refuses, and does exactly what it does, whatever the order of deeds."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg import AsyncConnection

from tests.conftest import Server
from tests.model.brokerage import BROKERS, BY_WORD, Agreement, Dispute, Forbidden, Invoice, Referral
from tests.oracles.conftest import ORACLES, answer
from tests.schema.conftest import build_world
from tests.schema.stage import STATUSES, Rows, Stage, World

T = TypeVar("T")

# Mostly those who may, else most deeds would be refused for one reason only.
PEOPLE = st.sampled_from(["referrer", "referee", "referrer", "referee", *BROKERS])
CANDIDATES = st.sampled_from(["referee", "rival"])
# What else PostgreSQL may raise is no refusal, and fails the test.
REFUSALS = (psycopg.IntegrityError, psycopg.errors.InsufficientPrivilege)
SOON = 8  # referrals, agreements, invoices and disputes, before which nothing is cancelled
EVENTS = st.sampled_from(["CLIENT_CONTACTED", "PROPERTY_SHOWN", "OFFER_MADE", "DEAL_CLOSED"])
STATES = {
    Referral: "select status::text from agreement.referrals where id = %s",
    Agreement: "select status::text from agreement.agreements where id = %s",
    Invoice: "select status::text from agreement.invoices where id = %s",
    Dispute: "select outcome::text from agreement.disputes where id = %s",
}


@pytest.fixture(scope="module")
def world(server: Server, template: str) -> World:
    """The people of every run; each run is one transaction, which is rolled back."""
    return build_world(server, template, "model")


class Lifecycle(RuleBasedStateMachine):
    """Does every deed twice: to the model and, as the same person, to the database."""

    referrals, agreements = Bundle("referrals"), Bundle("agreements")
    invitations, invoices, disputes = Bundle("invitations"), Bundle("invoices"), Bundle("disputes")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.connection = self.run(AsyncConnection.connect(world.superuser_url))
        self.stage = Stage(self.connection, world)
        self.ids: dict[object, UUID] = {}

    def run(self, deed: Coroutine[Any, Any, T]) -> T:
        """Run a deed on the connection."""
        return self.runner.run(deed)

    def both(self, model: Callable[[], T], person: str, statement: str, *parameters: object) -> tuple[T, Any] | None:
        """Do it to the model and to the database; return what it made and its id, None where both refuse."""
        try:
            made = model()
        except Forbidden:
            refusal = self.run(self.tried(person, statement, *parameters))
            assert isinstance(refusal, str), f"the model forbids what the database did: {refusal}"
            note(f"    refused by {refusal}")
            return None
        rows = self.run(self.tried(person, statement, *parameters))
        assert not isinstance(rows, str), f"the model allows what the database refuses by {rows}"
        return made, rows[0][0]

    async def tried(self, person: str, statement: str, *parameters: object) -> Rows | str:
        """Try it in a savepoint; return its rows or what refused it. What touches no row was not to be seen."""
        try:
            async with self.connection.transaction():
                rows = await getattr(self.stage, f"as_{person}")(statement, *parameters)
                return rows or "invisibility"
        except REFUSALS as error:
            return error.diag.constraint_name or str(error.sqlstate)

    def known(self, made: tuple[T, Any] | None) -> Any:
        """Remember the id of what was made, and put it into its bundle."""
        if made is None:
            return multiple()
        self.ids[made[0]] = made[1]
        return made[0]

    @rule(target=referrals)
    def refer(self) -> Referral:
        """Open a referral."""
        referral = Referral()
        self.ids[referral] = self.run(self.stage.given.referral())
        return referral

    @initialize(target=agreements)
    def begin(self) -> Any:
        """Begin with an agreement that is signed: from there most ways lead on."""
        agreement = self.draft(self.refer(), "referrer")
        self.send(agreement)
        self.sign(agreement)
        return agreement

    @rule(target=agreements, referral=referrals, person=PEOPLE)
    def draft(self, referral: Referral, person: str) -> Any:
        """Draft an agreement."""
        north, south = (self.stage.people[name].organization_id for name in ("referrer", "referee"))
        made = self.both(
            lambda: referral.draft(person), person,
            "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id) "
            "values (%s, %s, %s) returning id", self.ids[referral], north, south,
        )  # fmt: skip
        return self.known(made)

    @rule(target=invitations, referral=referrals, person=PEOPLE, candidate=CANDIDATES)
    def invite(self, referral: Referral, person: str, candidate: str) -> Any:
        """Invite a candidate."""
        made = self.both(
            lambda: referral.invite(person, candidate), person,
            "insert into agreement.matches (referral_id, candidate_user_id) values (%s, %s) returning id",
            self.ids[referral], self.stage.people[candidate].user_id,
        )  # fmt: skip
        return multiple() if made is None else (referral, candidate, made[1])

    @rule(target=agreements, referral=referrals, candidate=CANDIDATES)
    def match(self, referral: Referral, candidate: str) -> Any:
        """Invite a candidate who accepts, if he can."""
        invitation = self.invite(referral, "referrer", candidate)
        return self.reply(invitation, candidate, "accepted") if isinstance(invitation, tuple) else invitation

    @rule(target=agreements, invitation=invitations, data=st.data(), state=st.sampled_from(["accepted", "declined"]))
    def answer(self, invitation: tuple[Referral, str, UUID], data: st.DataObject, state: str) -> Any:
        """Answer an invitation, mostly as its candidate."""
        person = data.draw(st.sampled_from([invitation[1], invitation[1], *BROKERS]), "person")
        return self.reply(invitation, person, state)

    def reply(self, invitation: tuple[Referral, str, UUID], person: str, state: str) -> Any:
        """Answer an invitation as somebody."""
        referral, candidate, match = invitation
        made = self.both(
            lambda: referral.answer(person, candidate, state), person,
            "update agreement.matches set state = %s where id = %s returning id", state, match,
        )  # fmt: skip
        if made is None or made[0] is None:
            return multiple()
        found = self.run(self.stage.as_owner.value("select id from agreement.agreements where match_id = %s", match))
        return self.known((made[0], found))

    @precondition(lambda self: len(self.ids) > SOON)
    @rule(referral=referrals, person=PEOPLE)
    def cancel(self, referral: Referral, person: str) -> None:
        """Cancel a referral."""
        self.both(
            lambda: referral.cancel(person), person,
            "update agreement.referrals set status = 'cancelled', cancel_reason = 'sold' where id = %s returning id",
            self.ids[referral],
        )  # fmt: skip

    @rule(agreement=agreements, person=PEOPLE, data=st.data())
    def move(self, agreement: Agreement, person: str, data: st.DataObject) -> None:
        """Move an agreement to any status by word, mostly along an edge."""
        edges = sorted(to for before, to in BY_WORD if before == agreement.status)
        self.put(agreement, person, data.draw(st.sampled_from([*edges, *edges, *STATUSES]), "status"))

    def put(self, agreement: Agreement, person: str, status: str) -> None:
        """Move an agreement to a status."""
        self.both(
            lambda: agreement.move(person, status), person,
            "update agreement.agreements set status = %s where id = %s returning id", status, self.ids[agreement],
        )  # fmt: skip

    @rule(agreement=agreements)
    def send(self, agreement: Agreement) -> None:
        """Send it to be signed: the deed without which little happens."""
        self.put(agreement, "referrer", "pending_signature")

    @rule(agreement=agreements)
    def sign(self, agreement: Agreement) -> None:
        """Report a signature."""
        self.both(
            agreement.sign, "esign", "select (agreement.complete_signature(%s, clock_timestamp(), %s)).id",
            self.ids[agreement], f"envelope {self.ids[agreement]}",
        )  # fmt: skip

    @rule(target=disputes, agreement=agreements, person=PEOPLE)
    def dispute(self, agreement: Agreement, person: str) -> Any:
        """Open a dispute."""
        statement = "insert into agreement.disputes (agreement_id, reason) values (%s, 'late') returning id"
        return self.known(self.both(lambda: agreement.dispute(person), person, statement, self.ids[agreement]))

    @rule(
        dispute=disputes,
        person=st.sampled_from(["judge", "judge", "partisan", "referee", "stranger"]),
        outcome=st.sampled_from(["upheld", "dismissed"]),
    )
    def judge(self, dispute: Dispute, person: str, outcome: str) -> None:
        """Judge a dispute."""
        self.both(
            lambda: dispute.judge(person, outcome), person,
            "update agreement.disputes set outcome = %s where id = %s returning id", outcome, self.ids[dispute],
        )  # fmt: skip

    @rule(target=invoices, agreement=agreements, person=PEOPLE)
    def invoice(self, agreement: Agreement, person: str) -> Any:
        """Issue an invoice."""
        statement = (
            "insert into agreement.invoices (agreement_id, amount, currency) values (%s, 10, 'USD') returning id"
        )
        return self.known(self.both(lambda: agreement.invoice(person), person, statement, self.ids[agreement]))

    @rule(invoice=invoices, person=PEOPLE, status=st.sampled_from(["paid", "written_off"]))
    def settle(self, invoice: Invoice, person: str, status: str) -> None:
        """Settle an invoice."""
        self.both(
            lambda: invoice.settle(person, status), person,
            "update agreement.invoices set status = %s where id = %s returning id", status, self.ids[invoice],
        )  # fmt: skip

    @rule(agreement=agreements, person=PEOPLE, kind=EVENTS)
    def tell(self, agreement: Agreement, person: str, kind: str) -> None:
        """Append an event."""
        statement = "insert into agreement.timeline_events (agreement_id, type) values (%s, %s) returning id"
        self.both(lambda: agreement.tell(person, kind), person, statement, self.ids[agreement], kind)

    @rule(agreement=agreements, person=PEOPLE)
    def read(self, agreement: Agreement, person: str) -> None:
        """Ask for a contact."""
        statement = "insert into agreement.contact_reads (agreement_id, purpose) values (%s, 'to call') returning id"
        self.both(lambda: agreement.read(person), person, statement, self.ids[agreement])

    @invariant()
    def they_agree(self) -> None:
        """Compare every state."""
        for each, found in self.ids.items():
            state = each.outcome if isinstance(each, Dispute) else each.status  # type: ignore[attr-defined]
            assert self.run(self.stage.as_postgres.value(STATES[type(each)], found)) == state, each

    def teardown(self) -> None:
        """Ask the oracles what they think of it all."""
        try:
            for name in set(ORACLES) - {"O9"}:
                assert self.run(answer(self.stage, ORACLES[name])) == []
        finally:
            self.run(self.connection.close())
            self.runner.close()


def play(world: World, *weakenings: str, examples: int = 30, shrinks: bool = True) -> None:
    """Run the machine, on a database that is weakened for the length of each run."""

    class Weakened(Lifecycle):
        def __init__(self) -> None:
            super().__init__(world)
            for each in weakenings:
                self.run(self.stage.as_postgres(each))

    phases = [
        phase for phase in Phase if phase in {Phase.generate, Phase.shrink} and (shrinks or phase != Phase.shrink)
    ]
    run_state_machine_as_test(
        Weakened,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_database_refuses_exactly_what_the_model_refuses(world: World) -> None:
    play(world)


@pytest.mark.parametrize(
    "weakening",
    [
        "alter table agreement.agreements disable trigger agreements_carry_referral",
        "alter table agreement.disputes disable trigger disputes_freeze",
        "alter table agreement.disputes disable trigger disputes_govern",
        "alter table agreement.invoices disable trigger invoices_follow_dispute",
        "alter table agreement.timeline_events disable trigger timeline_events_gated",
    ],
)
def test_the_model_notices_a_rule_that_is_gone(world: World, weakening: str) -> None:
    with pytest.raises(AssertionError):
        play(world, weakening, examples=100, shrinks=False)
