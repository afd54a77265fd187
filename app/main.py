"""Composes the domains into one application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide

from app.agreement import routes as agreement
from app.apiauth import (
    device,
    environment_keys,
    impersonations,
    jwts,
    oidc,
    oidc_flows,
    organization_tokens,
    sessions,
    trust,
)
from app.apiauth import routes as apiauth
from app.apiauth.limits import limit_credential
from app.database import Database
from app.errors import answer_refusal
from app.sealing import Keyring, Sealer, Stamp, half_of
from app.secretstore import routes as secretstore
from app.secretstore.cache import SealedCache
from app.secretstore.joining import Joining
from app.secretstore.paths import keyed
from app.secretstore.secrets import secrets_at
from app.secretstore.store import Origin, SecretStore
from app.secretstore.values import PURPOSE
from app.settings import Settings
from app.shared import (
    branches,
    catalog,
    external_accounts,
    health,
    identity,
    invitations,
    members,
    openapi,
    organizations,
    projects,
)
from app.shared.actor import provide_actor, provide_expected_version, provide_visitor
from app.shared.axioms import AxiomTable
from app.shared.credentials import of_token
from app.shared.denials import record_denial
from app.shared.pagination import provide_page
from app.shared.requests import StrictRequest, check_request, observed
from app.vote import routes as vote

if TYPE_CHECKING:
    from app.tickets import Tickets

HANDLERS: list[Any] = [
    *health.handlers,
    *catalog.handlers,
    *identity.handlers,
    *organizations.handlers,
    *members.handlers,
    *invitations.handlers,
    *projects.handlers,
    *branches.handlers,
    *external_accounts.handlers,
    *apiauth.handlers,
    *organization_tokens.handlers,
    *environment_keys.handlers,
    *secretstore.handlers,
    *jwts.handlers,
    *sessions.handlers,
    *impersonations.handlers,
    *oidc.handlers,
    *device.handlers,
    *agreement.handlers,
    *vote.handlers,
]

DEPENDENCIES = {
    "actor": Provide(provide_actor, sync_to_thread=False),
    "expected_version": Provide(provide_expected_version, sync_to_thread=False),
    "page": Provide(provide_page, sync_to_thread=False),
    "visitor": Provide(provide_visitor, sync_to_thread=False),
}


def create_app(settings: Settings, handlers: list[Any] | None = None) -> Litestar:
    """Make the application on `settings.app_url`'s PostgreSQL; tests give `handlers` of their own."""
    if settings.app_url is None:
        raise ValueError("settings.app_url is needed: the embedded server's is known once it runs")
    url = settings.app_url.get_secret_value()
    database = Database(url, size=settings.pool_size, queue=settings.queue_length)
    app = Litestar(
        route_handlers=[*(HANDLERS if handlers is None else handlers), openapi.assets],
        dependencies=DEPENDENCIES,
        request_class=StrictRequest,
        request_max_body_size=settings.body_limit,
        before_request=_check,
        after_exception=[record_denial],
        exception_handlers={Exception: answer_refusal},
        middleware=[health.metrics.middleware],
        lifespan=[_connected],
        logging_config=None,
        openapi_config=openapi.config(),
        plugins=[openapi.RawJson(), openapi.Lists()],
        state=_state(settings, database),
    )
    openapi.describe(app)
    app.asgi_handler = observed(keyed(app.asgi_handler))
    return app


def _state(settings: Settings, database: Database) -> State:
    secret_keys = Keyring(settings.master_keys, PURPOSE)
    cache = SealedCache(database, settings.secret_cache_seconds)
    return State(
        {
            "settings": settings,
            "database": database,
            "axioms": AxiomTable(database),
            "esign_trust": trust.of_esign_keys(database, settings.esign_keys),
            "half_trust": trust.of_key_halves(database, settings.master_keys),
            "production": settings.is_production,
            "answers": Sealer(settings.master_key, "stored answers", settings.master_keys[1:]),
            "key_half": half_of(settings.master_key),
            "cursors": Stamp(settings.master_key, "cursors"),
            "tickets": _tickets(settings),
            "secret_cache": cache,
            "secret_keys": secret_keys,
            "secret_reads": Joining(),
            "secrets": secrets_at(settings.secret_place, _own_store(settings, database, secret_keys, cache)),
            "requests": Stamp(settings.master_key, "requests"),
            "flows": Sealer(settings.master_key, oidc_flows.PURPOSE, settings.master_keys[1:]),
            "logins": oidc.Logins(settings.oidc) if settings.oidc else None,
            "user_codes": Stamp(settings.master_key, "user codes"),
        }
    )


def _tickets(settings: Settings) -> "Tickets | None":
    """Return the sessions in Redis; None, and nothing of Redis imported, where they live in PostgreSQL."""
    if settings.session_url is None:
        return None
    from app.tickets import Tickets  # noqa: PLC0415

    return Tickets(settings.session_url.get_secret_value(), half_of(settings.master_key))


def _own_store(settings: Settings, database: Database, keyring: Keyring, cache: SealedCache) -> SecretStore | None:
    """Return what the service's own code may use of the secret store, if it has a token."""
    if settings.secret_token is None:
        return None
    credential = of_token(settings.secret_token.get_secret_value())
    return SecretStore(database, keyring, credential, Origin("service"), cache=cache)


async def _check(request: Request[Any, Any, Any]) -> None:
    """Refuse what no handler needs to see, and what its credential sends too much of."""
    await check_request(request)
    await limit_credential(request)


@asynccontextmanager
async def _connected(app: Litestar) -> AsyncIterator[None]:
    database: Database = app.state.database
    logins: oidc.Logins | None = app.state.logins
    await database.open()
    app.state.secret_cache.start()
    if logins is not None:
        await logins.open()
    await app.state.axioms.load()
    introductions = app.state.esign_trust, app.state.half_trust
    for introduction in introductions:
        await introduction.start()
    try:
        yield
    finally:
        for introduction in introductions:
            await introduction.stop()
        await app.state.secret_cache.stop()
        await database.close()
        if (tickets := app.state.tickets) is not None:
            await tickets.close()
        if logins is not None:
            await logins.close()
