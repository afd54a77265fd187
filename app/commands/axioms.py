"""`brokerflow axioms`: the rules and what enforces them, read from the catalog of the database."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec
from psycopg import AsyncConnection, AsyncRawCursor
from rich.console import Console
from rich.text import Text

from app.cli import configured, embedded, expected, permitted
from app.database import Transaction
from app.settings import Settings
from app.shared import queries

_REMEDY = "set BROKERFLOW_APP_URL to the service's login, brokerflow_app"


@click.command(name="axioms")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Show the axioms and the objects that enforce them.

    They are read from the database of BROKERFLOW_APP_URL, else from the embedded one.
    """
    with expected(), _database_url(configured()) as url, permitted(_REMEDY):
        axioms = asyncio.run(_read(url))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(axioms)))
    else:
        _show(axioms)


@contextmanager
def _database_url(settings: Settings) -> Iterator[str]:
    if given := settings.app_url or settings.owner_url:
        yield given.get_secret_value()
    else:
        with embedded(settings) as running:
            yield running.app_url


def _show(axioms: list[dict[str, Any]]) -> None:
    console = Console(highlight=False, markup=False)
    for axiom in axioms:
        console.print(Text.assemble((axiom["id"], "bold"), f"  {axiom['rule']}"))
        for each in axiom["enforced_by"]:
            place = each["location"] if each["kind"] == "table" else f"{each['location']}.{each['object']}"
            line = Text.assemble("    ", (f"{each['kind']:<12}", "dim"), place)
            console.print(line, soft_wrap=True)
        console.print()


async def _read(url: str) -> list[dict[str, Any]]:
    async with await AsyncConnection.connect(url, cursor_factory=AsyncRawCursor, connect_timeout=5) as connection:
        db = Transaction(connection)
        axioms, objects = await queries.list_axioms(db), await queries.list_enforcing_objects(db)
    return [
        {
            "id": axiom.id,
            "rule": axiom.rule,
            "enforced_by": [
                {"object": each.object, "kind": each.kind, "location": each.location, "why": each.why}
                for each in objects
                if each.axiom == axiom.id
            ],
        }
        for axiom in axioms
    ]
