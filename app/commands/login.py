"""`brokerflow login`: a person approves this machine in a browser, here or anywhere, and it keeps a token."""

import os
import platform
import sys
import time
import webbrowser
from contextlib import suppress
from typing import Any

import click
from rich.console import Console

from app.cli import Found
from app.commands import logins
from app.commands.client import OWN_TOKEN, Service, ServiceRefused, Unanswered, address

# What the commands of this program need.
SCOPES = "agreements:read agreements:write secrets:read secrets:write tokens:write"
SLOWER = 5  # seconds, as RFC 8628 (3.5) says
SLOWEST = 60

ENDS = {
    "access_denied": "the login was denied.",
    "expired_token": "nobody approved the login within ten minutes: run brokerflow login again.",
}


@click.command(name="login")
@click.option("--url", help="Where the service answers, such as https://brokerflow.example.")
@click.option("--scopes", default=SCOPES, show_default=True, help="What this machine may do, separated by spaces.")
@click.option("--days", type=click.IntRange(1, 365), default=90, show_default=True, help="How long it may.")
@click.option("--name", default=f"brokerflow on {platform.node()}"[:100], help="What to call it, instead of its host.")
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser here, if there is one.")
def command(url: str | None, scopes: str, days: int, name: str, browser: bool) -> None:  # noqa: FBT001
    """Log this machine in: approve the code that it shows on the service's page, here or on another device.

    The token is kept in a file that only you can read, for this service alone, and is used by the other commands
    unless BROKERFLOW_TOKEN is set. It replaces an earlier login.
    """
    where = address(url)
    service = Service(where)
    wanted = {"name": name, "scopes": scopes.replace(",", " ").split(), "expires_in_days": days}
    asked = service.ask("POST", "/auth/device", json=wanted)
    click.echo(f"Open {asked['verification_uri']} and enter the code\n\n    {asked['user_code']}\n")
    if browser and _has_screen():
        webbrowser.open(asked["verification_uri_complete"])
    with Console(stderr=True).status("Waiting for somebody to approve it ..."):
        token = _token(service, asked)
    _replace(where, token)
    person = Service(where, token).ask("GET", "/api/me")
    click.echo(f"Logged in to {where} as {person['full_name']} ({person['email']}) for {days} days.")


def _has_screen() -> bool:
    """Say whether a browser would show up before whoever runs this, and not within his terminal."""
    has_one = sys.platform in {"darwin", "win32"} or not os.environ.keys().isdisjoint({"DISPLAY", "WAYLAND_DISPLAY"})
    return has_one and "SSH_CONNECTION" not in os.environ


def _token(service: Service, asked: dict[str, Any]) -> str:
    """Ask until somebody decides; a service that is away for a moment is asked less and less."""
    interval, ends_at = int(asked["interval"]), time.monotonic() + asked["expires_in"]
    while time.monotonic() < ends_at:
        try:
            told = service.ask("POST", "/auth/device/token", json={"device_code": asked["device_code"]})
            return str(told["access_token"])
        except Unanswered:
            interval = min(2 * interval, SLOWEST)
        except ServiceRefused as refusal:
            if refusal.code == "slow_down":
                interval += SLOWER
            elif refusal.code != "authorization_pending":
                raise Found(ENDS.get(refusal.code or "", refusal.message)) from None
        time.sleep(interval)
    raise Found(ENDS["expired_token"])


def _replace(where: str, token: str) -> None:
    """Keep the token; the one that it replaces, if any still lives, is revoked."""
    earlier = [login.token for login in logins.read() if login.url == where]
    logins.keep(logins.Login(where, token))
    for each in earlier:
        with suppress(Found):
            Service(where, each).send("DELETE", OWN_TOKEN)
