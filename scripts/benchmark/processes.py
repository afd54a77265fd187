"""What processes have used, as Linux tells it; nothing elsewhere."""

import os
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Use(NamedTuple):
    """Seconds of CPU so far, and MB of memory now, of the service and of PostgreSQL."""

    service: float
    postgres: float
    memory: float


def is_known() -> bool:
    """Whether this system tells."""
    return (PROC / "self" / "stat").exists()


def use(postmaster: int) -> Use:
    """Add up the service that this process started, and the server's processes."""
    backends = [process for process in _all() if process == postmaster or _parent(process) == postmaster]
    service = [process for process in _all() if _is_serving(process)]
    return Use(sum(map(_seconds, service)), sum(map(_seconds, backends)), sum(map(_memory, service)))


def _all() -> list[int]:
    return [int(folder.name) for folder in PROC.iterdir() if folder.name.isdigit()]


def _fields(process: int) -> list[str]:
    try:
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parent(process: int) -> int:
    fields = _fields(process)
    return int(fields[1]) if fields else 0


def _seconds(process: int) -> float:
    fields = _fields(process)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _memory(process: int) -> float:
    fields = _fields(process)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if fields else 0.0


def _is_serving(process: int) -> bool:
    try:
        words = (PROC / str(process) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "serve" in words and _parent(process) == os.getpid()
