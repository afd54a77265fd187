"""`brokerflow secret`: values come and go without being an argument, and the master key rotates."""

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.cli.conftest import NOWHERE, Finished, Variables, run
from tests.conftest import Database

CANARY = "canary-5b21"
OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))

Secret = Callable[..., Finished]


@pytest.fixture
def url(variables: Variables, serve: Callable[[Variables], str]) -> str:
    """A service that seals with the old master key."""
    return serve({**variables, "BROKERFLOW_MASTER_KEY": OLD})


@pytest.fixture
def token(url: str) -> str:
    """A token of an organization's owner."""
    person = {"email": "nora@north.example", "password": "correct horse battery staple"}
    with httpx.Client(base_url=url) as client:
        assert client.post("/auth/register", json={**person, "full_name": "Nora"}).is_success
        token = str(client.post("/auth/login", json=person).json()["token"])
        client.cookies.clear()
        headers = {"Authorization": f"Bearer {token}"}
        assert client.post("/api/organizations", json={"title": "N", "slug": "n"}, headers=headers).is_success
    return token


@pytest.fixture
def secret(url: str, token: str) -> Secret:
    """Run `brokerflow secret` against the service."""

    def call(action: str, *arguments: str, stdin: str | None = None) -> Finished:
        return run({"BROKERFLOW_TOKEN": token}, "secret", action, "--url", url, *arguments, stdin=stdin)

    return call


def done(finished: Finished) -> str:
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_secret_is_put_read_listed_rolled_back_and_deleted(secret: Secret, tmp_path: Path) -> None:
    assert secret("set", "db/password", stdin=f"{CANARY}\n").stderr == "db/password is at version 1.\n"
    assert done(secret("get", "db/password")) == f"{CANARY}\n"
    (tmp_path / "value").write_text('{"b": 1.50, "a": [12345678901234567890123]}')
    done(secret("set", "db/password", "--json", "--file", str(tmp_path / "value"), "--expect", "1"))
    assert done(secret("get", "db/password")) == '{"b": 1.50, "a": [12345678901234567890123]}\n'
    assert done(secret("get", "db/password", "--version", "1", "--json")) == f'"{CANARY}"\n'
    listed = done(secret("list", "--prefix", "db/"))
    assert "db/password" in listed
    assert CANARY not in listed
    done(secret("rollback", "db/password", "1"))
    assert done(secret("get", "db/password")) == f"{CANARY}\n"
    assert [line.split()[0] for line in done(secret("versions", "db/password")).splitlines()[1:]] == ["3", "2", "1"]
    done(secret("delete", "db/password"))
    missing = secret("get", "db/password")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "brokerflow: There is no such thing, or it is not yours. (not_found)\n"
    done(secret("undelete", "db/password"))
    assert done(secret("get", "db/password")) == f"{CANARY}\n"


def test_a_command_runs_with_secrets_in_its_environment_alone(secret: Secret) -> None:
    done(secret("set", "app/db-host", stdin="db.example"))
    done(secret("set", "app/port", "--json", stdin="5432"))
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    shown = json.loads(done(secret("run", "--prefix", "app/", "--", sys.executable, "-c", script)))
    assert (shown["DB_HOST"], shown["PORT"]) == ("db.example", "5432")
    assert "BROKERFLOW_TOKEN" not in shown
    ended = secret("run", "--prefix", "app/", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert ended.returncode == 7
    assert secret("run", "--prefix", "app/", "--", "no-such-command").returncode == 2


def test_what_goes_wrong_is_told_in_a_sentence(secret: Secret, token: str) -> None:
    for finished, status, told in [
        (secret("set", "k", "--json", stdin=CANARY), 2, "is not JSON"),
        (secret("set", "a b", stdin="1"), 1, "must hold: key is a path"),
        (secret("set", "k", "--expect", "1", stdin="1"), 1, "There is no such secret now. (version_mismatch)"),
        (run({"BROKERFLOW_TOKEN": token}, "secret", "get", "--url", NOWHERE, "k"), 1, "does not answer"),
        (run({}, "secret", "get", "k"), 2, "a token is needed"),
        (secret("set", "k", CANARY, stdin="1"), 2, "unexpected extra argument"),
    ]:
        assert (finished.returncode, finished.stdout) == (status, ""), finished.stderr
        assert told in finished.stderr
        assert "Traceback" not in finished.stderr


def test_the_master_key_rotates_while_the_service_works(
    secret: Secret, token: str, variables: Variables, serve: Callable[[Variables], str], database: Database
) -> None:
    for number in range(3):
        done(secret("set", f"k{number}", stdin=f"{CANARY}{number}"))
    rotated = run({**variables, "BROKERFLOW_MASTER_KEY": f"{NEW} {OLD}"}, "secret", "rotate-master")
    assert rotated.returncode == 0, rotated.stderr
    assert rotated.stdout.startswith("3 versions are wrapped anew, by master key ")
    new = serve({**variables, "BROKERFLOW_MASTER_KEY": NEW})
    read = run({"BROKERFLOW_TOKEN": token}, "secret", "get", "--url", new, "k1")
    assert done(read) == f"{CANARY}1\n"
    stale = secret("get", "k1")  # the first service knows the old key only
    assert (stale.returncode, "secret_integrity" in stale.stderr) == (1, True)
    done(secret("set", "k3", stdin="sealed with the old key"))
    lost = run({**variables, "BROKERFLOW_MASTER_KEY": NEW}, "secret", "rotate-master")
    assert (lost.returncode, "1 versions open with none of the keys" in lost.stderr) == (1, True)
    with psycopg.connect(database.superuser_url) as connection:
        rows = connection.execute("select detail from shared.audit_log where action = 'secret.rewrap'").fetchall()
    assert rows == [({"versions": 3},)]
