"""External accounts: whom the programs of an environment know under identifiers of their own."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta

from app.errors import found
from app.queries import Connection
from app.shared import queries
from app.shared.actor import Actor
from app.shared.credentials import PROGRAM, takes
from app.shared.pagination import Items, Page
from app.shared.queries import ExternalAccount

ACCOUNTS = "/api/environments/{environment_id:uuid}/external-accounts"
ACCOUNT = f"{ACCOUNTS}/{{account_id:uuid}}"

Metadata = Annotated[
    dict[str, Any], Meta(description="Anything, at most 64 KiB of it.", examples=[{"plan": "pro", "region": "Taipei"}])
]


class NewExternalAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account to keep."""

    identifier: Annotated[
        str,
        Meta(
            description="What it is called there, to the letter, at most 255 characters; unique in its environment.",
            examples=["user_8421"],
        ),
    ]
    metadata: Metadata = msgspec.field(default_factory=dict)


class ExternalAccountChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes of an account; its identifier does not."""

    metadata: Metadata


@post(ACCOUNTS, tags=["external accounts"], summary="Create an external account", opt=takes(PROGRAM, "accounts:write"))
async def create_external_account(
    actor: Actor, environment_id: FromPath[UUID], data: JSONBody[NewExternalAccount]
) -> Response[ExternalAccount]:
    """Create an account of an environment; an identifier that has one is 409."""
    return await actor.answer(
        lambda db: queries.create_external_account(
            db, environment_id=environment_id, identifier=data.identifier, metadata=data.metadata
        )
    )


@get(ACCOUNTS, tags=["external accounts"], summary="List external accounts", opt=takes(PROGRAM, "accounts:read"))
async def list_external_accounts(
    actor: Actor,
    environment_id: FromPath[UUID],
    page: Page,
    identifier: Annotated[str | None, QueryParameter(max_length=255, description="Only the one of this name.")] = None,
) -> Items[ExternalAccount]:
    """List the accounts of an environment, the oldest first."""
    after = page.after(UUID)

    async def accounts(db: Connection) -> list[ExternalAccount]:
        rows = await queries.list_external_accounts(
            db, environment_id=environment_id, identifier=identifier, after=after, limit=page.fetch
        )
        if not rows:  # the end of a list, or not his to see
            await found(queries.get_own_environment(db, id=environment_id))
        return rows

    return page.of(await actor.run(accounts, several=True), position=lambda row: row.id)


@get(ACCOUNT, tags=["external accounts"], summary="Read an external account", opt=takes(PROGRAM, "accounts:read"))
async def get_external_account(
    actor: Actor, environment_id: FromPath[UUID], account_id: FromPath[UUID]
) -> Response[ExternalAccount]:
    """Return an account of this environment."""
    return await actor.answer(
        lambda db: found(queries.get_external_account(db, environment_id=environment_id, id=account_id))
    )


@patch(ACCOUNT, tags=["external accounts"], summary="Change an external account", opt=takes(PROGRAM, "accounts:write"))
async def change_external_account(
    actor: Actor, environment_id: FromPath[UUID], account_id: FromPath[UUID], data: JSONBody[ExternalAccountChange]
) -> Response[ExternalAccount]:
    """Put other metadata in place of an account's."""
    return await actor.answer(
        lambda db: found(
            queries.change_external_account(db, environment_id=environment_id, id=account_id, metadata=data.metadata)
        )
    )


@delete(ACCOUNT, tags=["external accounts"], summary="Delete an external account", opt=takes(PROGRAM, "accounts:write"))
async def delete_external_account(
    actor: Actor, environment_id: FromPath[UUID], account_id: FromPath[UUID]
) -> Response[None]:
    """Delete an account; its identifier may be taken again."""
    return await actor.effect(
        lambda db: found(queries.delete_external_account(db, environment_id=environment_id, id=account_id))
    )


handlers = [
    create_external_account,
    list_external_accounts,
    get_external_account,
    change_external_account,
    delete_external_account,
]
