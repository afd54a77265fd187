"""The peers: what a user would pick instead, each a service of its own on a database beside BrokerFlow's."""

import base64
import hashlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app import lifeline
from scripts.benchmark import peer_requests
from scripts.benchmark.measuring import Say, Target
from scripts.benchmark.peer_packages import FOLDER, SERVER, Peer, PeersError
from scripts.benchmark.world import World

PATIENCE = 60.0  # seconds until a peer answers


class Volume(NamedTuple):
    """How much a peer's database has: agreements, brokers, and what can be done but once."""

    agreements: int
    organizations: int
    once: int


@contextmanager
def serving(peers: Sequence[Peer], world: World, once: int, pool: int, say: Say) -> Iterator[list[Target]]:
    """Fill a database for each, as BrokerFlow's is filled, and start them, on as many connections each."""
    tokens = {name: secrets.token_urlsafe(32) for name in ("referrer", "referee")}
    password = secrets.token_urlsafe(24)
    with ExitStack() as stack:
        targets = []
        for number, peer in enumerate(peers):
            say(f"filling a database for {peer.name}, and starting it")
            name = f"bench_peer_{number}"
            fill(_database(world, name, password), Volume(world.agreements, world.organizations, once), tokens)
            variables = {
                "BENCH_DATABASE_URL": _address(world, name, peer, password),
                "BENCH_POOL_SIZE": str(pool),
                "NODE_ENV": "production",
            }
            variables |= {"GRAPHILE_ENV": "production", "BENCH_ESIGN_SECRET": _esign_secret(world)}
            address, process = stack.enter_context(_started(peer, variables))
            asked = peer_requests.by_graphql if peer.folder == SERVER else peer_requests.by_rest
            targets.append(Target(peer.name, address, process, asked(world, tokens["referee"])))
        yield targets


def _database(world: World, name: str, password: str) -> str:
    """Make a database of the peer's own on BrokerFlow's server; return its URL for the superuser."""
    with psycopg.connect(world.superuser_url, autocommit=True) as admin:
        make_roles(admin, password)
        database, owner = sql.Identifier(name), sql.Identifier("bench_peer")
        admin.execute(sql.SQL("create database {} owner {} template template0 encoding 'UTF8'").format(database, owner))
    return make_conninfo(world.superuser_url, dbname=name)


def make_roles(admin: psycopg.Connection[Any], password: str) -> None:
    """Make the logins of the peers where they are not: who owns their tables, and whom policies show what is his."""
    for role in ("bench_peer", "bench_visitor"):
        if not admin.execute("select from pg_roles where rolname = %s", [role]).rowcount:
            create = sql.SQL("create role {} login password {}")
            admin.execute(create.format(sql.Identifier(role), sql.Literal(password)))


def fill(url: str, volume: Volume, tokens: Mapping[str, str]) -> None:
    """Fill an empty database of a superuser's URL; `tokens` are those of a referrer and of a referee."""
    digests = {name: hashlib.sha256(token.encode()).hexdigest() for name, token in tokens.items()}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set role bench_peer")
        connection.execute((FOLDER / "schema.sql").read_bytes())
        for name, value in (volume._asdict() | digests).items():
            connection.execute("select set_config(%s, %s, false)", [f"bench.{name}", str(value)])
        connection.execute((FOLDER / "data.sql").read_bytes())
        connection.execute("reset role")
        connection.execute("vacuum (analyze)")


def _address(world: World, name: str, peer: Peer, password: str) -> str:
    parts = conninfo_to_dict(world.database.app_url)
    where = f"host={quote(str(parts['host']), safe='')}&port={parts['port']}"
    return f"{peer.scheme}://{peer.login}:{quote(password)}@/{name}?{where}"


def _esign_secret(world: World) -> str:
    return "whsec_" + base64.b64encode(world.esign_key).decode()


@contextmanager
def _started(peer: Peer, variables: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Start a peer, which ends with this process; yield its address and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    identity = [str(os.getpid()), str(os.geteuid()), str(os.getegid())]
    command = [sys.executable, "-I", "-S", lifeline.__file__, *identity]
    command += [word.format(port=port) for word in peer.command]
    with subprocess.Popen(command, cwd=peer.folder, env={**os.environ, **variables}) as process:
        try:
            _wait(peer, port, process)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()


def _wait(peer: Peer, port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False, timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise PeersError(f"{peer.name} does not start; it says why above.")
