"""Idempotency-Key: the effect happens once, and whoever repeats the request reads the same answer."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request
from litestar.handlers import BaseRouteHandler

from app.errors import invalid
from app.queries import Connection
from app.sealing import Sealer, Stamp
from app.shared import queries

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

NOT_REPLAYED = {"replays": False}
"""What a command that stores no answer says in its handler's `opt`: to it an Idempotency-Key means nothing."""


class Answer(msgspec.Struct, frozen=True):
    """An encoded response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Claim(msgspec.Struct, frozen=True):
    """A key, bound to a route (method and path) and to the digest of the whole request."""

    key: str
    route: str
    request_digest: bytes

    @property
    def context(self) -> bytes:
        """What a stored answer is sealed to: it opens for this very request only."""
        return b"\0".join((self.key.encode(), self.route.encode(), self.request_digest))


def is_replayed(handler: BaseRouteHandler) -> bool:
    """Tell whether a repeated command reads its stored answer, if it sends the same key."""
    return bool(handler.opt.get("replays", True))


async def claim_of(request: Request[Any, Any, Any]) -> Claim | None:
    """Read the request's key, if any; 422 unless it is 1..255 visible ASCII characters."""
    if (key := request.headers.get("idempotency-key")) is None:
        return None
    if not _KEY.fullmatch(key):
        raise invalid("Idempotency-Key", "is not 1 to 255 visible ASCII characters")
    path = request.scope["path"]
    parts = (
        request.method.encode(),
        path.encode(errors="surrogateescape"),
        request.scope["query_string"],
        request.headers.get("if-match", "").encode(),
        request.headers.get("x-organization", "").encode(),
        request.headers.get("x-branch", "").encode(),
        await request.body(),
    )
    # Keyed, because a body may hold a contact: a plain digest at rest would confirm a guess, even of a shredded one.
    stamp: Stamp = request.app.state.requests
    digest = stamp.whole(b"".join(len(part).to_bytes(8) + part for part in parts))
    return Claim(key, f"{request.method} {path}", digest)


async def once(db: Connection, claim: Claim, sealer: Sealer, act: Callable[[Connection], Awaitable[Answer]]) -> Answer:
    """Act and store the answer in the same transaction; or answer what was stored, marked as replayed.

    The stored answer is sealed: it may hold a token or a contact.
    """
    stored = await queries.find_response(db, key=claim.key, route=claim.route, request_digest=claim.request_digest)
    if stored is not None:
        answer = msgspec.msgpack.decode(sealer.open(stored.response, claim.context), type=Answer)
        return msgspec.structs.replace(answer, headers={**answer.headers, "Idempotency-Replayed": "true"})
    answer = await act(db)
    await queries.store_response(
        db,
        key=claim.key,
        route=claim.route,
        request_digest=claim.request_digest,
        status=answer.status,
        response=sealer.seal(msgspec.msgpack.encode(answer), claim.context),
    )
    return answer
