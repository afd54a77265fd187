"""The command: draws mutants, hands them to two processes that hold the tests warm, and tells which survive."""

import multiprocessing
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from time import monotonic

import click
from rich.console import Console
from rich.table import Table

from scripts.mutation.mutants import Mutant, choose, spared
from scripts.mutation.worker import Ready, Red, Verdict, work

_SAMPLE = 25
_REPORTED_EVERY = 50
_WIDTH = 500  # of the table where there is no terminal


@click.command()
@click.option("--all", "everything", is_flag=True, help="Make every mutant, not a sample.")
@click.option("--sample", type=click.IntRange(1), default=_SAMPLE, show_default=True, help="How many to draw.")
@click.option("--seed", help="What the sample is drawn by; the name of the commit where none is given.")
@click.option("--only", default="", metavar="REGEX", help="Draw from the mutants in whose name this is found.")
@click.option("--list", "listed", is_flag=True, help="Name what would be made, and make nothing.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="How many processes.")
def mutate(  # noqa: PLR0913 - an option each
    *, everything: bool, sample: int, seed: str | None, only: str, listed: bool, jobs: int
) -> None:
    """Weaken the schema, object by object, and run its tests on each mutant: a mutant that no test kills survives.

    Each constraint, trigger, policy, grant, right to execute and security setting that the catalog shows is dropped,
    revoked, widened or turned in a database of its own. Exit status 1 when one survives. What no test can kill is
    spared by a comment in its chapter that says why: `-- Spared by scripts/mutate: <name>. <reason>`.
    """
    seed = seed or _commit()
    with _workers(1 if listed else jobs) as pipes:
        found, reasons = _ready(pipes), spared()
        _refuse_stale(reasons, found)
        named = [mutant for mutant in found if mutant.name not in reasons and re.search(only, mutant.name)]
        drawn = named if everything else choose(named, sample, seed)
        if listed:
            click.echo("\n".join(mutant.name for mutant in drawn))
            return
        how = "all" if everything else f"drawn by seed {seed}"
        click.echo(f"{len(drawn)} of {len(found)} mutants, {how}; {len(reasons)} spared.", err=True)
        began = monotonic()
        verdicts = _judge(pipes, drawn)
        for pipe in pipes:  # what a mutant leaves to the next proves nothing
            pipe.send(None)
            _received(pipe)
    _show(verdicts, monotonic() - began)
    if any(verdict.killer is None for verdict in verdicts):
        raise click.exceptions.Exit(1)


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    return asked.stdout.strip() or "0"


@contextmanager
def _workers(count: int) -> Iterator[list[Pipe]]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for place in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, place, count), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        yield pipes
    finally:
        for pipe in pipes:
            with suppress(BrokenPipeError):  # it ended already
                pipe.send(None)
        for process in processes:
            process.join()


def _ready(pipes: Sequence[Pipe]) -> list[Mutant]:
    """Wait until the tests passed on the schema as it is."""
    click.echo("Running the tests on the schema as it is ...", err=True)
    told = [_received(pipe) for pipe in pipes]
    return next(each.mutants for each in told if isinstance(each, Ready))


def _received(pipe: Pipe) -> Ready | Verdict:
    """Return what a process tells, or end with what is wrong with it."""
    try:
        told: Ready | Red | Verdict = pipe.recv()
    except EOFError as error:
        raise click.ClickException("a process ended without a word") from error
    if isinstance(told, Red):
        raise click.ClickException(f"there is nothing to learn from mutants: {told.report}")
    return told


def _refuse_stale(reasons: dict[str, str], found: Sequence[Mutant]) -> None:
    names = {mutant.name for mutant in found}
    if stale := [name for name in reasons if name not in names]:
        raise click.ClickException(f"sql/schema spares what is no mutant: {', '.join(stale)}")


def _judge(pipes: Sequence[Pipe], drawn: Sequence[Mutant]) -> list[Verdict]:
    """Hand the mutants out, each to the process that is free."""
    waiting, verdicts = list(reversed(drawn)), list[Verdict]()
    busy = set[Pipe]()

    def hand(pipe: Pipe) -> None:
        if waiting:
            pipe.send(waiting.pop())
            busy.add(pipe)

    for pipe in pipes:
        hand(pipe)
    while busy:
        told = wait(list(busy))
        for pipe in [each for each in busy if each in told]:
            verdict = _received(pipe)
            assert isinstance(verdict, Verdict)  # noqa: S101 - what a mutant is answered with
            verdicts.append(verdict)
            busy.discard(pipe)
            hand(pipe)
            _tell(verdict, len(verdicts), len(drawn))
    return verdicts


def _tell(verdict: Verdict, done: int, total: int) -> None:
    if verdict.killer is None:
        click.echo(f"{done} of {total}: SURVIVED {verdict.mutant.name}", err=True)
    elif done % _REPORTED_EVERY == 0 or done == total:
        click.echo(f"{done} of {total} ...", err=True)


def _show(verdicts: Sequence[Verdict], seconds: float) -> None:
    """Print the table: survivors first, then by name; and what killed each."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=len("survived"))
    for column in ("tests", "seconds"):
        table.add_column(column, min_width=len(column), justify="right")
    for column in ("killed by", "mutant"):
        table.add_column(column, no_wrap=True)
    for verdict in sorted(verdicts, key=lambda each: (each.killer is not None, each.mutant.name)):
        state = "survived" if verdict.killer is None else "killed"
        killer = re.sub(r"^tests/schema/|\[.*\]$", "", verdict.killer or "")
        table.add_row(state, str(verdict.runs), f"{verdict.seconds:.2f}", killer, verdict.mutant.name)
    console.print(table)
    survived = sum(verdict.killer is None for verdict in verdicts)
    console.print(f"{len(verdicts) - survived} killed, {survived} survived, in {seconds:.0f} s.")


if __name__ == "__main__":
    mutate(prog_name="scripts/mutate")
