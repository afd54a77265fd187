"""Secrets for code in the service, wherever the configuration keeps them; each provider is imported when chosen."""
# ruff: noqa: PLC0415

from typing import Any, TypeVar, overload

import msgspec

from app.errors import invalid
from app.secretstore import values
from app.secretstore.paths import is_key
from app.secretstore.providers.protocol import (
    ProviderCannot,
    ProviderRefused,
    ProviderUnavailable,
    SecretProvider,
    Version,
)
from app.secretstore.store import SecretStore
from app.secretstore.values import SecretNotFound
from app.settings import SecretPlace

T = TypeVar("T")

PATH = "brokerflow"


class Secrets:
    """The secrets of one provider, encoded and decoded.

    Methods raise what their provider raises, and Refusal for a key or value that no provider takes.
    """

    def __init__(self, provider: SecretProvider) -> None:
        self.provider = provider

    @overload
    async def get(self, key: str) -> Any: ...

    @overload
    async def get(self, key: str, kind: type[T]) -> T | None: ...

    async def get(self, key: str, kind: Any = Any) -> Any:
        """Return a value decoded into a type, such as a Struct; None where there is none.

        Raises SecretMismatch, SecretAltered.
        """
        try:
            return await self.get_or_raise(key, kind)
        except SecretNotFound:
            return None

    @overload
    async def get_or_raise(self, key: str, *, version: int | None = None) -> Any: ...

    @overload
    async def get_or_raise(self, key: str, kind: type[T], *, version: int | None = None) -> T: ...

    async def get_or_raise(self, key: str, kind: Any = Any, *, version: int | None = None) -> Any:
        """Return a value decoded into a type; raises SecretNotFound, SecretMismatch, SecretAltered."""
        return (await self.provider.read(_checked(key), version)).decode(kind)

    async def set(self, key: str, value: object, *, expected_version: int | None = None) -> int:
        """Put a value, anything that msgspec encodes, as a new version; returns its number.

        0 expects that there is none. Raises SecretConflict.
        """
        raw = values.sealable(msgspec.Raw(msgspec.json.encode(value)))
        if len(raw) > self.provider.largest:
            raise ProviderCannot(
                f"{self.provider.name} takes at most {self.provider.largest} bytes of JSON, and {key} has {len(raw)}"
            )
        return await self.provider.put(_checked(key), raw, expected_version)

    async def delete(self, key: str) -> None:
        """Take a secret away; raises SecretNotFound."""
        await self.provider.delete(_checked(key))

    async def undelete(self, key: str) -> int:
        """Bring a deleted secret back; returns its version. Raises SecretNotFound."""
        return await self.provider.undelete(_checked(key))

    async def roll_back(self, key: str, version: int) -> int:
        """Put the value of an earlier version once more; returns the new version. Raises SecretNotFound."""
        return await self.provider.roll_back(_checked(key), version)

    async def destroy(self, key: str, version: int) -> None:
        """Make one version unreadable for good; raises SecretNotFound."""
        await self.provider.destroy(_checked(key), version)

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a prefix, to the letter, in their order."""
        return await self.provider.keys(prefix)

    async def versions(self, key: str) -> list[Version]:
        """Return the versions that are kept, the latest first; raises SecretNotFound."""
        return await self.provider.versions(_checked(key))


def _checked(key: str) -> str:
    if not is_key(key):
        raise invalid("key", "is no path of letters, digits, . _ - and / that a secret may have")
    return key


def secrets_at(place: SecretPlace, store: SecretStore | None) -> Secrets:
    """Open the secrets where the configuration keeps them; `store` is what this service may use of PostgreSQL's."""
    match place.provider, place.path.strip("/"):
        case "aws-ssm", path:
            from app.secretstore.providers.ssm import ParameterStore

            return Secrets(ParameterStore(f"/{path or PATH}/"))
        case "aws-secrets-manager", path:
            from app.secretstore.providers.secretsmanager import SecretsManager

            return Secrets(SecretsManager(f"{path or PATH}/"))
        case "vault", path:
            from app.secretstore.providers.vault import Vault

            mount, _, below = (path or f"secret/{PATH}").partition("/")
            return Secrets(Vault(mount, f"{below}/" if below else ""))
        case _:
            from app.secretstore.providers.postgresql import PostgreSQL

            return Secrets(PostgreSQL(store))


async def complaint_about(place: SecretPlace) -> str | None:
    """Say why a provider other than PostgreSQL does not let this service read; None when it does."""
    if place.provider == "postgresql":
        return None
    try:
        await secrets_at(place, None).get("brokerflow/check")
    except (ProviderCannot, ProviderRefused, ProviderUnavailable) as error:
        return str(error)
    return None
