"""Makes .venv from constraints.txt, unless the one that stands was made from the same; standard library only."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(".venv")
STAMP = VENV / "stamp"
PYTHON = VENV / "bin" / "python"
PIP = (
    PYTHON,
    "-I",
    "-m",
    "pip",
    "--quiet",
    "--no-input",
    "--disable-pip-version-check",
    "install",
    "--no-user",
)


def main() -> None:
    """Make the environment; end with a sentence where that cannot be done."""
    wanted = fingerprint()
    if is_current(wanted):
        return
    try:
        with Path(".venv.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # somebody else may be making it
            if not is_current(wanted):
                build(wanted)
    except OSError as error:
        sys.exit(f"{VENV.absolute()} cannot be made: {error.strerror}. Is the checkout yours to write?")


def fingerprint() -> str:
    """Name what an environment depends on: the pins, our metadata, the interpreter, and its own place."""
    parts = [sys.version.encode(), os.fsencode(VENV.absolute())]
    parts += [Path(name).read_bytes() for name in ("constraints.txt", "pyproject.toml")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_current(wanted: str) -> bool:
    """Say whether the environment is whole and made from the same."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted


def build(wanted: str) -> None:
    """Make the environment anew; the stamp comes last, so that a killed run is not taken for a whole one."""
    shutil.rmtree(VENV, ignore_errors=True)
    say(f"Making {VENV} with Python {sys.version.split()[0]} ...")
    run(
        "A virtual environment cannot be made with this Python: on Debian and Ubuntu, install python3-venv.",
        *(sys.executable, "-I", "-m", "venv", VENV),
    )
    say("Installing the packages of constraints.txt ...")
    run(
        "The packages cannot be installed: pip says why above.",
        *PIP,
        "--require-hashes",
        "-r",
        "constraints.txt",
    )
    run("BrokerFlow itself cannot be installed.", *PIP, "--no-deps", "--no-build-isolation", "--editable", ".")
    STAMP.write_text(wanted)
    say("The environment is ready.")


def run(complaint: str, *command: str | Path) -> None:
    """Run a command, or end with the complaint."""
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        sys.exit(complaint)


def say(sentence: str) -> None:
    """Tell on standard error what takes time."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - nothing else is installed yet


if __name__ == "__main__":
    main()
