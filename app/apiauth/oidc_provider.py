"""The OpenID provider: what it says of itself, its keys, and whom its ID tokens name."""

import asyncio
import hmac
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import httpx
import msgspec
import structlog
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from app.apiauth.oidc_flows import Flow
from app.errors import PROVIDER_UNAVAILABLE, UNAUTHENTICATED, Refusal
from app.settings import OidcSettings

T = TypeVar("T")

logger = structlog.get_logger(__name__)

PATIENCE = 5.0  # seconds for one answer of the provider, from the connection to the last byte
KEPT = 3600.0  # seconds that its description and its keys are believed
REFETCH_PAUSE = 60.0  # seconds between two looks for a key that is not among those we have
LARGEST = 1024 * 1024
LEEWAY = 60  # seconds that its clock may differ from ours
# Signatures of a key pair, and nothing that a secret or no key at all could make.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")

_SUBJECT = re.compile(r"[\x20-\x7e]{1,255}")
_CODE_OF_ERROR = re.compile(r"[a-z_]{1,60}")


class Identity(NamedTuple):
    """Whom the provider names; the address only where it says that it has verified it."""

    issuer: str
    subject: str
    verified_email: str | None
    full_name: str


class Callback(NamedTuple):
    """What the browser brings back."""

    state: str | None
    code: str | None
    error: str | None
    issuer: str | None


class Description(msgspec.Struct, frozen=True):
    """OpenID Connect Discovery 1.0: what the provider says of itself, as far as we use it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    code_challenge_methods_supported: list[str] | None = None
    token_endpoint_auth_methods_supported: list[str] = msgspec.field(default_factory=lambda: ["client_secret_basic"])
    authorization_response_iss_parameter_supported: bool = False


class Tokens(msgspec.Struct, frozen=True):
    """What the provider gives for a code."""

    id_token: str
    access_token: str


class TokenError(msgspec.Struct, frozen=True):
    """Why it gives nothing."""

    error: str


class Provider:
    """One provider, and this service as its client."""

    def __init__(self, settings: OidcSettings) -> None:
        self._issuer = settings.issuer
        self._client_id = settings.client_id
        self._client_secret = settings.client_secret
        self._scopes = settings.scopes
        self._http = httpx.AsyncClient(timeout=PATIENCE, headers={"Accept": "application/json"})
        self._turn = asyncio.Lock()  # so that many who need the same answer ask for it once
        self._description: tuple[Description, float] | None = None
        self._keys: tuple[KeySet, float] | None = None
        self._looked_at = -REFETCH_PAUSE

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def authorization_url(self, flow: Flow, redirect_uri: str) -> str:
        """Return where to send the browser. Raises Refusal (503) when the provider does not answer."""
        described = await self._described()
        parameters = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scopes,
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": flow.challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(described.authorization_endpoint).query else "?"
        return f"{described.authorization_endpoint}{joint}{urlencode(parameters)}"

    async def identify(self, callback: Callback, flow: Flow, redirect_uri: str) -> Identity:
        """Turn what the browser brought into whom the provider names.

        Raises Refusal: 401 for whatever does not prove it, 503 when the provider does not answer as one.
        """
        described = await self._described()
        code = self._code(callback, described)
        tokens = await self._exchange(described, code, flow, redirect_uri)
        claims = await self._proved(described, tokens.id_token, flow)
        if "email_verified" not in claims and described.userinfo_endpoint:
            claims |= await self._userinfo(described.userinfo_endpoint, tokens.access_token, claims["sub"])
        return Identity(self._issuer, claims["sub"], _verified_email(claims), _full_name(claims))

    def _code(self, callback: Callback, described: Description) -> str:
        """Return the code that the provider gave; its name tells that no other one did (RFC 9207)."""
        is_named = callback.issuer is not None or described.authorization_response_iss_parameter_supported
        if is_named and callback.issuer != self._issuer:
            raise refused("the answer is another provider's")
        match callback.error:
            case None if callback.code:
                return callback.code
            case "access_denied":
                raise Refusal(UNAUTHENTICATED, "The login was cancelled at the provider.")
            case "server_error" | "temporarily_unavailable":
                raise Refusal(PROVIDER_UNAVAILABLE)
            case str(error) if _CODE_OF_ERROR.fullmatch(error):
                raise Refusal(UNAUTHENTICATED, f"The provider refused the login: {error}.")
        raise refused("the answer holds no code")

    async def _exchange(self, described: Description, code: str, flow: Flow, redirect_uri: str) -> Tokens:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": flow.verifier,
        }
        auth = None
        if "client_secret_basic" in described.token_endpoint_auth_methods_supported:
            auth = httpx.BasicAuth(quote(self._client_id, safe=""), quote(self._client_secret, safe=""))
        else:
            form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        status, body = await self._ask("POST", described.token_endpoint, data=form, auth=auth)
        if status == httpx.codes.OK:
            return _read(body, Tokens)
        if 400 <= status < 500 and _read(body, TokenError).error == "invalid_grant":
            raise refused("the code was used before, has expired, or is another login's")
        raise unavailable(f"it answers a code with {status}: {body[:200]!r}")

    async def _proved(self, described: Description, id_token: str, flow: Flow) -> dict[str, Any]:
        """Return the claims of an ID token that is signed by the provider, for us, now, and for this login."""
        claims = (await self._opened(described, id_token)).claims
        expected = JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            expected.validate(claims)
        except JoseError as error:
            raise refused(f"the ID token does not hold: {error.description or error.error}".rstrip(".")) from error
        if claims.get("azp", self._client_id) != self._client_id or (_is_for_several(claims) and "azp" not in claims):
            raise refused("the ID token is for another client")
        if not hmac.compare_digest(str(claims.get("nonce")).encode(errors="replace"), flow.nonce.encode()):
            raise refused("the ID token is another login's: its nonce differs")
        if not _SUBJECT.fullmatch(str(claims.get("sub", ""))):
            raise refused("the ID token names nobody")
        return {**claims, "sub": str(claims["sub"])}

    async def _opened(self, described: Description, id_token: str) -> jwt.Token:
        registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        try:
            try:
                return jwt.decode(id_token, await self._known_keys(described), registry=registry)
            except InvalidKeyIdError:
                return jwt.decode(id_token, await self._newer_keys(described), registry=registry)
        except (JoseError, ValueError) as error:
            logger.warning("ID token refused", reason=repr(error))
            raise refused("the ID token is not signed by the provider") from error

    async def _userinfo(self, endpoint: str, access_token: str, subject: str) -> dict[str, Any]:
        """Ask for claims that are not in the ID token: most providers keep the address here."""
        status, body = await self._ask("GET", endpoint, headers={"Authorization": f"Bearer {access_token}"})
        if status != httpx.codes.OK:
            raise unavailable(f"it answers userinfo with {status}")
        claims = _read(body, dict[str, Any])
        if claims.get("sub") != subject:
            raise refused("the provider answered with another person's claims")
        return claims

    async def _described(self) -> Description:
        async with self._turn:
            if self._description is None or _is_past(self._description[1]):
                described = await self._fetched(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                self._description = self._believed(_read(described, Description)), time.monotonic() + KEPT
            return self._description[0]

    def _believed(self, described: Description) -> Description:
        if described.issuer != self._issuer:
            raise unavailable(f"it calls itself {described.issuer}")
        if "S256" not in (described.code_challenge_methods_supported or ["S256"]):
            raise unavailable("it does not support PKCE with S256")
        endpoints = (described.authorization_endpoint, described.token_endpoint, described.jwks_uri)
        for endpoint in (*endpoints, described.userinfo_endpoint or self._issuer):
            if urlsplit(endpoint).scheme not in {"https", urlsplit(self._issuer).scheme}:
                raise unavailable(f"its endpoint {endpoint} is not https")
        return described

    async def _known_keys(self, described: Description) -> KeySet:
        async with self._turn:
            if self._keys is None or _is_past(self._keys[1]):
                await self._fetch_keys(described)
            assert self._keys is not None  # noqa: S101 - it was just fetched
            return self._keys[0]

    async def _newer_keys(self, described: Description) -> KeySet:
        """Look for keys that the provider began to use since we looked, but not all the time."""
        async with self._turn:
            if self._keys is None or _is_past(self._looked_at + REFETCH_PAUSE):
                self._looked_at = time.monotonic()
                await self._fetch_keys(described)
            assert self._keys is not None  # noqa: S101 - it was just fetched
            return self._keys[0]

    async def _fetch_keys(self, described: Description) -> None:
        body = await self._fetched(described.jwks_uri)
        try:
            keys = KeySet.import_key_set(_read(body, dict[str, Any]))  # type: ignore[arg-type]  # as it may be
        except (JoseError, ValueError, LookupError, TypeError) as error:
            raise unavailable(f"its keys cannot be read: {error!r}") from error
        self._keys = keys, time.monotonic() + KEPT

    async def _fetched(self, url: str) -> bytes:
        status, body = await self._ask("GET", url)
        if status != httpx.codes.OK:
            raise unavailable(f"{url} answers {status}")
        return body

    async def _ask(self, method: str, url: str, **options: Any) -> tuple[int, bytes]:
        """Return status and body of an answer that comes whole in time. Redirects are not followed."""
        body = bytearray()
        try:
            async with asyncio.timeout(PATIENCE), self._http.stream(method, url, **options) as response:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > LARGEST:
                        raise unavailable(f"{url} answers with more than {LARGEST} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise unavailable(f"{url} does not answer: {error!r}") from error
        return response.status_code, bytes(body)


def refused(reason: str) -> Refusal:
    """Refuse a login that is not proved: 401, with the reason."""
    return Refusal(UNAUTHENTICATED, f"The login was refused: {reason}. Begin it again.")


def unavailable(reason: str) -> Refusal:
    """Give a login up that the provider does not make possible: 503; the reason is the operator's to read."""
    logger.error("provider unavailable", reason=reason)
    return Refusal(PROVIDER_UNAVAILABLE)


def _read(body: bytes, kind: Callable[..., T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)  # type: ignore[no-any-return]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unavailable(f"its answer cannot be read: {error}") from error


def _is_past(moment: float) -> bool:
    return time.monotonic() >= moment


def _is_for_several(claims: Mapping[str, Any]) -> bool:
    return isinstance(claims["aud"], list) and len(claims["aud"]) > 1


def _verified_email(claims: Mapping[str, Any]) -> str | None:
    """Return the address only where the provider says, with a true boolean, that it has verified it."""
    match claims:
        case {"email": str(email), "email_verified": True} if email.isprintable():
            return email
        case _:
            return None


def _full_name(claims: Mapping[str, Any]) -> str:
    """Return a name to begin with: the person's, else what stands before the @ of the address."""
    given = [claims.get("name"), claims.get("preferred_username"), str(claims.get("email", "")).partition("@")[0]]
    names = ("".join(letter for letter in name if letter.isprintable()) for name in given if isinstance(name, str))
    return next((name.strip()[:200] for name in names if name.strip()), "Unnamed")
