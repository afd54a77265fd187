"""`brokerflow login`, `token` and `logout`: a machine is approved in a browser, and keeps its token to itself."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.cli.conftest import COMMAND, NOWHERE, Finished, Variables, environment, run

PERSON = {"email": "nora@north.example", "password": "correct horse battery staple"}
# What a person does in the browser that the command opens: he says what he was told to say.
BROWSER = """
import sys, httpx
from urllib.parse import parse_qs, urlsplit
page = urlsplit(sys.argv[1])
[code] = parse_qs(page.query)["user_code"]
with httpx.Client(base_url=f"{{page.scheme}}://{{page.netloc}}") as client:
    assert client.get(page.path).status_code == 200
    client.headers["Authorization"] = "Bearer {token}"
    client.post("/auth/device/decision", json={{"user_code": code, "decision": "{decision}"}}).raise_for_status()
"""


class Machine(NamedTuple):
    """A machine with a folder for its logins, and a browser whose person says yes or no."""

    folder: Path
    url: str
    session: str

    def run(self, *arguments: str, decision: str = "approve", **variables: str) -> Finished:
        """Run a command there."""
        return run({**self.variables(decision), **variables}, *arguments)

    def variables(self, decision: str = "approve") -> Variables:
        """Describe the machine."""
        browser = self.folder / f"browser-{decision}"
        script = browser.with_suffix(".py")
        script.write_text(BROWSER.format(token=self.session, decision=decision))
        browser.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')  # a #! line takes no space
        browser.chmod(0o700)
        return {"XDG_CONFIG_HOME": str(self.folder), "DISPLAY": ":0", "BROWSER": f"{browser} %s"}

    @property
    def file(self) -> Path:
        """Where its logins are."""
        return self.folder / "brokerflow" / "logins.json"

    def tokens(self) -> list[str]:
        """Name the live tokens of its person."""
        answer = httpx.get(f"{self.url}/api/tokens", headers={"Authorization": f"Bearer {self.session}"})
        return [item["name"] for item in answer.json()["items"]]


@pytest.fixture
def machine(variables: Variables, serve: Callable[[Variables], str], tmp_path: Path) -> Machine:
    """A machine beside a service where Nora is registered."""
    url = serve(variables)
    with httpx.Client(base_url=url) as client:
        assert client.post("/auth/register", json={**PERSON, "full_name": "Nora"}).is_success
        session = str(client.post("/auth/login", json=PERSON).json()["token"])
        client.cookies.clear()
        client.headers["Authorization"] = f"Bearer {session}"
        assert client.post("/api/organizations", json={"title": "N", "slug": "n"}).is_success
    return Machine(tmp_path, url, session)


def done(finished: Finished) -> str:
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def refused(finished: Finished, status: int, sentence: str) -> None:
    assert (finished.returncode, "Traceback" in finished.stderr) == (status, False), finished.stderr
    assert sentence in finished.stderr


def test_a_machine_logs_in_uses_its_token_and_logs_out(machine: Machine) -> None:
    shown = done(machine.run("login", "--url", f"{machine.url}/", "--name", "build-7"))
    assert f"Open {machine.url}/device and enter the code" in shown
    assert f"Logged in to {machine.url} as Nora (nora@north.example) for 90 days.\n" in shown
    assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(machine.file.parent.stat().st_mode) == 0o700
    [kept] = json.loads(machine.file.read_text())
    assert kept["token"] not in shown
    assert machine.tokens() == ["build-7"]
    assert "build-7" in done(machine.run("token", "list"))
    assert "is at version 1" in run(machine.variables(), "secret", "set", "k", stdin="v").stderr
    assert done(machine.run("secret", "get", "k")) == "v\n"
    assert done(machine.run("logout")) == f"Logged out of {machine.url}.\n"
    assert json.loads(machine.file.read_text()) == []
    assert machine.tokens() == []
    refused(machine.run("token", "list", "--url", machine.url), 2, f"run brokerflow login --url {machine.url}")
    refused(machine.run("logout", "--url", machine.url), 1, "you are not logged in")


def test_a_second_login_replaces_the_first(machine: Machine) -> None:
    for name in ("first", "second"):
        done(machine.run("login", "--url", machine.url, "--name", name, "--days", "1"))
    assert machine.tokens() == ["second"]
    assert len(json.loads(machine.file.read_text())) == 1


def test_a_login_that_ended_elsewhere_is_forgotten_all_the_same(machine: Machine) -> None:
    done(machine.run("login", "--url", machine.url, "--scopes", "tokens:write"))
    [token] = json.loads(done(machine.run("token", "list", "--json")))
    assert token["scopes"] == ["tokens:write"]
    done(machine.run("token", "revoke", token["id"]))
    refused(machine.run("token", "list"), 1, "(unauthenticated) brokerflow login makes another token.")
    done(machine.run("logout"))


def test_a_denied_login_leaves_nothing(machine: Machine) -> None:
    refused(machine.run("login", "--url", machine.url, decision="deny"), 1, "the login was denied")
    assert not machine.file.exists()
    assert machine.tokens() == []


def test_tokens_are_made_listed_and_revoked(machine: Machine) -> None:
    done(machine.run("login", "--url", machine.url, "--scopes", "agreements:read,tokens:write"))
    made = machine.run("token", "create", "nightly", "--scopes", "agreements:read", "--days", "7")
    token = done(made).strip()
    assert made.stderr.split()[1:4] == ["may", "agreements:read", "until"]
    assert done(machine.run("token", "list", BROKERFLOW_TOKEN=token, BROKERFLOW_PORT=machine.url.rpartition(":")[2]))
    refused(machine.run("token", "create", "x", "--scopes", "secrets:read"), 1, "(insufficient_scope)")
    refused(machine.run("token", "revoke", "x"), 2, "is not a valid UUID")
    listed = {each["name"]: each["id"] for each in json.loads(done(machine.run("token", "list", "--json")))}
    done(machine.run("token", "revoke", listed["nightly"]))
    refused(machine.run("token", "revoke", listed["nightly"]), 1, "(not_found)")
    refused(machine.run("token", "list", "--url", machine.url, BROKERFLOW_TOKEN=token), 1, "(unauthenticated)")


def test_nothing_but_the_answer_is_told_however_a_service_was_found(machine: Machine) -> None:
    """Also where the configuration says where it is, and how much is to be logged."""
    here = {"BROKERFLOW_PORT": machine.url.rpartition(":")[2], "BROKERFLOW_LOG_LEVEL": "info"}
    login = machine.run("login", "--name", "x", **here)
    assert login.stdout.startswith(f"Open {machine.url}/device ")
    told = machine.run(
        "token", "list", "--json", BROKERFLOW_TOKEN=json.loads(machine.file.read_text())[0]["token"], **here
    )
    assert (login.stderr, told.stderr) == ("", "")
    wrong = machine.run("login", "--scopes", "secrets:peek", "--url", machine.url, **here)
    assert wrong.stderr == "brokerflow: A field is not acceptable. (invalid, scopes must hold: scopes are known)\n"


def test_what_is_listed_is_whole_however_narrow_the_terminal(machine: Machine) -> None:
    done(machine.run("login", "--url", machine.url, "--name", "a machine with quite a long name"))
    [token] = json.loads(done(machine.run("token", "list", "--json")))
    for columns in ("60", "80", "200"):
        listed = done(machine.run("token", "list", COLUMNS=columns))
        assert [part for part in (token["id"], token["name"], " ".join(token["scopes"])) if part not in listed] == []


def test_a_token_goes_to_the_service_that_it_is_for_alone(machine: Machine) -> None:
    done(machine.run("login", "--url", machine.url))
    refused(machine.run("token", "list", "--url", NOWHERE), 2, "a token is needed")
    machine.file.chmod(0o644)
    refused(machine.run("token", "list"), 2, "can be read by others")
    machine.file.chmod(0o600)
    machine.file.write_text("[{]")
    refused(machine.run("token", "list"), 2, "remove it and log in again")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["login", "--url", NOWHERE], 1, "does not answer"),
        (["login", "--url", "brokerflow.example"], 2, "is not a URL such as"),
        (["login", "--url", "https://b.example/path"], 2, "is not a URL such as"),
        (["login", "--days", "366"], 2, "366 is not in the range"),
        (["logout", "--url", NOWHERE], 1, "you are not logged in"),
        (["token", "create"], 2, "Missing argument 'NAME'"),
        (["token", "list", "--url", NOWHERE], 2, "a token is needed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_goes_wrong_is_told_in_a_sentence(arguments: list[str], status: int, sentence: str) -> None:
    refused(run({}, *arguments), status, sentence)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have children heed Ctrl-C, also where this process was started in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_without_a_screen_the_code_is_shown_and_waited_for(machine: Machine) -> None:
    """Whoever waits may give up with Ctrl-C, and nothing is kept."""
    variables = {**machine.variables(), "SSH_CONNECTION": "192.0.2.7 1 192.0.2.8 22"}
    command = [*COMMAND, "login", "--url", machine.url]
    with subprocess.Popen(
        command, env=environment(variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == f"Open {machine.url}/device and enter the code\n"
        assert waiting.stdout.readline() == "\n"
        code = waiting.stdout.readline().strip()
        look = httpx.get(
            f"{machine.url}/auth/device",
            params={"user_code": code},
            headers={"Authorization": f"Bearer {machine.session}"},
        )
        assert look.json()["name"] == f"brokerflow on {os.uname().nodename}"
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(timeout=30) == 128 + signal.SIGINT
    assert not machine.file.exists()
