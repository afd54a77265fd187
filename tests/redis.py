"""A Redis of a test's own, which it may kill and freeze."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

PORTS = range(20_000, 32_000)  # below those that the system gives to anybody


class RedisServer:
    """A `redis-server` on loopback that writes every command down before it answers."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> "Redis":
        """A client for a test's look."""
        return Redis.from_url(self.url, decode_responses=True, socket_timeout=5)

    def start(self) -> None:
        """Start it, with what it held when it ended."""
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self._folder, "save": "", "appendonly": "yes",
                   "appendfsync": "always", "daemonize": "no", "loglevel": "warning"}  # fmt: skip
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self._process = subprocess.Popen([self._binary, *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def end(self, by: signal.Signals = signal.SIGKILL) -> None:
        """End it as nobody can defend himself against."""
        assert self._process is not None
        self._process.send_signal(by)
        self._process.wait(timeout=20)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop it without ending it: connections stay, and nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except RedisError:
            return False


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Start a Redis; without one installed, skip loudly, or fail where BROKERFLOW_REQUIRE_REDIS is set."""
    if (binary := shutil.which("redis-server")) is None:
        told = "redis-server is not installed (on Debian and Ubuntu: apt-get install redis-server)"
        if os.environ.get("BROKERFLOW_REQUIRE_REDIS"):
            pytest.fail(f"{told}, and BROKERFLOW_REQUIRE_REDIS is set")
        pytest.skip(f"SESSIONS IN REDIS ARE NOT TESTED: {told}")
    with tempfile.TemporaryDirectory(prefix="brokerflow-tests-") as folder:
        server = RedisServer(binary, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.end()


def _free_port() -> int:
    for port in PORTS[os.getpid() % 10_000 :]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
