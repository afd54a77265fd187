"""How the peers are asked for the rows that they have; the ids are those of data.sql."""

from collections.abc import Mapping

from scripts.benchmark import cases, crowd
from scripts.benchmark.cases import Asked
from scripts.benchmark.client import Request
from scripts.benchmark.world import World

_FIELDS = """
rowId referralId matchId fromBrokerId toBrokerId region feeRate protectDays status version envelopeId signedAt createdBy
createdAt effectiveAt
"""


def by_rest(world: World, token: str) -> dict[str, Asked]:
    """Return how the services in Python are asked; their routes are BrokerFlow's."""
    person = _bearer(token)
    agreements = _agreements(world)
    return {
        cases.NO_DATABASE: Asked([Request("GET", "/livez", {})]),
        cases.GET: Asked([cases.got(each, person) for each in agreements]),
        cases.LIST: Asked([Request("GET", "/api/agreements", person, expects=b"pending_signature")]),
        cases.APPEND: Asked(
            [cases.posted(f"/api/agreements/{each}/events", cases.EVENT, person) for each in agreements]
        ),
        cases.ACCEPT: Asked(once=lambda number: cases.accepted(number, person)),
        cases.WEBHOOK: Asked(once=lambda number: cases.signed(world.signer, number)),
    }


def by_graphql(world: World, token: str) -> dict[str, Asked]:
    """Return how PostGraphile is asked, for what it reads."""
    person = _bearer(token)
    get = f"query ($id: UUID!) {{ agreementByRowId(rowId: $id) {{ {_FIELDS} }} }}"
    newest = f"{{ allAgreements(orderBy: PRIMARY_KEY_DESC, first: 20) {{ nodes {{ {_FIELDS} }} }} }}"
    return {
        cases.NO_DATABASE: Asked([_graphql("{ __typename }", {}, b"Query")]),
        cases.GET: Asked([_graphql(get, person, each.encode(), id=each) for each in _agreements(world)]),
        cases.LIST: Asked([_graphql(newest, person, b"pending_signature")]),
    }


def _agreements(world: World) -> list[str]:
    """Return the agreements that BrokerFlow is asked for; the one that data.sql has in any case if there are none."""
    found = min(cases.MOST, world.agreements // crowd.EFFECTIVE_EVERY)
    return [str(crowd.effective_id(position)) for position in range(1, found + 1)] or [str(crowd.depth_id(0))]


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _graphql(query: str, headers: Mapping[str, str], expects: bytes, **variables: str) -> Request:
    return cases.posted("/graphql", {"query": query, "variables": variables}, dict(headers), expects)
