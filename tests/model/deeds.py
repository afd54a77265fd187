"""What people do in the brokerage: each deed once for the model and once, as the service asks it, for the database."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from tests.model.brokerage import Agreement, Dispute, Invoice, Referral


@dataclass(eq=False)
class Offer:
    """An invitation of a candidate."""

    referral: Referral
    candidate: str

    @property
    def status(self) -> str:
        """Return how it was answered."""
        return self.referral.invitations[self.candidate]

    def answer(self, person: str, state: str) -> Agreement | None:
        """Answer it; who accepts again is answered as before."""
        if (person, state, self.status) == (self.candidate, "accepted", "accepted"):
            return None
        return self.referral.answer(person, self.candidate, state)


Thing = Referral | Offer | Agreement | Invoice | Dispute


class Deed(NamedTuple):
    """What is done to a thing: by the model, and by a statement that returns the id of what it made."""

    to: type[Any]
    model: Callable[[Any, str], Thing | None]
    statement: str


def invite(referral: Referral, person: str, candidate: str) -> Offer:
    """Invite a candidate."""
    referral.invite(person, candidate)
    return Offer(referral, candidate)


def move(status: str) -> Deed:
    """Return the deed that moves an agreement."""
    statement = f"select (agreement.change_agreement(%(id)s, '{status}')).id"
    return Deed(Agreement, lambda agreement, person: agreement.move(person, status), statement)


def answer(state: str) -> Deed:
    """Return the deed that answers an invitation."""
    return Deed(
        Offer,
        lambda offer, person: offer.answer(person, state),
        "select coalesce(a.id, m.id) from agreement.matches as o "
        f"cross join lateral agreement.answer_match(o.referral_id, o.id, '{state}') as m "
        "left join lateral agreement.agreement_of_match(m.id) as a on true where o.id = %(id)s",
    )


def tell(kind: str) -> Deed:
    """Return the deed that appends an event."""
    statement = f"select (agreement.append_event(%(id)s, '{kind}', '{{}}')).id"
    return Deed(Agreement, lambda agreement, person: agreement.tell(person, kind), statement)


def settle(status: str) -> Deed:
    """Return the deed that settles an invoice."""
    statement = f"update agreement.invoices set status = '{status}' where id = %(id)s returning id"
    return Deed(Invoice, lambda invoice, person: invoice.settle(person, status), statement)


def judge(outcome: str) -> Deed:
    """Return the deed that judges a dispute."""
    statement = f"update agreement.disputes set outcome = '{outcome}', note = 'so' where id = %(id)s returning id"
    return Deed(Dispute, lambda dispute, person: dispute.judge(person, outcome), statement)


DEEDS = {
    "invite the referee": Deed(
        Referral,
        lambda referral, person: invite(referral, person, "referee"),
        "select (agreement.invite_candidate(%(id)s, %(referee)s)).id",
    ),
    "invite the rival": Deed(
        Referral,
        lambda referral, person: invite(referral, person, "rival"),
        "select (agreement.invite_candidate(%(id)s, %(rival)s)).id",
    ),
    "draft": Deed(Referral, Referral.draft, "select (agreement.draft_agreement(%(id)s, %(south)s, 25, 90)).id"),
    "cancel": Deed(Referral, Referral.cancel, "select (agreement.cancel_referral(%(id)s, 'sold')).id"),
    "accept": answer("accepted"),
    "decline": answer("declined"),
    "send": move("pending_signature"),
    "void": move("void"),
    "succeed": move("success"),
    "close": move("closed"),
    "sign": Deed(
        Agreement,
        lambda agreement, _: agreement.sign(),
        "select (agreement.complete_signature(%(id)s, clock_timestamp(), 'envelope ' || %(id)s)).id",
    ),
    "dispute": Deed(Agreement, Agreement.dispute, "select (agreement.open_dispute(%(id)s, 'late')).id"),
    "uphold": judge("upheld"),
    "dismiss": judge("dismissed"),
    "invoice": Deed(Agreement, Agreement.invoice, "select (agreement.issue_invoice(%(id)s, 10, 'USD')).id"),
    "pay": settle("paid"),
    "write off": settle("written_off"),
    "contact": tell("CLIENT_CONTACTED"),
    "show": tell("PROPERTY_SHOWN"),
    "read": Deed(Agreement, Agreement.read, "select (agreement.grant_contact_read(%(id)s, 'to call')).id"),
}

AS_PARTY = ["void", "close", "dispute", "invoice", "pay", "write off", "contact", "show", "read", "succeed"]
AS_REFERRER = ["send", "cancel", "draft", "invite the referee", "invite the rival", *AS_PARTY]
AS_CANDIDATE = ["accept", "decline", "accept", *AS_PARTY]
# What each of them is likely to do, though he may not always.
HABITS = {
    "referrer": AS_REFERRER, "colleague": AS_REFERRER, "referee": AS_CANDIDATE, "rival": AS_CANDIDATE,
    "esign": ["sign"], "judge": ["uphold", "dismiss"], "partisan": ["uphold", "dismiss"],
}  # fmt: skip


class Command(NamedTuple):
    """A deed of somebody to a thing; its number names what it makes."""

    number: int
    person: str
    deed: str
    target: str

    def __str__(self) -> str:
        """Tell it."""
        return f"{self.number}: {self.person}, {self.deed} {self.target}"


@dataclass
class Books:
    """The state of a brokerage: things by their names."""

    things: dict[str, Thing] = field(default_factory=dict)

    def named(self, kind: type[Any]) -> list[str]:
        """Return the names of all things of a kind."""
        return [name for name, thing in self.things.items() if isinstance(thing, kind)]

    def apply(self, command: Command) -> None:
        """Do it, or raise Forbidden and leave everything as it was."""
        made = DEEDS[command.deed].model(self.things[command.target], command.person)
        if made is not None:
            self.things[str(command.number)] = made

    def states(self, ids: dict[str, UUID]) -> dict[UUID, str | None]:
        """Return the state of everything, by the database's id, and what was told of an agreement."""
        return {ids[name]: state_of(thing) for name, thing in self.things.items()}


def state_of(thing: Thing) -> str | None:
    """Return a thing's state as text."""
    if isinstance(thing, Dispute):
        return thing.outcome
    if isinstance(thing, Agreement):
        return " ".join([thing.status, *thing.told])
    return thing.status


# The same from the database: whatever belongs to a referral, whether the model knows it or not.
STATES = """
with agreements as (
    select * from agreement.agreements where referral_id = %(referral)s
)
select id, status::text from agreement.referrals where id = %(referral)s
union all select id, state::text from agreement.matches where referral_id = %(referral)s
union all select id, status::text from agreement.invoices where agreement_id in (select id from agreements)
union all select id, outcome::text from agreement.disputes where agreement_id in (select id from agreements)
union all
select a.id, concat_ws(' ', a.status, (
    select string_agg(e.type::text, ' ' order by e.seq) from agreement.timeline_events as e
    where e.agreement_id = a.id and e.type in ('CLIENT_CONTACTED', 'PROPERTY_SHOWN', 'PII_VIEWED')
))
from agreements as a
"""
