"""The secrets of a service, over HTTP with one token; what every command of `brokerflow secret` begins with."""

import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TextIO
from urllib.parse import quote

import click
import httpx
import msgspec

from app.cli import Found, Refused, configured

TOKEN = "BROKERFLOW_TOKEN"  # noqa: S105 - the name of a variable


class Service:
    """The service, as one token may use it."""

    def __init__(self, url: str, token: str, environment: str | None, organization: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}", **({"X-Organization": organization} if organization else {})}
        parameters = {"environment": environment} if environment else {}
        self._client = httpx.Client(base_url=url, headers=headers, params=parameters, timeout=30, trust_env=False)

    def send(self, method: str, path: str, **request: Any) -> Any:
        """Send a request; returns the decoded answer. Raises Found with the problem in a sentence."""
        try:
            response = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise Found(f"{self._client.base_url} does not answer: {type(error).__name__}.") from None
        if response.is_success:
            return response.content
        raise Found(_sentence(response))

    def items(self, path: str, **parameters: str) -> Iterator[dict[str, Any]]:
        """Yield the items of every page of a list."""
        cursor: dict[str, str] = {}
        while True:
            page = msgspec.json.decode(self.send("GET", path, params={**parameters, **cursor, "limit": "100"}))
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}


class Read(msgspec.Struct):
    """What is read of an answer: the value as it came."""

    value: msgspec.Raw


def _sentence(response: httpx.Response) -> str:
    try:
        problem = response.json()
        wrong = "; ".join(f"{each['field']} {each['message']}" for each in problem.get("errors", []))
        return f"{problem['detail']} ({problem['code']}{', ' + wrong if wrong else ''})"
    except (ValueError, KeyError, TypeError):
        return f"what answers is not BrokerFlow: status {response.status_code}."


def served(act: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where the service is, and the service."""

    @click.option("--url", help="Where the service answers, instead of BROKERFLOW_HOST and BROKERFLOW_PORT.")
    @click.option("--token-file", type=click.File("r"), help=f"Holds the token, instead of {TOKEN}.")
    @click.option("--environment", metavar="ID", help="An environment, instead of the organization itself.")
    @click.option("--organization", metavar="SLUG", help="One of your organizations, where there are several.")
    @wraps(act)
    def run(
        url: str | None, token_file: TextIO | None, environment: str | None, organization: str | None, **rest: Any
    ) -> Any:
        token = token_file.read().strip() if token_file else os.environ.get(TOKEN, "")
        if not token:
            raise Refused(f"a token is needed: set {TOKEN}, or give --token-file.")
        if url is None:
            settings = configured()
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
            url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
        return act(Service(url.rstrip("/"), token, environment, organization), **rest)

    return run


def path_of(key: str, action: str = "") -> str:
    """Return where a key is, or what may be done with it."""
    return f"/api/secrets/{quote(key, safe='')}{action}"


def put(service: Service, key: str, value: bytes, **more: object) -> int:
    """Put a value; returns its version."""
    body = msgspec.json.encode({"value": msgspec.Raw(value), **more})
    answer = service.send("PUT", path_of(key), content=body, headers={"Content-Type": "application/json"})
    return int(msgspec.json.decode(answer)["version"])


def read_all(service: Service, keys: list[str]) -> Iterator[tuple[str, msgspec.Raw]]:
    """Yield secrets and their values, a hundred a request; raises Found when one of them cannot be read."""
    for start in range(0, len(keys), 100):
        asked = keys[start : start + 100]
        told = msgspec.json.decode(service.send("POST", "/api/secrets/batch", json={"keys": asked}), type=_Batch)
        if told.errors:
            raise Found(f"not every secret can be read: {', '.join(sorted(told.errors))}.")
        yield from ((key, told.values[key].value) for key in asked)


class _Batch(msgspec.Struct):
    values: dict[str, Read]
    errors: dict[str, Any]
