"""Secrets over HTTP: put, read, list, versions, rollback, deletion, batches."""

import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeAlias
from urllib.parse import parse_qs
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import Scope
from msgspec import Meta

from app.database import Kind
from app.errors import (
    INTERNAL,
    NOT_FOUND,
    SECRET_INTEGRITY,
    RecordedRefusal,
    Refusal,
    invalid,
)
from app.queries import Connection
from app.secretstore import queries
from app.secretstore.metrics import Commands
from app.secretstore.paths import key_of
from app.secretstore.queries import Reader, Secret, SecretVersion
from app.secretstore.store import INTEGRITY, Change, Origin, SecretStore
from app.secretstore.values import SecretAltered, SecretNotFound, Value, sealable
from app.shared.actor import Actor, ExpectedVersion, answered
from app.shared.credentials import PERSON, PROGRAM, takes
from app.shared.idempotency import NOT_REPLAYED
from app.shared.openapi import problem_spec
from app.shared.pagination import Items, Page

Key = Annotated[str, Meta(max_length=255, examples=["db/main"])]
AnyJson = Annotated[
    msgspec.Raw, Meta(description="Any JSON value.", examples=[{"host": "db.example", "port": 5432}, "a text", None])
]
Prefix = Annotated[str, QueryParameter(max_length=255, description="What keys begin with, to the letter.")]
Moment = Annotated[
    datetime | None, QueryParameter(description="A time with its zone, such as 2027-01-01T00:00:00Z; now unless said.")
]

_SCOPED = {404: problem_spec(NOT_FOUND)}  # the environment that a query names
_READ = {500: problem_spec(INTERNAL, SECRET_INTEGRITY)}


class NewValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to put under a key."""

    OPAQUE: ClassVar = frozenset({"value"})  # any JSON, to the byte: PostgreSQL sees it sealed only

    value: AnyJson
    expected_version: Annotated[
        Annotated[int, Meta(ge=0, le=2147483646)] | None,
        Meta(description="The version that this one follows; 0: there must be none.", examples=[0]),
    ] = None
    expires_at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="When the value ends to be readable; never unless said.", examples=["2027-01-01T00:00:00Z"]),
    ] = None
    max_versions: Annotated[
        Annotated[int, Meta(ge=1, le=10000)] | None,
        Meta(description="Older versions than these are destroyed; as before unless said.", examples=[10]),
    ] = None

    def __repr__(self) -> str:
        """Leave the value out, wherever it might be printed."""
        return "NewValue(…)"


class ReadValue(msgspec.Struct, frozen=True):
    """A secret's value in one of its versions."""

    key: str
    version: int
    value: AnyJson


class Version(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a secret."""

    version: Annotated[int, Meta(ge=1, le=2147483646, examples=[2])]


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys to read at once."""

    keys: Annotated[list[Key], Meta(min_length=1, max_length=100, examples=[["db/main", "mail/api-key"]])]


class RefusedKey(msgspec.Struct, frozen=True):
    """Why a key of a batch has no value."""

    code: Annotated[str, Meta(examples=["not_found"])]
    detail: str


class Batch(msgspec.Struct, frozen=True):
    """What came of a batch, by key."""

    values: Mapping[str, ReadValue]
    errors: Mapping[str, RefusedKey]


class Count(msgspec.Struct, frozen=True):
    """How many there are."""

    count: Annotated[int, Meta(examples=[12])]


def _recorder(action: str) -> Callable[[Scope, str], Callable[[Connection], Awaitable[None]]]:
    """Record denials of a route under the names of its keys; a list of keys has none."""

    def record(scope: Any, reason: str) -> Callable[[Connection], Awaitable[None]]:
        return lambda db: queries.record_secret_denials(
            db,
            action=action,
            keys=scope["state"].get("keys") or [key_of(scope["path_params"].get("key", ""))],
            environment_id=_environment_in(scope["query_string"]),
            reason=reason,
            request_id=scope["state"]["request_id"],
            address=scope["client"][0] if scope["client"] else None,
        )

    return record


def _takes(action: str, *scopes: str, kinds: tuple[Kind, ...] = PROGRAM) -> dict[str, Any]:
    return {**takes(kinds, *scopes), "action": action, "denial": _recorder(action)}


def _environment_in(query: bytes) -> UUID | None:
    try:
        return UUID(parse_qs(query.decode())["environment"][0])
    except (KeyError, ValueError):
        return None


def provide_store(
    request: Request[Any, Any, Any],
    actor: Actor,
    environment: Annotated[
        UUID | None,
        QueryParameter(description="An environment of your organization; without it, the organization's own secrets."),
    ] = None,
) -> SecretStore:
    """Provide `store: Store` to a handler: the secrets as the actor may use them.

    It takes the actor, for then Litestar provides one after the other; side by side would cost a group of tasks.
    """
    state, scope = request.app.state, request.scope["state"]
    origin = Origin(scope["request_id"], request.client.host if request.client else None)
    return SecretStore(
        state.database,
        state.secret_keys,
        actor.credential,
        origin,
        environment_id=environment,
        cache=state.secret_cache,
        reads=state.secret_reads,
    )


Store: TypeAlias = NamedDependency[SecretStore]


@put(
    "/api/secrets/{key:str}",
    tags=["secrets"],
    summary="Put a secret",
    opt=_takes("secret.write", "secrets:write"),
)
async def put_secret(
    actor: Actor, store: Store, key: FromPath[str], data: JSONBody[NewValue], expected_version: ExpectedVersion
) -> Response[Secret]:
    """Put any JSON value, kept to the byte, as the next version of a key; the answer holds no value.

    A value is at most 1048576 bytes and 64 levels deep, and its text is Unicode: an escape that is half a pair of
    surrogates is refused. `expected_version`, or If-Match, refuses (412) when another version came first.
    """
    raw = sealable(data.value)
    if None not in (expected_version, data.expected_version) and expected_version != data.expected_version:
        raise invalid("expected_version", "contradicts If-Match")
    expected = expected_version if data.expected_version is None else data.expected_version
    change = Change(expected_version=expected, expires_at=data.expires_at, max_versions=data.max_versions)
    return await actor.answer(lambda db: store.put(db, key_of(key), raw, change), several=True)


@get(
    "/api/secrets/{key:str}",
    tags=["secrets"],
    summary="Read a secret",
    opt=_takes("secret.read", "secrets:read"),
    responses=_READ,
)
async def read_secret(
    actor: Actor,
    store: Store,
    key: FromPath[str],
    version: Annotated[int | None, QueryParameter(ge=1, le=2147483646, description="The latest unless said.")] = None,
) -> Response[ReadValue]:
    """Return a secret's value. That it was read, by whom and from where is committed before the value leaves."""
    del actor  # the store acts as him
    try:
        value = await store.read_one(key_of(key), version)
    except SecretNotFound:
        raise RecordedRefusal(NOT_FOUND) from None
    except SecretAltered:
        raise RecordedRefusal(SECRET_INTEGRITY, axiom="A11") from None
    return answered(_read(value))


@delete(
    "/api/secrets/{key:str}",
    tags=["secrets"],
    summary="Delete a secret",
    opt=_takes("secret.delete", "secrets:write"),
)
async def delete_secret(
    actor: Actor, store: Store, key: FromPath[str], expected_version: ExpectedVersion
) -> Response[None]:
    """Hide a secret until it is undeleted or put again. Its versions stay; destroying is another request."""
    return await actor.effect(lambda db: store.delete(db, key_of(key), expected_version))


@get(
    "/api/secrets",
    tags=["secrets"],
    summary="List secrets",
    responses=_SCOPED,
    opt=_takes("secret.list", "secrets:read"),
)
async def list_secrets(actor: Actor, store: Store, page: Page, prefix: Prefix = "") -> Items[Secret]:
    """List the keys of the organization or environment, in their order; never values."""
    after = page.after(str)
    rows = await actor.run(
        lambda db: queries.list_secrets(
            db, environment_id=store.environment_id, prefix=prefix, after=after, limit=page.fetch
        )
    )
    return page.of(rows, position=lambda row: row.key)


@get(
    "/api/secrets/count",
    tags=["secrets"],
    summary="Count secrets",
    responses=_SCOPED,
    opt=_takes("secret.list", "secrets:read"),
)
async def count_secrets(actor: Actor, store: Store, prefix: Prefix = "") -> Count:
    """Count the keys of the organization or environment."""
    return Count(
        await actor.run(lambda db: queries.count_secrets(db, environment_id=store.environment_id, prefix=prefix))
    )


@get(
    "/api/secrets/{key:str}/versions",
    tags=["secrets"],
    summary="List a secret's versions",
    opt=_takes("secret.versions", "secrets:read"),
)
async def list_versions(actor: Actor, store: Store, page: Page, key: FromPath[str]) -> Items[SecretVersion]:
    """List who put each version and when, the latest first; never values. Also of a deleted secret."""
    before = page.after(int)
    rows = await actor.run(
        lambda db: queries.list_versions(
            db, key=key_of(key), environment_id=store.environment_id, before=before, limit=page.fetch
        )
    )
    return page.of(rows, position=lambda row: row.version)


@get(
    "/api/secrets/{key:str}/who",
    tags=["secrets"],
    summary="List a secret's readers",
    opt=_takes("secret.who", "secrets:write", kinds=PERSON),
)
async def list_readers(actor: Actor, store: Store, page: Page, key: FromPath[str], at: Moment = None) -> Items[Reader]:
    """List who could read a secret at a time, and who had until then; this takes an admin.

    `could_read` says that a member's role sufficed, or that a program's token or key was live, while there was a value:
    put, not deleted, expired or destroyed. Whether a member had a session just then is not asked, for he could have
    opened one; a JWT is its environment's, whose key minted it. Who holds the master key and reaches the server is on
    no list.
    """
    if at is not None and at.tzinfo is None:
        raise invalid("at", "says no time zone")
    after = page.after(UUID)
    rows = await actor.run(
        lambda db: queries.list_readers(
            db, key=key_of(key), environment_id=store.environment_id, at=at, after=after, limit=page.fetch
        )
    )
    return page.of(rows, position=lambda row: row.id)


@post(
    "/api/secrets/{key:str}/rollback",
    tags=["secrets"],
    summary="Roll a secret back",
    status_code=200,
    opt=_takes("secret.rollback", "secrets:read", "secrets:write"),
    responses=_READ,
)
async def roll_back(
    actor: Actor, store: Store, key: FromPath[str], data: JSONBody[Version], expected_version: ExpectedVersion
) -> Response[Secret]:
    """Put the value of an earlier version once more, as a new one. It takes both scopes, for the value is read."""
    change = Change(expected_version=expected_version, restores=data.version)
    return await actor.answer(lambda db: _rolled_back(store, db, key_of(key), data.version, change), several=True)


async def _rolled_back(store: SecretStore, db: Connection, key: str, version: int, change: Change) -> Secret:
    """Read and put in a transaction, so that neither is done for an answer that is stored; the grant commits first."""
    number = os.urandom(32)
    if (refusal := await store.grant(number, key, version)) is not None:
        raise RecordedRefusal(SECRET_INTEGRITY if refusal == INTEGRITY else NOT_FOUND)
    try:
        return await store.roll_back(db, number, key, change)
    except SecretNotFound:
        raise Refusal(NOT_FOUND) from None
    except SecretAltered:
        raise Refusal(SECRET_INTEGRITY, axiom="A11") from None


@post(
    "/api/secrets/{key:str}/undelete",
    tags=["secrets"],
    summary="Undelete a secret",
    status_code=200,
    opt=_takes("secret.undelete", "secrets:write"),
)
async def undelete_secret(
    actor: Actor, store: Store, key: FromPath[str], expected_version: ExpectedVersion
) -> Response[Secret]:
    """Bring a deleted secret back with the value that it had."""
    return await actor.answer(lambda db: store.undelete(db, key_of(key), expected_version))


@post(
    "/api/secrets/{key:str}/destroy",
    tags=["secrets"],
    summary="Destroy a version of a secret",
    status_code=204,
    opt=_takes("secret.destroy", "secrets:write"),
)
async def destroy_version(
    actor: Actor, store: Store, key: FromPath[str], data: JSONBody[Version], expected_version: ExpectedVersion
) -> Response[None]:
    """Destroy the data key of one version for good: nobody opens it again. Its row stays as a tombstone."""
    return await actor.effect(lambda db: store.destroy(db, key_of(key), data.version, expected_version))


@post(
    "/api/secrets/batch",
    tags=["secrets"],
    summary="Read several secrets",
    status_code=200,
    opt={**_takes("secret.read", "secrets:read"), **NOT_REPLAYED},
)
async def read_batch(
    request: Request[Any, Any, Any], actor: Actor, store: Store, data: JSONBody[Keys]
) -> Response[Batch]:
    """Read up to a hundred secrets in one statement; what one key is refused does not keep the others.

    It changes nothing, so an Idempotency-Key means nothing here: no stored answer holds a value.
    """
    del actor  # the store acts as him
    request.scope["state"]["keys"] = data.keys  # for a denial, should there be one
    reading = await store.read(data.keys)
    return answered(
        Batch(
            {key: _read(value) for key, value in reading.values.items()},
            {key: _refused(refusal) for key, refusal in reading.refusals.items()},
        )
    )


def _read(value: Value) -> ReadValue:
    return ReadValue(value.key, value.version, msgspec.Raw(value.raw))


def _refused(refusal: str) -> RefusedKey:
    kind = SECRET_INTEGRITY if refusal == INTEGRITY else NOT_FOUND
    return RefusedKey(kind.code, kind.detail)


reads = [read_secret, read_batch, list_secrets, count_secrets, list_versions, list_readers]
commands = Router(
    path="/",
    middleware=[Commands()],
    route_handlers=[put_secret, delete_secret, roll_back, undelete_secret, destroy_version],
)
handlers = [
    Router(
        path="/",
        dependencies={"store": Provide(provide_store, sync_to_thread=False)},
        route_handlers=[*reads, commands],
    )
]
