"""`brokerflow master-key`: makes master keys, and has AWS KMS keep those that are in use."""

import base64
import secrets

import click

from app import masterkeys
from app.cli import Refused, configured, expected
from app.masterkeys import MasterKeyUnavailable
from app.sealing import key_id


@click.group(name="master-key")
def command() -> None:
    """Make what BROKERFLOW_MASTER_KEY holds: the keys that seal secrets, contacts and stored answers."""


@command.command("new")
@click.option("--aws-kms", "kms_key", metavar="KEY", help="Id, ARN or alias of a key in AWS KMS that keeps it.")
def new(kms_key: str | None) -> None:
    """Print a new master key; with --aws-kms its ciphertext, and nobody has seen the key itself."""
    try:
        key = masterkeys.generated(kms_key) if kms_key else base64.b64encode(secrets.token_bytes(32)).decode()
    except MasterKeyUnavailable as error:
        raise Refused(f"a master key {error}.") from None
    click.echo(key)


@command.command("wrap")
@click.option("--aws-kms", "kms_key", metavar="KEY", required=True, help="Id, ARN or alias of a key in AWS KMS.")
def wrap(kms_key: str) -> None:
    """Print the master keys in use, in their order, as ciphertext of AWS KMS: what they sealed opens as before."""
    settings = configured()
    with expected():
        keys = settings.master_keys
    try:
        click.echo(" ".join(map(str, masterkeys.wrapped(keys, kms_key))))
    except MasterKeyUnavailable as error:
        raise Refused(f"a master key {error}.") from None


@command.command("list")
def list_() -> None:
    """List the ids of the master keys in use, as `secret_versions.master_key_id` names them; the first seals."""
    settings = configured()
    with expected():
        keys = settings.master_keys
    for key in keys:
        click.echo(key_id(key))
