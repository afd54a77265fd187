"""The command: a table beside the limit and the peers, the same at growing sizes, or a storm."""

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from scripts.benchmark import beside, growth
from scripts.benchmark.beside import Plan
from scripts.benchmark.cases import ROWS
from scripts.benchmark.measuring import Pace
from scripts.benchmark.storm import Storm, let_loose

_DOCS = Path(__file__).resolve().parents[2] / "docs"
_SOME, _ANY = click.IntRange(1), click.IntRange(0)


@click.command(context_settings={"max_content_width": 110, "show_default": True})
@click.option("--peers", is_flag=True, help="Measure FastAPI and Litestar with SQLAlchemy, and PostGraphile, in turn.")
@click.option("--scale", is_flag=True, help="Instead: each row's median latency as the data grows.")
@click.option("--storm", is_flag=True, help="Instead: requests of interleaved tenants, then a flood of connections.")
@click.option("--rounds", type=_SOME, default=5, help="Rounds of each row; the figures are their medians.")
@click.option("--seconds", type=_SOME, default=2, help="Seconds a round lasts.")
@click.option("--connections", type=_SOME, default=32, help="Connections that ask at once; 4 with --scale.")
@click.option("--once", type=_SOME, default=1000, help="Requests a round of those that can be made but once.")
@click.option(
    "--agreements", type=_SOME, default=1000, help="Agreements that are there besides; with --scale the fewest."
)
@click.option("--largest", type=_SOME, default=100_000, help="With --scale: the most agreements.")
@click.option("--flood", type=_ANY, default=1000, help="With --storm: connections at once; 0 for no flood.")
@click.option("--queue", type=_SOME, default=512, help="With --storm: BROKERFLOW_QUEUE_LENGTH of the service.")
@click.option(
    "--requests", type=_SOME, default=20_000, help="With --storm: requests of tenants, whose answers are all checked."
)
@click.option("--seed", type=_ANY, default=1, help="With --storm: what the tenants ask.")
@click.option("--only", multiple=True, type=click.Choice(ROWS), help="A row to measure; may be repeated.")
@click.option("--plot", type=click.Path(path_type=Path), help="Where the picture goes, if not into docs.")
def bench(**options: Any) -> None:
    """Measure the service beside PostgreSQL alone, both on this machine, alternating, in one run.

    It starts a PostgreSQL and a service of its own in a temporary folder and loads them. Requests a second are medians
    of the rounds; "PostgreSQL alone" is pgbench with the same statements in the same transactions, prepared and planned
    as the service has them planned, on 8 connections. Load comes from wrk where it is installed, else from a client of
    ours, which states what it makes at most.

    The peers are installed when they are first asked for, from what scripts/bench_peers pins, and have databases of
    their own on the same server with as much in them.

    The exit status is 1 if the storm found something: an answer that held another's rows, an error but 503 past the
    queue, more than 300 MB, or more than 2 seconds until it was as before.
    """
    say = Console(stderr=True).print
    if options["storm"]:
        storm = Storm(options["flood"], options["queue"], options["requests"], options["seed"])
        sys.exit(0 if let_loose(storm, say) else 1)
    pace = Pace(options["seconds"], options["connections"], options["once"])
    names = options["only"] or ROWS
    if options["scale"]:
        sizes = growth.sizes(options["agreements"], options["largest"])
        plan = Plan(pace, options["rounds"], names, options["plot"] or _DOCS / "bench-scale.svg")
        growth.measure(plan, sizes, say)
    else:
        plan = Plan(pace, options["rounds"], names, options["plot"] or _DOCS / "bench.svg")
        beside.measure(plan, options["agreements"], say, with_peers=options["peers"])


if __name__ == "__main__":
    bench(prog_name="scripts/bench")
