"""What processes have used, as Linux tells it; nothing elsewhere."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Use(NamedTuple):
    """Seconds of CPU so far, and MB of memory now, of a service and of PostgreSQL."""

    service: float
    postgres: float
    memory: float


def use(service: int, postmaster: int) -> Use:
    """Add up a service's process, and the server's processes, those that ended included."""
    backends = [process for process in _all() if _parent(process) == postmaster]
    server = _seconds(postmaster, with_ended=True) + sum(map(_seconds, backends))
    return Use(_seconds(service), server, _memory(service))


def peak_memory(process: int) -> float:
    """Return the most MB that a process held at once so far."""
    try:
        told = (PROC / str(process) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB", told, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def forget_peak(process: int) -> None:
    """Begin anew with what a process held at most; where the system does not let us, its whole life counts."""
    with suppress(OSError):
        (PROC / str(process) / "clear_refs").write_text("5")


def _all() -> list[int]:
    if not PROC.exists():
        return []
    return [int(folder.name) for folder in PROC.iterdir() if folder.name.isdigit()]


def _fields(process: int) -> list[str]:
    try:
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parent(process: int) -> int:
    fields = _fields(process)
    return int(fields[1]) if fields else 0


def _seconds(process: int, *, with_ended: bool = False) -> float:
    """Return the CPU of a process, by its own code and the kernel's, and of the children that it has buried."""
    last = 15 if with_ended else 13
    return sum(map(int, _fields(process)[11:last])) / os.sysconf("SC_CLK_TCK")


def _memory(process: int) -> float:
    fields = _fields(process)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if fields else 0.0
