"""`brokerflow serve` as a process of its own, which ends with this one, however that ends."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import IO

from app import lifeline

_SERVE = "from app.cli import main; main()"
_PATIENCE_WITH_END = 60


class ServiceError(Exception):
    """The service could not be started; why stands in what it wrote to standard error."""


class Service:
    """A service on a port of its own choice, the same when it is started again."""

    def __init__(self, environment: Mapping[str, str], log: IO[str] | None = None) -> None:
        self.url = ""
        self._environment = {**environment, "BROKERFLOW_HOST": "127.0.0.1"}
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> int:
        """Its process id; 0 while it does not run."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, without waiting. The kernel ends it with the thread that calls this: let it be a lasting one."""
        identity = [str(os.getpid()), str(os.geteuid()), str(os.getegid())]
        command = [sys.executable, "-I", "-S", lifeline.__file__, *identity]
        command += [sys.executable, "-c", _SERVE, "serve", "--port", self.url.rpartition(":")[2] or "0"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, text=True, env=self._environment
        )

    def wait_until_ready(self) -> str:
        """Return its URL once it serves. Raises ServiceError."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            if ready := re.search(r"http://\S+", line):
                self.url = ready[0]
                return self.url
        raise ServiceError("The service could not be started; it said why.")

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._release(self._process)

    def stop(self) -> None:
        """Let it finish the requests that run, and end; harmless when it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._release(self._process)

    def _release(self, process: subprocess.Popen[str]) -> None:
        process.wait(_PATIENCE_WITH_END)
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        process.stdout.close()
        self._process = None
