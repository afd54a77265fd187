"""Secrets in HashiCorp Vault or OpenBao: the KV engine, version 2.

Where and as whom is Vault's own configuration: `VAULT_ADDR`, `VAULT_TOKEN`, `VAULT_NAMESPACE`, `VAULT_CACERT`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar

import msgspec

from app.secretstore import metrics
from app.secretstore.providers.protocol import (
    ProviderCannot,
    ProviderRefused,
    ProviderUnavailable,
    SecretConflict,
    Version,
)
from app.secretstore.values import SecretNotFound, Value

TIMEOUT = 5  # seconds
SKEW = timedelta(minutes=1)  # by which Vault's clock may be ahead of ours
FIELD = "json"  # what we put is one text, so that numbers stay to the digit


class Vault:
    """Secrets below a path of a mount, such as `secret/brokerflow`."""

    name = "vault"
    largest = 512 * 1024  # as much as every storage behind Vault takes
    lacks: ClassVar[Mapping[str, str]] = {}

    def __init__(self, mount: str = "secret", path: str = "brokerflow/") -> None:
        self._mount = mount
        self._path = path

    async def read(self, key: str, version: int | None = None) -> Value:
        """Return a value as it is now or was in a version; of what others put, the object of its fields."""
        with metrics.counted(self.name, metrics.READ):
            answer = await self._call("read_secret_version", key, version=version, raise_on_deleted_version=True)
        return Value(key, answer["data"]["metadata"]["version"], _json_of(answer["data"]["data"]))

    async def put(self, key: str, raw: bytes, expected_version: int | None = None) -> int:
        """Put JSON as a new version."""
        with metrics.counted(self.name, "secret.write"):
            expected = None if expected_version is None else await self._expected(key, expected_version)
            answer = await self._call("create_or_update_secret", key, secret={FIELD: raw.decode()}, cas=expected)
            return int(answer["data"]["version"])

    async def delete(self, key: str) -> None:
        """Delete every version, softly."""
        with metrics.counted(self.name, "secret.delete"):
            told = await self._live(key)
            versions = [int(number) for number, each in told["versions"].items() if not each["destroyed"]]
            await self._call("delete_secret_versions", key, versions=versions)

    async def undelete(self, key: str) -> int:
        """Bring every version back."""
        with metrics.counted(self.name, "secret.undelete"):
            told = await self._metadata(key)
            versions = [int(number) for number, each in told["versions"].items() if each["deletion_time"]]
            if not versions or not _is_deleted(told):
                raise SecretNotFound(key)
            await self._call("undelete_secret_versions", key, versions=versions)
            return int(told["current_version"])

    async def roll_back(self, key: str, version: int) -> int:
        """Put the value of an earlier version once more."""
        return await self.put(key, (await self.read(key, version)).raw)

    async def destroy(self, key: str, version: int) -> None:
        """Remove one version's data for good."""
        with metrics.counted(self.name, "secret.destroy"):
            told = await self._metadata(key)
            if told["versions"].get(str(version), {"destroyed": True})["destroyed"]:
                raise SecretNotFound(key)
            await self._call("destroy_secret_versions", key, versions=[version])

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that are not deleted; Vault lists those too, so each is asked for."""
        folder = prefix.rpartition("/")[0]
        found = [key async for key in self._walk(f"{folder}/" if folder else "") if key.startswith(prefix)]
        return sorted([key for key in found if not _is_deleted(await self._metadata(key))])

    async def versions(self, key: str) -> list[Version]:
        """Return the versions that the mount keeps."""
        told = await self._metadata(key)
        listed = [
            Version(int(number), _time(each["created_time"]), is_destroyed=each["destroyed"])
            for number, each in told["versions"].items()
        ]
        return sorted(listed, key=lambda each: -each.version)

    async def _expected(self, key: str, version: int) -> int:
        """Return what Vault is to compare: its latest number, also where that one is deleted and we expect none."""
        try:
            told = await self._metadata(key)
        except SecretNotFound:
            latest, current = 0, 0
        else:
            latest = told["current_version"]
            current = 0 if _is_deleted(told) else latest
        if version != current:
            raise SecretConflict(f"secret {key}: it is at version {current}")
        return int(latest)

    async def _live(self, key: str) -> dict[str, Any]:
        told = await self._metadata(key)
        if _is_deleted(told):
            raise SecretNotFound(key)
        return told

    async def _metadata(self, key: str) -> dict[str, Any]:
        answer = await self._call("read_secret_metadata", key)
        told: dict[str, Any] = answer["data"]
        return told

    async def _walk(self, folder: str) -> AsyncIterator[str]:
        """Yield the keys below a folder, which is empty or ends in a slash."""
        try:
            answer = await self._call("list_secrets", folder)
        except SecretNotFound:
            return
        for name in answer["data"]["keys"]:
            if name.endswith("/"):
                async for key in self._walk(folder + name):
                    yield key
            else:
                yield folder + name

    async def _call(self, action: str, key: str, **arguments: object) -> dict[str, Any]:
        return await asyncio.to_thread(self._called, action, key, arguments)

    def _called(self, action: str, key: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        engine = self._client.secrets.kv.v2
        with _refusals(key, f"{self._mount}/{self._path}"):
            answer: dict[str, Any] = getattr(engine, action)(
                path=self._path + key, mount_point=self._mount, **arguments
            )
            return answer

    @cached_property
    def _client(self) -> Any:
        try:
            from hvac import Client  # noqa: PLC0415 - optional
        except ImportError:
            raise ProviderUnavailable("vault needs hvac: install brokerflow[vault]") from None
        return Client(namespace=os.environ.get("VAULT_NAMESPACE"), timeout=TIMEOUT)


@contextmanager
def _refusals(key: str, place: str) -> Iterator[None]:
    from hvac import exceptions  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415

    try:
        yield
    except exceptions.InvalidPath as error:
        if error.errors:  # no secret has none; no engine tells so
            raise ProviderRefused(f"vault has no KV engine of version 2 at {place}") from None
        raise SecretNotFound(key) from None
    except (exceptions.Unauthorized, exceptions.Forbidden):
        raise ProviderRefused(f"vault: VAULT_TOKEN does not allow this at {place}") from None
    except exceptions.InvalidRequest as error:
        raise _unacceptable(key, str(error.errors)) from None
    except (exceptions.VaultError, RequestException) as error:
        raise ProviderUnavailable(f"vault does not answer at {place}: {type(error).__name__}") from None


def _unacceptable(key: str, told: str) -> Exception:
    if "check-and-set parameter did not match" in told:
        return SecretConflict(f"secret {key}: another came first")
    if "check-and-set parameter required" in told:
        return ProviderCannot("vault puts nothing in this mount without expected_version")
    return ProviderCannot("vault does not take such a key or value")


def _is_deleted(told: Mapping[str, Any]) -> bool:
    """Tell whether the latest version cannot be read now; a mount may set a time for that to come."""
    latest = told["versions"].get(str(told["current_version"]))
    if latest is None or latest["destroyed"]:
        return True
    return bool(latest["deletion_time"]) and _time(latest["deletion_time"]) <= datetime.now(UTC) + SKEW


def _time(told: str) -> datetime:
    return msgspec.convert(told, datetime)


def _json_of(fields: Mapping[str, Any]) -> bytes:
    match fields:
        case {"json": str(text), **others} if not others:
            return text.encode()
        case _:
            return msgspec.json.encode(fields)
