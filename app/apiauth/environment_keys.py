"""Environments and their keys: made together, shown once, rotated with a grace."""

from datetime import datetime, timedelta
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec
from litestar import Response, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app.apiauth import queries
from app.apiauth.queries import EnvironmentType
from app.queries import Connection
from app.shared import tokens
from app.shared.actor import Actor
from app.shared.credentials import ORGANIZATION, takes
from app.shared.tokens import Prefix

SecretKey = Annotated[str, Meta(examples=[tokens.example(Prefix.SECRET_STAGING)])]
PublicKey = Annotated[str, Meta(examples=[tokens.example(Prefix.PUBLIC_STAGING)])]


class NewEnvironment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an environment begins with; none of it changes later."""

    slug: Annotated[
        str,
        Meta(
            description="Lowercase letters, digits and single hyphens, at most 63; unique in its project.",
            examples=["staging"],
        ),
    ]
    type: Annotated[EnvironmentType, Meta(examples=["STAGING"])]


class CreatedEnvironment(msgspec.Struct, frozen=True):
    """An environment, whose keys are shown here and never again."""

    id: Annotated[UUID, Meta(examples=["019b3c5e-7d10-7a42-9c1f-5b8f0d6e2a11"])]
    organization_id: UUID
    project_id: UUID
    slug: Annotated[str, Meta(examples=["staging"])]
    type: Annotated[EnvironmentType, Meta(examples=["STAGING"])]
    created_at: datetime
    secret_key: SecretKey
    public_key: PublicKey


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the keys so far go on working."""

    grace_hours: Annotated[int, Meta(ge=0, le=168, description="0 ends them at once, as after a leak.", examples=[24])]


class RotatedKeys(msgspec.Struct, frozen=True):
    """An environment's new keys, which are shown here and never again."""

    environment_id: UUID
    secret_key: SecretKey
    public_key: PublicKey
    previous_end_at: Annotated[datetime, Meta(description="From then on the earlier keys are refused.")]


class Pair(NamedTuple):
    """A secret key and the public key that goes with it."""

    secret: str
    public: str


def mint_pair(type_: EnvironmentType) -> Pair:
    """Make the keys of an environment, which say its type in their prefix."""
    return Pair(tokens.mint(Prefix[f"SECRET_{type_}"]), tokens.mint(Prefix[f"PUBLIC_{type_}"]))


@post(
    "/api/projects/{project_id:uuid}/environments",
    tags=["projects"],
    summary="Create an environment",
    opt=takes(ORGANIZATION, "organizations:write"),
)
async def create_environment(
    actor: Actor, project_id: FromPath[UUID], data: JSONBody[NewEnvironment]
) -> Response[CreatedEnvironment]:
    """Create an environment of a project, with its first keys; this takes an admin."""
    keys = mint_pair(data.type)

    async def create(db: Connection) -> CreatedEnvironment:
        row = await queries.create_environment(
            db,
            project_id=project_id,
            slug=data.slug,
            type=data.type,
            secret_digest=tokens.digest(keys.secret),
            secret_hint=keys.secret[-4:],
            public_digest=tokens.digest(keys.public),
            public_hint=keys.public[-4:],
        )
        return CreatedEnvironment(**msgspec.structs.asdict(row), secret_key=keys.secret, public_key=keys.public)

    return await actor.answer(create)


@post(
    "/api/environments/{environment_id:uuid}/keys/rotate",
    tags=["projects"],
    summary="Rotate an environment's keys",
    opt=takes(ORGANIZATION, "organizations:write"),
)
async def rotate_keys(actor: Actor, environment_id: FromPath[UUID], data: JSONBody[Rotation]) -> Response[RotatedKeys]:
    """Make new keys; the earlier ones work until the grace ends. This takes an admin."""

    async def rotate(db: Connection) -> RotatedKeys:
        keys = mint_pair(await queries.get_environment_type(db, id=environment_id))
        previous_end_at = await queries.issue_environment_keys(
            db,
            environment_id=environment_id,
            secret_digest=tokens.digest(keys.secret),
            secret_hint=keys.secret[-4:],
            public_digest=tokens.digest(keys.public),
            public_hint=keys.public[-4:],
            grace=timedelta(hours=data.grace_hours),
        )
        return RotatedKeys(environment_id, keys.secret, keys.public, previous_end_at)

    return await actor.answer(rotate, several=True)


handlers = [create_environment, rotate_keys]
