"""The service that the story is played against, and what only its operator can do for it."""

import base64
import hashlib
import hmac
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg

from app import lifeline
from app.embedded import locate
from app.settings import Settings

_SERVE = "from app.cli import main; main()"
_PATIENCE_WITH_END = 60


class DemoError(Exception):
    """What keeps the story from being played, in a sentence."""


class Place(NamedTuple):
    """Where the service answers, and whether it is the demo's own."""

    url: str
    is_own: bool


@contextmanager
def found_or_started(url: str, progress: Callable[[str], None]) -> Iterator[Place]:
    """Yield the service at a URL; where nothing answers, one of our own on a free port, stopped afterwards."""
    if answers(url):
        progress(f"The service at {url} answers.")
        yield Place(url, is_own=False)
    else:
        progress(f"Nothing answers at {url}: starting a service for the story ...")
        with _started() as own:
            yield Place(own, is_own=True)


def answers(url: str) -> bool:
    """Say whether BrokerFlow answers there; raises DemoError when something else does, or it cannot work."""
    try:
        health = httpx.get(f"{url}/healthz", timeout=5, trust_env=False)
    except httpx.ConnectError:
        return False
    except httpx.HTTPError as error:
        raise DemoError(f"{url} does not answer as a service should: {str(error) or type(error).__name__}.") from error
    if '"database"' not in health.text:
        raise DemoError(f"What answers at {url} is not BrokerFlow.")
    if health.status_code != httpx.codes.OK:
        raise DemoError(f"The service at {url} has no database just now: its /healthz answers {health.status_code}.")
    return True


@contextmanager
def _started() -> Iterator[str]:
    """Run `brokerflow serve` as a child that ends with this process, however that ends."""
    identity = [str(os.getpid()), str(os.geteuid()), str(os.getegid())]
    command = [sys.executable, "-I", "-S", lifeline.__file__, *identity]
    command += [sys.executable, "-c", _SERVE, "serve", "--port", "0"]
    environment = {**os.environ, "BROKERFLOW_HOST": "127.0.0.1", "BROKERFLOW_LOG_LEVEL": "error"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield _ready_url(process)
        finally:
            process.terminate()
            process.wait(_PATIENCE_WITH_END)


def _ready_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    for line in process.stdout:
        if ready := re.search(r"http://\S+", line):
            return ready[0]
    raise DemoError("The service could not be started; what it said is above.")


class Signer:
    """Signs webhooks as the signing service does, by Standard Webhooks."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def headers(self, identifier: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the headers of a message with this JSON body; `timestamp` is in seconds."""
        signed = f"{identifier}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
        return {
            "Content-Type": "application/json",
            "webhook-id": identifier,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"v1,{signature}",
        }


def signer(settings: Settings, place: Place) -> Signer | None:
    """Return a signer with the service's e-sign secret, as far as this machine knows it; none is made up."""
    is_known = settings.given_esign_secret is not None or (settings.home / "esign.secret").exists()
    return Signer(settings.esign_keys[0]) if is_known or place.is_own else None


def owner_url(settings: Settings) -> str | None:
    """Return the URL that platform admins are appointed with: the configured one, or the embedded server's."""
    if settings.owner_url is not None:
        return settings.owner_url.get_secret_value()
    running = locate(settings.home) if settings.is_embedded else None
    return running.owner_url if running else None


@asynccontextmanager
async def appointed(url: str, email: str) -> AsyncIterator[None]:
    """Make a user a platform admin for as long as the block runs; raises DemoError where that is not possible."""
    await _as_owner(url, "select shared.grant_platform_admin(%s)", email)
    try:
        yield
    finally:
        await _as_owner(url, "select shared.revoke_platform_admin(%s)", email)


async def _as_owner(url: str, statement: str, email: str) -> None:
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
            await connection.execute("set role brokerflow_owner")
            row = await (await connection.execute(statement.encode(), [email])).fetchone()
    except psycopg.Error as error:
        raise DemoError(f"the owner's database refuses: {str(error).strip()}") from error
    if row != (True,):
        raise DemoError(f"the owner's URL leads to another database than the service's: {email} is not in it")


def password(settings: Settings, email: str) -> str:
    """Return a person's password: the same in every run with this master key, and known to nobody else."""
    proof = hmac.digest(settings.master_key, f"demo password of {email}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(proof).decode()


def proof_file(settings: Settings, namespace: str) -> Path:
    """Return where the exported proof goes, for its owner's eyes."""
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / f"{namespace}-proof.json"
    path.touch(mode=0o600)
    return path
