"""`brokerflow serve` comes up by itself, ends cleanly, and refuses what would let the rules be broken."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from app import migrations
from app.embedded import locate
from tests.conftest import Database, Server
from tests.embedded.conftest import eventually

COMMAND = [sys.executable, "-c", "from app.cli import main; main()"]


class Service:
    """A running `brokerflow serve`."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def health(self) -> int:
        return httpx.get(f"{self.url}/healthz", timeout=5).status_code

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        return self.process.wait(timeout=30)


Serve = Callable[[dict[str, str]], Service]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda variables: stack.enter_context(_served(variables))


@contextmanager
def _served(variables: dict[str, str]) -> Iterator[Service]:
    command = [*COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(command, env=_environment(variables), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ready = process.stdout.readline()
            yield Service(process, re.findall(r"http://\S+", ready)[0])
        finally:
            process.terminate()


def _environment(variables: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BROKERFLOW_")}
    return {**kept, "BROKERFLOW_LOG_LEVEL": "warning", **variables}


def run(variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=_environment(variables), capture_output=True, text=True, check=False, timeout=60
    )


def urls(database: Database, app_url: str | None = None) -> dict[str, str]:
    return {"BROKERFLOW_APP_URL": app_url or database.app_url, "BROKERFLOW_OWNER_URL": database.owner_url}


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_an_empty_machine_serves_and_ends_with_zero(place: Path, serve: Serve, by: signal.Signals) -> None:
    home = place / "new"
    variables = {"BROKERFLOW_HOME": str(home)}
    service = serve(variables)
    assert service.health() == 200
    assert run(variables, "psql", "-Atc", "select current_user").stdout == "brokerflow_deployer\n"
    assert run(variables, "psql", "--app", "-Atc", "select current_user").stdout == "brokerflow_app\n"
    assert run(variables, "check").returncode == 0
    assert service.end(by) == 0
    assert locate(home) is None


def test_a_second_service_on_the_folder_is_refused(home: Path, serve: Serve) -> None:
    variables = {"BROKERFLOW_HOME": str(home)}
    service = serve(variables)
    second = run(variables, "serve", "--port", "0")
    assert second.returncode == 2
    assert f"in use by process {service.process.pid}:" in second.stderr
    assert "Traceback" not in second.stderr
    assert service.health() == 200


def test_a_killed_server_comes_back_under_a_running_service(home: Path, serve: Serve) -> None:
    service = serve({"BROKERFLOW_HOME": str(home)})
    running = locate(home)
    assert running is not None
    os.kill(running.process, signal.SIGKILL)
    eventually(lambda: (found := locate(home)) is not None and found.process != running.process)
    eventually(lambda: service.health() == 200)


def test_a_request_that_runs_is_finished_before_the_end(home: Path, serve: Serve) -> None:
    service = serve({"BROKERFLOW_HOME": str(home)})
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as line:
        line.sendall(
            b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"
        )
        assert service.health() == 200
        service.process.terminate()
        eventually(lambda: not accepts(str(address.hostname), int(address.port or 0)))
        line.sendall(b"}")
        assert line.recv(12).startswith(b"HTTP/1.1 4")
    assert service.process.wait(timeout=30) == 0


def accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_urls_of_an_existing_server_are_served_too(database: Database, home: Path, serve: Serve) -> None:
    service = serve({**urls(database), "BROKERFLOW_HOME": str(home)})
    assert service.health() == 200
    assert service.end() == 0


def test_the_deployers_login_is_refused(database: Database) -> None:
    refused = run(urls(database, database.owner_url), "serve", "--port", "0")
    assert refused.returncode == 2
    assert "brokerflow_deployer has CREATEROLE" in refused.stderr


@pytest.mark.parametrize("power", ["superuser", "bypassrls", "createrole", "replication"])
def test_a_login_with_a_power_over_the_rules_is_refused(server: Server, database: Database, power: str) -> None:
    with login(server, database, f"login {power}") as url:
        refused = run(urls(database, url), "serve", "--port", "0")
    assert refused.returncode == 2
    assert f"has {power.upper()}" in refused.stderr
    assert f"no{power}" in refused.stderr


@pytest.mark.parametrize("owner", ["brokerflow_owner", "brokerflow_guard"])
def test_a_member_of_an_owning_role_is_refused(server: Server, database: Database, owner: str) -> None:
    with login(server, database, f"login in role {owner}") as url:
        refused = run(urls(database, url), "serve", "--port", "0")
    assert refused.returncode == 2
    assert f"is a member of {owner}" in refused.stderr
    assert f"revoke {owner} from" in refused.stderr


@pytest.mark.parametrize("power", ["superuser", "createrole"])
def test_a_login_for_identities_with_a_power_is_refused(server: Server, database: Database, power: str) -> None:
    with login(server, database, f"login {power}") as url:
        refused = run({**urls(database), "BROKERFLOW_LOGIN_URL": url}, "check")
    assert refused.returncode == 1
    assert f"has {power.upper()}" in refused.stdout
    assert "set BROKERFLOW_LOGIN_URL to brokerflow_login" in refused.stdout


def test_the_two_logins_are_not_exchanged(server: Server, database: Database) -> None:
    right = {**urls(database), "BROKERFLOW_LOGIN_URL": database.login_url}
    assert run(right, "check").returncode == 0
    wrong = run({**right, "BROKERFLOW_LOGIN_URL": database.app_url}, "serve", "--port", "0")
    assert wrong.returncode == 2
    assert "brokerflow_app may not open sessions of identities: set BROKERFLOW_LOGIN_URL to" in wrong.stderr
    wrong = run({**right, "BROKERFLOW_APP_URL": database.login_url}, "serve", "--port", "0")
    assert "brokerflow_login may open sessions without proof: set BROKERFLOW_APP_URL to brokerflow_app" in wrong.stderr
    with login(server, database, "login in role brokerflow_app, brokerflow_login") as url:
        both = run({**right, "BROKERFLOW_LOGIN_URL": url}, "check")
    assert "may do more than open sessions: set BROKERFLOW_LOGIN_URL to brokerflow_login" in both.stdout


@contextmanager
def login(server: Server, database: Database, attributes: str) -> Iterator[str]:
    role = f"{database.name}_login"
    server.admin.execute(f"create role {role} {attributes} password 'pass-word'".encode())
    server.admin.execute(f"grant connect on database {database.name} to {role}".encode())
    try:
        yield Server(server.superuser_url, {role: "pass-word"}, server.admin, server.run).url(database.name, role)
    finally:
        server.admin.execute(f"revoke connect on database {database.name} from {role}".encode())
        server.admin.execute(f"drop role {role}".encode())


def test_a_pending_migration_is_refused_with_what_to_do(database: Database) -> None:
    [last] = migrations.down(database.owner_url)
    refused = run(urls(database), "serve", "--port", "0")
    assert refused.returncode == 2
    assert f"Migration {last} is pending: run brokerflow migrate up" in refused.stderr
    assert run(urls(database), "check").returncode == 1
    assert run(urls(database), "migrate", "up").returncode == 0
    assert run(urls(database), "check").returncode == 0


def test_an_altered_migration_is_refused(database: Database) -> None:
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("update public._brokerflow_checksums set apply_sha256 = '' where migration_id ~ '^0010'")
    refused = run(urls(database), "serve", "--port", "0")
    assert refused.returncode == 2
    assert "Migration 0010_roles is altered: restore its file" in refused.stderr
    assert run(urls(database), "migrate", "status").returncode == 1


def test_a_wrong_configuration_is_told_whole_and_without_a_traceback() -> None:
    refused = run({"BROKERFLOW_PORT": "x", "BROKERFLOW_ENV": "test"}, "serve")
    assert refused.returncode == 2
    assert "BROKERFLOW_PORT should be a valid integer.\n" in refused.stderr
    assert "BROKERFLOW_ENV should be 'development' or 'production'.\n" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_server_that_does_not_answer_is_named(home: Path) -> None:
    variables = {"BROKERFLOW_APP_URL": "postgresql://u:pass-word@127.0.0.1:1/x", "BROKERFLOW_HOME": str(home)}
    refused = run(variables, "serve", "--port", "0")
    assert refused.returncode == 2
    assert "the database does not answer" in refused.stderr
    assert "pass-word" not in refused.stderr


def test_a_port_in_use_is_named(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run({"BROKERFLOW_HOME": str(home)}, "serve", "--port", port)
    assert refused.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use." in refused.stderr
