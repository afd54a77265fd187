"""Keys in URLs: a key has slashes, a parameter of a route has none.

`/api/secrets/db/main/versions` becomes `/api/secrets/db%2Fmain/versions` before the router sees it. The last word is
a route of the key unless it stands alone; the database refuses keys that end in one.
"""

import re
from urllib.parse import quote, unquote

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

ROOT = "/api/secrets/"
ACTIONS = frozenset({"versions", "rollback", "undelete", "destroy", "who"})
ALONE = frozenset({"batch", "count"})

# What a key may be everywhere; PostgreSQL says the same of its own.
_KEY = re.compile(r"[A-Za-z0-9._/-]{1,255}")
_NO_KEY = re.compile(rf"(^|/)\.{{0,2}}(/|$)|(^|/)({'|'.join(ACTIONS)})$|^({'|'.join(ALONE)})$")


def keyed(app: ASGIApp) -> ASGIApp:
    """Wrap the application so that a key is one segment of the path."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(ROOT):
            folded: HTTPScope = {**scope, "path": ROOT + _folded(scope["path"].removeprefix(ROOT))}
            await app(folded, receive, send)
        else:
            await app(scope, receive, send)

    return route


def is_key(text: str) -> bool:
    """Tell whether a text is a key that a secret may have."""
    return _KEY.fullmatch(text) is not None and _NO_KEY.search(text) is None


def key_of(segment: str) -> str:
    """Return the key that a segment of the path stands for."""
    return unquote(segment)


def _folded(rest: str) -> str:
    key, slash, action = rest.rpartition("/")
    if slash and action in ACTIONS:
        return f"{quote(key, safe='')}/{action}"
    return rest if rest in ALONE or not rest else quote(rest, safe="")
