"""Log in at an OpenID provider: to it with a redirect, and back with a code that is worth a session."""

import re
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, NamedTuple

from litestar import Request, Response, get
from litestar.datastructures import Cookie
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter

from app.apiauth import oidc_flows, queries
from app.apiauth.limits import limit
from app.apiauth.oidc_flows import Flow
from app.apiauth.oidc_provider import Callback, Identity, Provider
from app.apiauth.sessions import keep
from app.database import Database, Transaction
from app.errors import NOT_FOUND, PROVIDER_UNAVAILABLE, TOO_MANY_REQUESTS, UNAUTHENTICATED, Refusal, invalid
from app.settings import OidcSettings, Settings
from app.shared import tokens
from app.shared.actor import Visitor
from app.shared.credentials import cookie_name, session_cookie
from app.shared.openapi import problem_spec
from app.shared.tokens import Prefix

CALLBACK = "/auth/oidc/callback"

# One slash, then visible ASCII without a backslash: whatever else begins like a path, browsers may read as a host.
_OWN_PATH = re.compile(r"/(?!/)[\x21-\x5b\x5d-\x7e]{0,2000}")

_PROBLEMS = {503: problem_spec(PROVIDER_UNAVAILABLE), 404: problem_spec(NOT_FOUND)}


class Logins:
    """The provider, and the connections on which sessions of its identities are opened: as brokerflow_login."""

    def __init__(self, settings: OidcSettings) -> None:
        self.provider = Provider(settings)
        self.database = Database(settings.login_url, size=2)

    async def open(self) -> None:
        """Start connecting; the provider is asked when somebody logs in."""
        await self.database.open()

    async def close(self) -> None:
        """Close every connection."""
        await self.provider.close()
        await self.database.close()


@get("/auth/oidc/login", tags=["auth"], summary="Log in at the provider", status_code=303, responses=_PROBLEMS)
async def begin_login(
    request: Request[Any, Any, Any],
    path: Annotated[
        str,
        QueryParameter(name="next", description="The path of this service to end on."),
    ] = "/api/me",
) -> Response[None]:
    """Send a browser to the OpenID provider, from where it comes back to the callback."""
    logins = _logins(request)
    if not _OWN_PATH.fullmatch(path):
        raise invalid("next", "is not a path of this service")
    flow = oidc_flows.begin(path)
    address = await logins.provider.authorization_url(flow, _redirect_uri(request))
    return _redirect(address, _flow_cookie(request, flow))


def provide_callback(
    sent: Annotated[str | None, QueryParameter(name="state", description="As the login sent it.")] = None,
    code: Annotated[str | None, QueryParameter(description="Worth one ID token.")] = None,
    error: Annotated[str | None, QueryParameter(description="Why there is no code.")] = None,
    iss: Annotated[str | None, QueryParameter(description="Who answers (RFC 9207).")] = None,
) -> Callback:
    """Provide what the provider sent along with the browser."""
    return Callback(sent, code, error, iss)


class _Held(NamedTuple):
    """A session by the digest of its token, with its ticket where sessions live in Redis."""

    digest: bytes | None = None
    ticket: str | None = None
    half: bytes | None = None


@get(
    CALLBACK,
    tags=["auth"],
    summary="Come back from the provider",
    status_code=303,
    dependencies={"callback": Provide(provide_callback, sync_to_thread=False)},
    responses={**_PROBLEMS, 401: problem_spec(UNAUTHENTICATED), 429: problem_spec(TOO_MANY_REQUESTS)},
)
async def finish_login(
    request: Request[Any, Any, Any], visitor: Visitor, callback: NamedDependency[Callback]
) -> Response[None]:
    """Open a session of the identity that the provider names, in a cookie, and go to where the login was to end."""
    logins, settings = _logins(request), request.app.state.settings
    flow = _flow(request, callback.state)
    await limit(request, visitor, "login")
    identity = await logins.provider.identify(callback, flow, _redirect_uri(request))
    token = tokens.mint(Prefix.SESSION)
    held = await _held(request)
    await logins.database.run(
        None, partial(_open_session, settings=settings, identity=identity, held=held, token=token)
    )
    await keep(request, visitor, token)
    cookie = session_cookie(token, max_age=settings.session_absolute, production=settings.is_production)
    return _redirect(flow.path, cookie, _flow_cookie(request, None))


async def _open_session(db: Transaction, settings: Settings, identity: Identity, held: _Held, token: str) -> None:
    await queries.open_identity_session(
        db,
        issuer=identity.issuer,
        subject=identity.subject,
        verified_email=identity.verified_email,
        full_name=identity.full_name,
        held=held.digest,
        held_ticket=held.ticket,
        half=held.half,
        digest=tokens.digest(token),
        idle=timedelta(seconds=settings.session_idle),
        lifetime=timedelta(seconds=settings.session_absolute),
    )


def _logins(request: Request[Any, Any, Any]) -> Logins:
    logins: Logins | None = request.app.state.logins
    if logins is None:
        raise Refusal(NOT_FOUND, "This service has no OpenID provider: log in with a password.")
    return logins


async def _held(request: Request[Any, Any, Any]) -> _Held:
    """Return the session that the browser has: it may show that the account is the same person's."""
    token = request.cookies.get(cookie_name(production=request.app.state.production), "")
    if tokens.prefix_of(token) is not Prefix.SESSION:
        return _Held()
    digest, store = tokens.digest(token), request.app.state.tickets
    return _Held(digest, await store.find(digest), store.half) if store else _Held(digest)


def _redirect_uri(request: Request[Any, Any, Any]) -> str:
    """Return our callback's address, as the provider knows it; what a Host header says will do in development only."""
    return f"{request.app.state.settings.public_url or str(request.base_url).rstrip('/')}{CALLBACK}"


def _flow(request: Request[Any, Any, Any], state: str | None) -> Flow:
    name = oidc_flows.cookie_name(production=request.app.state.production)
    return oidc_flows.opened(request.cookies.get(name), state, request.app.state.flows)


def _flow_cookie(request: Request[Any, Any, Any], flow: Flow | None) -> Cookie:
    return oidc_flows.cookie(flow, request.app.state.flows, production=request.app.state.production)


def _redirect(address: str, *cookies: Cookie) -> Response[None]:
    """Redirect, and keep the address that holds a code out of the next page's Referer."""
    headers = {"Location": address, "Referrer-Policy": "no-referrer"}
    return Response(None, status_code=303, headers=headers, cookies=list(cookies))


handlers = [begin_login, finish_login]
