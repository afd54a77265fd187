"""The storm: a flood of connections, then requests of interleaved tenants; whatever should not be is a finding."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import click

from app.servers import temporary_folder
from app.shared import tokens
from app.shared.tokens import Prefix
from scripts.benchmark import flood, report, tenants
from scripts.benchmark.crowd import Size
from scripts.benchmark.measuring import Say
from scripts.benchmark.world import World, built

TENANTS = 40
AGREEMENTS = 4000
TOGETHER = 64  # requests of tenants at a time, or as many as the queue takes: none of them is to be refused
_SHOWN = 20


class Storm(NamedTuple):
    """How many connections flood a queue of which length, and how many requests of tenants a seed draws."""

    connections: int
    queue: int
    requests: int
    seed: int


def let_loose(storm: Storm, say: Say) -> bool:
    """Ask the service as its tenants, flood it, print what came of both, and tell whether all was well."""
    minted = [tokens.mint(Prefix.SESSION) for _ in range(TENANTS)]
    size = Size(AGREEMENTS, TENANTS + tenants.FIRST - 1, tokens=minted)
    click.echo(report.machine())
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("storm"))
        world = stack.enter_context(built(folder / "home", size, say, BROKERFLOW_QUEUE_LENGTH=str(storm.queue)))
        findings = [*_interleaved(world, minted, storm, say), *_flooded(world, storm, say)]
    for finding in findings[:_SHOWN]:
        click.echo(f"FOUND {finding}")
    click.echo(f"{len(findings)} findings." if findings else "Nothing was found.")
    return not findings


def _interleaved(world: World, minted: list[str], storm: Storm, say: Say) -> list[str]:
    cast = tenants.cast_of(world, minted)
    say(f"asking {storm.requests:,} requests of {len(cast)} tenants")
    plan = tenants.Plan(storm.requests, min(TOGETHER, storm.queue), storm.seed)
    outcome = tenants.asked(world, cast, plan, say)
    kinds = ", ".join(f"{name} {count:,}" for name, count in sorted(outcome.asked.items()))
    click.echo(f"{outcome.asked.total():,} answers to {len(cast)} tenants were looked at (seed {storm.seed}): {kinds}.")
    return outcome.findings


def _flooded(world: World, storm: Storm, say: Say) -> Iterator[str]:
    most = storm.connections
    for each, mixed in ((min(storm.queue, most), True), (most, True), (most, False)) if most else ():
        say(f"flooding with {each} connections")
        came = flood.flooded(world, each, storm.queue, mixed=mixed)
        click.echo(flood.told(came))
        yield from came.violations
