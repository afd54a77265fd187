"""The command as people call it, and services for it to talk to."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import Database

COMMAND = [sys.executable, "-c", "from app.cli import main; main()"]
NOWHERE = "http://127.0.0.1:1"

Variables = dict[str, str]
Finished = subprocess.CompletedProcess[str]


def run(variables: Variables, *arguments: str, stdin: str | None = None) -> Finished:
    """Run `brokerflow` with nothing of this environment's configuration."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(variables),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def environment(variables: Variables) -> Variables:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BROKERFLOW_")}
    quiet = {"BROKERFLOW_LOG_LEVEL": "warning", "XDG_CONFIG_HOME": "/nonexistent"}  # nobody's login is used by a test
    return {**kept, **quiet, **variables}


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path that every user can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="brokerflow-tests-"))
    folder.chmod(0o711)
    yield folder / "home"
    shutil.rmtree(folder)


@pytest.fixture
def variables(database: Database, home: Path) -> Variables:
    """The configuration of a service on a database of the test's own."""
    return {
        "BROKERFLOW_APP_URL": database.app_url,
        "BROKERFLOW_OWNER_URL": database.owner_url,
        "BROKERFLOW_HOME": str(home),
    }


@pytest.fixture
def serve() -> Iterator[Callable[[Variables], str]]:
    """Start services; each gives its URL."""
    with ExitStack() as stack:
        yield lambda variables: stack.enter_context(served(variables))


@contextmanager
def served(variables: Variables) -> Iterator[str]:
    command = [*COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment(variables), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            [url] = re.findall(r"http://\S+", process.stdout.readline())
            yield url
        finally:
            process.terminate()
