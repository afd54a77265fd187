"""Home folders, and parents that can be killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from app.embedded import Embedded

ROOT = Path(__file__).parents[2]

PARENT = """
import json, sys
from pathlib import Path
from app.binaries import EmbeddedError
from app.embedded import Embedded
try:
    with Embedded(Path(sys.argv[1])) as server:
        print(json.dumps({"process": server.process, "url": server.owner_url}), flush=True)
        sys.stdin.read()
except EmbeddedError as error:
    print(json.dumps({"refused": str(error)}), flush=True)
"""


class Parent(NamedTuple):
    """A process that keeps a server, and what it said of it."""

    process: subprocess.Popen[str]
    said: dict[str, object]

    @property
    def server(self) -> int:
        """The postmaster's process id."""
        return int(str(self.said["process"]))

    def kill(self) -> None:
        """End it as nobody can defend himself against."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def place() -> Iterator[Path]:
    """A short folder that every user can enter, unlike pytest's own."""
    with _folder() as folder:
        yield folder


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="brokerflow-tests-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """A home folder on which a server was started once, to copy: initdb is most of a first start."""
    with _folder() as folder:
        with Embedded(folder / "home"):
            pass
        yield folder / "home"


@pytest.fixture
def home(place: Path, made: Path) -> Path:
    """A home folder that was used before."""
    return copy_of(made, place / "home")


def copy_of(home: Path, target: Path) -> Path:
    """Copy a home folder with its owners and modes."""
    subprocess.run(["cp", "-a", str(home), str(target)], check=True)  # noqa: S607 - every system has it
    return target


@pytest.fixture
def parents() -> Iterator[Callable[[Path], Parent]]:
    """Start processes that keep a server on a home folder."""
    with ExitStack() as stack:
        yield lambda home: stack.enter_context(_parent(home))


@contextmanager
def _parent(home: Path) -> Iterator[Parent]:
    command = [sys.executable, "-c", PARENT, str(home)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Parent(process, json.loads(process.stdout.readline()))
        finally:
            if process.poll() is None:
                process.communicate()


def eventually(condition: Callable[[], bool], *, within: float = 20) -> None:
    """Wait for a condition, and fail when it does not come."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def is_gone(process: int) -> bool:
    """Say whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"
