"""`brokerflow secret`: secrets from the command line. A value is never an argument: processes show theirs to all."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import click
import msgspec
import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.agreement.contacts import sealer_of
from app.agreement.rotation import wrapped_contacts
from app.apiauth.queries import keep_key_halves
from app.cli import FOUND_SOMETHING, OWNER, Refused, _addresses, configured, expected, permitted
from app.commands import secretfiles
from app.commands.client import TOKEN, Service, show
from app.commands.secretclient import KEY, Read, keys_below, path_of, put, read_all, served_within
from app.database import Transaction
from app.queries import register_adapters
from app.readiness import missing_master_key
from app.rotation import Rotation, Wrapped, rotate
from app.sealing import Keyring, half_of, key_id, proof
from app.secretstore import queries
from app.secretstore.rotation import wrapped_keys
from app.secretstore.values import PURPOSE

VAULT = "brokerflow_vault"
GUARD = "brokerflow_guard"


@click.group(name="secret")
def command() -> None:
    """Keep and use secrets, over HTTP with a token of scope secrets:read or secrets:write.

    The token is read from BROKERFLOW_TOKEN, a file, or where brokerflow login keeps it; values from standard input, a
    file or a prompt.
    """


command.add_command(secretfiles.export)
command.add_command(secretfiles.import_)


@command.command("set")
@KEY
@click.option("--file", "source", type=click.File("rb"), help="Holds the value; - is standard input.")
@click.option("--json", "is_json", is_flag=True, help="The value is JSON; without it, a text.")
@click.option(
    "--expect",
    "expected_version",
    type=click.IntRange(0),
    metavar="VERSION",
    help="Only if KEY is at this version; 0: if it is not there.",
)
@click.option("--expires", "expires_at", metavar="TIME", help="Its end, such as 2027-01-01T00:00:00Z.")
@click.option(
    "--keep",
    "max_versions",
    type=click.IntRange(1),
    metavar="COUNT",
    help="Destroy all versions but the last so many, now and with each put to come.",
)
@served_within
def set_(service: Service, key: str, source: BinaryIO | None, is_json: bool, **said: object) -> None:  # noqa: FBT001
    """Put a value under KEY: from --file, standard input, or a prompt that does not show it."""
    text = _given(source)
    value = _json(text) if is_json else _encoded(text.removesuffix(b"\n"))
    version = put(service, key, value, **{name: each for name, each in said.items() if each is not None})
    click.echo(f"{key} is at version {version}.", err=True)


@command.command("get")
@KEY
@click.option("--version", type=click.IntRange(1), help="An earlier version.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON, also of a text.")
@served_within
def get(service: Service, key: str, version: int | None, is_json: bool) -> None:  # noqa: FBT001
    """Print the value of KEY: a text as it is, anything else as JSON."""
    parameters = {} if version is None else {"version": str(version)}
    raw = bytes(msgspec.json.decode(service.send("GET", path_of(key), params=parameters), type=Read).value)
    click.echo(raw if is_json else _text(raw))


@command.command("list")
@click.option("--prefix", default="", help="What keys begin with.")
@served_within
def list_(service: Service, prefix: str) -> None:
    """List keys and their versions; never values."""
    table = Table("key", "version", "updated", "expires", box=None)
    for item in service.items("/api/secrets", prefix=prefix):
        table.add_row(item["key"], str(item["version"]), item["updated_at"], item["expires_at"] or "")
    show(table)


@command.command("delete")
@KEY
@served_within
def delete(service: Service, key: str) -> None:
    """Hide KEY until it is undeleted or put again."""
    service.send("DELETE", path_of(key))


@command.command("undelete")
@KEY
@served_within
def undelete(service: Service, key: str) -> None:
    """Bring a deleted KEY back."""
    service.send("POST", path_of(key, "/undelete"))


@command.command("versions")
@KEY
@served_within
def versions(service: Service, key: str) -> None:
    """List the versions of KEY: who put each, and when."""
    table = Table("version", "put", "by", "restores", "destroyed", box=None)
    for item in service.items(path_of(key, "/versions")):
        by = item["created_by"] or item["credential_kind"]
        table.add_row(
            str(item["version"]), item["created_at"], by, str(item["restores"] or ""), item["destroyed_at"] or ""
        )
    show(table)


@command.command("who")
@KEY
@click.option("--at", metavar="TIME", help="Such as 2027-01-01T00:00:00Z; now unless said.")
@served_within
def who(service: Service, key: str, at: str | None) -> None:
    """List who could read KEY at a time, and who had until then."""
    table = Table("who", "is", "could read", "since", "reads", "last", "denials", box=None)
    for item in service.items(path_of(key, "/who"), **({} if at is None else {"at": at})):
        table.add_row(
            item["name"] or item["id"],
            item["role"] or item["kind"].replace("_", " "),
            "yes" if item["could_read"] else "no",
            item["since"] or "",
            str(item["reads"]),
            item["last_read_at"] or "",
            str(item["denials"]),
        )
    show(table)


@command.command("rollback")
@KEY
@click.argument("version", type=click.IntRange(1))
@served_within
def rollback(service: Service, key: str, version: int) -> None:
    """Put the value of an earlier VERSION of KEY once more."""
    answer = service.send("POST", path_of(key, "/rollback"), json={"version": version})
    click.echo(f"{key} is at version {msgspec.json.decode(answer)['version']}.", err=True)


@command.command("destroy")
@KEY
@click.argument("version", type=click.IntRange(1))
@click.option("--yes", is_flag=True, help="Do not ask.")
@served_within
def destroy(service: Service, key: str, version: int, yes: bool) -> None:  # noqa: FBT001
    """Destroy a VERSION of KEY for good: nobody can open it again, its line among the versions stays."""
    if not yes:
        click.confirm(f"Destroy version {version} of {key} for good?", abort=True, err=True)
    service.send("POST", path_of(key, "/destroy"), json={"version": version})


@command.command("run", context_settings={"ignore_unknown_options": True})
@click.option("--prefix", required=True, help="Which keys: db/ gives HOST for db/host.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, required=True)
@served_within
def run(service: Service, prefix: str, arguments: tuple[str, ...]) -> int:
    """Run a command with secrets in its environment, and in no other process's.

    A key becomes a variable: what follows the prefix, in capitals, with _ for what a name cannot have.
    """
    names = _variables(keys_below(service, prefix), prefix)
    values = {key: _text(bytes(value)).decode() for key, value in read_all(service, list(names))}
    if nul := [key for key, value in values.items() if "\0" in value]:
        raise Refused(f"a variable holds no NUL, as there is in {', '.join(nul)}.")
    variables = {name: values[key] for key, name in names.items()}
    environment = {name: value for name, value in os.environ.items() if name != TOKEN} | variables
    try:
        return subprocess.run(arguments, env=environment, check=False).returncode
    except OSError as error:
        raise Refused(f"{arguments[0]} does not run: {error.strerror}.") from None


def _variables(keys: Sequence[str], prefix: str) -> dict[str, str]:
    """Name the variable of each key; raises Refused where two would be one."""
    names = {key: _variable(key.removeprefix(prefix).lstrip("/") or key.rpartition("/")[2]) for key in keys}
    if len(set(names.values())) < len(names):
        twice = sorted(key for key, name in names.items() if list(names.values()).count(name) > 1)
        raise Refused(f"several keys would be one variable: {', '.join(twice)}.")
    return names


def _variable(rest: str) -> str:
    name = "".join(c if c.isalnum() else "_" for c in rest.upper())
    return name if name[:1].isalpha() else f"_{name}"


@command.command("rotate-master")
@click.option("--lost", is_flag=True, help="Forget master keys that are lost: what they wrap stays closed for good.")
def rotate_master(lost: bool) -> int:  # noqa: FBT001
    """Wrap every key of secrets and contacts with the first of the keys in BROKERFLOW_MASTER_KEY.

    Run it with BROKERFLOW_OWNER_URL set, once every service process knows both keys. It may be stopped at any time;
    running it again goes on. Exit status 1 when something opens with none of the keys.
    """
    settings = configured()
    with expected(), _addresses(settings) as (_, owner_url), permitted(OWNER, VAULT, GUARD):
        done = asyncio.run(_rotate(owner_url, settings.master_keys, lost=lost))
    for name, rotation in done.items():
        click.echo(f"{rotation.rewrapped} {name} are wrapped anew, by master key {key_id(settings.master_key)}.")
        if rotation.unopened:
            click.echo(f"{rotation.unopened} {name} open with none of the keys: was an old one left out?", err=True)
    return FOUND_SOMETHING if any(rotation.unopened for rotation in done.values()) else 0


async def _rotate(owner_url: str, master_keys: Sequence[bytes], *, lost: bool) -> dict[str, Rotation]:
    connection = await psycopg.AsyncConnection.connect(
        owner_url, autocommit=True, options=f"-c role={VAULT}", cursor_factory=psycopg.AsyncRawCursor
    )
    register_adapters(connection)
    async with connection:
        db = Transaction(connection)
        ids, proofs = [key_id(key) for key in master_keys], [proof(key) for key in master_keys]
        if not lost and (missing := await queries.admit_master_keys(db, ids=ids, proofs=proofs)):
            raise Refused("\n".join(map(missing_master_key, missing)))
        done = {
            "secret versions": await _shown(
                wrapped_keys(db, Keyring(master_keys, PURPOSE)), "Wrapping keys of secrets"
            ),
            "contacts": await _shown(wrapped_contacts(db, sealer_of(master_keys)), "Keys of contacts"),
        }
        if lost or not any(rotation.unopened for rotation in done.values()):
            await queries.keep_master_key(db, id=ids[0], proof=proofs[0])
            await _trust_only(owner_url, master_keys[0])
        return done


async def _trust_only(owner_url: str, master_key: bytes) -> None:
    """Have JWTs and tickets refused whose key was made with an earlier master key."""
    connection = await psycopg.AsyncConnection.connect(
        owner_url, autocommit=True, options=f"-c role={GUARD}", cursor_factory=psycopg.AsyncRawCursor
    )
    async with connection:
        await keep_key_halves(Transaction(connection), halves=[half_of(master_key)])


async def _shown(kind: Wrapped[Any], title: str) -> Rotation:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        return await rotate(kind, lambda done: progress.update(task, description=f"{title}: {done.rewrapped}"))


def _given(source: BinaryIO | None) -> bytes:
    """Read a value without showing it."""
    if source is not None:
        return source.read()
    if sys.stdin.isatty():
        return str(click.prompt("Value", hide_input=True, confirmation_prompt=True)).encode()
    return sys.stdin.buffer.read()


def _encoded(text: bytes) -> bytes:
    try:
        return msgspec.json.encode(text.decode())
    except UnicodeDecodeError:
        raise Refused("the value is no text in UTF-8: write bytes as text, such as base64 makes.") from None


def _json(text: bytes) -> bytes:
    try:
        return bytes(msgspec.json.decode(text.strip(), type=msgspec.Raw))
    except msgspec.DecodeError:
        raise Refused("the value is not JSON; without --json it is taken as a text.") from None


def _text(raw: bytes) -> bytes:
    """Return a text as it is, and anything else as JSON."""
    return str(msgspec.json.decode(raw)).encode() if raw.startswith(b'"') else raw
