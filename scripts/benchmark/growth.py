"""How each row's cost grows: with the agreements, their organizations and traces, and with the length of a timeline."""

from collections.abc import Sequence
from contextlib import ExitStack

import click

from app.servers import temporary_folder
from scripts.benchmark import cases, crowd, measuring, pgbench, picture, report
from scripts.benchmark.beside import Plan, service_of
from scripts.benchmark.cases import Asked
from scripts.benchmark.client import Request
from scripts.benchmark.crowd import Size
from scripts.benchmark.measuring import Alone, Bench, Figures, Pace, Say, Target
from scripts.benchmark.world import World, built

CONNECTIONS = 4  # enough to keep two cores busy, too few to measure how they queue
BOUND = 1.5
DEPTHS = (10, 100, 1_000, 10_000)
_PAGE = 50
FIRST_PAGE, PAGE_AMID, APPEND = "timeline, first page", "timeline, a page amid", "append to a timeline"

Measured = list[tuple[str, list[Figures]]]


def sizes(fewest: int, largest: int) -> list[int]:
    """Return the sizes between the fewest and the largest, a hundred times each other; the largest is among them."""
    steps = []
    while fewest < largest:
        steps.append(fewest)
        fewest *= 100
    return [*steps, largest]


def organizations(agreements: int) -> int:
    """Return how many tenants there are at a size: 10,000 at most, as of 100,000 agreements."""
    return min(10_000, max(20, agreements // 10))


def measure(plan: Plan, steps: Sequence[int], say: Say) -> None:
    """Load a database for each size, measure them in turn, print what grew, draw it."""
    pace = plan.pace._replace(connections=min(plan.pace.connections, CONNECTIONS))
    with ExitStack() as stack:
        worlds = [_world(stack, plan, each, say) for each in steps]
        by_size = _by_size(plan, pace, worlds, say)
        by_depth = _by_depth(plan, pace, worlds[-1], say)
        version = pgbench.version(worlds[0].database.superuser_url)
    caption = f"Median milliseconds on {pace.connections} connections. {report.machine()}, PostgreSQL {version}"
    labels = [f"{each:,} agreements" for each in steps]
    depths = [f"{each:,} events" for each in DEPTHS]
    click.echo("\n\n".join([caption, report.growth(by_size, labels), report.growth(by_depth, depths)]))
    for name, ratio in grown(by_size + by_depth):
        click.echo(f"\n“{name}” grows {ratio:.1f} times, more than {BOUND} times.")
    picture.draw_growth([(labels, by_size), (depths, by_depth)], plan.plot, caption)
    say(f"drawn in {plan.plot}")


def grown(measured: Measured) -> list[tuple[str, float]]:
    """Return the rows whose median grows more than it should."""
    ratios = [(name, figures[-1].p50 / figures[0].p50) for name, figures in measured if figures[0].p50]
    return [each for each in ratios if each[1] > BOUND]


def _world(stack: ExitStack, plan: Plan, agreements: int, say: Say) -> World:
    folder = stack.enter_context(temporary_folder("scale"))
    worklist = measuring.needed(plan.rounds, plan.pace.once)
    size = Size(agreements, organizations(agreements), DEPTHS, pending=worklist, invited=worklist)
    return stack.enter_context(built(folder / "home", size, say))


def _by_size(plan: Plan, pace: Pace, worlds: Sequence[World], say: Say) -> Measured:
    """Ask each row of one size after the other, round by round."""
    benches = []
    for world in worlds:
        service = service_of(world)
        measuring.prepare(service, pace)
        benches.append(Bench(_alone(world), service, (), pace))
    for number in range(1, plan.rounds + 1):
        for name in plan.names:
            say(f"round {number} of {plan.rounds}: {name}")
            for bench in benches:
                bench.ask(name)
    return [(name, [bench.rows[name].service for bench in benches]) for name in plan.names]


def _by_depth(plan: Plan, pace: Pace, world: World, say: Say) -> Measured:
    """Ask for timelines of each length in the largest database, round by round."""
    person = world.referee.headers
    names = (FIRST_PAGE, PAGE_AMID, APPEND)
    benches = []
    for position, depth in enumerate(DEPTHS):
        path = f"/api/agreements/{crowd.depth_id(position)}/events"
        amid = _amid(world, path, depth)
        asked = {
            FIRST_PAGE: Asked([Request("GET", path, person)]),
            PAGE_AMID: Asked([Request("GET", amid, person)]),
            APPEND: Asked([cases.posted(path, cases.EVENT, person)]),
        }
        target = Target("BrokerFlow", world.url, world.process, asked)
        measuring.prepare(target, pace)
        benches.append(Bench(_alone(world), target, (), pace._replace(connections=1)))
    for number in range(1, plan.rounds + 1):
        for name in names:
            say(f"round {number} of {plan.rounds}: {name}")
            for bench in benches:
                bench.ask(name)
    return [(name, [bench.rows[name].service for bench in benches]) for name in names]


def _amid(world: World, path: str, depth: int) -> str:
    """Follow the pages of a timeline to its middle; return the path of the page there."""
    cursor = ""
    for _ in range(depth // 2 // _PAGE):
        page = world.client.get(f"{path}?limit={_PAGE}{cursor}", headers=world.referee.headers)
        cursor = f"&cursor={page.raise_for_status().json()['next_cursor']}"
    return f"{path}?limit=20{cursor}"


def _alone(world: World) -> Alone:
    return Alone(world.database.app_url, world.database.process, {})
