"""Logging a machine in (RFC 8628): it shows a code, a person approves it on a page of ours, it takes a token."""

import secrets
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.enums import MediaType
from litestar.params import JSONBody, QueryParameter
from litestar.static_files import create_static_files_router

from app import errors
from app.apiauth import queries
from app.apiauth.limits import limit, limit_person
from app.apiauth.models import DeviceAuthorization, DeviceDecision, DeviceGrant, DeviceToken, NewDevice
from app.apiauth.queries import DeviceRequest, RedeemedDevice
from app.errors import INVALID, NOT_FOUND, TOO_MANY_REQUESTS, Kind, Refusal, found, invalid
from app.queries import Connection
from app.shared import tokens
from app.shared.actor import Actor, Visitor
from app.shared.credentials import SESSION, takes
from app.shared.openapi import problem_spec
from app.shared.tokens import Prefix

PAGE = "/device"
ASSETS = Path(__file__).with_name("device_page")

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # its address may hold a code
    "Cross-Origin-Opener-Policy": "same-origin",
}

# As RFC 8628 (6.1) recommends: no vowels, so that no words come about, and no letter that looks like another. 34 bits.
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
LENGTH = 8
HYPHENS = "-\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH}"

OUTCOMES: dict[str, Kind] = {
    kind.code: kind
    for kind in (
        errors.AUTHORIZATION_PENDING,
        errors.SLOW_DOWN,
        errors.EXPIRED_TOKEN,
        errors.ACCESS_DENIED,
        errors.INVALID_GRANT,
    )
}

UserCode = Annotated[
    str,
    QueryParameter(
        name="user_code",
        description="What the machine shows, in any case; hyphens and spaces do not count.",
        max_length=40,
    ),
]


@post(
    "/auth/device",
    tags=["auth"],
    summary="Ask to log a machine in",
    status_code=200,
    responses={429: problem_spec(TOO_MANY_REQUESTS)},
)
async def request_device(
    request: Request[Any, Any, Any], visitor: Visitor, data: JSONBody[NewDevice]
) -> Response[DeviceAuthorization]:
    """Return a code to show to a person, who approves it at the address that is shown with it, and one to poll with."""
    await limit(request, visitor, "device")
    device_code, user_code = secrets.token_urlsafe(32), _new_user_code()

    async def ask(db: Connection) -> DeviceAuthorization:
        row = await queries.request_device(
            db,
            device_digest=tokens.digest(device_code),
            user_digest=_digest(request, user_code),
            name=data.name,
            address=_address(request),
            scopes=list(dict.fromkeys(data.scopes)),
            lifetime=timedelta(days=data.expires_in_days),
        )
        return _authorization(request, device_code, user_code, row)

    return await visitor.answer(ask)


def _authorization(
    request: Request[Any, Any, Any], device_code: str, user_code: str, row: queries.RequestedDevice
) -> DeviceAuthorization:
    page = f"{request.app.state.settings.public_url or _asked_site(request)}{PAGE}"
    return DeviceAuthorization(
        device_code, user_code, page, f"{page}?user_code={user_code}", row.expires_in, row.interval
    )


def _asked_site(request: Request[Any, Any, Any]) -> str:
    """Return the site that the machine asked, which will do where none is configured for people."""
    # Behind a proxy that ends TLS the service itself sees http.
    scheme = "https" if request.app.state.production else request.url.scheme
    return f"{scheme}://{request.headers.get('host', '')}"


@get(
    "/auth/device",
    tags=["auth"],
    summary="See which machine shows a code",
    opt=takes(SESSION),
    responses={422: problem_spec(INVALID), 404: problem_spec(NOT_FOUND), 429: problem_spec(TOO_MANY_REQUESTS)},
)
async def find_device(
    request: Request[Any, Any, Any], actor: Actor, user_code: UserCode = ""
) -> Response[DeviceRequest]:
    """Return who asks for a token of the caller, for what and from where; only a session may look."""
    await limit_person(request, actor, "device code")
    digest = _digest(request, user_code)
    return await actor.answer(lambda db: found(queries.find_device(db, user_digest=digest)))


@post(
    "/auth/device/decision",
    tags=["auth"],
    summary="Approve or deny a machine",
    status_code=204,
    opt=takes(SESSION),
    responses={404: problem_spec(NOT_FOUND), 429: problem_spec(TOO_MANY_REQUESTS)},
)
async def decide_device(
    request: Request[Any, Any, Any], actor: Actor, data: JSONBody[DeviceDecision]
) -> Response[None]:
    """Let the machine that shows the code act for the caller, or not; once, while the code lives."""
    await limit_person(request, actor, "device code")
    digest, is_approved = _digest(request, data.user_code), data.decision == "approve"

    async def decide(db: Connection) -> None:
        if not await queries.decide_device(db, user_digest=digest, is_approved=is_approved):
            raise Refusal(NOT_FOUND, "No machine that waits shows this code.")

    return await actor.effect(decide)


@post(
    "/auth/device/token",
    tags=["auth"],
    summary="Take the token of an approved machine",
    status_code=200,
    responses={400: problem_spec(errors.MALFORMED, *OUTCOMES.values())},
)
async def redeem_device(visitor: Visitor, data: JSONBody[DeviceGrant]) -> Response[DeviceToken]:
    """Return a personal access token, once, when a person approved the code; until then tell what to do."""
    token = tokens.mint(Prefix.PERSONAL)
    device_digest, token_digest = tokens.digest(data.device_code), tokens.digest(token)
    row = await visitor.run(
        lambda db: queries.redeem_device(
            db, device_digest=device_digest, token_digest=token_digest, token_hint=token[-4:]
        )
    )
    return Response(_issued(token, row))


def _issued(token: str, row: RedeemedDevice) -> DeviceToken:
    """Read what became of a code; committed already, for a refusal must not undo that it was asked."""
    if row.token_id is None or row.name is None or row.scopes is None or row.expires_in is None:
        raise Refusal(OUTCOMES[row.outcome]._replace(retry_after=row.interval))
    return DeviceToken(token, "Bearer", row.expires_in, " ".join(row.scopes), row.token_id, row.name)


def _new_user_code() -> str:
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{letters[:4]}-{letters[4:]}"


def _digest(request: Request[Any, Any, Any], user_code: str) -> bytes:
    """Return what the database is shown of a user code; raises Refusal (422) for what cannot be one."""
    letters = "".join(c for c in user_code.upper() if not c.isspace() and c not in HYPHENS)
    if len(letters) != LENGTH or not set(letters) <= set(ALPHABET):
        raise invalid("user_code", f"is {LENGTH} letters such as {ALPHABET[:4]}-{ALPHABET[4:8]}")
    digest: bytes = request.app.state.user_codes.whole(letters.encode())
    return digest


def _address(request: Request[Any, Any, Any]) -> str | None:
    try:
        return str(ip_address(request.client.host)) if request.client else None
    except ValueError:  # a socket of the file system
        return None


@get(PAGE, include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def show_page() -> Response[bytes]:
    """Return the page on which a person approves a code. It loads from here only, and no other site frames it."""
    return Response((ASSETS / "page.html").read_bytes(), headers=PAGE_HEADERS)


assets = create_static_files_router(
    path=f"{PAGE}/assets", directories=[ASSETS], include_in_schema=False, cache_control=None
)

handlers = [request_device, find_device, decide_device, redeem_device, show_page, assets]
