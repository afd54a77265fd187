"""What the peers run on: environments of their own, made from what is pinned when they are first asked for."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from scripts.benchmark.measuring import Say

FOLDER = Path(__file__).resolve().parents[1] / "bench_peers"
GRAPHQL = FOLDER / "postgraphile"
MADE = FOLDER.parents[1] / ".bench_peers"  # not among the sources, which others copy and look through
VENV = MADE / "python"
SERVER = MADE / "postgraphile"  # node finds packages beside the file that asks for them
NODE = 22  # what PostGraphile 5 wants at least


class PeersError(click.ClickException):
    """The peers cannot be installed or started; the message says why."""


class Peer(NamedTuple):
    """How a peer is started, and as whom it logs in."""

    name: str
    folder: Path
    command: Sequence[str]
    login: str
    scheme: str = "postgresql"


def are_installed() -> bool:
    """Tell whether the environments of the peers are there, as they are pinned now."""
    pins = ((VENV, FOLDER / "requirements.txt"), (SERVER / "node_modules", GRAPHQL / "package-lock.json"))
    return all(_is_made(place, wanted) for place, wanted in pins)


def installed(say: Say) -> list[Peer]:
    """Make the environments of the peers where they are not made yet. Raises PeersError."""
    requirements = FOLDER / "requirements.txt"
    _make(VENV, requirements, say, lambda: _install_python(requirements))
    shutil.copytree(GRAPHQL, SERVER, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    _make(SERVER / "node_modules", GRAPHQL / "package-lock.json", say, _install_node)
    python = [str(VENV / "bin" / "python"), "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools"]
    python += ["--no-access-log", "--log-level", "error", "--port", "{port}"]
    return [
        Peer("FastAPI + SQLAlchemy", FOLDER, [*python, "fastapi_service:app"], "bench_peer", "postgresql+asyncpg"),
        Peer("Litestar + SQLAlchemy", FOLDER, [*python, "litestar_service:app"], "bench_peer", "postgresql+asyncpg"),
        Peer("PostGraphile 5", SERVER, [_node(), "server.js", "{port}"], "bench_visitor"),
    ]


def _make(place: Path, pins: Path, say: Say, install: Callable[[], None]) -> None:
    """Install what a file pins, unless that was done; the stamp comes last."""
    if _is_made(place, pins):
        return
    say(f"installing {pins.relative_to(FOLDER)} for the peers")
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    install()
    (place / "stamp").write_text(_wanted(pins))


def _is_made(place: Path, pins: Path) -> bool:
    stamp = place / "stamp"
    return stamp.exists() and stamp.read_text() == _wanted(pins)


def _wanted(pins: Path) -> str:
    return hashlib.sha256(pins.read_bytes()).hexdigest()


def _install_python(requirements: Path) -> None:
    _run("a virtual environment cannot be made", sys.executable, "-I", "-m", "venv", str(VENV))
    pip = [str(VENV / "bin" / "python"), "-I", "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    _run("pip cannot install them", *pip, "install", "--no-deps", "-r", str(requirements))


def _install_node() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise PeersError("PostGraphile needs npm, which is not installed.")
    options = ["--omit=optional"] if _is_recent(shutil.which("node")) else []
    _run("npm cannot install them", npm, "ci", "--ignore-scripts", *options, folder=SERVER)


def _run(complaint: str, *command: str, folder: Path = FOLDER) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeersError(f"The peers cannot be installed: {complaint}. {done.stderr.strip()[-1000:]}")


def _node() -> str:
    """Return a node that is recent enough: the system's, else the packaged one."""
    node = shutil.which("node")
    if node is not None and _is_recent(node):
        return node
    packaged = list((SERVER / "node_modules").glob("node-linux-*/bin/node"))
    if not packaged:
        raise PeersError(f"PostGraphile needs node {NODE} or newer.")
    return str(packaged[0])


def _is_recent(node: str | None) -> bool:
    if node is None:
        return False
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.removeprefix("v").partition(".")[0]) >= NODE
