"""What the README says is so: its refusals are run, its tables are compared, its links lead somewhere."""

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest

from app import oracles
from app.settings import PREFIX, Settings
from tests.cli.conftest import Variables, environment, run, served
from tests.conftest import Database

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMAND = f"{shlex.quote(sys.executable)} -c 'from app.cli import main; main()'"


def block(marker: str) -> str:
    """Return the code block after a marker comment."""
    [code] = re.findall(rf"^<!-- {marker} -->\n```\w+\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return str(code)


def table(title: str) -> Iterator[list[str]]:
    """Yield the rows of the first table under a heading, without its head."""
    _, _, section = README.partition(f"\n## {title}\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    yield from ([cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[1:])


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


@pytest.fixture
def told(home: Path) -> Iterator[Variables]:
    """The configuration with which the README's commands find a service of their own, the story told."""
    variables = {"BROKERFLOW_HOME": str(home)}
    with served(variables) as url:
        variables["BROKERFLOW_PORT"] = str(urlsplit(url).port)
        assert run(variables, "demo").returncode == 0
        yield variables


def shell(script: str, variables: Variables) -> str:
    """Run a block as a reader would, but for where the command is and on which port the service listens."""
    script = script.replace(".venv/bin/brokerflow", COMMAND).replace(":8000", f":{variables['BROKERFLOW_PORT']}")
    done = subprocess.run(
        ["/bin/sh", "-uc", script],
        env=environment(variables),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's HTTP is curl's")
def test_the_refusals_are_run_and_answered_as_shown(told: Variables) -> None:
    answer = shell(block("refusal: sql"), told)
    for line in block("answer: sql").splitlines():
        assert line in answer.splitlines()

    problem, shown = json.loads(shell(block("refusal: http"), told)), json.loads(block("answer: http"))
    assert problem.pop("request_id")
    assert shown.pop("request_id")
    assert problem == shown


def test_the_axioms_are_those_of_the_catalog(database: Database) -> None:
    rows = list(table("The axioms"))
    with psycopg.connect(database.superuser_url) as connection:
        axioms = connection.execute("select id, rule from shared.axioms order by length(id), id").fetchall()
        assert [tuple(row[:2]) for row in rows] == axioms
        for axiom, _, objects, test in rows:
            assert names(objects)
            assert f"/test_a{axiom.removeprefix('A'):0>2}_" in test
            for name in names(objects):
                assert (axiom,) in connection.execute(ENFORCED_BY, {"name": name}).fetchall(), name


ENFORCED_BY = """
select substring(description from '^Axiom (A[0-9]+):')
from pg_description
where objsubid = 0 and (classoid, objoid) in (
    select 'pg_class'::regclass, oid from pg_class where relname = %(name)s
    union all select 'pg_constraint'::regclass, oid from pg_constraint where conname = %(name)s
    union all select 'pg_trigger'::regclass, oid from pg_trigger where tgname = %(name)s
    union all select 'pg_policy'::regclass, oid from pg_policy where polname = %(name)s
    union all select 'pg_proc'::regclass, oid from pg_proc where proname = %(name)s
)
"""


def test_the_oracles_are_those_of_the_sources() -> None:
    told = [(oracle.id, f"{oracle.never}.", " ".join(oracle.axioms) or "all") for oracle in oracles.load()]
    assert [tuple(row) for row in table("The oracles")] == told


def test_the_roles_are_those_that_the_schema_rests_on(database: Database) -> None:
    rows = {names(row[0])[0]: row[1] == "yes" for row in table("Roles") if names(row[0])}
    with psycopg.connect(database.superuser_url) as connection:
        roles = connection.execute(
            "select distinct r.rolname, r.rolcanlogin from pg_shdepend as d join pg_roles as r on r.oid = d.refobjid "
            "where d.dbid = (select oid from pg_database where datname = current_database()) and not r.rolcreaterole"
        ).fetchall()
    assert rows == dict(roles)


def test_the_configuration_is_that_of_the_settings() -> None:
    listed = [name for row in table("Configuration") for name in names(row[0])]
    known = [PREFIX + name.upper().removeprefix("GIVEN_") for name in Settings.model_fields]
    assert sorted(listed) == sorted(known)


def test_the_esign_secrets_can_be_replaced_as_shown(variables: Variables, database: Database) -> None:
    secret = base64.b64encode(b"s" * 32).decode()
    told = shell(block("esign"), {**variables, "BROKERFLOW_ESIGN_SECRET": f"whsec_{secret}", "BROKERFLOW_PORT": "0"})
    assert told == "Webhook secrets trusted from now on: 1, and no other.\n"
    with psycopg.connect(database.superuser_url) as connection:
        trusted = connection.execute("select digest from apiauth.esign_keys where revoked_at is null").fetchall()
    assert [bytes(digest) for (digest,) in trusted] == [hashlib.sha256(hashlib.sha256(b"s" * 32).digest()).digest()]


def test_what_a_stolen_login_opened_is_ended_as_shown(database: Database) -> None:
    """The one that PostgreSQL keeps, and the one whose ticket is in Redis."""
    kept, exchanged, half = (bytes([number]) * 32 for number in range(3))
    with psycopg.connect(database.login_url, autocommit=True) as thief:
        issuer, email = "https://id.example", "x@example.org"
        opens = "select apiauth.open_identity_session(%s, 'x', %s, 'x', null, %s, '1 day', '1 day')"
        for digest in (kept, exchanged):
            thief.execute(opens, [issuer, email, digest])
    with (
        psycopg.connect(database.app_url, autocommit=True) as service,
        psycopg.connect(database.owner_url, autocommit=True) as deployer,
    ):
        service.execute("select apiauth.trust_key_halves(%s)", [[half]])
        ticket = service.execute("select apiauth.exchange_session(%s, %s)", [exchanged, half]).fetchone()
        entrances: list[tuple[LiteralString, list[object]]] = [
            ("select apiauth.enter_session(%s)", [kept]),
            ("select apiauth.enter_ticket(%s, null, '{}', %s, %s)", [exchanged, *(ticket or ()), half]),
        ]
        for enter, shown in entrances:
            with service.transaction():
                service.execute(enter, shown)
        told = deployer.execute(block("stolen login").encode()).fetchall()
        assert [(whose, len(ended)) for whose, ended in told] == [(email, 1)]
        for enter, shown in entrances:
            with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification), service.transaction():
                service.execute(enter, shown)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert link.startswith("https://") or (ROOT / link).exists()
