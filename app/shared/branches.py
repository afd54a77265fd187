"""Preview branches: what a PREVIEW environment holds side by side; its credentials name one with X-Branch."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.errors import found
from app.queries import Connection
from app.shared import queries
from app.shared.actor import Actor
from app.shared.credentials import ORGANIZATION, takes
from app.shared.pagination import Items, Page
from app.shared.queries import Branch

BRANCHES = "/api/environments/{environment_id:uuid}/branches"


class NewBranch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a branch begins with."""

    name: Annotated[
        str,
        Meta(
            description="As git names one, of visible ASCII, at most 255; unique among its environment's live ones.",
            examples=["feature/listing-photos"],
        ),
    ]


@post(BRANCHES, tags=["projects"], summary="Create a preview branch", opt=takes(ORGANIZATION, "organizations:write"))
async def create_branch(actor: Actor, environment_id: FromPath[UUID], data: JSONBody[NewBranch]) -> Response[Branch]:
    """Create a branch of a PREVIEW environment, whose credentials may name it from now on; this takes an admin."""
    return await actor.answer(lambda db: queries.create_branch(db, environment_id=environment_id, name=data.name))


@get(BRANCHES, tags=["projects"], summary="List preview branches", opt=takes(ORGANIZATION))
async def list_branches(actor: Actor, environment_id: FromPath[UUID], page: Page) -> Items[Branch]:
    """List the branches of an environment, the oldest first, the archived ones among them."""
    after = page.after(UUID)

    async def branches(db: Connection) -> list[Branch]:
        rows = await queries.list_branches(db, environment_id=environment_id, after=after, limit=page.fetch)
        if not rows:  # the end of a list, or not his to see
            await found(queries.get_environment(db, id=environment_id))
        return rows

    return page.of(await actor.run(branches, several=True), position=lambda row: row.id)


@delete(
    f"{BRANCHES}/{{branch_id:uuid}}",
    tags=["projects"],
    summary="Archive a preview branch",
    opt=takes(ORGANIZATION, "organizations:write"),
)
async def archive_branch(actor: Actor, environment_id: FromPath[UUID], branch_id: FromPath[UUID]) -> Response[None]:
    """Archive a live branch: from the next statement on no credential may name it; this takes an admin."""
    return await actor.effect(lambda db: found(queries.archive_branch(db, environment_id=environment_id, id=branch_id)))


handlers = [create_branch, list_branches, archive_branch]
