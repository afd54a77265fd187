"""The table: every row of the service beside PostgreSQL alone, and beside its peers where they are wanted."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import click

from app.servers import temporary_folder
from scripts.benchmark import cases, ceiling, limits, load, measuring, peer_packages, peers, pgbench, picture, report
from scripts.benchmark.crowd import Size
from scripts.benchmark.measuring import Alone, Bench, Pace, Row, Say, Target
from scripts.benchmark.world import World, built

_POOL = 10  # connections to PostgreSQL, of the service and of each peer


class Plan(NamedTuple):
    """What is measured, how often, and where the picture goes."""

    pace: Pace
    rounds: int
    names: Sequence[str]
    plot: Path


def measure(plan: Plan, agreements: int, say: Say, *, with_peers: bool) -> None:
    """Measure, print the tables, draw the picture."""
    worklist = measuring.needed(plan.rounds, plan.pace.once)
    size = Size(agreements, depths=(10,), pending=worklist, invited=worklist)
    found = peer_packages.installed(say) if with_peers else []
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("bench"))
        world = stack.enter_context(built(folder / "home", size, say, BROKERFLOW_POOL_SIZE=str(_POOL)))
        others = stack.enter_context(peers.serving(found, world, worklist, _POOL, say))
        rows = _rows(plan, world, others, say)
        version = pgbench.version(world.database.superuser_url)
    most = ceiling.ours(seconds=plan.pace.seconds, connections=plan.pace.connections).rate
    heading = report.heading(version, load.generator(), most, rows)
    click.echo("\n\n".join([heading, report.table(rows), *([report.peers(rows)] if others else [])]))
    picture.draw(rows, plan.plot, f"Requests a second. {report.machine()}, PostgreSQL {version}")
    say(f"drawn in {plan.plot}")


def _rows(plan: Plan, world: World, others: Sequence[Target], say: Say) -> list[Row]:
    service = service_of(world)
    for target in (service, *others):
        measuring.prepare(target, plan.pace)
    alone = Alone(world.database.app_url, world.database.process, limits.limits(world))
    return measuring.run(Bench(alone, service, others, plan.pace), plan.names, plan.rounds, say)


def service_of(world: World) -> Target:
    """Return the service as what is measured."""
    return Target("BrokerFlow", world.url, world.process, cases.asked(world))
