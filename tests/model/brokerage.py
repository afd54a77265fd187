"""What the brokerage allows, in plain Python: referrals, agreements, invoices and disputes without a database.

Each method does what was asked or raises Forbidden and changes nothing. It is written from the rules, not from the SQL.
"""

from dataclasses import dataclass, field

BROKERS = {"referrer": "north", "colleague": "north", "referee": "south", "rival": "east", "stranger": "west"}
LIVE = {"pending_signature", "effective", "disputed"}
# What a party may do by word; signing, disputing and judging are others' deeds.
BY_WORD = {
    ("draft", "pending_signature"), ("draft", "void"), ("pending_signature", "void"), ("effective", "success"),
    ("effective", "void"), ("effective", "closed"), ("success", "closed"), ("void", "closed"),
}  # fmt: skip


class Forbidden(Exception):  # noqa: N818 - what happens, not a mistake
    """The rules do not allow it."""


def require(condition: bool) -> None:  # noqa: FBT001 - it reads as a sentence
    """Raise Forbidden unless it holds."""
    if not condition:
        raise Forbidden


@dataclass(eq=False)
class Referral:
    """A client whom the referrer of `north` offers."""

    status: str = "open"
    invitations: dict[str, str] = field(default_factory=dict)
    agreements: "list[Agreement]" = field(default_factory=list)

    def draft(self, person: str) -> "Agreement":
        """Draft an agreement with `south`."""
        require(BROKERS[person] == "north")
        require(self.status not in {"cancelled", "closed"})
        return self._agree("south", "draft")

    def invite(self, person: str, candidate: str) -> None:
        """Invite an agent of another broker, once."""
        require(BROKERS[person] == "north" and BROKERS[candidate] != "north")
        require(self.status == "open" and candidate not in self.invitations)
        self.invitations[candidate] = "invited"

    def answer(self, person: str, candidate: str, state: str) -> "Agreement | None":
        """Accept or decline an invitation; accepting makes the agreement."""
        require(person == candidate and self.invitations[candidate] == "invited")
        require(state == "declined" or self.status == "open")
        self.invitations[candidate] = state
        if state == "declined":
            return None
        self.status = "matched"
        return self._agree(BROKERS[candidate], "pending_signature")

    def cancel(self, person: str) -> None:
        """Cancel it, as its creator; what is not signed is void."""
        require(BROKERS[person] == "north")
        if self.status == "cancelled":
            return
        require(person == "referrer" and self.status in {"open", "matched"})
        self.status = "cancelled"
        for each in self.agreements:
            if each.status in {"draft", "pending_signature"}:
                each.status = "void"

    def _agree(self, broker: str, status: str) -> "Agreement":
        agreement = Agreement(self, {"north", broker}, status)
        self.agreements.append(agreement)
        return agreement


@dataclass(eq=False)
class Agreement:
    """What two brokers agreed on about a referral."""

    referral: Referral
    parties: set[str]
    status: str
    is_signed: bool = False
    invoices: "list[Invoice]" = field(default_factory=list)
    disputes: "list[Dispute]" = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def move(self, person: str, status: str) -> None:
        """Move it by a party's word."""
        require(BROKERS[person] in self.parties)
        if status == self.status:
            return
        if (self.status, status) == ("disputed", "closed"):
            [dispute] = [each for each in self.disputes if each.outcome is None]
            require(dispute.opened_by == BROKERS[person])
            self._end(dispute, "withdrawn", "closed")
            return
        require((self.status, status) in BY_WORD)
        require(status != "pending_signature" or self.referral.status == "open")
        self._carry(status)
        self.status = status

    def sign(self) -> None:
        """Report its signature, under the one envelope it has."""
        require(self.is_signed or self.status == "pending_signature")
        if not self.is_signed:
            self.is_signed, self.status, self.referral.status = True, "effective", "signed"

    def dispute(self, person: str) -> "Dispute":
        """Complain, which freezes what is unpaid."""
        require(BROKERS[person] in self.parties and self.status == "effective")
        self.status = "disputed"
        self.disputes.append(Dispute(self, BROKERS[person]))
        self._turn("issued", "frozen")
        return self.disputes[-1]

    def invoice(self, person: str) -> "Invoice":
        """Issue an invoice."""
        require(BROKERS[person] in self.parties and self.status in {"effective", "success"})
        self.invoices.append(Invoice(self))
        return self.invoices[-1]

    def tell(self, person: str, kind: str) -> None:
        """Append an event; what is shown, offered or closed is so while the agreement is effective."""
        require(BROKERS[person] in self.parties)
        require(kind == "CLIENT_CONTACTED" or self.status in {"effective", "success"})
        self.told.append(kind)

    def read(self, person: str) -> None:
        """Ask for the client's contact."""
        require(BROKERS[person] in self.parties and self.status == "effective")
        self.told.append("PII_VIEWED")

    def judged(self, dispute: "Dispute", outcome: str) -> None:
        """Void it or restore it."""
        self._end(dispute, outcome, "void" if outcome == "upheld" else "effective")

    def _end(self, dispute: "Dispute", outcome: str, status: str) -> None:
        dispute.outcome = outcome
        self._carry(status)
        self.status = status
        self._turn("frozen", "invalidated" if outcome == "upheld" else "issued")

    def _carry(self, status: str) -> None:
        if status == "pending_signature":
            self.referral.status = "matched"
        elif self.status == "pending_signature":
            self.referral.status = "open"
        elif self.status in {"effective", "disputed"} and status != "effective":
            self.referral.status = "closed"

    def _turn(self, status: str, other: str) -> None:
        for each in self.invoices:
            if each.status == status:
                each.status = other


@dataclass(eq=False)
class Invoice:
    """What one party owes the other."""

    agreement: Agreement
    status: str = "issued"

    def settle(self, person: str, status: str) -> None:
        """Pay it or write it off."""
        require(BROKERS[person] in self.agreement.parties and self.status == "issued")
        self.status = status


@dataclass(eq=False)
class Dispute:
    """A party's complaint."""

    agreement: Agreement
    opened_by: str
    outcome: str | None = None

    def judge(self, person: str, outcome: str) -> None:
        """Decide it, as who is of neither party: the partisan is a platform admin, but of `south`."""
        require(person == "judge" or (person == "partisan" and "south" not in self.agreement.parties))
        require(self.outcome is None)
        self.agreement.judged(self, outcome)
