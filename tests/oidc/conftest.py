"""A real OpenID provider on loopback, and a browser that is sent to it and back."""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urljoin

import httpx
import pytest
from pydantic import SecretStr

from tests.api.conftest import look, quick_passwords, quiet_logs, serving
from tests.conftest import Database

FOLDER = Path(__file__).with_name("provider")
CLIENT = "brokerflow"
REQUIRED = "BROKERFLOW_REQUIRE_OIDC_PROVIDER"

Serve = Callable[..., AbstractContextManager[str]]


class RealProvider:
    """npm's oidc-provider as a child, on a port that it keeps when it starts again."""

    def __init__(self, node: str, secret: str) -> None:
        self.secret = secret
        self._node = node
        self.issuer = ""
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; it has new keys."""
        command = [self._node, "server.js", self._port, self.secret]
        self._process = subprocess.Popen(
            command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.issuer = self._process.stdout.readline().strip()
        assert self.issuer, "the provider did not start"
        self._port = self.issuer.rpartition(":")[2]

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None


class Browser(httpx.Client):
    """A browser: cookies, and a hand that follows redirects and fills the provider's forms."""

    def follow(self, response: httpx.Response, *, until: str) -> httpx.Response:
        """Follow redirects until the next would lead to an address that begins so; that answer is returned."""
        while response.has_redirect_location and not self.leads_to(response).startswith(until):
            response = self.get(self.leads_to(response))
        return response

    def leads_to(self, response: httpx.Response) -> str:
        """Return where an answer redirects to."""
        return urljoin(str(response.url), response.headers["location"])

    def log_in_at(self, service: str, login: str, **query: str) -> httpx.Response:
        """Begin at the service, log in at the provider and agree; returns the answer that leads back."""
        callback = f"{service}/auth/oidc/callback"
        response = self.follow(self.get(f"{service}/auth/oidc/login", params=query), until=callback)
        forms: list[dict[str, str]] = [{"login": login, "password": "any"}, {}]
        while not response.has_redirect_location:
            assert response.status_code == 200, response.text
            response = self.follow(self._submit(response, forms.pop(0)), until=callback)
        return response

    def come_back(self, response: httpx.Response) -> httpx.Response:
        """Take what leads back to the service there."""
        return self.get(self.leads_to(response))

    def cancel_at(self, service: str) -> httpx.Response:
        """Begin at the service and change one's mind at the provider; returns the answer that leads back."""
        callback = f"{service}/auth/oidc/callback"
        page = self.follow(self.get(f"{service}/auth/oidc/login"), until=callback)
        [abort] = re.findall(r'href="([^"]+/abort)"', page.text)
        return self.follow(self.get(urljoin(str(page.url), abort)), until=callback)

    def _submit(self, page: httpx.Response, values: dict[str, str]) -> httpx.Response:
        [action] = re.findall(r'<form[^>]* action="([^"]+)"', page.text)
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)"', page.text))
        return self.post(urljoin(str(page.url), action), data={**hidden, **values})


class Site(NamedTuple):
    """The service, whose users may log in at the provider."""

    address: str
    provider: RealProvider


def _missing(what: str) -> NoReturn:
    reason = f"NO LOGIN AT A REAL OPENID PROVIDER WAS TESTED: {what}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason}, and {REQUIRED}=1")
    pytest.skip(reason)


def _is_recent(node: str) -> bool:
    """Tell whether a node has what the provider calls. Debian 12's has not."""
    probe = "process.exit(URL.parse && require('node:crypto').hash ? 0 : 1)"
    return subprocess.run([node, "-e", probe], check=False).returncode == 0


def _installed(npm: str, *, with_node: bool) -> Path:
    """Install the provider's packages, just as they are locked, once for all sessions; return where they are."""
    modules, lock = FOLDER / "node_modules", FOLDER / "package-lock.json"
    options = [] if with_node else ["--omit=optional"]
    wanted = " ".join([hashlib.sha256(lock.read_bytes()).hexdigest(), *options])
    stamp = modules / ".installed"
    with (FOLDER / ".npmrc").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            done = subprocess.run([npm, "ci", *options], cwd=FOLDER, capture_output=True, text=True, check=False)
            if done.returncode:
                _missing(f"npm ci failed: {done.stderr.strip()[-500:]}")
            stamp.write_text(wanted)
    return modules


@pytest.fixture(scope="session")
def _running() -> Iterator[RealProvider]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _missing("node and npm are not installed")
    needs_node = not _is_recent(node)
    modules = _installed(npm, with_node=needs_node)
    if needs_node:
        [packaged] = modules.glob("node-linux-*")
        node = str(packaged / "bin" / "node")
    provider = RealProvider(node, secrets.token_urlsafe(24))
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()


@pytest.fixture
def provider(_running: RealProvider) -> RealProvider:
    """The provider, which is running when a test begins, whatever the one before did to it."""
    if httpx.codes.is_error(_status(_running.issuer)):
        _running.start()
    return _running


def _status(issuer: str) -> int:
    try:
        return httpx.get(f"{issuer}/.well-known/openid-configuration").status_code
    except httpx.ConnectError:
        return 503


@contextmanager
def client_of(database: Database, home: Path, issuer: str, secret: str, **settings: Any) -> Iterator[str]:
    """Serve the application as a provider's client."""
    chosen: dict[str, Any] = {
        "oidc_issuer": issuer,
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SecretStr(secret),
        "login_url": SecretStr(database.login_url),
        **settings,
    }
    with serving(database, home, **chosen) as address:
        yield address


@pytest.fixture
def serve(database: Database, tmp_path: Path) -> Serve:
    """Serve the application, on a database of the test's own, as a provider's client."""
    return partial(client_of, database, tmp_path)


@pytest.fixture
def site(serve: Serve, provider: RealProvider) -> Iterator[Site]:
    """The service beside the real provider."""
    with serve(provider.issuer, provider.secret) as address:
        yield Site(address, provider)


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Somebody's browser."""
    with Browser(timeout=30) as browser:
        yield browser


__all__ = ["look", "quick_passwords", "quiet_logs"]
