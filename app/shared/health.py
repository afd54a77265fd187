"""Is the service up, what is it, and what does it measure."""

import asyncio
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import psycopg
from litestar import Request, Response, get
from litestar.plugins.prometheus import PrometheusConfig
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import migrations
from app.database import Database
from app.errors import (
    DATABASE_UNAVAILABLE,
    SCHEMA_MISMATCH,
    SESSION_STORE_UNAVAILABLE,
    DatabaseUnavailable,
    Kind,
    Problem,
    Refusal,
    problem_response,
)
from app.shared.openapi import VERSION, problem_spec

NEWEST_CHAPTER = max(path.stem for path in migrations.SCHEMA.glob("*.sql") if ".rollback" not in path.name)

Told: TypeAlias = Literal["ok", "unavailable"]
Verdict: TypeAlias = Literal["ok", "pending", "altered", "unknown"]

Good = Annotated[Literal["ok"], msgspec.Meta(examples=["ok"])]


metrics = PrometheusConfig(app_name="brokerflow", prefix="brokerflow", group_path=True, exclude=["^/metrics"])


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """The service can work; `session_store` is told where sessions live in Redis."""

    status: Good
    database: Good
    session_store: Good | None = None


class SystemHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """The service can work, and on the schema that it was written for."""

    status: Good
    database: Good
    schema: Good
    session_store: Good | None = None


class Unhealthy(Problem, frozen=True, omit_defaults=True, kw_only=True):
    """A problem that tells of each part whether the service can work with it."""

    database: Annotated[Told, msgspec.Meta(examples=["unavailable"])]
    schema: (
        Annotated[
            Verdict,
            msgspec.Meta(
                description="pending: chapters to apply; altered: applied ones were edited; told by "
                "/api/system/health alone",
                examples=["pending"],
            ),
        ]
        | None
    ) = None
    session_store: Annotated[
        Told | None, msgspec.Meta(description="Told where sessions live in Redis.", examples=["ok"])
    ] = None


class SystemInfo(msgspec.Struct, frozen=True):
    """What runs."""

    version: Annotated[str, msgspec.Meta(examples=["0.1.0"])]
    postgresql: Annotated[str, msgspec.Meta(examples=["18.4"])]
    schema: Annotated[str, msgspec.Meta(description="The newest chapter.", examples=["0130_shared_access"])]


_LOST = problem_spec(
    DATABASE_UNAVAILABLE,
    SESSION_STORE_UNAVAILABLE,
    shape=Unhealthy,
    members={
        DATABASE_UNAVAILABLE: {"database": "unavailable"},
        SESSION_STORE_UNAVAILABLE: {"database": "ok", "session_store": "unavailable"},
    },
)
_LOST_OR_MISMATCHED = problem_spec(
    DATABASE_UNAVAILABLE,
    SESSION_STORE_UNAVAILABLE,
    SCHEMA_MISMATCH,
    shape=Unhealthy,
    members={
        DATABASE_UNAVAILABLE: {"database": "unavailable", "schema": "unknown"},
        SESSION_STORE_UNAVAILABLE: {"database": "ok", "schema": "ok", "session_store": "unavailable"},
        SCHEMA_MISMATCH: {"database": "ok", "schema": "pending"},
    },
)


@get("/metrics", tags=["system"], media_type="text/plain", sync_to_thread=False)
def read_metrics() -> Response[bytes]:
    """Return what the service measures, as Prometheus reads it."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@get("/healthz", tags=["system"], responses={503: _LOST})
async def healthz(request: Request[Any, Any, Any]) -> Response[Health]:
    """Answer 200 when the service can work, and 503 within two seconds when it cannot."""
    database: Database = request.app.state.database
    answered, store = await asyncio.gather(_answers(database), _session_store(request))
    if (kind := _failing(answered, "ok", store)) is not None:
        return _unhealthy(request, kind, answered, store)
    return Response(Health("ok", "ok", store and "ok"))


@get("/livez", tags=["system"], status_code=204)
async def livez() -> None:
    """Answer 204 while the service runs at all, whatever becomes of the database: restart it when this is silent."""


@get("/api/system/health", tags=["system"], responses={503: _LOST_OR_MISMATCHED})
async def system_health(request: Request[Any, Any, Any]) -> Response[SystemHealth]:
    """Answer as /healthz does, and 503 too while the schema is not the one that the service was written for."""
    database: Database = request.app.state.database
    (answered, schema), store = await asyncio.gather(_schema(database), _session_store(request))
    if (kind := _failing(answered, schema, store)) is not None:
        return _unhealthy(request, kind, answered, store, schema)
    return Response(SystemHealth("ok", "ok", "ok", store and "ok"))


@get("/api/system/info", tags=["system"])
async def system_info(request: Request[Any, Any, Any]) -> SystemInfo:
    """Tell the versions of the service, of PostgreSQL and of the schema."""
    database: Database = request.app.state.database
    return SystemInfo(VERSION, await database.server_version(), NEWEST_CHAPTER)


async def _answers(database: Database) -> Told:
    try:
        await database.server_version()
    except (psycopg.OperationalError, DatabaseUnavailable):
        return "unavailable"
    return "ok"


async def _schema(database: Database) -> tuple[Told, Verdict]:
    try:
        found = await database.run(None, migrations.verify)
    except (psycopg.OperationalError, DatabaseUnavailable):
        return "unavailable", "unknown"
    return "ok", "altered" if found.altered else "pending" if found.pending else "ok"


async def _session_store(request: Request[Any, Any, Any]) -> Told | None:
    """Ask Redis, where sessions live there."""
    tickets = request.app.state.tickets
    if tickets is None:
        return None
    return "ok" if await tickets.is_there() else "unavailable"


def _failing(database: Told, schema: Verdict, store: Told | None) -> Kind | None:
    """Name the first part that fails, in the order in which one needs the other."""
    if database == "unavailable":
        return DATABASE_UNAVAILABLE
    if schema != "ok":
        return SCHEMA_MISMATCH
    return SESSION_STORE_UNAVAILABLE if store == "unavailable" else None


def _unhealthy(
    request: Request[Any, Any, Any], kind: Kind, database: Told, store: Told | None, schema: Verdict | None = None
) -> Response[Any]:
    """Answer a problem of a kind, with how each part is."""
    answer: Response[Any] = problem_response(Refusal(kind), request.scope["state"]["request_id"])
    told = msgspec.structs.asdict(answer.content)
    answer.content = Unhealthy(**told, database=database, session_store=store, schema=schema)
    return answer


handlers = [healthz, livez, system_health, system_info, read_metrics]
