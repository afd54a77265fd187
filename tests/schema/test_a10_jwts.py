"""A10: JWTs are verified by the database itself, whose half of the key is not enough; one may be used once."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import HALF, Actor, Given, Party, Stage, jwt, keeps

Outside = Callable[..., AbstractAsyncContextManager[Stage]]
Superuser = psycopg.Connection[tuple[object, ...]]

UNKNOWN = ("credential_authenticates", "28000")
MINT = "select token from apiauth.mint_jwt(%s, %s, '1 hour'::interval, false, %s)"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Mint:
    """What only the guard could do: make JWTs of any claims for a live secret key."""

    def __init__(self, stage: Stage, kid: UUID, environment: UUID) -> None:
        self.stage = stage
        self.kid = kid
        now = int(time.time())
        self.claims: dict[str, Any] = {
            "iss": "brokerflow", "aud": "brokerflow", "sub": str(environment), "jti": str(uuid4()), "iat": now - 5,
            "exp": now + 60, "scopes": ["agreements:read"], "one_time": False,
        }  # fmt: skip

    async def __call__(self, head: str | None = None, **claims: object) -> Actor:
        head = head or f'{{"alg":"HS256","kid":"{self.kid}","typ":"JWT"}}'
        kept = {name: value for name, value in {**self.claims, **claims}.items() if value is not ...}
        signed = f"{encoded(head.encode())}.{encoded(json.dumps(kept).encode())}"
        mac = await self.stage.as_guard.value(
            "select apiauth.hmac(apiauth.jwt_key(%s, %s), %s)", self.kid, HALF, signed.encode()
        )
        return jwt(self.stage, f"{signed}.{encoded(mac)}")


@pytest.fixture
async def mint(given: Given, stage: Stage) -> Mint:
    environment = await given.environment()
    await given.keys(environment)
    [[kid]] = await stage.as_guard(
        "select id from apiauth.environment_keys where environment_id = %s and kind = 'secret_key'", environment
    )
    return Mint(stage, kid, environment)


async def test_a_minted_jwt_is_its_environment_for_less(given: Given, as_referrer: Party) -> None:
    environment = await given.environment()
    secret, _ = await given.keys(environment)
    token = await given.jwt(secret, "agreements:read")
    who = "select kind::text, user_id, organization_id, environment_id, role::text, scopes from shared.current_actor()"
    assert await token(who) == [
        ("jwt", None, as_referrer.organization_id, environment, None, ["agreements:read"]),
    ]


async def test_true_claims_under_the_right_key_enter(mint: Mint) -> None:
    await (await mint()).enter()


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "another"}, {"iss": ...}, {"aud": "another"}, {"aud": ["brokerflow"]}, {"aud": ...},
        {"sub": "019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23"}, {"sub": ...}, {"exp": 1_700_000_000}, {"exp": ...},
        {"iat": 4_000_000_000}, {"iat": ...}, {"scopes": ["organizations:write"]},
    ],
    ids=str,
)  # fmt: skip
async def test_a_false_claim_does_not_enter_even_under_the_right_key(
    mint: Mint, refused: Refused, claims: dict[str, Any]
) -> None:
    token = await mint(**claims)
    async with refused(*UNKNOWN):
        await token.enter()


@pytest.mark.parametrize(
    "head",
    [
        '{{"alg":"none","kid":"{kid}","typ":"JWT"}}',
        '{{"alg":"RS256","kid":"{kid}","typ":"JWT"}}',
        '{{"alg":"HS256","kid":"{kid}","typ":"jwt"}}',
        '{{"typ":"JWT","kid":"{kid}","alg":"HS256"}}',
        '{{"alg":"HS256","kid":"{KID}","typ":"JWT"}}',
        '{{"alg":"HS256","kid":"{kid}","typ":"JWT","crit":[]}}',
    ],
)
async def test_there_is_one_header(mint: Mint, refused: Refused, head: str) -> None:
    token = await mint(head.format(kid=mint.kid, KID=str(mint.kid).upper()))
    async with refused(*UNKNOWN):
        await token.enter()


async def test_neither_half_of_the_key_is_enough(mint: Mint, refused: Refused, stage: Stage) -> None:
    """What a dump holds, and what the service holds: neither signs."""
    token = await mint()
    assert token.entrance
    signed = str(token.entrance[5])
    [[ours]] = await stage.as_guard("select apiauth.derived('jwt ' || %s)", mint.kid)
    for key in (ours, HALF, hashlib.sha256(ours).digest(), hashlib.sha256(HALF).digest(), HALF + ours):
        forged = f"{signed}.{encoded(hmac.digest(key, signed.encode(), hashlib.sha256))}"
        async with refused(*UNKNOWN):
            await jwt(stage, forged).enter()
    for position, value in ((1, None), (1, b""), (5, None), (5, ""), (6, None), (6, b""), (6, bytes(32))):
        wrong = [*token.entrance]
        wrong[position] = value
        async with refused(*UNKNOWN):
            await Actor(stage, tuple(wrong)).enter()


async def test_the_mac_is_hmac_sha256(as_guard: Actor) -> None:
    for length in (0, 1, 32, 63, 64):
        key, message = bytes(range(length)), b"what was signed"
        assert await as_guard.value("select apiauth.hmac(%s, %s)", key, message) == hmac.digest(
            key, message, hashlib.sha256
        )


async def test_base64url_is_rfc_4648(as_guard: Actor) -> None:
    for length in (0, 1, 2, 3, 57, 58, 200):
        raw = bytes((7 * number + 250) % 256 for number in range(length))
        assert await as_guard.value("select apiauth.to_base64url(%s)", raw) == encoded(raw)
        assert await as_guard.value("select apiauth.from_base64url(%s)", encoded(raw)) == raw


async def test_a_jwt_ends_with_its_key(given: Given, refused: Refused) -> None:
    environment = await given.environment()
    secret, _ = await given.keys(environment)
    token = await given.jwt(secret, "agreements:read")
    await given.keys(environment, grace="1 hour")
    await token.enter()
    await given.keys(environment, grace="0")
    async with refused(*UNKNOWN):
        await token.enter()


async def test_a_jwt_lives_for_thirty_days_at_most(given: Given, refused: Refused) -> None:
    secret, _ = await given.keys()
    await given.jwt(secret, lifetime="30 days")
    for lifetime in ("30 days 1 second", "0", "-1 second"):
        async with refused("jwts_end_within_30_days", "23514"):
            await given.jwt(secret, lifetime=lifetime)


async def test_only_an_environments_own_key_mints_and_no_more_than_it_has(
    given: Given, refused: Refused, as_referrer: Party
) -> None:
    environment = await given.environment()
    secret, public = await given.keys(environment)
    token = await given.jwt(secret, "tokens:write")
    for actor in (public, token, as_referrer, (await given.keys())[0]):
        async with refused("not_found", "P0002"):
            await actor(MINT, environment, ["agreements:read"], HALF)
    for scope in ("organizations:write", "agreements:write", "nothing"):
        async with refused("credential_scope", "42501"):
            await secret(MINT, environment, [scope], HALF)


async def test_what_was_minted_is_audited_without_the_token(given: Given, stage: Stage) -> None:
    environment = await given.environment()
    secret, _ = await given.keys(environment)
    token = await given.jwt(secret, "agreements:read", one_time=True)
    [[subject, detail]] = await stage.as_owner("select subject, detail from shared.audit_log where action = 'jwt.mint'")
    assert subject == f"environment/{environment}"
    jti = await token.value("select credential_id from shared.current_actor()")
    assert detail == {"jti": str(jti), "scopes": ["agreements:read"], "one_time": True}


@keeps("used_jwts_pkey")
async def test_a_one_time_jwt_enters_for_one_request(given: Given, refused: Refused) -> None:
    secret, _ = await given.keys()
    token = await given.jwt(secret, one_time=True)
    assert token.entrance
    await token.enter()
    await token.enter()
    another = Actor(given.stage, (*token.entrance[:-1], b"another request.."[:16]))
    async with refused(*UNKNOWN):
        await another.enter()


async def test_what_is_rolled_back_was_no_use(given: Given, stage: Stage) -> None:
    secret, _ = await given.keys()
    token = await given.jwt(secret, one_time=True)
    assert token.entrance
    async with stage.connection.transaction(force_rollback=True):
        await token.enter()
    await Actor(stage, (*token.entrance[:-1], b"another request.."[:16])).enter()


async def test_of_two_at_once_the_second_waits_and_is_refused(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        secret, _ = await one.given.keys()
        token = await one.given.jwt(secret, one_time=True)
        assert token.entrance
        await one.connection.commit()
        await token.enter()
        await other.run("set local lock_timeout to '50ms'")
        second = Actor(other, (*token.entrance[:-1], b"another request.."[:16]))
        async with other.refused(None, "55P03"):
            await second.enter()
        await one.connection.commit()
        async with other.refused(*UNKNOWN):
            await second.enter()


async def test_what_is_past_its_time_makes_room(given: Given, stage: Stage) -> None:
    secret, _ = await given.keys()
    await (await given.jwt(secret, one_time=True)).enter()
    await stage.as_guard("update apiauth.used_jwts set expires_at = clock_timestamp() - interval '1 second'")
    await (await given.jwt(secret, one_time=True)).enter()
    assert (
        await stage.as_guard.value("select count(*) from apiauth.used_jwts where expires_at < clock_timestamp()") == 0
    )
