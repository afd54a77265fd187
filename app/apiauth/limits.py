"""Limits requests by credential, and attempts to register, log in and enter codes; counted in PostgreSQL for all."""

from datetime import timedelta
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Any

from litestar import Request

from app.apiauth import queries
from app.apiauth.queries import Attempt
from app.database import Credential
from app.errors import TOO_MANY_REQUESTS, Refusal
from app.shared.actor import Caller

PERIOD = timedelta(minutes=1)
# Of one address's attempts, those for one account. Not of all addresses: that would let anybody lock others out.
ACCOUNT_SHARE = 6

_FROM_HERE = "Too many attempts from this address; try again later."


async def limit(request: Request[Any, Any, Any], caller: Caller, act: str, account: str | None = None) -> None:
    """Take one attempt of the caller's address, and of his for that account; raises Refusal (429) where none is left.

    It commits at once, so that an attempt counts whatever becomes of it. The answer tells how many are left.
    """
    capacity: int = request.app.state.settings.login_limit
    address = _network(request.client.host if request.client else "")
    take = partial(queries.take_attempt, bucket=f"{act} {address}", capacity=capacity, period=PERIOD)
    _tell(request, capacity, await caller.run(take), _FROM_HERE)
    if account is not None:
        size = max(1, capacity // ACCOUNT_SHARE)
        take_on = partial(
            queries.take_attempt_on, account=account, bucket=f"{act} {address}", capacity=size, period=PERIOD
        )
        _tell(request, size, await caller.run(take_on), _FROM_HERE)


async def limit_person(request: Request[Any, Any, Any], actor: Caller, act: str) -> None:
    """Take one attempt of the caller's address and one of his own, wherever he is; raises Refusal (429)."""
    await limit(request, actor, act)
    size = max(1, request.app.state.settings.login_limit // ACCOUNT_SHARE)
    take = partial(queries.take_own_attempt, act=act, capacity=size, period=PERIOD)
    _tell(request, size, await actor.run(take), "Too many attempts of this account; try again later.")


async def limit_credential(request: Request[Any, Any, Any]) -> None:
    """Take one of the requests that a credential has for a minute, where they are limited; raises Refusal (429).

    A transaction of its own, before the entrance: there a refused request would give its share back, and who asks for
    much at once would wait for the lock on his bucket until each request has ended.
    """
    size: int = request.app.state.settings.rate_limit
    credential: Credential | None = request.scope["state"].get("credential")
    if size and credential is not None:
        bucket = f"credential {credential.digest.hex()}"
        take = partial(queries.take_attempt, bucket=bucket, capacity=size, period=PERIOD)
        attempt = await request.app.state.database.ask(None, take)
        _tell(request, size, attempt, "Too many requests with this credential; try again later.")


def _tell(request: Request[Any, Any, Any], size: int, attempt: Attempt, refusal: str) -> None:
    """Tell how many are left, in the three headers that clients know; raises Refusal where this was one too many.

    Later drafts of the same authors put all into `RateLimit`, in a syntax that changed from one to the next.
    """
    request.scope["state"]["headers"] = {
        "RateLimit-Limit": str(size),
        "RateLimit-Remaining": str(attempt.remaining),
        "RateLimit-Reset": str(attempt.full_after),
    }
    if not attempt.is_taken:
        kind = TOO_MANY_REQUESTS._replace(retry_after=max(1, attempt.retry_after))
        raise Refusal(kind, refusal)


def _network(host: str) -> str:
    """Name whom to count together: an IPv4 address, or the 64 bits of an IPv6 one that a site is given."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)
