"""What a place that keeps secrets does for code in the service, and the errors in which it says no."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from app.secretstore.values import Value

# What some provider cannot do; `lacks` of a provider says why it cannot.
COMPARE = "expected_version"  # put only while the secret is at a version
OVERWRITE = "put over a deleted key"
UNDELETE = "undelete"
DESTROY = "destroy a version"


class SecretConflict(Exception):  # noqa: N818 - named for what happened
    """The secret is at another version than the one expected."""


class ProviderCannot(Exception):  # noqa: N818
    """The provider does not do this, whoever asks; the message says what and why."""


class ProviderRefused(Exception):  # noqa: N818
    """The provider does not let this service do this: its credential is missing, expired or too weak."""


class ProviderUnavailable(Exception):  # noqa: N818
    """The provider does not answer now, or asks to wait."""


class Version(msgspec.Struct, frozen=True):
    """One version of a secret: its number, when it was put and, where that is known, by whom."""

    version: int
    created_at: datetime
    created_by: str | None = None
    is_destroyed: bool = False


class SecretProvider(Protocol):
    """A place that keeps JSON under keys, each in versions from 1 on.

    Every method raises ProviderCannot, ProviderRefused and ProviderUnavailable; SecretNotFound for a key or version
    that is not there, be it deleted or never put. No message and no context of what it raises holds a value.
    """

    @property
    def name(self) -> str:
        """What the configuration calls it."""

    @property
    def largest(self) -> int:
        """The most bytes of JSON that a value may have."""

    @property
    def lacks(self) -> Mapping[str, str]:
        """What it cannot do, and why."""

    async def read(self, key: str, version: int | None = None) -> Value:
        """Return a value as it is now or was in a version; raises SecretAltered too.

        The version is 0 where somebody put the value past this protocol and the provider numbers nothing itself.
        """

    async def put(self, key: str, raw: bytes, expected_version: int | None = None) -> int:
        """Put JSON as a new version and return its number; raises SecretConflict.

        0 expects that there is no secret. None expects nothing.
        """

    async def delete(self, key: str) -> None:
        """Take a secret away, so that no version of it can be read."""

    async def undelete(self, key: str) -> int:
        """Bring a deleted secret back as it was; returns its version."""

    async def roll_back(self, key: str, version: int) -> int:
        """Put the value of an earlier version once more; returns the new version."""

    async def destroy(self, key: str, version: int) -> None:
        """Make one version unreadable for good."""

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a prefix, to the letter, in their order; no deleted ones."""

    async def versions(self, key: str) -> list[Version]:
        """Return the versions that are kept, the latest first."""


def cannot(provider: SecretProvider, what: str) -> ProviderCannot:
    """Say that a provider lacks something."""
    return ProviderCannot(f"{provider.name} cannot {what}: {provider.lacks[what]}")
