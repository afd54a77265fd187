"""`brokerflow admin`: what the owner of the database does for its users, past the service."""

import asyncio
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO
from uuid import UUID

import click
import msgspec
import psycopg

from app.apiauth import passwords
from app.apiauth.models import Registration
from app.cli import OWNER, Found, Refused, _addresses, configured, expected, permitted
from app.errors import INTERNAL, refusal_of
from app.settings import esign_keys_of
from app.verify import Link, proof_of

Row = tuple[Any, ...]

_CHAIN = """
select e.seq, agreement.event_body(row(e.*)::agreement.timeline_events), encode(e.hash, 'hex')
from archive.all_timeline_events as e
where e.agreement_id = %s
order by e.seq
"""


@click.group(name="admin")
def command() -> None:
    """Appoint platform admins, make users, and end what leaked.

    It works as the owner of the database, with BROKERFLOW_OWNER_URL or on the embedded one.
    """


@command.command("grant")
@click.argument("email")
def grant(email: str) -> None:
    """Make the user with this EMAIL a platform admin."""
    _appoint("select shared.grant_platform_admin(%s)", email)
    click.echo(f"{email} is a platform admin.")


@command.command("revoke")
@click.argument("email")
def revoke(email: str) -> None:
    """Make the user with this EMAIL a platform admin no more."""
    _appoint("select shared.revoke_platform_admin(%s)", email)
    click.echo(f"{email} is no platform admin.")


def _appoint(statement: str, email: str) -> None:
    with _owner("brokerflow_owner") as owner:
        if owner.execute(statement.encode(), [email]).fetchone() != (True,):
            raise _unchanged(email)


@command.command("create-user")
@click.argument("email")
@click.option("--name", help="The full name; else what the address begins with.")
def create_user(email: str, name: str | None) -> None:
    """Make a user with this EMAIL, whose password comes from a prompt or standard input."""
    person = _registration(email, name or email.partition("@")[0], _password())
    salt, cost = passwords.new_salt(), passwords.COST
    key = asyncio.run(passwords.stretch(person.password, salt, cost))
    statement = "select (apiauth.register(%s, %s, %s, %s, %s)).id"
    values = [person.email, person.full_name, salt, key, cost.method]
    with _owner("brokerflow_guard") as owner:
        [user_id] = owner.execute(statement, values).fetchone() or [None]
    click.echo(f"{person.email} is registered, as {user_id}.")


@command.command("revoke-all")
@click.argument("email")
def revoke_all(email: str) -> None:
    """End every session and personal token of the user with this EMAIL, and every login that he approved."""
    with _owner("brokerflow_guard") as owner:
        ended = owner.execute("select sessions, tokens, device_codes from apiauth.revoke_all(%s)", [email]).fetchone()
    if ended is None:
        raise _unchanged(email)
    click.echo("Ended: sessions {}, tokens {}, logins that were approved {}.".format(*ended))


@command.command("replace-esign-keys")
@click.option("--file", "source", type=click.File("r"), help="Holds the secrets; - is standard input.")
def replace_esign_keys(source: TextIO | None) -> None:
    """Trust exactly the webhook secrets of BROKERFLOW_ESIGN_SECRET, or of a file, whatever was trusted before."""
    try:
        keys = esign_keys_of(source.read()) if source else configured().esign_keys
    except ValueError as error:
        raise Refused(f"a webhook secret {error}.") from None
    digests = [hashlib.sha256(key).digest() for key in keys]
    with _owner("brokerflow_guard") as owner:
        owner.execute("select apiauth.replace_esign_keys(%s)", [digests])
    click.echo(f"Webhook secrets trusted from now on: {len(digests)}, and no other.")


@command.command("export-proof")
@click.argument("agreement", type=click.UUID)
def export_proof(agreement: UUID) -> None:
    """Write the hash chain of an AGREEMENT, archived or not, as GET /api/agreements/{id}/proof does."""
    with _owner("brokerflow_auditor") as auditor:
        links = [Link(*link) for link in auditor.execute(_CHAIN, [agreement])]
    if not links:
        raise Found(f"there is no agreement {agreement}.")
    click.echo(msgspec.json.encode(proof_of(agreement, links)))


@contextmanager
def _owner(role: str) -> Iterator[psycopg.Connection[Row]]:
    """Connect as the owner of the database, in one of its roles; what the database refuses is told in a sentence."""
    with (
        expected(),
        _addresses(configured()) as (_, owner_url),
        permitted(OWNER, role),
        _refusals(),
        psycopg.connect(owner_url, options=f"-c role={role}") as connection,
    ):
        yield connection


@contextmanager
def _refusals() -> Iterator[None]:
    """Tell what is wrong with a value, or else what PostgreSQL says. Raises Found."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.ProgrammingError):
        raise
    except psycopg.Error as error:
        refusal = refusal_of(error, {}, fields=["email", "full_name"])
        if refusal.kind is INTERNAL:
            raise Found(f"PostgreSQL refuses it: {error.diag.message_primary or error}.") from error
        wrong = "; ".join(f"{each.field} {each.message}" for each in refusal.errors)
        raise Found(wrong or refusal.detail) from error


def _unchanged(email: str) -> Found:
    return Found(f"nothing to change for {email}: is it registered, in that spelling?")


def _registration(email: str, name: str, password: str) -> Registration:
    told = {"email": email, "full_name": name, "password": password}
    try:
        return msgspec.convert(told, Registration)
    except msgspec.ValidationError as error:
        wrong, _, place = str(error).partition(" - at `$.")
        raise Refused(f"{place.rstrip('`')}: {wrong}.") from None


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")
