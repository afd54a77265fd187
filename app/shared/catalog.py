"""The axioms as the catalog of the running database tells them, for everybody to read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import get
from msgspec import Meta

from app.queries import Connection
from app.shared import queries
from app.shared.actor import Visitor
from app.shared.pagination import Items


class Enforcer(msgspec.Struct, frozen=True):
    """An object of the database that keeps an axiom."""

    object: Annotated[str, Meta(examples=["agreements_one_live_per_referral"])]
    kind: Annotated[str, Meta(description="table, index, constraint, trigger, policy or function", examples=["index"])]
    location: Annotated[
        str, Meta(description="The table that it is on, or the schema.", examples=["agreement.agreements"])
    ]
    why: Annotated[str, Meta(examples=["A second acceptance of the same referral is refused."])]


class OracleResult(msgspec.Struct, frozen=True):
    """What the oracles of an axiom found when `brokerflow oracles` last asked them."""

    oracles: Annotated[Sequence[str], Meta(description="Those that watch it.", examples=[["O1", "O9"]])]
    violations: Annotated[int, Meta(examples=[0])]
    checked_at: datetime


class EnforcedAxiom(msgspec.Struct, frozen=True):
    """A rule of the house, and what enforces it."""

    id: Annotated[str, Meta(examples=["A1"])]
    rule: Annotated[str, Meta(examples=["A referral has at most one live agreement."])]
    enforced_by: Sequence[Enforcer]
    oracle: Annotated[OracleResult | None, Meta(description="What its oracles found; null: they were never asked.")]


@get("/api/axioms", tags=["system"], summary="List the axioms")
async def list_axioms(visitor: Visitor) -> Items[EnforcedAxiom]:
    """List what the database promises, each rule with the objects that keep it, read off its catalog."""
    return Items(await visitor.run(_enforced, several=True), None)


async def _enforced(db: Connection) -> list[EnforcedAxiom]:
    axioms = await queries.list_axioms(db)
    objects = await queries.list_enforcing_objects(db)
    return [
        EnforcedAxiom(
            axiom.id,
            axiom.rule,
            [Enforcer(each.object, each.kind, each.location, each.why) for each in objects if each.axiom == axiom.id],
            _result(axiom),
        )
        for axiom in axioms
    ]


def _result(axiom: queries.Axiom) -> OracleResult | None:
    if axiom.oracles is None or axiom.violations is None or axiom.checked_at is None:
        return None
    return OracleResult(axiom.oracles, axiom.violations, axiom.checked_at)


handlers = [list_axioms]
