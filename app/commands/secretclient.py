"""Secrets over HTTP, as the commands of `brokerflow secret` use them."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any
from urllib.parse import quote

import click
import msgspec

from app.cli import Found, Refused
from app.commands.client import Service, served
from app.secretstore.paths import ACTIONS, is_key


def served_within(act: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the service, and the environment that its secrets are in."""

    @click.option("--environment", metavar="ID", help="An environment, instead of the organization itself.")
    @served
    @wraps(act)
    def run(service: Service, environment: str | None, **rest: Any) -> Any:
        return act(service.within(environment), **rest)

    return run


def checked(key: str) -> str:
    """Return a key that a secret may have; raises Refused."""
    if not is_key(key):
        raise Refused(
            f"{key!r} is no key: it takes 1 to 255 letters of ASCII, digits, . _ - and /, such as db/main; between "
            f"the / neither nothing nor . or .., and at its end none of {', '.join(sorted(ACTIONS))}."
        )
    return key


KEY = click.argument("key", callback=lambda _context, _parameter, key: checked(key))


class Read(msgspec.Struct):
    """What is read of an answer: the value as it came."""

    value: msgspec.Raw


def path_of(key: str, action: str = "") -> str:
    """Return where a key is, or what may be done with it."""
    return f"/api/secrets/{quote(key, safe='')}{action}"


def put(service: Service, key: str, value: bytes, **more: object) -> int:
    """Put a value; returns its version."""
    body = msgspec.json.encode({"value": msgspec.Raw(value), **more})
    answer = service.send("PUT", path_of(key), content=body, headers={"Content-Type": "application/json"})
    return int(msgspec.json.decode(answer)["version"])


def keys_below(service: Service, prefix: str) -> list[str]:
    """Return the keys that begin with a prefix; raises Found where there is none, lest a typo go unseen."""
    keys = [item["key"] for item in service.items("/api/secrets", prefix=prefix)]
    if not keys:
        raise Found(f"no key begins with {prefix}." if prefix else "there are no secrets.")
    return keys


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
