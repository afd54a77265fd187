"""Sessions that live in Redis: tickets that the database sealed, gone when their session idles or ends."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
from msgspec.structs import replace
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from app.database import Credential
from app.errors import SESSION_STORE_UNAVAILABLE, UNAUTHENTICATED, Refusal

SILENCE = 0.8  # seconds for one answer; a frozen Redis is as good as none
PATIENCE = 1.5  # seconds for all that a request asks: it hears within two that the store is away
CONNECTIONS = 50
LONGEST = 31 * 24 * 3600  # seconds; no session lasts longer

# A session is touched where it is, and nowhere else: one that was ended while its request ran stays ended. Both ends
# count on Redis' clock here; the database judges the ticket's own end by its.
TOUCH = """
local ticket, idle, ends = unpack(redis.call('HMGET', KEYS[1], 'ticket', 'idle', 'ends'))
if not ticket then
    return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'seen', string.format('%.0f', now))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.min(now + idle, ends)))
return ticket
"""


class Held(NamedTuple):
    """A session in Redis; only the database knows whether what its ticket says is true."""

    key: str
    session_id: UUID
    ticket: str
    seen_at: datetime


class _Said(msgspec.Struct, frozen=True):
    """What a ticket says that concerns Redis."""

    session_id: UUID
    user_id: UUID
    expires_at: datetime


class Tickets:
    """The tickets in a Redis. Each method answers within two seconds, or raises Refusal (503)."""

    def __init__(self, url: str, half: bytes) -> None:
        self.half = half
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=SILENCE,
            socket_timeout=SILENCE,
            socket_connect_timeout=SILENCE,
            # Connections that died while idle, as all do when Redis restarts, are replaced by the next attempt.
            retry=Retry(NoBackoff(), 1, (ConnectionLost,)),
            decode_responses=True,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._touch = self._redis.register_script(TOUCH)

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()

    async def is_there(self) -> bool:
        """Say whether Redis answers."""
        try:
            async with _patience():
                return bool(await self._redis.ping())
        except Refusal:
            return False

    async def redeem(self, credential: Credential) -> Credential:
        """Turn a session token's credential into that of its ticket, which the database can judge.

        Raises Refusal: 401 when there is none, which is all that Redis may decide; 503.
        """
        if (ticket := await self.find(credential.digest)) is None:
            raise Refusal(UNAUTHENTICATED)
        return replace(credential, kind="ticket", proof=(ticket, self.half))

    async def find(self, digest: bytes) -> str | None:
        """Return the ticket of a session token's digest, and count the session as seen; None without one."""
        async with _patience():
            ticket = await self._touch(keys=[_key(sha256(digest).digest())])
        return None if ticket is None else str(ticket)

    async def keep(self, digest: bytes, ticket: str, idle: int) -> None:
        """Keep a ticket for its token's digest, until its end or until it was idle for so many seconds."""
        said, key = _said(ticket), _key(sha256(digest).digest())
        ends = int(said.expires_at.timestamp() * 1000)
        async with _patience(), self._redis.pipeline(transaction=True) as together:
            together.hset(key, mapping={"ticket": ticket, "idle": idle * 1000, "ends": ends})
            together.pexpireat(key, ends)
            together.sadd(_index(said.user_id), key)
            together.expire(_index(said.user_id), LONGEST)
            await self._touch(keys=[key], client=together)
            await together.execute()

    def own(self, credential: Credential) -> Held:
        """Return the session that a redeemed credential is of, without asking again."""
        ticket = _ticket_of(credential)
        return Held(_key(sha256(credential.digest).digest()), _said(ticket).session_id, ticket, datetime.now(UTC))

    async def of_owner(self, credential: Credential) -> list[Held]:
        """Return the sessions of whoever a redeemed credential claims to be, its own among them."""
        own = self.own(credential)
        index = _index(_said(own.ticket).user_id)
        async with _patience():
            keys = sorted({own.key, *await _now(self._redis.smembers(index))})
            async with self._redis.pipeline(transaction=False) as together:
                for key in keys:
                    together.hmget(key, "ticket", "seen")
                rows = await together.execute()
            if gone := [key for key, (ticket, _) in zip(keys, rows, strict=True) if ticket is None]:
                await _now(self._redis.srem(index, *gone))
        return [
            Held(key, _said(ticket).session_id, ticket, datetime.fromtimestamp(int(seen) / 1000, UTC))
            for key, (ticket, seen) in zip(keys, rows, strict=True)
            if ticket is not None
        ]

    async def forget(self, sessions: Iterable[Held]) -> None:
        """Forget what the database has ended.

        It need not succeed: Redis forgets by itself, in time, and until then the database refuses what is left.
        """
        if keys := [session.key for session in sessions]:
            with suppress(Refusal):
                async with _patience():
                    await self._redis.delete(*keys)


def _key(digest: bytes) -> str:
    """Name a session by the digest of its token's digest, as the database does: neither enters."""
    return f"brokerflow:session:{digest.hex()}"


def _index(user_id: UUID) -> str:
    return f"brokerflow:sessions-of:{user_id}"


def _said(ticket: str) -> _Said:
    return msgspec.json.decode(ticket[64:], type=_Said)  # its seal comes first


def _ticket_of(credential: Credential) -> str:
    ticket, _ = credential.proof or ("", b"")
    return str(ticket)


async def _now(answer: Any) -> Any:
    """Await what redis-py's types take for an answer that may be there already."""
    return await cast("Any", answer)


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Refusal(SESSION_STORE_UNAVAILABLE) from error
