"""`brokerflow logout`: the token that a login left here is revoked, and removed."""

import click

from app.cli import Found
from app.commands import logins
from app.commands.client import OWN_TOKEN, Service, ServiceRefused, address


@click.command(name="logout")
@click.option("--url", help="Which service, instead of the one you logged in to last.")
def command(url: str | None) -> None:
    """Revoke the token of this machine, and remove it."""
    where = address(url)
    tokens = [login.token for login in logins.read() if login.url == where]
    if not tokens:
        raise Found(f"you are not logged in to {where}.")
    for token in tokens:
        try:
            Service(where, token).send("DELETE", OWN_TOKEN)
        except ServiceRefused as refusal:
            if refusal.code != "unauthenticated":  # then it had ended already
                raise
    logins.forget(where)
    click.echo(f"Logged out of {where}.")
