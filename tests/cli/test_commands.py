"""Every command says what it does, quickly, and what is wrong, in a sentence."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from app.cli import LATER, cli
from tests.cli.conftest import Variables, run
from tests.conftest import Database

SLOW = ("litestar", "pydantic", "psycopg", "rich", "httpx", "uvicorn", "cryptography")


def walk(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if (child := command.get_command(context, name)) is not None:
                yield from walk(child, *path, name)


@pytest.mark.parametrize("path", list(walk(cli)), ids=" ".join)
def test_every_command_helps(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["verify", "--help"], ["serve", "--help"]])
def test_help_imports_nothing_that_is_slow(arguments: list[str]) -> None:
    script = (
        "import sys, click\nfrom app.cli import cli\n"
        f"try: cli.main({arguments!r}, standalone_mode=False)\nexcept click.ClickException: pass\n"
        f"print(','.join(sorted(set(sys.modules) & {set(SLOW)!r})), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr == "\n"


def test_what_is_imported_later_is_called_as_it_is_listed() -> None:
    context = click.Context(cli)
    for name in set(LATER) & set(cli.list_commands(context)):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["migrate", "sideways"], "No such command 'sideways'"),
        (["demo", "--namespace", "Über Uns"], "single hyphens between"),
        (["demo", "--url", "127.0.0.1:8000"], "is not a URL such as"),
        (["demo", "--url", "http://127.0.0.1:99999"], "is not a URL such as"),
        (["demo", "--login", "eve"], "'eve' is not one of 'alma', 'bruno', 'carla', 'judith'"),
        (["verify"], "Missing argument 'FILE'"),
        (["verify", "no such file"], "No such file or directory"),
        (["verify", "-", "--head", "0x1"], "is not 64 hexadecimal digits"),
        (["axioms", "--xml"], "No such option '--xml'"),
        (["serve", "--port", "65536"], "65536 is not in the range"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told_in_a_sentence(arguments: list[str], sentence: str) -> None:
    refused = run({}, *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", ["demo", "axioms", "check", "serve"])
def test_all_mistakes_of_the_configuration_are_told_at_once(command: str) -> None:
    mistakes = {"BROKERFLOW_PORT": "x", "BROKERFLOW_LOG_LEVEL": "loud", "BROKERFLOW_MASTER_KEY": "short"}
    refused = run(mistakes, command)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert all(f"{name} should be " in refused.stderr for name in mistakes)
    assert "Traceback" not in refused.stderr


def test_the_axioms_are_those_of_the_database(variables: Variables, database: Database) -> None:
    told = json.loads(run(variables, "axioms", "--json").stdout)
    with psycopg.connect(database.superuser_url) as connection:
        axioms = connection.execute("select id, rule from shared.axioms order by length(id), id").fetchall()
        commented = connection.execute(
            "select count(*) from pg_description as d where d.description like 'Axiom A%:%' and not exists ("
            "select from pg_trigger as t join pg_class as c on c.oid = t.tgrelid "
            "where t.oid = d.objoid and d.classoid = 'pg_trigger'::regclass and c.relispartition)"
        )
        assert [(each["id"], each["rule"]) for each in told] == axioms
        assert commented.fetchone() == (sum(len(each["enforced_by"]) for each in told),)
    assert all(each["enforced_by"] for each in told)


def test_the_axioms_are_readable_too(variables: Variables) -> None:
    shown = run(variables, "axioms").stdout
    assert "A1  A referral has at most one live agreement." in shown
    assert "agreement.agreements.agreements_one_live_per_referral" in shown
    assert "\x1b" not in shown


def test_axioms_of_a_database_without_the_schema_say_what_to_do(variables: Variables) -> None:
    assert run(variables, "migrate", "down", "--all", "--yes").returncode == 0
    refused = run(variables, "axioms")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        'brokerflow: BrokerFlow\'s schema is missing or older (relation "shared.axioms" does not exist): '
        "run brokerflow migrate up.\n"
    )


def test_who_may_not_read_the_axioms_is_told_who_may(database: Database) -> None:
    refused = run({"BROKERFLOW_APP_URL": database.worker_url}, "axioms")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("brokerflow: the login may not do this (permission denied for ")
    assert refused.stderr.endswith("): set BROKERFLOW_APP_URL to the service's login, brokerflow_app.\n")


def test_check_needs_the_owner_no_more_than_serving_does(variables: Variables) -> None:
    without_owner = {name: value for name, value in variables.items() if name != "BROKERFLOW_OWNER_URL"}
    checked = run(without_owner, "check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith(" are good.\n")
    without_service = {name: value for name, value in variables.items() if name != "BROKERFLOW_APP_URL"}
    for command in ("check", "serve"):
        refused = run(without_service, command)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith("brokerflow: BROKERFLOW_APP_URL is not set")


def test_a_database_that_answers_is_not_said_to_be_silent(database: Database) -> None:
    nowhere = database.app_url.replace(database.name, "nowhere")
    refused = run({"BROKERFLOW_APP_URL": nowhere}, "axioms")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("brokerflow: the database cannot be used: connection ")
    assert refused.stderr.endswith('database "nowhere" does not exist\n')
    assert str(conninfo_to_dict(nowhere)["password"]) not in refused.stderr


def test_a_part_of_a_password_that_is_taken_for_a_host_is_not_shown() -> None:
    refused = run({"BROKERFLOW_APP_URL": "postgresql://nora:pass@word@nowhere.invalid/x"}, "axioms")
    assert refused.returncode == 2
    assert "the database cannot be used: failed to resolve host '...@nowhere.invalid'" in refused.stderr
    assert "word" not in refused.stderr


@pytest.mark.parametrize("command", ["axioms", "oracles"])
def test_the_embedded_server_is_started_and_migrated_for_a_command(command: str, home: Path) -> None:
    told = run({"BROKERFLOW_HOME": str(home)}, command, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)
    assert told.stderr.startswith(f"Starting PostgreSQL in {home} ...\napplying 0010_roles (1 of ")
