"""`brokerflow demo`: plays the whole story against the service, and shows what it left."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import click
import httpx
from rich.console import Console

from app.cli import Found, configured, expected, progress
from app.demo import story
from app.demo.people import PARTS, address, log_in
from app.demo.service import DemoError, Place, answers, found_or_started, owner_url, password, proof_file, signer
from app.demo.stage import Call, Stage
from app.demo.telling import Teller
from app.settings import Settings
from app.verify import verify

_PATIENCE = 30


def _namespace(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", value) or len(value) > 30:
        raise click.BadParameter("is not 1 to 30 lowercase letters and digits, with single hyphens between")
    return value


def _url(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    with suppress(ValueError):
        parts = urlsplit(value)
        if parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0:
            return value.rstrip("/")
    raise click.BadParameter("is not a URL such as http://127.0.0.1:8000")


@click.command(name="demo")
@click.option("--url", callback=_url, help="Where the service answers, instead of BROKERFLOW_HOST and BROKERFLOW_PORT.")
@click.option(
    "--namespace", default="demo", show_default=True, callback=_namespace, help="Which copy of the story it is."
)
@click.option("--login", type=click.Choice(list(PARTS)), help="Only print a session token of one of its people.")
def command(url: str | None, namespace: str, login: str | None) -> None:
    """Play the whole story against the service; start one for it where none answers.

    Twice gives one copy: what was done is found again. Nothing of it can be deleted, so it is not for production.
    """
    settings = configured()
    where = url or _default_url(settings)
    with expected(), _told():
        if settings.is_production:
            raise DemoError("The story is not for production: what it writes is there for good.")
        if login:
            click.echo(asyncio.run(_log_in(settings, where, namespace, login)))
        else:
            _play(settings, where, namespace)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what keeps the story from being played into a sentence."""
    try:
        yield
    except DemoError as error:
        raise Found(str(error)) from error
    except httpx.HTTPError as error:
        raise Found(f"the service stopped answering: {str(error) or type(error).__name__}.") from error


def _default_url(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _client(url: str) -> httpx.AsyncClient:
    # No proxy of the environment: the service is here, or where the operator says.
    return httpx.AsyncClient(base_url=url, timeout=_PATIENCE, trust_env=False)


async def _log_in(settings: Settings, url: str, namespace: str, name: str) -> str:
    if not answers(url):
        raise DemoError(f"Nothing answers at {url}: start the service with brokerflow serve.")
    part = PARTS[name]
    email = address(part, namespace)
    async with _client(url) as client:
        return (await log_in(client, part, email, password(settings, email))).token


def _play(settings: Settings, url: str, namespace: str) -> None:
    with found_or_started(url, progress) as place:
        asyncio.run(_tell(settings, place, namespace))


async def _tell(settings: Settings, place: Place, namespace: str) -> None:
    teller = Teller(Console(highlight=False, markup=False))
    async with _client(place.url) as client:
        stage = Stage(client, settings, namespace, teller)
        try:
            await story.play(stage, signer(settings, place), owner_url(settings))
            await _show(stage)
        finally:
            for who in stage.people:
                await stage.send(Call(who, "POST", "/auth/logout"))


async def _show(stage: Stage) -> None:
    events = await stage.look("Alma", stage.path("/events?limit=100"))
    stage.tell.timeline(events["items"], {person.id: person.name for person in stage.people.values()})
    await _prove(stage)
    stage.tell.axioms((await stage.look("Alma", "/api/axioms"))["items"])
    agreement = await stage.current()
    counts = stage.tell.counts
    stage.tell.say(f"\nAgreement {agreement['id']} of copy {stage.namespace!r} is {agreement['status']}.")
    if not counts["done"]:
        stage.tell.say(
            "The story was there already, whole: there is one copy. The audit log has the logins and refusals."
        )
    stage.tell.say(f"{counts['done']} deeds done, {counts['there']} there already, {counts['refused']} refusals.")


async def _prove(stage: Stage) -> None:
    """Export the timeline's proof, verify it without the service, and show that one altered byte is found."""
    stage.tell.chapter("The proof, verified without the service")
    answer = await stage.send(Call("Alma", "GET", stage.path("/proof")))
    path = proof_file(stage.settings, stage.namespace)
    path.write_bytes(answer.content)
    result, altered = verify(answer.content), verify(answer.content.replace(b"Lakeside", b"Lakeside".swapcase(), 1))
    if not result.is_intact or altered.is_intact:
        raise DemoError(f"the proof in {path} should verify, and not when it is altered: {result.finding}")
    stage.tell.say(f"{result.events} events are intact; their last hash is {result.head}.")
    stage.tell.say(f"One letter altered: {altered.finding}.")
    stage.tell.say(f"Verify it yourself: brokerflow verify {path} --head {result.head}")
