"""From the headers of a request to the credential that PostgreSQL will be shown."""

import base64
import hashlib
import os
import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from litestar import Request
from litestar.datastructures import Cookie, Headers
from litestar.handlers import BaseRouteHandler
from msgspec.structs import replace

from app.database import OF_ENVIRONMENTS, Credential, Kind
from app.errors import FORBIDDEN, MALFORMED, UNAUTHENTICATED, Refusal
from app.shared import tokens
from app.shared.tokens import Prefix

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

SESSION: tuple[Kind, ...] = ("session",)
PERSON: tuple[Kind, ...] = (*SESSION, "personal_token")
ORGANIZATION: tuple[Kind, ...] = (*PERSON, "organization_token")
PROGRAM: tuple[Kind, ...] = (*ORGANIZATION, "secret_key", "jwt")
SECRET_KEY: tuple[Kind, ...] = ("secret_key",)
ANY: tuple[Kind, ...] = (*PROGRAM, "public_key")

MAX_NAME = 255
MAX_JWT = 4096

_NAMES: dict[Kind, str] = {
    "session": "a session", "ticket": "a session", "personal_token": "a personal access token",
    "organization_token": "an organization access token", "secret_key": "a secret key", "jwt": "a JWT",
    "public_key": "a public key", "esign": "a webhook secret",
}  # fmt: skip

_SIGNATURE = re.compile(r"[0-9A-Za-z_-]{43}")


class Taken(NamedTuple):
    """What a route takes: kinds of credential, and the scopes that the entrance asks of one."""

    kinds: tuple[Kind, ...]
    scopes: tuple[str, ...]


def takes(kinds: tuple[Kind, ...], *scopes: str) -> dict[str, Any]:
    """Say, as a handler's `opt`, which credentials its route takes. One that does not say takes none."""
    return {"takes": Taken(kinds, scopes)}


def taken_by(handler: BaseRouteHandler) -> Taken:
    """Return what a handler said it takes."""
    taken: Taken = handler.opt.get("takes", Taken((), ()))
    return taken


def _any_of(kinds: tuple[Kind, ...]) -> str:
    *others, last = [_NAMES[kind] for kind in kinds] or ["no credential"]
    return f"{', '.join(others)} or {last}" if others else last


def admitted(request: Request[Any, Any, Any], credential: Credential) -> Credential:
    """Return the credential with the scopes that its route needs, and with where its bearer wants to act.

    Raises Refusal: 401 if the route does not take that kind, however valid it is, 403 for a branch that it cannot have.
    """
    taken = taken_by(request.route_handler)
    if credential.kind not in taken.kinds:
        raise Refusal(UNAUTHENTICATED, f"This takes {_any_of(taken.kinds)}, not {_NAMES[credential.kind]}.")
    headers = request.headers
    branch = _named(headers, "X-Branch", "the name of a branch of a PREVIEW environment")
    if branch is not None and credential.kind not in OF_ENVIRONMENTS:
        raise Refusal(FORBIDDEN, "X-Branch goes with a credential of a PREVIEW environment.")
    organization = _named(headers, "X-Organization", "the slug of an organization")
    return replace(credential, scopes=taken.scopes, organization=organization, branch=branch)


def credential_of(request: Request[Any, Any, Any], *, production: bool) -> Credential:
    """Read the bearer token, or the session cookie (then a mutating request needs a same-origin Origin).

    A bearer wins over a cookie. A typo in a token is refused here, without a query. Raises Refusal.
    """
    if (authorization := request.headers.get("authorization")) is not None:
        return _bearer(authorization, request.app.state.key_half)
    if (cookie := request.cookies.get(cookie_name(production=production))) is not None:
        if request.method not in SAFE_METHODS:
            _require_same_origin(request, production=production)
        return _session(cookie)
    raise Refusal(UNAUTHENTICATED)


def _named(headers: Headers, header: str, what: str) -> str | None:
    name = headers.get(header)
    if name is not None and not 1 <= len(name) <= MAX_NAME:
        raise Refusal(MALFORMED, f"{header} is {what}.")
    return name


def cookie_name(*, production: bool) -> str:
    """Return the session cookie's name; `__Host-` makes browsers insist on Secure, Path=/ and no Domain."""
    return "__Host-brokerflow_session" if production else "brokerflow_session"


def session_cookie(token: str, *, max_age: int, production: bool) -> Cookie:
    """Make the cookie that carries a session; `max_age` 0 with an empty token takes it back."""
    return Cookie(
        key=cookie_name(production=production),
        value=token,
        max_age=max_age,
        path="/",
        httponly=True,
        samesite="lax",
        secure=production,
    )


def _bearer(authorization: str, key_half: bytes) -> Credential:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refusal(UNAUTHENTICATED)
    if token.count(".") == 2:
        return _jwt(token.strip(), key_half)
    return of_token(token.strip())


def of_token(token: str) -> Credential:
    """Return the credential that a token is, unless it is a JWT; raises Refusal for a typo in it."""
    if (prefix := tokens.prefix_of(token)) is None:
        raise Refusal(UNAUTHENTICATED)
    return Credential(_kind_of(prefix), tokens.digest(token))


def _jwt(token: str, half: bytes) -> Credential:
    """Take a JWT apart, and judge nothing of it but its length and that its signature is 32 bytes, written one way."""
    signed, _, encoded = token.rpartition(".")
    signature = base64.urlsafe_b64decode(f"{encoded}=") if _SIGNATURE.fullmatch(encoded) else b""
    if len(token) > MAX_JWT or base64.urlsafe_b64encode(signature).decode() != f"{encoded}=":
        raise Refusal(UNAUTHENTICATED)
    proof = (signed, half, os.urandom(16))
    return Credential("jwt", hashlib.sha256(signature).digest(), proof=proof)


def _kind_of(prefix: Prefix) -> Kind:
    match prefix:
        case Prefix.SESSION:
            return "session"
        case Prefix.PERSONAL:
            return "personal_token"
        case Prefix.ORGANIZATION:
            return "organization_token"
        case _:
            return "secret_key" if prefix.is_secret_key else "public_key"


def _session(cookie: str) -> Credential:
    if tokens.prefix_of(cookie) is not Prefix.SESSION:
        raise Refusal(UNAUTHENTICATED)
    return Credential("session", tokens.digest(cookie))


def _require_same_origin(request: Request[Any, Any, Any], *, production: bool) -> None:
    """Refuse what another site's page sent with this site's cookie.

    The scheme must be https in production only: behind a proxy that ends TLS the service itself sees http.
    """
    origin = urlsplit(request.headers.get("origin", ""))
    schemes = {"https"} if production else {"http", "https"}
    if origin.scheme not in schemes or origin.netloc.lower() != request.headers.get("host", "").lower():
        raise Refusal(FORBIDDEN, "A request with the session cookie needs an Origin of this site.")
