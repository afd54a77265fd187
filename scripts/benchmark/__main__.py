"""The command: alternating rounds of every case, then a table and a picture."""

import tempfile
from pathlib import Path

import click
from rich.console import Console

from app.binaries import find_binaries
from scripts.benchmark import cases, load, processes, report
from scripts.benchmark.cases import Case
from scripts.benchmark.load import Round
from scripts.benchmark.report import Row
from scripts.benchmark.world import World, built

_CLIENTS = 8  # of pgbench: more do not make two cores faster
_DRAWN = Path(__file__).resolve().parent.parent.parent / "docs" / "bench.svg"


class Bench:
    """Rounds of cases on the service and on PostgreSQL alone, and what they came to."""

    def __init__(self, world: World, seconds: int, connections: int) -> None:
        self._world = world
        self._seconds = seconds
        self._connections = connections
        self._rows: dict[str, Row] = {}

    @property
    def rows(self) -> list[Row]:
        """The cases in the order of their first round."""
        return list(self._rows.values())

    def ask(self, case: Case) -> None:
        """Measure a round of a case, then one of its limit."""
        row = self._rows.setdefault(case.name, Row(case.name, [], []))
        before = processes.use(self._world.database.process)
        row.rounds.append(self._served(case))
        after = processes.use(self._world.database.process)
        row.service_cpu += after.service - before.service
        row.postgres_cpu += after.postgres - before.postgres
        if case.limit is not None:
            pgbench, url = find_binaries() / "pgbench", self._world.database.app_url
            row.limits.append(load.limited(pgbench, url, case.limit, seconds=self._seconds, clients=_CLIENTS))

    def _served(self, case: Case) -> Round:
        connections = min(self._connections, case.most_connections)
        if not case.is_repeatable:
            return load.once_each(self._world.url, case.requests, connections=connections)
        [request] = case.requests
        return load.repeated(self._world.url, request, seconds=self._seconds, connections=connections)


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of each case; the figures are their medians.")
@click.option("--seconds", default=2, show_default=True, help="Seconds a round lasts.")
@click.option("--connections", default=32, show_default=True, help="Connections that ask at once.")
@click.option("--once", default=300, show_default=True, help="Requests a round of those that can be made but once.")
@click.option("--plot", type=click.Path(path_type=Path), default=_DRAWN, help="Where the picture goes.")
def bench(*, rounds: int, seconds: int, connections: int, once: int, plot: Path) -> None:
    """Measure the service beside PostgreSQL alone, both on this machine, alternating, in one run."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="brokerflow-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, the server's account must get through
        with built(Path(folder) / "home", 30, console.print) as world:
            measured = Bench(world, seconds, connections)
            for number in range(1, rounds + 1):  # by rounds, so that what disturbs the machine disturbs all alike
                console.print(f"round {number} of {rounds}")
                for case in (*cases.repeatable(world), cases.accepting(world, once), cases.signing(world, once)):
                    measured.ask(case)
            memory = processes.use(world.database.process).memory
            version = load.version(world.database.superuser_url)
    click.echo(report.heading(version, load.generator(), memory))
    click.echo("\n" + report.table(measured.rows))
    report.plot(measured.rows, plot)
    console.print(f"drawn in {plot}")


if __name__ == "__main__":
    bench(prog_name="scripts/bench")
