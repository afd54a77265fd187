"""`brokerflow secret`: secrets from the command line. A value is never an argument: processes show theirs to all."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TextIO
from urllib.parse import quote

import click
import msgspec
import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.cli import FOUND_SOMETHING, Found, Refused, _addresses, configured, expected
from app.commands.client import TOKEN, Service, served
from app.database import Transaction
from app.queries import register_adapters
from app.sealing import Keyring
from app.secretstore.rotation import Rotation, rotate
from app.secretstore.values import PURPOSE

VAULT = "-c role=brokerflow_vault"


class _Read(msgspec.Struct):
    """What is read of an answer: the value as it came."""

    value: msgspec.Raw


@click.group(name="secret")
def command() -> None:
    """Keep and use secrets, over HTTP with a token of scope secrets:read or secrets:write.

    The token is read from BROKERFLOW_TOKEN, a file, or where brokerflow login keeps it; values from standard input, a
    file or a prompt.
    """


def _served(act: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the service, and the environment that its secrets are in."""

    @click.option("--environment", metavar="ID", help="An environment, instead of the organization itself.")
    @served
    @wraps(act)
    def run(service: Service, environment: str | None, **rest: Any) -> Any:
        return act(service.within(environment), **rest)

    return run


def _path(key: str, action: str = "") -> str:
    return f"/api/secrets/{quote(key, safe='')}{action}"


@command.command("set")
@click.argument("key")
@click.option("--file", "source", type=click.File("r"), help="Holds the value; - is standard input.")
@click.option("--json", "is_json", is_flag=True, help="The value is JSON; without it, a text.")
@click.option("--expect", type=click.IntRange(0), metavar="VERSION", help="The version that there must be; 0: none.")
@_served
def set_(service: Service, key: str, source: TextIO | None, is_json: bool, expect: int | None) -> None:  # noqa: FBT001
    """Put a value under KEY: from --file, standard input, or a prompt that does not show it."""
    text = _given(source)
    value = _json(text) if is_json else msgspec.json.encode(text.removesuffix("\n"))
    body = {"value": msgspec.Raw(value), **({} if expect is None else {"expected_version": expect})}
    answer = service.send(
        "PUT", _path(key), content=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
    )
    click.echo(f"{key} is at version {msgspec.json.decode(answer)['version']}.", err=True)


@command.command("get")
@click.argument("key")
@click.option("--version", type=click.IntRange(1), help="An earlier version.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON, also of a text.")
@_served
def get(service: Service, key: str, version: int | None, is_json: bool) -> None:  # noqa: FBT001
    """Print the value of KEY: a text as it is, anything else as JSON."""
    parameters = {} if version is None else {"version": str(version)}
    raw = bytes(msgspec.json.decode(service.send("GET", _path(key), params=parameters), type=_Read).value)
    click.echo(raw if is_json else _text(raw))


@command.command("list")
@click.option("--prefix", default="", help="What keys begin with.")
@_served
def list_(service: Service, prefix: str) -> None:
    """List keys and their versions; never values."""
    table = Table("key", "version", "updated", "expires", box=None)
    for item in service.items("/api/secrets", prefix=prefix):
        table.add_row(item["key"], str(item["version"]), item["updated_at"], item["expires_at"] or "")
    Console().print(table)


@command.command("delete")
@click.argument("key")
@_served
def delete(service: Service, key: str) -> None:
    """Hide KEY until it is undeleted or put again."""
    service.send("DELETE", _path(key))


@command.command("undelete")
@click.argument("key")
@_served
def undelete(service: Service, key: str) -> None:
    """Bring a deleted KEY back."""
    service.send("POST", _path(key, "/undelete"))


@command.command("versions")
@click.argument("key")
@_served
def versions(service: Service, key: str) -> None:
    """List the versions of KEY: who put each, and when."""
    table = Table("version", "put", "by", "restores", "destroyed", box=None)
    for item in service.items(_path(key, "/versions")):
        by = item["created_by"] or item["credential_kind"]
        table.add_row(
            str(item["version"]), item["created_at"], by, str(item["restores"] or ""), item["destroyed_at"] or ""
        )
    Console().print(table)


@command.command("rollback")
@click.argument("key")
@click.argument("version", type=click.IntRange(1))
@_served
def rollback(service: Service, key: str, version: int) -> None:
    """Put the value of an earlier VERSION of KEY once more."""
    answer = service.send("POST", _path(key, "/rollback"), json={"version": version})
    click.echo(f"{key} is at version {msgspec.json.decode(answer)['version']}.", err=True)


@command.command("run", context_settings={"ignore_unknown_options": True})
@click.option("--prefix", required=True, help="Which keys: db/ gives HOST for db/host.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, required=True)
@_served
def run(service: Service, prefix: str, arguments: tuple[str, ...]) -> int:
    """Run a command with secrets in its environment, and in no other process's.

    A key becomes a variable: what follows the prefix, in capitals, with _ for what a name cannot have.
    """
    keys = [item["key"] for item in service.items("/api/secrets", prefix=prefix)]
    variables = {_variable(key, prefix): _text(bytes(value)).decode() for key, value in _batch(service, keys)}
    environment = {name: value for name, value in os.environ.items() if name != TOKEN} | variables
    try:
        return subprocess.run(arguments, env=environment, check=False).returncode
    except OSError as error:
        raise Refused(f"{arguments[0]} does not run: {error.strerror}.") from None


def _batch(service: Service, keys: list[str]) -> Iterator[tuple[str, msgspec.Raw]]:
    for start in range(0, len(keys), 100):
        answer = service.send("POST", "/api/secrets/batch", json={"keys": keys[start : start + 100]})
        told = msgspec.json.decode(answer, type=_Batch)
        if told.errors:
            raise Found(f"not every secret can be read: {', '.join(sorted(told.errors))}.")
        yield from ((key, each.value) for key, each in told.values.items())


class _Batch(msgspec.Struct):
    values: dict[str, _Read]
    errors: dict[str, Any]


def _variable(key: str, prefix: str) -> str:
    name = "".join(c if c.isalnum() else "_" for c in key.removeprefix(prefix).upper())
    return name if name[:1].isalpha() else f"_{name}"


@command.command("rotate-master")
def rotate_master() -> int:
    """Wrap every secret's data key with the first of the keys in BROKERFLOW_MASTER_KEY.

    Run it with BROKERFLOW_OWNER_URL set, once every service process knows both keys. It may be stopped at any time;
    running it again goes on. Exit status 1 when some version opens with none of the keys.
    """
    settings = configured()
    with expected(), _addresses(settings) as (_, owner_url):
        keyring = Keyring(settings.master_keys, PURPOSE)
        done = asyncio.run(_rotate(owner_url, keyring))
    click.echo(f"{done.rewrapped} versions are wrapped anew, by master key {keyring.current}.")
    if done.unopened:
        click.echo(f"{done.unopened} versions open with none of the keys: was an old one left out?", err=True)
    return FOUND_SOMETHING if done.unopened else 0


async def _rotate(owner_url: str, keyring: Keyring) -> Rotation:
    connection = await psycopg.AsyncConnection.connect(
        owner_url, autocommit=True, options=VAULT, cursor_factory=psycopg.AsyncRawCursor
    )
    register_adapters(connection)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Wrapping data keys anew", total=None)
        async with connection:
            return await rotate(
                Transaction(connection), keyring, lambda done: progress.update(task, completed=done.rewrapped)
            )


def _given(source: TextIO | None) -> str:
    """Read a value without showing it."""
    if source is not None:
        return source.read()
    if sys.stdin.isatty():
        return str(click.prompt("Value", hide_input=True, confirmation_prompt=True))
    return sys.stdin.read()


def _json(text: str) -> bytes:
    try:
        return bytes(msgspec.json.decode(text.encode().strip(), type=msgspec.Raw))
    except msgspec.DecodeError:
        raise Refused("the value is not JSON; without --json it is taken as a text.") from None


def _text(raw: bytes) -> bytes:
    """Return a text as it is, and anything else as JSON."""
    return str(msgspec.json.decode(raw)).encode() if raw.startswith(b'"') else raw
