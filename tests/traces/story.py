"""A day of use with every log at its loudest, and what nobody may find of it afterwards."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg

from app import sealing
from app.apiauth import passwords
from app.binaries import find_binaries
from app.embedded import Addresses, locate
from app.shared import tokens
from tests.api.conftest import Caller, Json, bearer, created, found_organization, log_in, make_broker, register
from tests.api.steps import (
    CONTACT,
    SigningService,
    accept,
    append,
    invite,
    issue,
    open_dispute,
    read_contact,
    refer,
    resolve,
)
from tests.oidc.rogue import misbehaving

COMMAND = [sys.executable, "-c", "from app.cli import main; main()"]
CANARY = "canary-Passw0rd-{}"
LOUD = ("log_statement = 'all'", "log_min_duration_statement = 0", "log_error_verbosity = verbose")
SCOPES = ["agreements:read", "secrets:read"]


SERVED = passwords.COST  # what a service of its own takes; tests in this process may run with less


class Way(NamedTuple):
    """A statement that lets somebody in for some bytes; `others` makes its arguments of them."""

    statement: str
    key: bytes
    others: Callable[[bytes], Sequence[object]] = lambda key: (key,)
    actor: bytes | None = None

    def admits(self, connection: psycopg.Connection[tuple[object, ...]], key: bytes) -> bool:
        """Say whether these bytes open it; nothing comes of that."""
        try:
            with connection.transaction(force_rollback=True):
                if self.actor is not None:
                    connection.execute("select apiauth.enter_session(%s)", [self.actor])
                row = connection.execute(self.statement.encode(), self.others(key)).fetchone()
                return row != (False,)
        except psycopg.errors.InvalidAuthorizationSpecification:
            return False
        except psycopg.errors.InsufficientPrivilege:
            return True  # he is in, and may do less than he asked for


class Service:
    """A process that serves, and what it wrote."""

    def __init__(self, stack: ExitStack, log: Path, **settings: str) -> None:
        self.log = log
        variables = {name: value for name, value in os.environ.items() if not name.startswith("BROKERFLOW_")}
        variables |= {f"BROKERFLOW_{name.upper()}": value for name, value in settings.items()}
        process = stack.enter_context(
            subprocess.Popen(
                [*COMMAND, "serve", "--port", "0"],
                env=variables | {"BROKERFLOW_LOG_LEVEL": "debug"},
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(log.open("w")),
                text=True,
            )
        )
        stack.callback(process.terminate)
        assert process.stdout is not None
        self.url = process.stdout.readline().split()[-1]
        self.client = stack.enter_context(httpx.Client(base_url=self.url, timeout=30))


class Story:
    """The people of one story, what they would not want to be found, and the ways in that it would open."""

    def __init__(self, stack: ExitStack, home: Path) -> None:
        self.home = home
        self.secrets: dict[str, bytes] = {}
        self.ways: dict[str, Way] = {}
        self.kept = b""  # in Redis
        self._seen: set[bytes] = set()
        self._stack = stack
        self.provider = stack.enter_context(misbehaving("a provider's secret"))
        self.service = self.serve(
            "service.log",
            oidc_issuer=self.provider.issuer,
            oidc_client_id="brokerflow",
            oidc_client_secret=self.provider.secret,
        )
        for setting in LOUD:
            self.ask(f"alter system set {setting}")
        self.ask("select pg_reload_conf()")
        self._before = str(self.ask("select pg_walfile_name(pg_switch_wal())"))

    def serve(self, log: str, **settings: str) -> Service:
        """Start a service, with the secrets of the home folder."""
        return Service(self._stack, self.home.with_name(log), home=str(self.home), **settings)

    @property
    def database(self) -> Addresses:
        """Where its PostgreSQL answers."""
        addresses = locate(self.home)
        assert addresses is not None
        return addresses

    @property
    def master_key(self) -> bytes:
        """The key that is in no database."""
        return base64.b64decode((self.home / "master.key").read_text())

    @property
    def half(self) -> bytes:
        """The service's half of the keys of which the database has the other."""
        return sealing.half_of(self.master_key)

    def under_root_key(self, purpose: str) -> Callable[[bytes, str], bytes]:
        """Return what authenticates a message as who has a dump would: it takes a guess at the service's half."""
        root = self.ask("select key from apiauth.root_keys")
        assert isinstance(root, bytes)
        own = hashlib.sha256(root + hashlib.sha256(purpose.encode()).digest()).digest()
        return lambda half, message: hmac.digest(hashlib.sha256(own + half).digest(), message.encode(), hashlib.sha256)

    def ask(self, statement: str, *arguments: object) -> object:
        """Ask for one value as the superuser, in the service's database."""
        with psycopg.connect(self.database.superuser_url, dbname="brokerflow", autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), arguments)
            return (cursor.fetchone() or (None,))[0] if cursor.description else None

    @property
    def server_log(self) -> bytes:
        """What PostgreSQL wrote so far."""
        return (self.home / "server.log").read_bytes()

    @property
    def write_ahead_log(self) -> bytes:
        """What PostgreSQL wrote ahead since the story began."""
        self.ask("checkpoint")
        segments = sorted((self.home / "data" / "pg_wal").glob("[0-9A-F]" * 24))
        return b"".join(path.read_bytes().rstrip(b"\0") for path in segments if path.name > self._before)

    @property
    def activity(self) -> bytes:
        """What pg_stat_activity showed while it was watched."""
        return b"\n".join(self._seen)

    def dump(self) -> bytes:
        """Dump the whole database."""
        url = self.database.superuser_url.replace("/postgres?", "/brokerflow?")
        return subprocess.run([find_binaries() / "pg_dump", "--dbname", url], capture_output=True, check=True).stdout

    def remember(self, name: str, secret: bytes) -> None:
        """Keep something that nobody may find."""
        self.secrets[name] = secret

    def remember_token(self, name: str, token: str) -> bytes:
        """Keep a token, and what an entrance takes for it, which is returned."""
        self.remember(name, token.encode())
        self.remember(f"digest of the {name}", tokens.digest(token))
        return tokens.digest(token)

    def enrol(self, name: str, *, broker: str | None = None, service: Service | None = None) -> Caller:
        """Make a person, remember everything that would let somebody else in as him."""
        service = service or self.service
        email, password = f"{name}@{broker or 'nowhere'}.example", CANARY.format(name)
        user = register(service.client, email, password)
        token = log_in(service.client, email, password)
        organization = found_organization(service.client, token, broker) if broker else None
        if organization:
            make_broker(service.client, token, organization)
        self.remember(f"password of {name}", password.encode())
        self.remember_token(f"session of {name}", token)
        self.remember(f"stretched password of {name}", self._stretched(user, password))
        caller = Caller(service.url, email=email, token=token, user=user, organization=organization)
        return self._stack.enter_context(caller)

    def _stretched(self, user: Json, password: str) -> bytes:
        salt = self.ask("select salt from apiauth.passwords where user_id = %s", user["id"])
        assert isinstance(salt, bytes)
        return passwords._stretched(password.encode(), salt, SERVED)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Collect what pg_stat_activity shows of everybody's statements."""
        over = threading.Event()

        def watch() -> None:
            with psycopg.connect(self.database.superuser_url, autocommit=True) as connection:
                while not over.wait(0.002):
                    rows = connection.execute("select query from pg_stat_activity where usename ~ '^brokerflow'")
                    self._seen.update(query.encode() for (query,) in rows)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def play(story: Story) -> None:
    """Play the whole story once, refusals included."""
    referrer, referee = story.enrol("rita", broker="north"), story.enrol("seth", broker="south")
    judge = story.enrol("judith")
    assert story.ask("select shared.grant_platform_admin(%s)", judge.email)
    agreement = _agree(story, referrer, referee)
    assert resolve(judge, open_dispute(referrer, agreement), "upheld").status_code == 200
    _mint(story, referrer)
    _build(story, referrer)
    _log_machines_in(story, referrer)
    _log_in_at_the_provider(story)
    _keep_a_secret(story, referrer)
    _join(story, referrer, judge)
    impersonate(story, judge, referee)
    _exchange(story, judge)
    _be_refused(story, referrer, agreement)
    _guard_the_master_key(story)
    _log_in(story, referrer)


def _log_in(story: Story, caller: Caller) -> None:
    email, stretched = caller.email, story.secrets["stretched password of rita"]
    opening = "select true from apiauth.open_session(%s, %s, %s, '1 hour', '1 day')"
    story.ways["open_session"] = Way(opening, stretched, lambda key: (email, key, os.urandom(32)))
    anew = "select apiauth.restretch_password(%s, %s, %s, 'x', %s)"
    story.ways["restretch_password"] = Way(anew, stretched, lambda key: (email, key, bytes(16), SERVED.method))
    story.ways["enter_session"] = Way("select apiauth.enter_session(%s)", tokens.digest(caller.token))


def _guard_the_master_key(story: Story) -> None:
    key_id, proof = sealing.key_id(story.master_key), sealing.proof(story.master_key)
    story.remember("master key", story.master_key)
    story.remember("proof of the master key", proof)
    admitting = "select secretstore.admit_master_keys(array[%s], array[%s::bytea]) = '{}'"
    story.ways["admit_master_keys"] = Way(admitting, proof, lambda key: (key_id, key))


def _agree(story: Story, referrer: Caller, referee: Caller) -> Json:
    agreement = accept(referee, invite(referrer, refer(referrer, client=CONTACT), referee))
    secret = (story.home / "esign.secret").read_text()
    assert SigningService(story.service.client, secret).report(agreement).status_code == 200
    assert read_contact(referee, agreement).status_code == 201
    assert append(referee, agreement, "PROPERTY_SHOWN").status_code == 201
    assert issue(referrer, agreement).status_code == 201
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hashlib.sha256(key).digest()
    story.remember("webhook secret", key)
    story.remember("digest of the webhook secret", digest)
    story.ways["enter_esign"] = Way("select apiauth.enter_esign(%s)", digest)
    story.ways["trust_esign_keys"] = Way("select apiauth.trust_esign_keys(array[%s::bytea])", digest)
    story.ways["trust_key_halves"] = Way("select apiauth.trust_key_halves(array[%s::bytea])", story.half)
    for field, value in CONTACT.items():
        story.remember(f"the client's {field}", value.encode())
    return agreement


def _made(caller: httpx.Client, path: str, body: Json, **headers: str) -> Json:
    """Make something twice under one Idempotency-Key, so that the answer with what is shown once is stored."""
    headers |= {"Idempotency-Key": f"once-{path}-{body.get('slug', '')}-{body.get('one_time', '')}"}
    first, second = (caller.post(path, json=body, headers=headers) for _ in range(2))
    assert created(first) == created(second)
    answer: Json = first.json()
    return answer


def _use(story: Story, token: str, **headers: str) -> None:
    assert story.service.client.get("/api/whoami", headers=bearer(token) | headers).status_code == 200


def _mint(story: Story, caller: Caller) -> None:
    """Make tokens of a person and of an organization, and use them."""
    body = {"name": "ci", "expires_in_days": 30, "scopes": SCOPES}
    for name, path in (("token", "/api/tokens"), ("organization_token", _path(caller, "tokens"))):
        token = _made(caller, path, body)["token"]
        _use(story, token)
        digest = story.remember_token(name, token)
        story.ways[f"enter_{name}"] = Way(f"select apiauth.enter_{name}(%s)", digest)


def _path(caller: Caller, *rest: str) -> str:
    return "/".join(["/api/organizations", str(caller.organization["id"]), *rest])


def _build(story: Story, caller: Caller) -> None:
    """Make environments with keys, rotated and in a preview too, and let their secret keys mint JWTs."""
    project = created(caller.post(_path(caller, "projects"), json={"name": "Web", "slug": "web"}))
    for slug, branch in (("staging", {}), ("preview", {"X-Branch": "main"})):
        path = f"/api/projects/{project['id']}/environments"
        environment = _made(caller, path, {"slug": slug, "type": slug.upper()})
        if branch:
            created(caller.post(f"/api/environments/{environment['id']}/branches", json={"name": "main"}))
        path = f"/api/environments/{environment['id']}/keys/rotate"
        rotated = caller.post(path, json={"grace_hours": 1}).json()
        for kind in ("secret_key", "public_key"):
            for age, key in (("first", environment[kind]), ("second", rotated[kind])):
                _use(story, key, **branch)
                digest = story.remember_token(f"{age} {kind} of {slug}", key)
                story.ways[f"enter_{kind}"] = Way(f"select apiauth.enter_{kind}(%s, null, '{{}}', 'main')", digest)
        _mint_jwts(story, environment, rotated["secret_key"], branch)


def _mint_jwts(story: Story, environment: Json, key: str, branch: dict[str, str]) -> None:
    """Mint a JWT that is good once, and one that may be tried again."""
    _mint_jwt(story, environment, key, branch, once=True)
    signed, digest = _mint_jwt(story, environment, key, branch, once=False)
    half = story.half
    story.remember("service's half of the key of JWTs", half)
    forge = story.under_root_key(f"jwt {_header(signed)['kid']}")
    entering = "select apiauth.enter_jwt(%s, null, '{}', 'main', %s, %s, %s)"
    story.ways["enter_jwt"] = Way(entering, digest, lambda key: (key, signed, half, bytes(16)))
    story.ways["enter_jwt, forged"] = Way(
        entering, half, lambda key: (hashlib.sha256(forge(key, signed)).digest(), signed, half, bytes(16))
    )


def _mint_jwt(story: Story, environment: Json, key: str, branch: dict[str, str], *, once: bool) -> tuple[str, bytes]:
    """Mint and use a JWT; returns what is signed, and the digest of the signature."""
    body, path = {"scopes": SCOPES, "one_time": once}, f"/api/environments/{environment['id']}/jwt"
    token = _made(story.service.client, path, body, **bearer(key), **branch)["token"]
    _use(story, token, **branch)
    signed, _, encoded = token.rpartition(".")
    signature = base64.urlsafe_b64decode(f"{encoded}=")
    digest = hashlib.sha256(signature).digest()
    name = f"JWT of {environment['slug']}, {once=}"
    story.remember(name, token.encode())
    story.remember(f"signature of the {name}", signature)
    story.remember(f"digest of the signature of the {name}", digest)
    return signed, digest


def _header(jwt: str) -> Json:
    header: Json = json.loads(base64.urlsafe_b64decode(jwt.partition(".")[0]))
    return header


def _log_machines_in(story: Story, caller: Caller) -> None:
    """Log one machine in to the end; approve another, and leave a third waiting."""
    asked = {name: caller.post("/auth/device", json={"name": name}).json() for name in ("one", "two", "three")}
    stamp = sealing.Stamp(story.master_key, "user codes")
    for name, told in asked.items():
        code = told["user_code"]
        story.remember_token(f"device code {name}", told["device_code"])
        story.remember(f"user code {name}", code.encode())
        story.remember(f"user code {name} without its hyphen", code.replace("-", "").encode())
        story.remember(f"stamp of the user code {name}", stamp.whole(code.replace("-", "").encode()))
        assert caller.get("/auth/device", params={"user_code": code}).status_code == 200
        if name != "three":
            decision = {"user_code": code, "decision": "approve"}
            assert caller.post("/auth/device/decision", json=decision).status_code == 204
    taken = caller.post("/auth/device/token", json={"device_code": asked["one"]["device_code"]}).json()
    story.remember_token("token of a machine", taken["access_token"])
    _use(story, taken["access_token"])
    waiting, actor = story.secrets["stamp of the user code three"], tokens.digest(caller.token)
    story.ways["redeem_device"] = Way(
        "select (apiauth.redeem_device(%s, %s, 'abcd')).outcome = 'issued'",
        story.secrets["digest of the device code two"],
        lambda key: (key, os.urandom(32)),
    )
    story.ways["find_device"] = Way("select exists (select from apiauth.find_device(%s))", waiting, actor=actor)
    story.ways["decide_device"] = Way("select apiauth.decide_device(%s, true)", waiting, actor=actor)


def _log_in_at_the_provider(story: Story) -> None:
    story.remember("secret of the provider's client", story.provider.secret.encode())
    with httpx.Client(base_url=story.service.url, timeout=30) as browser:
        begun = browser.get("/auth/oidc/login")
        for name in ("state", "nonce"):
            story.remember(f"{name} of the login at the provider", _sent(begun, name).encode())
        kept = browser.cookies["brokerflow_login"]
        story.remember("login under way at the provider", kept.encode())
        back = browser.get(
            "/auth/oidc/callback", params={"state": story.provider.begun(begun.headers["location"]), "code": "good"}
        )
        assert back.status_code == 303, back.text
        story.remember_token("session of the provider's", browser.cookies["brokerflow_session"])
        assert browser.get("/api/me").json()["email"] == "ada@example.org"


def _sent(begun: httpx.Response, name: str) -> str:
    [value] = parse_qs(urlsplit(begun.headers["location"]).query)[name]
    return value


def _keep_a_secret(story: Story, caller: Caller) -> None:
    """Put a secret in every way, read it alone and in a batch, be refused with it, and roll it back."""
    secret = "canary-secret-zaunkönig-4711"
    body = {"value": {"password": secret}}
    for headers in ({}, {"Idempotency-Key": "secret-1"}):
        assert caller.put("/api/secrets/db/main", json=body, headers=headers).status_code == 200
    assert caller.put("/api/secrets/db/main", json={**body, "expected_version": 7}).status_code == 412
    assert caller.put("/api/secrets/a b", json=body).status_code == 422
    assert secret in caller.get("/api/secrets/db/main").text
    assert secret in caller.post("/api/secrets/batch", json={"keys": ["db/main"]}).text
    assert caller.post("/api/secrets/db/main/rollback", json={"version": 1}).status_code == 200
    story.remember("a secret", secret.encode())
    story.remember("a secret in ASCII", json.dumps(secret)[1:-1].encode())


def _join(story: Story, caller: Caller, invited: Caller) -> None:
    body = {"email": invited.email, "role": "agent"}
    invitation = created(caller.post(_path(caller, "invitations"), json=body))
    assert invited.patch(f"/api/invitations/{invitation['id']}", json={"state": "accepted"}).status_code == 200


def _exchange(story: Story, caller: Caller) -> None:
    """Take a session out of its table, as a service does that keeps it in Redis."""
    digest, half = tokens.digest(log_in(caller, caller.email, CANARY.format("judith"))), story.half
    story.remember("service's half of the key of tickets", half)
    exchanging = "select apiauth.exchange_session(%s, %s)"
    with psycopg.connect(story.database.app_url, autocommit=True) as connection:
        [ticket] = connection.execute(exchanging, [digest, half]).fetchone() or ("",)
    story.remember("ticket of judith", ticket.encode())
    story.remember("seal of judith's ticket", bytes.fromhex(ticket[:64]))
    said, forge = ticket[64:], story.under_root_key("ticket")
    entering = "select apiauth.enter_ticket(%s, null, '{}', %s, %s)"
    story.ways["enter_ticket"] = Way(entering, digest, lambda key: (key, ticket, half))
    story.ways["enter_ticket, forged"] = Way(entering, half, lambda key: (digest, forge(key, said).hex() + said, half))
    story.ways["exchange_session"] = Way(exchanging, tokens.digest(caller.token), lambda key: (key, half))


def impersonate(story: Story, admin: Caller, user: Caller) -> None:
    """Act as a user and stop it; each comes with a session token of its own."""
    name = admin.email.partition("@")[0]
    again = log_in(admin, admin.email, CANARY.format(name))
    story.remember_token(f"second session of {name}", again)
    started = created(
        admin.post("/api/impersonations", json={"user_id": user.user_id, "reason": "a call"}, headers=bearer(again))
    )
    story.remember_token(f"session in which {name} is another", started["token"])
    assert admin.get("/api/me", headers=bearer(started["token"])).json()["id"] == user.user_id
    stopped = admin.delete("/api/impersonations/current", headers=bearer(started["token"]))
    story.remember_token(f"session in which {name} is himself again", stopped.json()["token"])


def _be_refused(story: Story, caller: Caller, agreement: Json) -> None:
    """Fail in ways whose errors PostgreSQL logs with values: unique, check, row security, a wrong password."""
    client = story.service.client
    assert client.post("/auth/login", json={"email": caller.email, "password": CANARY}).status_code == 401
    body = {"email": caller.email, "password": CANARY.format("twin"), "full_name": "Twin"}
    assert client.post("/auth/register", json=body).status_code == 409
    assert caller.post("/api/tokens", json={"name": " ", "expires_in_days": 1}).status_code == 422
    assert _refer_badly(caller).status_code == 422
    assert read_contact(caller, agreement).status_code == 409
    story.remember("a wrong password", CANARY.encode())
    story.remember("password of a twin", CANARY.format("twin").encode())


def _refer_badly(caller: Caller) -> httpx.Response:
    """Send a contact along with a referral that the database refuses."""
    body = {"region": ["x"], "price_min": "2", "price_max": "1", "property_type": "flat", "deal_type": "sale"}
    return caller.post("/api/referrals", json={**body, "sla_hours": 1, "client": CONTACT})


def play_in_redis(story: Story, url: str) -> Service:
    """Have people log in at another service on the same database, whose sessions live in Redis."""
    service = story.serve("redis.log", app_url=story.database.app_url, session_url=url)
    admin, user = story.enrol("justin", service=service), story.enrol("nora", service=service)
    assert story.ask("select shared.grant_platform_admin(%s)", admin.email)
    impersonate(story, admin, user)
    assert user.post("/auth/logout").status_code == 204
    return service
