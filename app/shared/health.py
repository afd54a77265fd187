"""Is the service up, what is it, and what does it measure."""

import asyncio
from importlib.metadata import version
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
import psycopg
from litestar import Request, Response, get
from litestar.openapi import ResponseSpec
from litestar.plugins.prometheus import PrometheusConfig
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import migrations
from app.database import Database
from app.errors import DatabaseUnavailable

T = TypeVar("T")

VERSION = version("brokerflow")
NEWEST_CHAPTER = max(path.stem for path in migrations.SCHEMA.glob("*.sql") if ".rollback" not in path.name)

Told: TypeAlias = Literal["ok", "unavailable"]
Verdict: TypeAlias = Literal["ok", "pending", "altered", "unknown"]

Status = Annotated[Told, msgspec.Meta(examples=["ok"])]

metrics = PrometheusConfig(app_name="brokerflow", prefix="brokerflow", group_path=True, exclude=["^/metrics"])


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the service can work; `session_store` is told where sessions live in Redis."""

    status: Status
    database: Status
    session_store: Status | None = None


class SystemHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the service can work, and on the schema that it was written for."""

    status: Status
    database: Status
    schema: Annotated[
        Verdict,
        msgspec.Meta(description="pending: chapters to apply; altered: applied ones were edited", examples=["ok"]),
    ]
    session_store: Status | None = None


class SystemInfo(msgspec.Struct, frozen=True):
    """What runs."""

    version: Annotated[str, msgspec.Meta(examples=["0.1.0"])]
    postgresql: Annotated[str, msgspec.Meta(examples=["18.4"])]
    schema: Annotated[str, msgspec.Meta(description="The newest chapter.", examples=["0130_shared_access"])]


@get("/metrics", tags=["system"], media_type="text/plain", sync_to_thread=False)
def read_metrics() -> Response[bytes]:
    """Return what the service measures, as Prometheus reads it."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@get("/healthz", tags=["system"], responses={503: ResponseSpec(Health, description="Unavailable")})
async def healthz(request: Request[Any, Any, Any]) -> Response[Health]:
    """Answer 200 when the service can work, and 503 within two seconds when it cannot."""
    database: Database = request.app.state.database
    answered, store = await asyncio.gather(_answers(database), _session_store(request))
    health = Health(_overall(answered, store), answered, store)
    return Response(health) if health.status == "ok" else _unavailable(health)


@get("/livez", tags=["system"], status_code=204)
async def livez() -> None:
    """Answer 204 while the service runs at all, whatever becomes of the database: restart it when this is silent."""


@get("/api/system/health", tags=["system"], responses={503: ResponseSpec(SystemHealth, description="Unavailable")})
async def system_health(request: Request[Any, Any, Any]) -> Response[SystemHealth]:
    """Answer as /healthz does, and 503 too while the schema is not the one that the service was written for."""
    database: Database = request.app.state.database
    (answered, schema), store = await asyncio.gather(_schema(database), _session_store(request))
    overall = _overall(answered, store) if schema == "ok" else "unavailable"
    health = SystemHealth(overall, answered, schema, store)
    return Response(health) if overall == "ok" else _unavailable(health)


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


def _overall(*told: Told | None) -> Told:
    return "unavailable" if "unavailable" in told else "ok"


def _unavailable(health: T) -> Response[T]:
    return Response(health, status_code=503, headers={"Retry-After": "1"})


handlers = [healthz, livez, system_health, system_info, read_metrics]
