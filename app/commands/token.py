"""`brokerflow token`: personal access tokens from the command line."""

from typing import Any
from uuid import UUID

import click
import msgspec
from rich.table import Table

from app.commands.client import Service, served, show

TOKENS = "/api/tokens"


@click.group(name="token")
def command() -> None:
    """Make, list and revoke your personal access tokens, over HTTP with a token of scope tokens:write.

    That token is read from BROKERFLOW_TOKEN, a file, or where brokerflow login keeps it.
    """


@command.command()
@click.argument("name")
@click.option("--scopes", metavar="SCOPES", help="What it may do, separated by spaces; no more than your own token.")
@click.option("--days", type=click.IntRange(1, 365), default=90, show_default=True, help="How long it may.")
@served
def create(service: Service, name: str, scopes: str | None, days: int) -> None:
    """Make a token that is called NAME, and print it: it is shown this once."""
    body: dict[str, Any] = {"name": name, "expires_in_days": days}
    if scopes is not None:
        body["scopes"] = scopes.replace(",", " ").split()
    made = service.ask("POST", TOKENS, json=body)
    click.echo(made["token"])
    click.echo(f"{made['id']} may {', '.join(made['scopes'])} until {made['expires_at']}.", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@served
def list_(service: Service, as_json: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """List your tokens that are not revoked, each by its last four characters."""
    tokens = list(service.items(TOKENS))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(tokens)))
        return
    table = Table("id", "name", "ends with", "scopes", "expires", "last used", box=None)
    for each in tokens:
        scopes = " ".join(each["scopes"])
        table.add_row(each["id"], each["name"], each["token_hint"], scopes, each["expires_at"], each["last_used_at"])
    show(table)


@command.command()
@click.argument("token_id", metavar="ID", type=click.UUID)
@served
def revoke(service: Service, token_id: UUID) -> None:
    """Revoke the token with this ID, as list shows it: it ends at once."""
    service.send("DELETE", f"{TOKENS}/{token_id}")
