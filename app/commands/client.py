"""The service, as a command uses it: where it answers, with whose token, and what it says when it refuses."""

import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, NoReturn, TextIO
from urllib.parse import urlsplit

import click
import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from app.cli import Found, Refused, configured
from app.commands import logins

TOKEN = "BROKERFLOW_TOKEN"  # noqa: S105 - the name of a variable
OWN_TOKEN = "/api/tokens/current"  # noqa: S105 - a path

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens there is reached here


class ServiceRefused(Found):
    """What the service refused: its sentence, and the code of the problem."""

    def __init__(self, sentence: str, code: str | None = None) -> None:
        super().__init__(sentence)
        self.code = code


class Unanswered(Found):
    """The service was not reached."""


class Service:
    """The service, as the bearer of one token may use it; without one, as anybody."""

    def __init__(self, url: str, token: str | None = None, organization: str | None = None) -> None:
        told = {"Authorization": f"Bearer {token}" if token else None, "X-Organization": organization}
        headers = {name: value for name, value in told.items() if value}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)

    def within(self, environment: str | None) -> "Service":
        """Name the environment that every request is about, where there is one."""
        self._client.params = httpx.QueryParams({"environment": environment} if environment else {})
        return self

    def send(self, method: str, path: str, **request: Any) -> bytes:
        """Send a request; returns the answer. Raises ServiceRefused with the problem in a sentence, or Unanswered."""
        try:
            response = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise Unanswered(self._silence(error)) from None
        return response.content if response.is_success else _refuse(response)

    def _silence(self, error: httpx.HTTPError) -> str:
        url, reason = self._client.base_url.copy_with(userinfo=b""), str(error).rstrip(".")
        return f"{url} does not answer: {type(error).__name__}{reason and f': {reason}'}."

    def ask(self, method: str, path: str, **request: Any) -> Any:
        """Send a request; returns the decoded answer."""
        return msgspec.json.decode(self.send(method, path, **request))

    def items(self, path: str, **parameters: str) -> Iterator[dict[str, Any]]:
        """Yield the items of every page of a list."""
        cursor: dict[str, str] = {}
        while True:
            page = self.ask("GET", path, params={**parameters, **cursor, "limit": "100"})
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}


def show(table: Table) -> None:
    """Print a table: folded on a screen that is too narrow, and whole into a file or a pipe."""
    console = Console()
    if not console.is_terminal:
        console.width = 10_000
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)


def served(act: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where the service is and who asks, and the service."""

    @click.option("--url", help="Where the service answers; else where you logged in last, else this configuration's.")
    @click.option("--token-file", type=click.File("r"), help=f"Holds the token, instead of {TOKEN} and the login.")
    @click.option("--organization", metavar="SLUG", help="One of your organizations, where there are several.")
    @wraps(act)
    def run(url: str | None, token_file: TextIO | None, organization: str | None, **rest: Any) -> Any:
        given = token_file.read().strip() if token_file else os.environ.get(TOKEN, "")
        where = address(url, is_given=bool(given))
        return act(Service(where, given or _kept(where), organization), **rest)

    return run


def address(url: str | None, *, is_given: bool = False) -> str:
    """Return where the service answers: as told, where the last login was, or as this configuration says.

    A token that is given says nothing of a service, so then the last login does not either.
    """
    if url is not None:
        return _checked(url)
    if not is_given and (kept := logins.read()):
        return kept[0].url
    settings = configured()
    host = EVERYWHERE.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise Refused(f"{url} is not a URL such as https://brokerflow.example.")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _kept(url: str) -> str:
    for login in logins.read():
        if login.url == url:
            return login.token
    raise Refused(f"a token is needed: run brokerflow login --url {url}, set {TOKEN}, or give --token-file.")


def _refuse(response: httpx.Response) -> NoReturn:
    try:
        problem = response.json()
        wrong = "; ".join(f"{each['field']} {each['message']}" for each in problem.get("errors", []))
        sentence = f"{problem['detail']} ({problem['code']}{', ' + wrong if wrong else ''})"
        code = problem["code"]
    except (ValueError, KeyError, TypeError):
        raise ServiceRefused(f"what answers is not BrokerFlow: status {response.status_code}.") from None
    hint = " brokerflow login makes another token." if code == "unauthenticated" else ""
    raise ServiceRefused(sentence + hint, code)
