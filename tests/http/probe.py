"""A small domain of the tests' own: what a domain's routes look like, and SQL chosen by the test."""

from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody, RawBody
from litestar.response import ServerSentEvent

from app.errors import found
from app.queries import Connection
from app.shared.actor import Actor, ExpectedVersion, Visitor
from app.shared.credentials import PERSON, takes
from app.shared.pagination import Items, Page

# Counts the runs of a body by the label its request gave.
runs: dict[str, int] = {}


class Organization(msgspec.Struct, frozen=True):
    """A row as generated code would describe it."""

    id: UUID
    title: str
    slug: str
    version: int
    payload: msgspec.Raw
    price: Decimal


class NewOrganization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an organization begins with."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200, examples=["North"])]
    slug: Annotated[str, msgspec.Meta(examples=["north"])]
    fee: Decimal | None = None
    size: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    extra: dict[str, Any] | None = None


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """SQL to run."""

    sql: str
    label: str = ""


COLUMNS = """id, title, slug, 3 as version, '{"a": [1, 2]}'::jsonb as payload, 1.50 as price"""


async def organizations(db: Connection, condition: str, *arguments: object) -> list[Organization]:
    rows = await db.fetch(f"select {COLUMNS} from {condition}", arguments)
    return [Organization(*row) for row in rows]


async def organization(db: Connection, condition: str, *arguments: object) -> Organization | None:
    rows = await organizations(db, condition, *arguments)
    return rows[0] if rows else None


@post("/probe/organizations", opt=takes(PERSON))
async def create(actor: Actor, data: JSONBody[NewOrganization]) -> Response[Organization]:
    """Create an organization."""
    call = "shared.create_organization($1, $2)"
    return await actor.answer(lambda db: found(organization(db, call, data.title, data.slug)))


@get("/probe/organizations/{organization_id:uuid}", opt=takes(PERSON))
async def read(actor: Actor, organization_id: FromPath[UUID]) -> Response[Organization]:
    """Return an organization."""
    condition = "shared.organizations where id = $1"
    return await actor.answer(lambda db: found(organization(db, condition, organization_id)))


@get("/probe/organizations", opt=takes(PERSON))
async def read_all(actor: Actor, page: Page) -> Items[Organization]:
    """List organizations."""
    condition = "shared.organizations where $1::uuid is null or id > $1 order by id limit $2"
    after = page.after(UUID)
    rows = await actor.run(lambda db: organizations(db, condition, after, page.fetch))
    return page.of(rows, position=lambda row: row.id)


@get("/probe/others", opt=takes(PERSON))
async def read_others(actor: Actor, page: Page) -> Items[Organization]:
    """List nothing, by another route."""
    page.after(UUID)
    rows = await actor.run(lambda db: organizations(db, "shared.organizations limit 0"))
    return page.of(rows, position=lambda row: row.id)


@patch("/probe/organizations/{organization_id:uuid}", opt=takes(PERSON))
async def change(
    actor: Actor, organization_id: FromPath[UUID], data: JSONBody[NewOrganization], expected_version: ExpectedVersion
) -> Response[Organization]:
    """Change nothing, if the version is 3."""
    condition = """
        shared.organizations
        where id = $1
            and (coalesce($2::integer, 3) = 3 or shared.refuse('probe_version_matches', 'no', '55000') is null)
    """
    return await actor.answer(lambda db: found(organization(db, condition, organization_id, expected_version)))


@delete("/probe/organizations/{organization_id:uuid}", opt=takes(PERSON))
async def remove(actor: Actor, organization_id: FromPath[UUID]) -> Response[None]:
    """Remove an organization, which nobody may."""
    statement = "delete from shared.organizations where id = $1"
    return await actor.effect(lambda db: db.fetch(statement, [organization_id]))


@post("/probe/statements", status_code=200, opt=takes(PERSON))
async def run(actor: Actor, data: JSONBody[Statement]) -> Response[list[str]]:
    """Run any SQL as the actor and answer the first column as text."""

    async def body(db: Connection) -> list[str]:
        runs[data.label] = runs.get(data.label, 0) + 1
        return [str(row[0]) for row in await db.fetch(data.sql, [])]

    return await actor.answer(body)


@post("/probe/anybody", status_code=200)
async def run_as_nobody(visitor: Visitor, data: JSONBody[Statement]) -> Response[list[str]]:
    """Run any SQL as nobody."""

    async def body(db: Connection) -> list[str]:
        return [str(row[0]) for row in await db.fetch(data.sql, [])]

    return await visitor.answer(body)


@get("/probe/stream")
async def stream(request: Request[Any, Any, Any], channel: FromQuery[str]) -> ServerSentEvent:
    """Send what is notified."""
    return ServerSentEvent({"data": item or "resync"} async for item in request.app.state.database.listen(channel))


@post("/probe/raw", status_code=200)
async def raw(body: RawBody) -> dict[str, int]:
    """Count the bytes of any body."""
    return {"bytes": len(body)}


@get("/probe/broken")
async def broken() -> dict[str, int]:
    """Fail as only a mistake does."""
    raise RuntimeError("secret words")


handlers = [
    create,
    read,
    read_all,
    read_others,
    change,
    remove,
    run,
    run_as_nobody,
    stream,
    raw,
    broken,
]
