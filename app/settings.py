"""Every environment variable, once: validated together, and never printed when secret."""

import base64
import os
import re
import secrets
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import masterkeys
from app.shared import tokens

PREFIX = "BROKERFLOW_"
ESIGN_PREFIX = "whsec_"
ESIGN_KEY_BYTES = range(24, 65)  # as Standard Webhooks says

_SECRET_PLACE = re.compile(
    r"(?P<provider>postgresql(?!:)|aws-ssm|aws-secrets-manager|vault)(:(?P<path>[A-Za-z0-9._/-]{1,128}))?"
)

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=30 * 24 * 3600)]  # as the database bounds sessions

_VISIBLE = re.compile(r"[\x21-\x7e]+")


class SettingsError(Exception):
    """The configuration cannot be used; `sentences` holds one for each variable at fault."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class SecretPlace(NamedTuple):
    """Which provider keeps secrets for code in the service, and below which path; empty for its usual one."""

    provider: str
    path: str


class OidcSettings(NamedTuple):
    """The OpenID provider, this service as its client, and the login that opens the sessions of its identities."""

    issuer: str
    client_id: str
    client_secret: str
    scopes: str
    login_url: str


class Settings(BaseSettings):
    """The configuration of one process. Fields named `given_…` may be absent; read the property without it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, populate_by_name=True, validate_default=True
    )

    # First, because the rules of others depend on it.
    env: Literal["development", "production"] = "development"
    app_url: SecretStr | None = None
    owner_url: SecretStr | None = None
    home: Path = Path(".brokerflow")
    host: str = "127.0.0.1"
    port: Port = 8000
    given_master_key: SecretStr | None = Field(None, validation_alias=f"{PREFIX}MASTER_KEY")
    given_esign_secret: Annotated[SecretStr | None, NoDecode] = Field(None, validation_alias=f"{PREFIX}ESIGN_SECRET")
    secret_provider: str = "postgresql"  # noqa: S105 - a name
    secret_token: SecretStr | None = None
    secret_cache_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    session_url: SecretStr | None = None
    session_idle: Seconds = 7 * 24 * 3600
    session_absolute: Seconds = 30 * 24 * 3600
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    pool_size: Annotated[int, Field(ge=3, le=200)] = 10
    queue_length: Annotated[int, Field(ge=1, le=100_000)] = 512
    login_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 120
    rate_limit: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    proxies: str = ""
    oidc_issuer: str | None = None
    public_url: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_scopes: str = "openid email profile"
    login_url: SecretStr | None = None
    worker_url: SecretStr | None = None
    body_limit: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 2 * 1024 * 1024

    @property
    def is_embedded(self) -> bool:
        """Whether BrokerFlow runs its own PostgreSQL: neither URL is set."""
        return self.app_url is None and self.owner_url is None

    @property
    def is_production(self) -> bool:
        """Whether generated secrets and the embedded server are refused."""
        return self.env == "production"

    @cached_property
    def master_keys(self) -> tuple[bytes, ...]:
        """The keys of 32 bytes: the first seals, each opens what it sealed. One is made in the home folder if need be.

        The file there may list several as well, and either may name keys that AWS KMS decrypts, now.
        """
        given, file = self.given_master_key, self.home / "master.key"
        listed = given.get_secret_value() if given else _generated(file, masterkeys.KEY_BYTES)
        where = f"{PREFIX}MASTER_KEY" if given else str(file)
        try:
            return masterkeys.opened(masterkeys.parse(listed))
        except (ValueError, masterkeys.MasterKeyUnavailable) as error:
            raise SettingsError([f"{where} {error}."]) from None

    @property
    def master_key(self) -> bytes:
        """The master key that seals."""
        return self.master_keys[0]

    @cached_property
    def esign_keys(self) -> tuple[bytes, ...]:
        """The keys that sign e-sign webhooks, each good by itself; one is made in the home folder if need be."""
        given = self.given_esign_secret
        listed = given.get_secret_value() if given else _generated(self.home / "esign.secret", 32, ESIGN_PREFIX)
        return esign_keys_of(listed)

    @property
    def secret_place(self) -> SecretPlace:
        """Where secrets for code in the service are kept."""
        return _secret_place(self.secret_provider)

    @field_validator("secret_provider")
    @classmethod
    def _check_secret_provider(cls, value: str) -> str:
        _secret_place(value)
        return value

    @field_validator("secret_token")
    @classmethod
    def _check_secret_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and tokens.prefix_of(value.get_secret_value()) is None:
            raise ValueError("should be a token of an organization or the secret key of an environment, whole")
        return value

    @property
    def oidc(self) -> OidcSettings | None:
        """The OpenID provider, where there is one."""
        if self.oidc_issuer is None or not (self.oidc_client_id and self.oidc_client_secret and self.login_url):
            return None
        return OidcSettings(
            self.oidc_issuer,
            self.oidc_client_id,
            self.oidc_client_secret.get_secret_value(),
            self.oidc_scopes,
            self.login_url.get_secret_value(),
        )

    @field_validator("home")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_log_level(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("app_url", "owner_url")
    @classmethod
    def _check_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            return SecretStr(_database_url(value.get_secret_value()))
        if info.field_name == "app_url" and info.data.get("env") == "production":
            raise ValueError("is required in production, where the embedded PostgreSQL is refused")
        return None

    @field_validator("given_master_key", "given_esign_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        is_master_key = info.field_name == "given_master_key"
        if value is not None:
            (masterkeys.parse if is_master_key else esign_keys_of)(value.get_secret_value())
        elif info.data.get("env") == "production":
            example = "openssl rand -base64 32"
            example = example if is_master_key else f'echo "{ESIGN_PREFIX}$({example})"'
            raise ValueError(f"is required in production, where none is made for you: try {example}")
        return value

    @field_validator("public_url", "oidc_issuer")
    @classmethod
    def _check_site(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            _check_site(value, may_have_path=info.field_name == "oidc_issuer")
        elif info.data.get("oidc_issuer") and info.data.get("env") == "production":
            raise ValueError(f"is required with {PREFIX}OIDC_ISSUER in production: the provider sends browsers there")
        return value

    @field_validator("oidc_client_id", "oidc_client_secret")
    @classmethod
    def _check_client(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        if value is None and info.data.get("oidc_issuer"):
            raise ValueError(f"is required with {PREFIX}OIDC_ISSUER: the provider gives it to each of its clients")
        if value is not None and info.data.get("oidc_issuer", "?") is None:
            raise ValueError(f"means nothing without {PREFIX}OIDC_ISSUER")
        return value

    @field_validator("oidc_scopes")
    @classmethod
    def _check_scopes(cls, value: str) -> str:
        if not {"openid", "email"} <= set(value.split()):
            raise ValueError("should hold openid and email, separated by spaces")
        return " ".join(value.split())

    @field_validator("login_url")
    @classmethod
    def _check_login_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            return SecretStr(_database_url(value.get_secret_value()))
        is_embedded = info.data.get("app_url") is None and info.data.get("owner_url") is None
        if info.data.get("oidc_issuer") and not is_embedded:
            raise ValueError(f"is required with {PREFIX}OIDC_ISSUER: PostgreSQL, as brokerflow_login")
        return None

    @field_validator("worker_url")
    @classmethod
    def _check_worker_url(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(_database_url(value.get_secret_value()))

    @field_validator("session_url")
    @classmethod
    def _check_session_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _require_redis_url(value.get_secret_value())
        return value


def load() -> Settings:
    """Read the environment. Raises SettingsError with a sentence for every variable at fault."""
    try:
        return Settings()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise SettingsError([_sentence(str(problem["loc"][0]), problem["msg"]) for problem in problems]) from None


def _sentence(field: str, message: str) -> str:
    variable = PREFIX + field.upper().removeprefix(PREFIX).removeprefix("GIVEN_")
    message = message.removeprefix("Value error, ").replace("Input should be", "should be").rstrip(".")
    message = message.removesuffix(", unable to parse string as an integer")
    return f"{variable} {message}."


def _check_site(text: str, *, may_have_path: bool) -> None:
    """Check the address of a web site: https, but for one on this very machine."""
    try:
        parts = urlsplit(text)
        is_near = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
        is_whole = bool(parts.hostname) and (parts.port or 1) > 0 and bool(_VISIBLE.fullmatch(text))
        is_bare = not (parts.query or parts.fragment or parts.username)
    except ValueError:
        raise ValueError("is no URL") from None
    if not (is_whole and is_bare and (is_near or parts.scheme == "https")):
        raise ValueError("should be a URL that begins with https://, without a query (http:// on this machine only)")
    if parts.path and not may_have_path:
        raise ValueError("should end with the host and its port")


def _database_url(text: str) -> str:
    """Check a PostgreSQL URL; yoyo's spelling of it, with the driver's name, is understood too."""
    text = text.replace("postgresql+psycopg://", "postgresql://", 1)
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("should be a URL that begins with postgresql://")
    try:
        conninfo_to_dict(text)
    except ProgrammingError:  # its message may quote the password
        raise ValueError("is no PostgreSQL URL: percent-encode special characters in its parts") from None
    return text


def _require_redis_url(text: str) -> None:
    """Refuse what redis-py would refuse later, or take for another place than was meant."""
    try:
        url = urlsplit(text)
        place = url.path if url.scheme == "unix" else url.hostname if url.port != 0 else None
    except ValueError:  # its message may quote the password
        place = None
    else:
        is_numbered = url.scheme == "unix" or re.fullmatch(r"/?|/\d+", url.path)
        place = place if is_numbered and url.scheme in {"redis", "rediss", "unix"} else None
    if not place:
        raise ValueError("should be redis://host:port/number, rediss://... or unix:///path")


def _secret_place(text: str) -> SecretPlace:
    if (match := _SECRET_PLACE.fullmatch(text)) is None:
        raise ValueError("should be postgresql, aws-ssm[:/PATH], aws-secrets-manager[:PREFIX] or vault[:MOUNT/PATH]")
    return SecretPlace(match["provider"], match["path"] or "")


def esign_keys_of(listed: str) -> tuple[bytes, ...]:
    """Read one or several webhook secrets, separated by white space or commas; raises ValueError."""
    keys = []
    for secret in listed.replace(",", " ").split():
        key = masterkeys.decode(secret.removeprefix(ESIGN_PREFIX))
        if not secret.startswith(ESIGN_PREFIX) or key is None or len(key) not in ESIGN_KEY_BYTES:
            raise ValueError(f"should be {ESIGN_PREFIX} and 24 to 64 bytes in base64; several are separated by spaces")
        keys.append(key)
    if not keys:
        raise ValueError("holds no secret")
    return tuple(keys)


def _generated(path: Path, size: int, prefix: str = "") -> str:
    """Return the secret in a 0600 file, made on first use; concurrent first uses agree on one."""
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            fresh = prefix + base64.b64encode(secrets.token_bytes(size)).decode()
            _publish(path, fresh)
        return path.read_text()
    except OSError as error:
        raise SettingsError([f"{path} cannot be used: {error.strerror}."]) from error


def _publish(path: Path, text: str) -> None:
    """Write a file whole before it gets its name; the first writer wins."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with open(partial, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        pass
    finally:
        partial.unlink()
