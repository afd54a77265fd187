"""`brokerflow verify`: checks an exported timeline with nothing but the file."""

from typing import BinaryIO

import click

from app.cli import FOUND_SOMETHING
from app.verify import verify

_SHA256_DIGITS = 64


def _head(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    digits = value.strip().lower()
    if len(digits) != _SHA256_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise click.BadParameter("is not 64 hexadecimal digits")
    return digits


@click.command(name="verify")
@click.argument("proof", metavar="FILE", type=click.File("rb"))
@click.option("--head", metavar="HEX", callback=_head, help="The last hash, as you kept it from an earlier export.")
def command(proof: BinaryIO, head: str | None) -> int:
    """Verify a timeline exported from /api/agreements/{id}/proof; FILE - reads standard input.

    Neither service nor database is asked. Exit status 0 when every byte is as it was exported, 1 when not.
    """
    result = verify(proof.read(), head)
    if result.finding is not None:
        click.echo(f"Not intact: {result.finding}.")
        return FOUND_SOMETHING
    click.echo(f"Intact: {result.events} events of agreement {result.agreement_id}.")
    click.echo(f"Head:   {result.head}")
    if head is None:
        click.echo("Keep the head apart from the file: with --head, a chain that was cut short or replaced is found.")
    return 0
