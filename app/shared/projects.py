"""Projects: what an organization builds, each with environments of its own."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.errors import found
from app.queries import Connection
from app.shared import queries
from app.shared.actor import Actor
from app.shared.credentials import ORGANIZATION, takes
from app.shared.pagination import Items, Page
from app.shared.queries import Environment, Project

PROJECTS = "/api/organizations/{organization_id:uuid}/projects"
ENVIRONMENTS = "/api/projects/{project_id:uuid}/environments"


class NewProject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a project begins with."""

    name: Annotated[str, Meta(description="At most 200 characters.", examples=["Listings site"])]
    slug: Annotated[
        str,
        Meta(
            description="Lowercase letters, digits and single hyphens, at most 63; unique in its organization.",
            examples=["listings"],
        ),
    ]


@post(PROJECTS, tags=["projects"], summary="Create a project", opt=takes(ORGANIZATION, "organizations:write"))
async def create_project(
    actor: Actor, organization_id: FromPath[UUID], data: JSONBody[NewProject]
) -> Response[Project]:
    """Create a project; this takes an admin."""
    return await actor.answer(
        lambda db: queries.create_project(db, organization_id=organization_id, name=data.name, slug=data.slug)
    )


@get(PROJECTS, tags=["projects"], summary="List projects", opt=takes(ORGANIZATION))
async def list_projects(actor: Actor, organization_id: FromPath[UUID], page: Page) -> Items[Project]:
    """List the projects of one of the caller's organizations, the oldest first."""
    after = page.after(UUID)

    async def projects(db: Connection) -> list[Project]:
        rows = await queries.list_projects(db, organization_id=organization_id, after=after, limit=page.fetch)
        if not rows:  # the end of a list, or not his to see
            await found(queries.get_organization(db, id=organization_id))
        return rows

    return page.of(await actor.run(projects, several=True), position=lambda row: row.id)


@get(
    f"{ENVIRONMENTS}/{{environment_id:uuid}}", tags=["projects"], summary="Read an environment", opt=takes(ORGANIZATION)
)
async def get_environment(
    actor: Actor, project_id: FromPath[UUID], environment_id: FromPath[UUID]
) -> Response[Environment]:
    """Return an environment of this project; another project's is not found here."""
    return await actor.answer(
        lambda db: found(queries.get_environment_of_project(db, id=environment_id, project_id=project_id))
    )


@get(ENVIRONMENTS, tags=["projects"], summary="List environments", opt=takes(ORGANIZATION))
async def list_environments(actor: Actor, project_id: FromPath[UUID], page: Page) -> Items[Environment]:
    """List the environments of a project, the oldest first; their keys are never shown again."""
    after = page.after(UUID)

    async def environments(db: Connection) -> list[Environment]:
        rows = await queries.list_environments(db, project_id=project_id, after=after, limit=page.fetch)
        if not rows:
            await found(queries.get_project(db, id=project_id))
        return rows

    return page.of(await actor.run(environments, several=True), position=lambda row: row.id)


handlers = [create_project, list_projects, get_environment, list_environments]
