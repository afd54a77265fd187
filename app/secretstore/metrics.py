"""What is counted of secrets: by provider, action and result. No label holds a key, for keys tell too much."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send
from prometheus_client import Counter

from app.errors import refusal_of
from app.secretstore.providers.protocol import ProviderCannot, ProviderRefused, SecretConflict
from app.secretstore.values import SecretAltered, SecretNotFound

Result: TypeAlias = Literal["done", "denied", "altered", "invalid", "failed"]

POSTGRESQL: Final = "postgresql"
READ: Final = "secret.read"  # as the audit log calls it; so are the writes

_DENIED = frozenset({403, 404, 409, 412})  # as the audit log has them

READS = Counter("brokerflow_secret_reads", "Secrets asked for, one by one.", ["provider", "result"])
WRITES = Counter("brokerflow_secret_writes", "Commands on secrets.", ["provider", "action", "result"])
DENIALS = Counter("brokerflow_secret_denials", "Reads and commands that were denied.", ["provider", "action"])


def count(provider: str, action: str, result: Result, times: int = 1) -> None:
    """Count what came of a read or a command."""
    if action == READ:
        READS.labels(provider, result).inc(times)
    else:
        WRITES.labels(provider, action, result).inc(times)
    if result == "denied":
        DENIALS.labels(provider, action).inc(times)


@contextmanager
def failures(provider: str, action: str, times: int = 1) -> Iterator[None]:
    """Count what the block raises; what it returns, it counts itself."""
    try:
        yield
    except Exception as error:
        count(provider, action, _result_of(error), times)
        raise


@contextmanager
def counted(provider: str, action: str) -> Iterator[None]:
    """Count what came of the block."""
    with failures(provider, action):
        yield
    count(provider, action, "done")


class Commands(ASGIMiddleware):
    """Counts each command that came over HTTP by the status of its answer, replays of an answer aside."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Count when the answer begins."""
        action = scope["route_handler"].opt["action"]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and not _is_replayed(message):
                count(POSTGRESQL, action, _result_of_status(message["status"]))
            await send(message)

        await next_app(scope, receive, watched)


def _is_replayed(answer: HTTPResponseStartEvent) -> bool:
    return any(name.lower() == b"idempotency-replayed" for name, _ in answer["headers"])


def _result_of(error: Exception) -> Result:
    match error:
        case SecretAltered():
            return "altered"
        case SecretNotFound() | SecretConflict() | ProviderCannot() | ProviderRefused():
            return "denied"
        case _:
            return _result_of_status(refusal_of(error, {}).kind.status)


def _result_of_status(status: int) -> Result:
    if status < 400:
        return "done"
    if status >= 500:
        return "failed"
    return "denied" if status in _DENIED else "invalid"
