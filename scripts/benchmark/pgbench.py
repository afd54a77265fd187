"""Runs a request's statements in PostgreSQL alone, planned as the service has them planned."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from app.database import PLANNING
from scripts.benchmark.limits import Limit
from scripts.benchmark.load import Round

CLIENTS = 8  # more do not make two cores faster


def repeated(pgbench: Path, url: str, limit: Limit, *, seconds: float) -> Round:
    """Run a transaction again and again."""
    salt = {"salt": str(time.time_ns())} if "salt" in limit.variables else {}
    return _run(pgbench, url, limit.script, limit.variables | salt, "-T", f"{seconds:.0f}", "-c", str(CLIENTS))


def once_each(pgbench: Path, url: str, limit: Limit, *, first: int, count: int) -> Round:
    """Run a transaction once for each number from the first on; each client has a range of its own."""
    each = max(1, count // CLIENTS)
    script = f"\\set number {first} + :client_id * {each} + :done\n\\set done :done + 1\n{limit.script}"
    clients = min(CLIENTS, count)
    return _run(pgbench, url, script, limit.variables | {"done": "0"}, "-t", str(each), "-c", str(clients))


def version(url: str) -> str:
    """Return the server's version, such as 18.4."""
    with psycopg.connect(url) as connection:
        return (connection.info.parameter_status("server_version") or "").partition(" ")[0]


def _run(pgbench: Path, url: str, script: str, variables: dict[str, str], *options: str) -> Round:
    settings = " ".join(f"-c {name}={value}" for name, value in PLANNING.items())
    defined = [word for name, value in variables.items() for word in ("-D", f"{name}={value}")]
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file, tempfile.TemporaryDirectory() as folder:
        file.write(script)
        file.flush()
        log = ["-l", "--log-prefix", f"{folder}/log"]
        command = [str(pgbench), "-n", "-M", "prepared", "-j", "1", *options, *log, *defined, "-f", file.name, url]
        environment = {**os.environ, "PGOPTIONS": settings}
        told = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        times = sorted(float(line.split()[2]) for path in Path(folder).iterdir() for line in path.open())
    figures = dict(line.split(" = ", 1) for line in told.stdout.splitlines() if " = " in line)
    if told.returncode or "tps" not in figures or not times:
        raise RuntimeError(f"pgbench failed: {told.stderr.strip()}")
    rate = float(figures["tps"].split()[0])
    p50, p99 = (times[min(int(len(times) * share), len(times) - 1)] / 1e3 for share in (0.5, 0.99))
    return Round(len(times), len(times) / rate, 0, p50, p99)
