"""`brokerflow demo` plays the whole story once, however often it is called, and says what keeps it from that."""

import http.server
import re
import secrets
import threading
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg

from tests.cli.conftest import NOWHERE, Variables, run
from tests.conftest import Database

# What a second telling may add to: who logged in, and who was refused.
GROWING = ("apiauth.sessions", "shared.audit_log")
SECRET = re.compile(r"bf_ses_|whsec_|argon2|password=|Traceback")


def other_key(prefix: str = "") -> str:
    return prefix + b64encode(secrets.token_bytes(32)).decode()


def rows(database: Database) -> dict[str, int]:
    """Count the rows of every table."""
    with psycopg.connect(database.superuser_url) as connection:
        tables = connection.execute(
            "select schemaname || '.' || tablename from pg_tables where schemaname = any ('{shared,apiauth,agreement}')"
        ).fetchall()
        counts = {name: connection.execute(f"select count(*) from {name}".encode()).fetchone() for (name,) in tables}
    return {name: count[0] for name, count in counts.items() if count and name not in GROWING}


def agreements(database: Database) -> list[tuple[object, ...]]:
    with psycopg.connect(database.superuser_url) as connection:
        return connection.execute("select id, status from agreement.agreements").fetchall()


def test_the_story_is_told_twice_and_happens_once(variables: Variables, database: Database) -> None:
    first = run(variables, "demo", "--url", NOWHERE)
    assert first.returncode == 0, first.stderr
    counts, [(agreement, status)] = rows(database), agreements(database)
    assert status == "void"
    assert f"Agreement {agreement} of copy 'demo' is void." in first.stdout
    assert counts["shared.platform_admins"] == 0
    for axiom in ("A1", "A2", "A3", "A4", "A8", "A9", "A12"):
        assert f", axiom {axiom}. " in first.stdout

    second = run(variables, "demo", "--url", NOWHERE)
    assert second.returncode == 0, second.stderr
    assert rows(database) == counts
    assert f"Agreement {agreement} of copy 'demo' is void.\nThe story was there already" in second.stdout
    assert "\ndone " not in second.stdout
    for told in (first, second):
        assert not SECRET.search(told.stdout + told.stderr)
        assert "\x1b" not in told.stdout


def test_another_namespace_is_another_copy(
    variables: Variables, database: Database, serve: Callable[[Variables], str]
) -> None:
    url = serve(variables)
    assert run(variables, "demo", "--url", url).returncode == 0
    assert run(variables, "demo", "--url", url, "--namespace", "copy-2").returncode == 0
    assert len(agreements(database)) == 2


def test_what_cannot_be_played_is_said_and_played_later(
    variables: Variables, database: Database, serve: Callable[[Variables], str], tmp_path: Path
) -> None:
    url = serve(variables)
    elsewhere = {name: value for name, value in variables.items() if not name.endswith("_URL")}
    elsewhere["BROKERFLOW_MASTER_KEY"] = (Path(variables["BROKERFLOW_HOME"]) / "master.key").read_text()

    unsigned = run({**elsewhere, "BROKERFLOW_HOME": str(tmp_path)}, "demo", "--url", url)
    assert unsigned.returncode == 0, unsigned.stderr
    assert re.search(r"skipped +The signature and what follows it: this machine does not know", unsigned.stdout)
    wrong = run({**elsewhere, "BROKERFLOW_ESIGN_SECRET": other_key("whsec_")}, "demo", "--url", url)
    assert re.search(r"skipped +The signature and what follows it: the service has another", wrong.stdout)
    assert [status for _, status in agreements(database)] == ["pending_signature"]

    unjudged = run(elsewhere, "demo", "--url", url)
    assert re.search(r"skipped +The verdict: the database's owner appoints", unjudged.stdout)
    assert [status for _, status in agreements(database)] == ["disputed"]

    assert run(variables, "demo", "--url", url).returncode == 0
    assert [status for _, status in agreements(database)] == ["void"]


def test_a_person_of_the_story_can_be_logged_in(variables: Variables, serve: Callable[[Variables], str]) -> None:
    url = serve(variables)
    assert "does not log in" in run(variables, "demo", "--url", url, "--login", "alma").stderr
    assert run(variables, "demo", "--url", url).returncode == 0
    token = run(variables, "demo", "--url", url, "--login", "alma").stdout.strip()
    me = httpx.get(f"{url}/api/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json()["email"] == "alma@demo.brokerflow.example"

    stranger = run({**variables, "BROKERFLOW_MASTER_KEY": other_key()}, "demo", "--url", url)
    assert stranger.returncode == 1
    assert stranger.stderr.endswith("use that one again, or tell another copy with --namespace.\n")


def test_nobody_is_logged_in_where_nothing_answers(variables: Variables) -> None:
    refused = run(variables, "demo", "--url", NOWHERE, "--login", "alma")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"brokerflow: Nothing answers at {NOWHERE}: start the service with brokerflow serve.\n"


def test_production_is_spared(variables: Variables, database: Database) -> None:
    production = {"BROKERFLOW_ENV": "production", "BROKERFLOW_MASTER_KEY": other_key()}
    production["BROKERFLOW_ESIGN_SECRET"] = other_key("whsec_")
    refused = run({**variables, **production}, "demo", "--url", NOWHERE)
    assert refused.returncode == 1
    assert refused.stderr == "brokerflow: The story is not for production: what it writes is there for good.\n"
    assert rows(database)["shared.users"] == 0


def test_a_service_that_cannot_start_is_told(variables: Variables, database: Database) -> None:
    refused = run({**variables, "BROKERFLOW_APP_URL": database.owner_url}, "demo", "--url", NOWHERE)
    assert refused.returncode == 1
    assert "has CREATEROLE" in refused.stderr
    assert refused.stderr.endswith("brokerflow: The service could not be started; it said why.\n")


def test_another_server_at_the_address_is_told(variables: Variables) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever).start()
        url = f"http://127.0.0.1:{other.server_port}"
        refused = run(variables, "demo", "--url", url)
        other.shutdown()
    assert refused.returncode == 1
    assert refused.stderr == f"brokerflow: What answers at {url} is not BrokerFlow.\n"
