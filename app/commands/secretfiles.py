"""`brokerflow secret export` and `import`: secrets in files, which age encrypts unless one says otherwise."""

import io
import sys
from collections.abc import Iterator
from typing import BinaryIO, TextIO

import click
import msgspec
import pyrage  # type: ignore[import-untyped]
from dotenv.parser import parse_stream
from rich.table import Table

from app.cli import Found, Refused, progress
from app.commands.client import Service, show
from app.commands.secretclient import checked, keys_below, put, read_all, served_within

REPORTED_EVERY = 25  # keys

AGE = (b"-----BEGIN AGE ENCRYPTED FILE-----", b"age-encryption.org/v1")


@click.command("export")
@click.option("--prefix", default="", help="What keys begin with.")
@click.option("--recipient", "recipients", multiple=True, metavar="KEY", help="Who may open it: age1… or ssh-….")
@click.option("--recipients-file", type=click.File("r"), help="Holds one such key a line.")
@click.option("--plain", is_flag=True, help="Do not encrypt; refused where it would be on a screen.")
@served_within
def export(
    service: Service,
    prefix: str,
    recipients: tuple[str, ...],
    recipients_file: TextIO | None,
    plain: bool,  # noqa: FBT001
) -> None:
    """Write secrets as a JSON object of keys and values, encrypted by age, to standard output.

    Without recipients it is encrypted with a passphrase, which is asked for.
    """
    told = [*recipients, *_lines(recipients_file)]
    if plain and (told or sys.stdout.isatty()):
        raise Refused("--plain goes into a file or a pipe, and without recipients.")
    known = [_recipient(each) for each in told]
    passphrase = None if plain or known else _passphrase(is_new=True)
    keys = keys_below(service, prefix)
    text = _object(read_all(service, keys))
    if known:
        text = pyrage.encrypt(text, known, armored=True)
    elif passphrase is not None:
        text = pyrage.passphrase.encrypt(text, passphrase, armored=True)
    click.echo(text, nl=False)
    click.echo(f"{len(keys)} secrets were exported.", err=True)


@click.command("import")
@click.argument("source", type=click.File("rb"))
@click.option("--prefix", default="", help="Put before each key.")
@click.option("--identity", type=click.File("r"), help="Opens what was encrypted to a recipient.")
@click.option("--dry-run", is_flag=True, help="Show what would be put, and put nothing.")
@served_within
def import_(
    service: Service,
    source: BinaryIO,
    prefix: str,
    identity: TextIO | None,
    dry_run: bool,  # noqa: FBT001
) -> None:
    """Put what a file holds: a JSON object of keys and values, a .env file, or either encrypted by age.

    A key that somebody else changes meanwhile is left alone, and the import ends there.
    """
    values = {checked(prefix + key): value for key, value in _parsed(_opened(source.read(), identity)).items()}
    versions = {item["key"]: int(item["version"]) for item in service.items("/api/secrets", prefix=prefix)}
    if dry_run:
        _show({key: versions.get(key, 0) for key in values})
        return
    for count, (key, value) in enumerate(values.items()):
        if count and count % REPORTED_EVERY == 0:
            progress(f"{count} of {len(values)} secrets were put ...")
        try:
            put(service, key, value, expected_version=versions.get(key, 0))
        except Found as refusal:
            raise Found(f"{key}: {refusal.message} {count} of {len(values)} secrets were put before it.") from None
    click.echo(f"{len(values)} secrets were put.", err=True)


def _object(values: Iterator[tuple[str, msgspec.Raw]]) -> bytes:
    """Write an object, a key a line, with each value as it came."""
    lines = [msgspec.json.encode(key) + b": " + bytes(value) for key, value in values]
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def _parsed(text: bytes) -> dict[str, bytes]:
    """Read an object of keys and values, or else assignments, whose values are texts."""
    try:
        decoded = text.decode()
        if decoded.lstrip().startswith("{"):
            return {key: bytes(raw) for key, raw in msgspec.json.decode(text, type=dict[str, msgspec.Raw]).items()}
    except (UnicodeDecodeError, msgspec.DecodeError):
        raise Refused("the file is neither a JSON object of keys and values nor a .env file.") from None
    return dict(_assignments(decoded))


def _assignments(text: str) -> Iterator[tuple[str, bytes]]:
    for each in parse_stream(io.StringIO(text)):
        if each.error or (each.key is not None and each.value is None):
            raise Refused(f"line {each.original.line} of the file is no assignment.")
        if each.key is not None:
            yield each.key, msgspec.json.encode(each.value)


def _show(versions: dict[str, int]) -> None:
    table = Table("key", "would be", box=None)
    for key, version in versions.items():
        table.add_row(key, f"version {version + 1}, after {version}" if version else "new")
    show(table)


def _opened(text: bytes, identity: TextIO | None) -> bytes:
    """Decrypt what age encrypted; anything else is as it is."""
    if not text.startswith(AGE):
        return text
    try:
        if identity is None:
            return bytes(pyrage.passphrase.decrypt(text, _passphrase(is_new=False)))
        return bytes(pyrage.decrypt(text, [_identity(each) for each in _lines(identity)]))
    except pyrage.DecryptError:
        raise Refused(f"the file does not open with this {'identity' if identity else 'passphrase'}.") from None


def _lines(file: TextIO | None) -> list[str]:
    lines = [] if file is None else [line.strip() for line in file.read().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _recipient(text: str) -> pyrage.x25519.Recipient | pyrage.ssh.Recipient:
    try:
        return (pyrage.ssh if text.startswith("ssh-") else pyrage.x25519).Recipient.from_str(text)
    except pyrage.RecipientError:
        raise Refused(f"{text[:20]} is no recipient: age1… or an ssh key is.") from None


def _identity(text: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        raise Refused("the identity is none of age: such as age-keygen makes.") from None


def _passphrase(*, is_new: bool) -> str:
    return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=is_new, err=True))
