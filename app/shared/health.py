"""Is the service up, what is it, and what does it measure."""

from importlib.metadata import version
from typing import Annotated, Any, Literal, TypeVar

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

Status = Annotated[Literal["ok", "unavailable"], msgspec.Meta(examples=["ok"])]

metrics = PrometheusConfig(app_name="brokerflow", prefix="brokerflow", group_path=True, exclude=["^/metrics"])


class Health(msgspec.Struct, frozen=True):
    """Whether the service can work."""

    status: Status
    database: Status


class SystemHealth(msgspec.Struct, frozen=True):
    """Whether the service can work, and on the schema that it was written for."""

    status: Status
    database: Status
    schema: Annotated[
        Literal["ok", "pending", "altered", "unknown"],
        msgspec.Meta(description="pending: chapters to apply; altered: applied ones were edited", examples=["ok"]),
    ]


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
    try:
        await database.server_version()
    except (psycopg.OperationalError, DatabaseUnavailable):
        return _unavailable(Health("unavailable", "unavailable"))
    return Response(Health("ok", "ok"))


@get("/livez", tags=["system"], status_code=204)
async def livez() -> None:
    """Answer 204 while the service runs at all, whatever becomes of the database: restart it when this is silent."""


@get("/api/system/health", tags=["system"], responses={503: ResponseSpec(SystemHealth, description="Unavailable")})
async def system_health(request: Request[Any, Any, Any]) -> Response[SystemHealth]:
    """Answer as /healthz does, and 503 too while the schema is not the one that the service was written for."""
    database: Database = request.app.state.database
    try:
        verdict = await database.run(None, migrations.verify)
    except (psycopg.OperationalError, DatabaseUnavailable):
        return _unavailable(SystemHealth("unavailable", "unavailable", "unknown"))
    if verdict.altered or verdict.pending:
        return _unavailable(SystemHealth("unavailable", "ok", "altered" if verdict.altered else "pending"))
    return Response(SystemHealth("ok", "ok", "ok"))


@get("/api/system/info", tags=["system"])
async def system_info(request: Request[Any, Any, Any]) -> SystemInfo:
    """Tell the versions of the service, of PostgreSQL and of the schema."""
    database: Database = request.app.state.database
    return SystemInfo(VERSION, await database.server_version(), NEWEST_CHAPTER)


def _unavailable(health: T) -> Response[T]:
    return Response(health, status_code=503, headers={"Retry-After": "1"})


handlers = [healthz, livez, system_health, system_info, read_metrics]
