"""The PostgreSQL that starts when no URL is set: found, initialized, run as a child, and stopped."""

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, LiteralString, NamedTuple, Self
from urllib.parse import quote

import psycopg
import structlog
from psycopg import sql

from app.binaries import (
    Account,
    EmbeddedError,
    bound,
    can,
    choose_account,
    environment,
    find_binaries,
    major,
    make_reachable,
    name_of,
    run,
    usable_binaries,
)

SUPERUSER = "postgres"
DEPLOYER = "brokerflow_deployer"
RUNTIME = "brokerflow_app"
LOGIN = "brokerflow_login"
WORKER = "brokerflow_worker"
ROLES = (DEPLOYER, RUNTIME, LOGIN, WORKER)
DATABASE = "brokerflow"

_SOCKET_PATH_LIMIT = 107 - len("/.s.PGSQL.5432")
_LOG_LIMIT = 16 * 1024 * 1024
# A server that lost its parent is still stopping, or the backends of a killed one are still leaving.
_PREDECESSOR = re.compile(r'lock file "[^"]*" already exists|pre-existing shared memory block')
_PATIENCE_WITH_PREDECESSOR = 10.0
_PATIENCE_WITH_RECOVERY = 120.0
_PATIENCE_WITH_SHUTDOWN = 60.0

_logger = structlog.get_logger(__name__)


class Addresses(NamedTuple):
    """Where a running server answers, as URLs with passwords: keep them out of logs."""

    app_url: str
    login_url: str
    worker_url: str
    owner_url: str
    superuser_url: str
    process: int


def locate(home: Path) -> Addresses | None:
    """Return the addresses of the server that is running on a home folder, if one is ready."""
    state = _postmaster(home / "data")
    if len(state) < 8 or state[7] != "ready" or not _is_running(int(state[0])):
        return None
    passwords = _read_passwords(home)

    def url(role: str, database: str) -> str:
        host = quote(state[4], safe="")
        return f"postgresql://{role}:{passwords[role]}@/{database}?host={host}&port={state[3]}"

    return Addresses(
        app_url=url(RUNTIME, DATABASE),
        login_url=url(LOGIN, DATABASE),
        worker_url=url(WORKER, DATABASE),
        owner_url=url(DEPLOYER, DATABASE),
        superuser_url=url(SUPERUSER, "postgres"),
        process=int(state[0]),
    )


def prepare_roles(connection: psycopg.Connection[Any], passwords: Mapping[str, str]) -> None:
    """Create, as superuser, the login roles with these passwords, and let the deployer rule the house's roles."""
    rows = connection.execute(r"select rolname from pg_roles where rolname like 'brokerflow\_%'")
    existing: set[str] = {name for (name,) in rows}
    for role in ROLES:
        attribute = "createrole" if role == DEPLOYER else "nocreaterole"
        # Passwords travel as SCRAM verifiers, so that a server which logs statements learns nothing.
        verifier = connection.pgconn.encrypt_password(passwords[role].encode(), role.encode(), b"scram-sha-256")
        statement = "{} role {} login nosuperuser nobypassrls {} password {}"
        verb = "alter" if role in existing else "create"
        _execute(connection, statement, sql.SQL(verb), role, sql.SQL(attribute), sql.Literal(verifier.decode()))
    for role in (RUNTIME, LOGIN, WORKER):
        _execute(connection, "alter role {} set log_parameter_max_length = 0", role)
    _execute(connection, "grant set on parameter log_parameter_max_length to {}", DEPLOYER)
    # Up to 15, CREATEROLE rules every role; from 16 on, only those it holds with ADMIN OPTION.
    version = connection.info.server_version
    options = sql.SQL("admin true, inherit false, set false" if version >= 160000 else "admin option")
    for role in sorted({*existing, *ROLES} - {DEPLOYER}):
        _execute(connection, "grant {} to {} with {}", role, DEPLOYER, options)


def _execute(connection: psycopg.Connection[Any], statement: LiteralString, *parts: str | sql.Composable) -> None:
    """Run a statement with its placeholders filled by names (text) and composed SQL."""
    composed = (sql.Identifier(part) if isinstance(part, str) else part for part in parts)
    connection.execute(sql.SQL(statement).format(*composed))


class Embedded:
    """One PostgreSQL server on one home folder; a context manager.

    `durable=False` turns fsync off and is for tests only. `supervised=True` starts the server again when it ends
    otherwise than by a clean shutdown. `settings` go to `postgres -c` and win over ours.
    """

    def __init__(
        self,
        home: Path,
        *,
        binaries: Path | None = None,
        durable: bool = True,
        supervised: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home.absolute()
        self.log = self.home / "server.log"
        self._binaries = binaries or find_binaries()
        self._durable = durable
        self._supervised = supervised
        self._settings = dict(settings or {})
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self._addresses: Addresses | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def addresses(self) -> Addresses:
        """The URLs of the running server."""
        if self._addresses is None:
            raise EmbeddedError("The embedded PostgreSQL is not running.")
        return self._addresses

    @property
    def app_url(self) -> str:
        """The service's URL."""
        return self.addresses.app_url

    @property
    def owner_url(self) -> str:
        """The URL that migrations run with: the owner of the database, no superuser."""
        return self.addresses.owner_url

    @property
    def superuser_url(self) -> str:
        """The superuser's URL; the service never uses it."""
        return self.addresses.superuser_url

    @property
    def process(self) -> int:
        """The postmaster's process id, also after it was started again."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server, making its data folder on the first run; return when it answers.

        Raises EmbeddedError when the folder is in use, belongs to somebody else, or PostgreSQL refuses.
        """
        self._make_home()
        self._take_lock()
        try:
            account = choose_account(self.home / "data")
            self._launch_on(self._make_data(account), account)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server by a fast shutdown and free the folder; harmless when nothing runs."""
        with self._guard:
            self._stopping.set()
            if self._process is not None:
                self._process.send_signal(signal.SIGINT)
        self._wait_for_end()
        self._addresses = None
        _forget_temporary_sockets(self.home)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL); without supervision it stays down until it is started again."""
        if self._process is not None:
            self._process.kill()
        if not self._supervised and self._keeper is not None:
            self._keeper.join()

    def _make_home(self) -> None:
        try:
            self.home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(f"The home folder {self.home} cannot be made: {error.strerror}.") from error
        if not os.access(self.home, os.W_OK | os.X_OK):
            raise _foreign(self.home)

    def _take_lock(self) -> None:
        path = self.home / "lock"
        try:
            lock = open(path, "a+", opener=_private)  # noqa: SIM115 - held until stop
        except PermissionError as error:
            raise _foreign(path) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with lock:
                raise EmbeddedError(self._describe_holder(lock)) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _describe_holder(self, lock: IO[str]) -> str:
        lock.seek(0)
        return (
            f"The home folder {self.home} is in use by process {lock.read() or 'unknown'}: "
            "stop that one, or set BROKERFLOW_HOME to another folder."
        )

    def _make_data(self, account: Account) -> Path:
        """Return the data folder behind home/data, which initdb makes on the first run."""
        data = self.home / "data"
        if data.is_symlink() and not data.exists():
            raise EmbeddedError(
                f"{data} points to {data.readlink()}, which is gone: restore it, or remove {data} to begin anew."
            )
        if data.exists() and data.stat().st_uid != account.user:
            raise _foreign(data)
        if not data.exists():
            self._initialize(data, account)
        return data.resolve()

    def _initialize(self, data: Path, account: Account) -> None:
        place = self.home
        if account.is_other and not can(account, "test", "-x", str(self.home)):
            place = make_reachable(secrets.token_hex(8))
        partial = place / "data.partial"
        if partial.exists():  # an earlier run was killed here
            shutil.rmtree(partial)
        passwords = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, *ROLES)}
        self._initdb(partial, account, passwords[SUPERUSER])
        _write_private(self.home / "passwords.json", json.dumps(passwords))
        (self.home / "prepared").unlink(missing_ok=True)
        partial.rename(place / "data")
        if place != self.home:
            data.symlink_to(place / "data")
            _logger.info("data folder is outside the home folder", account=account.name, path=str(place / "data"))

    def _initdb(self, folder: Path, account: Account, password: str) -> None:
        binaries = usable_binaries(self._binaries, account)
        folder.mkdir(mode=0o700)
        os.chown(folder, account.user, account.group)
        with _folder_of(account, folder.parent / "initdb.partial") as scratch:
            password_file = scratch / "password"
            _write_private(password_file, password)
            os.chown(password_file, account.user, account.group)
            options = [f"--pgdata={folder}", f"--pwfile={password_file}", *self._initdb_options(major(binaries))]
            done = run(account, binaries / "initdb", *options)
        if done.returncode:
            raise EmbeddedError(f"initdb refused {folder}: {done.stderr.strip()}")

    def _initdb_options(self, version: int) -> list[str]:
        return [
            f"--username={SUPERUSER}",
            "--auth=scram-sha-256",
            "--data-checksums",
            "--encoding=UTF8",
            "--locale=C",
            # What knows the case of letters beyond ASCII: PostgreSQL itself, and before 17 the system.
            *(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if version >= 17 else ["--lc-ctype=C.UTF-8"]),
            *([] if self._durable else ["--no-sync"]),
        ]

    def _launch_on(self, data: Path, account: Account) -> None:
        binaries = usable_binaries(self._binaries, account)
        sockets = self._make_sockets(data.parent / "run", account)
        _rotate(self.log)
        command = [str(binaries / "postgres"), "-D", str(data), *self._options(sockets)]
        deadline = time.monotonic() + _PATIENCE_WITH_PREDECESSOR
        while (complaint := self._launch(bound(account, command), data)) is not None:
            if not _PREDECESSOR.search(complaint) or time.monotonic() > deadline:
                raise EmbeddedError(_explain(complaint, data, self.log))
            time.sleep(0.05)
        self._addresses = locate(self.home)
        self._prepare()

    def _options(self, sockets: Path) -> list[str]:
        quoted = str(sockets).replace('"', '""')
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{quoted}"',
            "unix_socket_permissions": "0700",
            "port": "5432",
            "password_encryption": "scram-sha-256",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_timezone": "UTC",
            "timezone": "UTC",
            "lc_messages": "C",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        settings |= self._settings
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _make_sockets(self, wanted: Path, account: Account) -> Path:
        """Return the socket folder: beside the data, or a temporary one where that path is none for a socket."""
        _forget_temporary_sockets(self.home)
        if len(os.fsencode(wanted)) <= _SOCKET_PATH_LIMIT and "," not in str(wanted):  # libpq splits hosts there
            wanted.mkdir(mode=0o700, exist_ok=True)
        else:
            base = tempfile.gettempdir()
            wanted = Path(tempfile.mkdtemp(prefix="brokerflow-", dir=base if len(base) < 60 else "/tmp"))  # noqa: S108
            _write_private(self.home / "sockets", str(wanted))
        os.chown(wanted, account.user, account.group)
        return wanted

    def _launch(self, command: list[str], data: Path) -> str | None:
        """Start the server once; return None when it is ready, or what it wrote before it ended."""
        self._stopping.clear()
        self._ready.clear()
        with open(self.log, "ab", opener=_private) as log:
            beginning = log.tell()
        self._keeper = threading.Thread(target=self._keep, args=(command,), name="postgres", daemon=True)
        self._keeper.start()
        deadline = time.monotonic() + _PATIENCE_WITH_RECOVERY
        while self._keeper.is_alive() and time.monotonic() < deadline:
            state = _postmaster(data)
            if len(state) >= 8 and state[7] == "ready" and state[0] == str(self.process):
                self._ready.set()
                return None
            time.sleep(0.005)
        with self.log.open("rb") as log:
            log.seek(beginning)
            return log.read().decode(errors="replace")

    def _keep(self, command: list[str]) -> None:
        """Own the server for its whole life: the kernel counts the thread that started a child as its parent."""
        pause = 0.1
        while (process := self._spawn(command)) is not None:
            began = time.monotonic()
            status = process.wait()
            if not (self._supervised and self._ready.is_set()) or status == 0 or self._stopping.is_set():
                return
            pause = 0.1 if time.monotonic() - began > 30 else min(pause * 2, 5.0)
            _logger.warning("embedded PostgreSQL ended unexpectedly, starting it again", status=status)
            self._stopping.wait(pause)

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes] | None:
        with self._guard:
            if self._stopping.is_set():
                return None
            with open(self.log, "ab", opener=_private) as log:
                # A session of its own: Ctrl-C is for the service, which stops the server when requests are done.
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=environment(),
                    start_new_session=True,
                )
            return self._process

    def _wait_for_end(self) -> None:
        if self._keeper is None or self._process is None:
            return
        self._keeper.join(_PATIENCE_WITH_SHUTDOWN)
        if self._keeper.is_alive():
            self._process.send_signal(signal.SIGQUIT)
            self._keeper.join()
        self._keeper = self._process = None

    def _prepare(self) -> None:
        """Make, once and as superuser, the login roles and the database; a killed run does it again."""
        marker = self.home / "prepared"
        if marker.exists():
            return
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            with connection.transaction():
                prepare_roles(connection, _read_passwords(self.home))
            if not connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
                _execute(connection, "create database {} owner {}", DATABASE, DEPLOYER)
        marker.touch(mode=0o600)


def _postmaster(data: Path) -> list[str]:
    """Return the lines of postmaster.pid: process, data folder, start, port, socket folder, listening, key, status."""
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise _foreign(data) from error


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _explain(complaint: str, data: Path, log: Path) -> str:
    if _PREDECESSOR.search(complaint):
        holder = _postmaster(data)[:1] or ["unknown"]
        return f"Another PostgreSQL, process {holder[0]}, is running on {data}: stop it first."
    fatal = re.findall(r"(?:FATAL|PANIC):\s*(.*)", complaint) or ["it ended without a word"]
    return f"PostgreSQL did not start on {data}: {fatal[-1]}. Its log is {log}."


def _read_passwords(home: Path) -> dict[str, str]:
    path = home / "passwords.json"
    try:
        passwords: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise EmbeddedError(f"{path} is missing, so nobody can log in to the data beside it: restore it.") from error
    except PermissionError as error:
        raise _foreign(path) from error
    return passwords


def _forget_temporary_sockets(home: Path) -> None:
    record = home / "sockets"
    if record.exists():
        shutil.rmtree(record.read_text(), ignore_errors=True)
        record.unlink()


@contextmanager
def _folder_of(account: Account, path: Path) -> Iterator[Path]:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    os.chown(path, account.user, account.group)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


def _write_private(path: Path, text: str) -> None:
    """Write a file that only this user reads; it appears whole or not at all."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with open(partial, "x", opener=_private) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _foreign(path: Path) -> EmbeddedError:
    owner = name_of(path.stat().st_uid)
    return EmbeddedError(
        f"{path} belongs to {owner}: run this as that user, or set BROKERFLOW_HOME to a folder of your own."
    )
