"""What is read off every request before a handler runs: its id, its body, headers that may occur once."""

import re
import secrets
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
import structlog
from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, HTTPScope, Message, Receive, Scope, Send

from app.database import Credential
from app.errors import INVALID, MALFORMED, UNSUPPORTED_MEDIA_TYPE, FieldError, Refusal, invalid
from app.shared.credentials import admitted, credential_of

T = TypeVar("T")

logger = structlog.get_logger("app.access")

ONCE = frozenset(
    {b"authorization", b"idempotency-key", b"if-match", b"x-organization", b"x-branch", b"origin", b"content-type"}
)

_WELL_FORMED_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_SUSPICIOUS = re.compile(rb'\\u0000|"\s*[+-]?s?(nan|inf)', re.IGNORECASE)
_PLACE = re.compile(r"^(?P<message>.*?)(?: - at `\$\.?(?P<place>.*)`)?$", re.DOTALL)


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded straight into the type of the handler's `data`: nothing is coerced."""

    async def json(self) -> Any:
        """Decode the body; raises Refusal: 400 for what is no JSON, 422 for what is not the type."""
        return decode(await self.body(), self.route_handler.parsed_fn_signature.parameters["data"].annotation)


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Refuse what no handler needs to see, in this order.

    A header sent twice (400); no credential where there must be one (401); a body that is not JSON (415); no body
    where there must be one (400).
    """
    _require_once(request.scope["headers"])
    takes = request.route_handler.parsed_fn_signature.parameters
    if "actor" in takes:
        credential = admitted(request, credential_of(request, production=request.app.state.production))
        request.scope["state"]["credential"] = await _redeemed(request, credential)
    if "data" in takes:
        await _require_json(request)


def _require_once(headers: Iterable[tuple[bytes, bytes]]) -> None:
    sent = [name for name, _ in headers if name in ONCE]
    if len(sent) > len(set(sent)):
        twice = next(name for name in sent if sent.count(name) > 1)
        raise Refusal(MALFORMED, f"The header {twice.decode()} may be sent once.")


async def _redeemed(request: Request[Any, Any, Any], credential: Credential) -> Credential:
    """Look a session up in Redis, where sessions live there."""
    tickets = request.app.state.tickets
    if tickets is None or credential.kind != "session":
        return credential
    return cast("Credential", await tickets.redeem(credential))


async def _require_json(request: Request[Any, Any, Any]) -> None:
    body = await request.body()
    if body and request.content_type[0] != "application/json":
        raise Refusal(UNSUPPORTED_MEDIA_TYPE)
    if not body:
        raise Refusal(MALFORMED, "The body is empty.")


def decode(body: bytes, kind: type[T]) -> T:
    """Decode JSON strictly; numbers that are no numbers and texts with a NUL are refused too."""
    try:
        value = _decoder(cast("Hashable", kind)).decode(body)
    except msgspec.ValidationError as error:
        raise Refusal(INVALID, errors=_errors_in(body, kind, str(error))) from error
    except (ValueError, RecursionError) as error:
        raise Refusal(MALFORMED, "The body is not valid JSON.") from error
    if _SUSPICIOUS.search(body):
        for place, message in _unstorable("", value):
            raise invalid(place, message)
    return value  # type: ignore[no-any-return]  # a decoder of T decodes T


@cache
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cast("type[Any]", kind))


def _errors_in(body: bytes, kind: Any, first: str) -> list[FieldError]:
    """Name every wrong field; msgspec stops at the first."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(MALFORMED, "The body is not valid JSON.") from error
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return list(_wrong_fields(value, kind)) or [_located("", first)]
    return [_located("", first)]


def _wrong_fields(value: dict[str, Any], kind: type[msgspec.Struct]) -> Iterator[FieldError]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in value.keys() - fields.keys():
        yield FieldError(name, "is not a known field")
    for name, field in fields.items():
        if name not in value:
            if field.required:
                yield FieldError(name, "is required")
        elif getattr(field.type, "__origin__", field.type) is not msgspec.Raw:  # Annotated has it within
            try:
                msgspec.convert(value[name], field.type)
            except msgspec.ValidationError as error:
                yield _located(name, f"{error}{_choices(field.type)}")


def _choices(kind: Any) -> str:
    """Tell what a field takes that takes words of a few only; msgspec names the wrong word alone."""
    told = msgspec.inspect.type_info(kind)
    match told.type if isinstance(told, msgspec.inspect.Metadata) else told:
        case msgspec.inspect.LiteralType(values=values):
            return f": it is one of {', '.join(map(str, values))}"
        case msgspec.inspect.EnumType(cls=cls):
            return f": it is one of {', '.join(str(each.value) for each in cls)}"
    return ""


def _located(field: str, told: str) -> FieldError:
    match = _PLACE.match(told)
    place = (match["place"] if match else None) or ""
    dot = "." if field and place and not place.startswith("[") else ""
    return FieldError(f"{field}{dot}{place}" or "body", match["message"] if match else told)


def _unstorable(place: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case str() if "\0" in value:
            yield place or "body", "holds a NUL character"
        case Decimal() if not value.is_finite():
            yield place, "is not a number"
        case _:
            for name, item in _parts(value):
                yield from _unstorable(f"{place}.{name}".lstrip("."), item)


def _parts(value: Any) -> Iterable[tuple[object, Any]]:
    """Take a value apart; an object's names are texts too."""
    match value:
        case msgspec.Raw():
            return [("", msgspec.json.decode(value))]
        case msgspec.Struct():
            opaque = getattr(value, "OPAQUE", ())  # what is stored sealed may hold anything
            return [(name, item) for name, item in msgspec.structs.asdict(value).items() if name not in opaque]
        case dict():
            return [*value.items(), *((name, name) for name in value)]
        case list() | tuple() | frozenset():
            return enumerate(value)
        case _:
            return ()


def observed(app: ASGIApp) -> ASGIApp:
    """Wrap the application so that every request has an id and leaves one line in the log.

    The line holds no query string, header or body: secrets travel there.
    """

    async def observe(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["state"]["request_id"] = request_id
        started = time.perf_counter()
        answer = {"status": 0}

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
                _add_headers(message, request_id, scope["state"].get("headers", {}))
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await app(scope, receive, send_observed)
            finally:
                _log(scope, answer["status"], time.perf_counter() - started)

    return observe


def _request_id(scope: HTTPScope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _WELL_FORMED_ID.fullmatch(given) else secrets.token_hex(16)


def _add_headers(message: HTTPResponseStartEvent, request_id: str, more: Mapping[str, str]) -> None:
    """Add to what the handler's answer bears, which has none of these but perhaps the last."""
    headers = [*message["headers"], (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
    headers += [(name.encode(), value.encode()) for name, value in more.items()]
    if not any(name.lower() == b"cache-control" for name, _ in headers):
        headers.append((b"cache-control", b"no-store"))
    message["headers"] = headers


def _log(scope: HTTPScope, status: int, seconds: float) -> None:
    logger.info(
        "request",
        method=scope["method"],
        path=scope["path"],
        route=scope.get("path_template"),
        status=status,
        milliseconds=round(seconds * 1000, 2),
    )
