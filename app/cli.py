"""The `brokerflow` command. What is slow to import is imported by the command that needs it."""
# ruff: noqa: PLC0415

import gc
import importlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

if TYPE_CHECKING:
    import uvicorn
    from litestar import Litestar
    from psycopg import Error, OperationalError

    from app.embedded import Addresses
    from app.settings import Settings

FOUND_SOMETHING = 1
USAGE = 2
BACKLOG = 2048
PATIENCE_WITH_REQUESTS = 30  # seconds that requests get to finish after SIGTERM
OWNER = "set BROKERFLOW_OWNER_URL to the login that owns the database"
REMEDIES = {
    "altered": "restore its file, or add a migration instead of editing one that was applied",
    "pending": "run brokerflow migrate up with BROKERFLOW_OWNER_URL set",
}

_UNREACHED = "Is the server running"  # what libpq asks whenever it could not even connect
# What follows an @ of a password that is not percent-encoded is taken for the beginning of the host.
_CREDENTIALS = re.compile(r"""(\bhost\b[^"'\n]*)(["'])(?:(?!\2).)*@""")
_NOT_PERMITTED = "42501"
_ABSENT = {
    "22023",  # to set_config, a role that no migration has made
    "3F000",  # schema
    "42703",  # column
    "42704",  # type
    "42883",  # function
    "42P01",  # table
}


class Later(NamedTuple):
    """A command in a module of its own, imported when it is called."""

    module: str
    help: str


LATER = {
    "admin": Later("app.commands.admin", "Appoint platform admins, make users, end what leaked."),
    "axioms": Later("app.commands.axioms", "Show the axioms and what enforces them."),
    "demo": Later("app.commands.demo", "Play the whole story against the service."),
    "master-key": Later("app.commands.masterkey", "Make master keys, and have AWS KMS keep them."),
    "login": Later("app.commands.login", "Log this machine in, with a browser here or anywhere."),
    "logout": Later("app.commands.logout", "Revoke the token of this machine."),
    "oracles": Later("app.commands.oracles", "Ask the database for violations."),
    "secret": Later("app.commands.secret", "Keep and use secrets."),
    "stress": Later("app.commands.stress", "Race, break rules, kill, and see whether the promises hold."),
    "token": Later("app.commands.token", "Make, list and revoke personal access tokens."),
    "upkeep": Later("app.commands.upkeep", "Make months ahead, and archive old ones."),
    "verify": Later("app.commands.verify", "Verify an exported timeline without the service."),
}


class Commands(click.Group):
    """A group that knows the commands of LATER by name and imports them when called; each module defines `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command that is installed."""
        later = [name for name, command in LATER.items() if importlib.util.find_spec(command.module)]
        return sorted([*super().list_commands(ctx), *later])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module where it has one."""
        if cmd_name not in LATER or not importlib.util.find_spec(LATER[cmd_name].module):
            return super().get_command(ctx, cmd_name)
        command = importlib.import_module(LATER[cmd_name].module).command
        assert isinstance(command, click.Command)  # noqa: S101 - a mistake of ours, not of the caller
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing those of LATER."""
        rows = []
        for name in self.list_commands(ctx):
            known = super().get_command(ctx, name)
            rows.append((name, LATER[name].help if known is None else known.get_short_help_str(80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Refused(click.ClickException):
    """An expected condition that ends a command with a sentence: usage or configuration."""

    exit_code = USAGE


class Found(Refused):
    """What a command was to find or to do is not so."""

    exit_code = FOUND_SOMETHING


def main() -> NoReturn:
    """Run the command; end with 0 when good, 1 when it found something, 2 for usage and configuration."""
    try:
        status = cli.main(standalone_mode=False)
    except click.ClickException as error:
        if isinstance(error, Refused):
            click.echo(f"brokerflow: {error.message}", err=True)
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(128 + signal.SIGINT)
    sys.exit(status if isinstance(status, int) else 0)


@contextmanager
def expected() -> Iterator[None]:
    """Turn the conditions that an operator can change into one sentence each, without a traceback."""
    from psycopg import OperationalError

    from app.binaries import EmbeddedError
    from app.migrations import MigrationError
    from app.settings import SettingsError

    try:
        yield
    except SettingsError as error:
        raise Refused("the configuration cannot be used:\n" + "\n".join(error.sentences)) from error
    except (EmbeddedError, MigrationError) as error:
        raise Refused(str(error)) from error
    except OperationalError as error:
        raise Refused(_unusable(error)) from error


@contextmanager
def permitted(remedy: str, *roles: str) -> Iterator[None]:
    """Turn what the schema or the login lacks into a sentence, with a remedy for the login; raises Refused.

    `roles` are those that the login takes on as it connects.
    """
    from psycopg import Error

    try:
        yield
    except Error as error:
        if (sentence := _lack(error, remedy, roles)) is None:
            raise
        raise Refused(sentence) from error


def _lack(error: "Error", remedy: str, roles: Sequence[str]) -> str | None:
    from psycopg import ProgrammingError

    said = error.diag.message_primary or str(error).rpartition("FATAL:")[2].strip()
    if error.sqlstate in _ABSENT:
        return f"BrokerFlow's schema is missing or older ({said}): run brokerflow migrate up."
    if error.sqlstate == _NOT_PERMITTED:
        return f"the login may not do this ({said}): {remedy}."
    if isinstance(error, ProgrammingError):  # of a URL that cannot be read, its text may quote the password
        return f"the database cannot be asked: {error.diag.message_primary or 'the DSN is no PostgreSQL URL'}."
    if error.sqlstate is None and any(role in said for role in roles):  # what is refused while connecting has none
        return f"the login may not do this ({said}): {remedy}, and run brokerflow migrate up."
    return None


def _unusable(error: "OperationalError") -> str:
    """Say in PostgreSQL's words why the database is of no use: nobody answered there, or who did refused."""
    from psycopg.errors import ConnectionTimeout

    words = _CREDENTIALS.sub(r"\1\2...@", error.diag.message_primary or str(error).strip())
    is_silent = isinstance(error, ConnectionTimeout) or _UNREACHED in words
    return f"the database {'does not answer' if is_silent else 'cannot be used'}: {words}"


def configured() -> "Settings":
    """Read the configuration and set the logs up."""
    from app import logs, settings

    with expected():
        loaded = settings.load()
    logs.configure(loaded.log_level)
    return loaded


def progress(sentence: str) -> None:
    """Tell on standard error what long work is doing."""
    click.echo(sentence, err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="brokerflow")
def cli() -> None:
    """BrokerFlow: a brokerage backend in which PostgreSQL keeps the promises."""


@cli.command()
@click.option("--host", help="Address to listen on, instead of BROKERFLOW_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port, instead of BROKERFLOW_PORT; 0 picks a free one.")
def serve(host: str | None, port: int | None) -> None:
    """Serve HTTP; without a database URL, on a PostgreSQL of its own."""
    settings = configured()
    _end_on_signals()
    with ExitStack() as stack, expected():
        listener = stack.enter_context(_listen(host or settings.host, settings.port if port is None else port))
        if settings.is_embedded:
            running = stack.enter_context(_started(settings, supervised=True))
            _migrate(running.owner_url)
            _make_months(running.worker_url)
            settings = _on(running, settings)
        else:
            _admit(settings)
        _serve(settings, listener)


@cli.group()
def migrate() -> None:
    """Bring the schema up, down, or say where it stands."""


@migrate.command("up")
def migrate_up() -> None:
    """Apply the migrations that are pending."""
    with expected(), _addresses(configured()) as (_, owner_url):
        _migrate(owner_url)


@migrate.command("down")
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, help="How many to roll back.")
@click.option("--all", "everything", is_flag=True, help="Roll all of them back.")
@click.confirmation_option(prompt="This removes tables and what is in them. Go on?")
def migrate_down(steps: int, everything: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Roll migrations back, the last one first."""
    from app import migrations

    with expected(), _addresses(configured()) as (_, owner_url):
        migrations.down(owner_url, None if everything else steps, progress)


@migrate.command("status")
def migrate_status() -> int:
    """List every migration; exit status 1 when one is pending or altered."""
    from rich.console import Console
    from rich.table import Table

    from app import migrations

    with expected(), _addresses(configured()) as (_, owner_url):
        listed = migrations.status(owner_url)
    table = Table("migration", "state", "applied (UTC)", box=None)
    for chapter in listed:
        table.add_row(
            chapter.name, chapter.state, f"{chapter.applied_at:%Y-%m-%d %H:%M:%S}" if chapter.applied_at else ""
        )
    Console().print(table)
    return 0 if all(chapter.state == "applied" for chapter in listed) else FOUND_SOMETHING


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--app", "as_app", is_flag=True, help="Log in as the service instead of the deployer.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(as_app: bool, arguments: tuple[str, ...]) -> int:  # noqa: FBT001
    """Open psql on the embedded PostgreSQL, starting it if need be; ARGUMENTS go to psql."""
    from app.binaries import find_binaries

    settings = configured()
    if not settings.is_embedded:
        raise Refused("psql opens the embedded PostgreSQL only: unset the URLs, or call psql with yours.")
    with expected(), _addresses(settings) as (app_url, owner_url):
        environment = {**os.environ, **_psql_environment(app_url if as_app else owner_url)}
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is psql's, to cancel a statement
        return subprocess.run([find_binaries() / "psql", *arguments], env=environment, check=False).returncode


@cli.command()
def check() -> int:
    """Validate the configuration, the login, the schema, the master key and the months ahead, without serving."""
    from app import readiness

    settings = configured()
    with expected():
        _ = settings.master_key, settings.esign_keys
        with _addresses(settings) if settings.is_embedded else nullcontext(_service_addresses(settings)) as addresses:
            app_url, owner_url = addresses
            complaints = _complaints(settings, app_url, owner_url) + _secret_complaints(settings)
            complaints = complaints or readiness.master_key_complaints(app_url, settings.master_keys, is_serving=False)
            complaints = complaints or readiness.month_complaints(app_url)
    for complaint in complaints:
        click.echo(complaint)
    if not complaints:
        click.echo("The configuration, the login, the schema, the master key and the months ahead are good.")
    return FOUND_SOMETHING if complaints else 0


def _secret_complaints(settings: "Settings") -> list[str]:
    import asyncio

    from app.secretstore.secrets import complaint_about

    complaint = asyncio.run(complaint_about(settings.secret_place))
    return [f"Secrets cannot be read as BROKERFLOW_SECRET_PROVIDER says: {complaint}."] if complaint else []


def _end_on_signals() -> None:
    """End with status 0 on SIGTERM and SIGINT, before, while and after uvicorn handles them itself."""

    def end(_signal: int, _frame: Any) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise Refused(f"cannot listen on {host}, port {port}: {reason}.") from error


@contextmanager
def _addresses(settings: "Settings") -> Iterator[tuple[str, str]]:
    """Yield the service's URL and the owner's; where none is set, of the embedded server, started if need be."""
    if not settings.is_embedded:
        yield _configured_addresses(settings)
    else:
        with embedded(settings, is_migrated=False) as running:
            yield running.app_url, running.owner_url


@contextmanager
def embedded(settings: "Settings", *, is_migrated: bool = True) -> Iterator["Addresses"]:
    """Yield where the embedded server answers: the one that runs, else one that is started until the end, and migrated.

    Raises EmbeddedError and MigrationError.
    """
    from app.embedded import locate

    if running := locate(settings.home):
        yield running
    else:
        with _started(settings) as started:
            if is_migrated:
                _migrate(started.owner_url)
            yield started


def _configured_addresses(settings: "Settings") -> tuple[str, str]:
    app_url, owner_url = settings.app_url, settings.owner_url
    if owner_url is None:
        raise Refused("BROKERFLOW_OWNER_URL is not set: it names the login that owns the database.")
    return (app_url or owner_url).get_secret_value(), owner_url.get_secret_value()


@contextmanager
def _started(settings: "Settings", *, supervised: bool = False) -> Iterator["Addresses"]:
    from app.embedded import Embedded

    progress(f"Starting PostgreSQL in {settings.home} ...")
    with Embedded(settings.home, supervised=supervised) as server:
        yield server.addresses


def _on(running: "Addresses", settings: "Settings") -> "Settings":
    """Return the settings with the embedded server's URLs."""
    from pydantic import SecretStr

    urls = {"app_url": SecretStr(running.app_url), "login_url": SecretStr(running.login_url)}
    return settings.model_copy(update=urls)


def _migrate(owner_url: str) -> None:
    from app import migrations

    migrations.up(owner_url, progress)


def _make_months(worker_url: str) -> None:
    """Do for the embedded server what an operator's timer does for his."""
    import psycopg

    from app.commands.upkeep import make_ahead

    with psycopg.connect(worker_url, autocommit=True) as worker:
        make_ahead(worker)


def _admit(settings: "Settings") -> None:
    """Refuse to serve with logins or a schema that are not as they must be."""
    if complaints := _complaints(settings, *_service_addresses(settings)):
        raise Refused("the service does not start:\n" + "\n".join(complaints))


def _service_addresses(settings: "Settings") -> tuple[str, str]:
    """Return the service's URL and the owner's, or the former twice: the service may read what is applied."""
    if settings.app_url is None:
        raise Refused("BROKERFLOW_APP_URL is not set: it names the login that the service runs with.")
    return settings.app_url.get_secret_value(), (settings.owner_url or settings.app_url).get_secret_value()


def _complaints(settings: "Settings", app_url: str, owner_url: str) -> list[str]:
    from app import migrations, readiness

    complaints = readiness.login_complaints(app_url, is_production=settings.is_production)
    if settings.login_url is not None:
        login_url = settings.login_url.get_secret_value()
        complaints += readiness.provider_login_complaints(login_url, is_production=settings.is_production)
    return complaints or [
        f"Migration {chapter.name} is {chapter.state}: {REMEDIES[chapter.state]}."
        for chapter in migrations.status(owner_url)
        if chapter.state in REMEDIES
    ]


def _serve(settings: "Settings", listener: socket.socket) -> None:
    from app import readiness
    from app.main import create_app

    app_url = settings.app_url.get_secret_value() if settings.app_url else ""
    if complaints := readiness.master_key_complaints(app_url, settings.master_keys, is_serving=True):
        raise Refused("the service does not start:\n" + "\n".join(complaints))
    app = create_app(settings)
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    server = _server(app, lambda: click.echo(f"BrokerFlow is ready at http://{address}:{port}"))
    server.run(sockets=[listener])
    if not server.started:
        raise Found("the service could not start; its log says why.")


def _server(app: "Litestar", announce: Callable[[], None]) -> "uvicorn.Server":
    import uvicorn

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _spare_the_collector()
                announce()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await app.state.database.end_notices()
            await super().shutdown(sockets)

    return Announcing(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(app.state.settings.proxies),
            forwarded_allow_ips=app.state.settings.proxies,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=PATIENCE_WITH_REQUESTS,
        )
    )


def _spare_the_collector() -> None:
    """Keep what is there at the start out of Python's collections: each would walk through all of it, for nothing.

    What a request makes is gone with its last reference, so collections may be rarer too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _psql_environment(url: str) -> dict[str, str]:
    """Hand the URL over in the environment: arguments are everybody's to read."""
    from psycopg.conninfo import conninfo_to_dict

    names = {
        "host": "PGHOST",
        "port": "PGPORT",
        "user": "PGUSER",
        "password": "PGPASSWORD",
        "dbname": "PGDATABASE",
    }
    return {names[name]: str(value) for name, value in conninfo_to_dict(url).items() if name in names}
