"""A provider that misbehaves on demand: real HTTP, real keys, and answers that a conforming one would not give."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from joserfc import jwt
from joserfc.jwk import Key, KeySet, RSAKey

Json = dict[str, Any]
Answer = tuple[int, bytes]

KEY = RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256", "use": "sig"})
NEXT = RSAKey.generate_key(2048, {"kid": "two", "alg": "RS256", "use": "sig"})


class Rogue:
    """What it answers with; a test changes one thing of it."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.issuer = ""
        self.asked: list[str] = []
        self.behave()

    def behave(self) -> None:
        """Do everything right from now on."""
        self.challenge = ""
        self.nonce = ""
        self.published: list[Key] = [KEY]
        self.sign: Callable[[Json], str] = signed(KEY)
        self.claims: Json = {}
        self.description: Json = {}
        self.userinfo: Json | None = None
        self.instead: dict[str, Answer] = {}
        self.silent = False
        self.gone = threading.Event()  # whoever it keeps waiting waits for this

    def begun(self, address: str) -> str:
        """Take note of what a browser was sent with, as the person who logs in; returns its state."""
        query = {name: value for name, [value] in parse_qs(urlsplit(address).query).items()}
        assert query["code_challenge_method"] == "S256"
        self.challenge, self.nonce = query["code_challenge"], query["nonce"]
        return query["state"]

    def answer(self, path: str, authorization: str, form: dict[str, str]) -> Answer:
        """Answer a request."""
        self.asked.append(path)
        if self.silent:
            self.gone.wait()
        if path in self.instead:
            return self.instead[path]
        match path:
            case "/.well-known/openid-configuration":
                return _json(self._description())
            case "/keys":
                return _json(KeySet(self.published).as_dict())
            case "/token":
                return self._token(authorization, form)
            case "/userinfo" if authorization == "Bearer at" and self.userinfo is not None:
                return _json(self.userinfo)
        return 404, b""

    def _description(self) -> Json:
        described = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?kept=1",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            **({} if self.userinfo is None else {"userinfo_endpoint": f"{self.issuer}/userinfo"}),
            **self.description,
        }
        return {name: value for name, value in described.items() if value is not None}

    def _token(self, authorization: str, form: dict[str, str]) -> Answer:
        _, _, login = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if (unquote(login) if authorization else form.get("client_secret")) != self.secret:
            return 401, b'{"error": "invalid_client"}'
        digest = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()
        if form["code"] != "good" or digest.rstrip("=") != self.challenge:
            return 400, b'{"error": "invalid_grant"}'
        self.challenge = ""  # a code is good once
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "brokerflow",
            "sub": "subject",
            "exp": now + 300,
            "iat": now,
            "nonce": self.nonce,
            "email": "ada@example.org",
            "email_verified": True,
            "name": "Ada",
            **self.claims,
        }
        id_token = self.sign({name: value for name, value in claims.items() if value is not None})
        return _json({"id_token": id_token, "access_token": "at", "token_type": "Bearer"})


def signed(key: Key, **header: str) -> Callable[[Json], str]:
    """Sign claims with a key, under its own name or another."""
    whole = {"alg": "RS256", "kid": str(key.kid), **header}
    return lambda claims: jwt.encode(whole, claims, key, algorithms=[whole["alg"]])


def _json(value: object) -> Answer:
    return 200, json.dumps(value).encode()


@contextmanager
def misbehaving(secret: str) -> Iterator[Rogue]:
    """Serve one on loopback."""
    rogue = Rogue(secret)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer({name: value for name, [value] in parse_qs(body).items()})

        def _answer(self, form: dict[str, str]) -> None:
            status, body = rogue.answer(self.path, self.headers.get("Authorization", ""), form)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    rogue.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield rogue
    finally:
        rogue.gone.set()
        server.shutdown()
        server.server_close()
        thread.join()
