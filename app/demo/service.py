"""The service that the story is played against, and what only its operator can do for it."""

import base64
import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg

from app.embedded import locate
from app.serving import Service, ServiceError
from app.settings import Settings
from app.signing import Signer


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
    """Run `brokerflow serve` as a child for as long as the block runs."""
    service = Service({**os.environ, "BROKERFLOW_LOG_LEVEL": "error"})
    try:
        service.start()
        yield service.wait_until_ready()
    except ServiceError as error:
        raise DemoError(str(error)) from error
    finally:
        service.stop()


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
