"""Secrets in AWS Secrets Manager, their versions numbered by us.

Secrets Manager identifies a version by a text that whoever puts it may choose, and takes none twice. Ours is the
version's number: so of two who put version 8, one is refused, and compare-and-set needs no lock.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from app.secretstore import metrics
from app.secretstore.providers.aws import Service, json_of
from app.secretstore.providers.protocol import (
    DESTROY,
    OVERWRITE,
    ProviderCannot,
    SecretConflict,
    Version,
    cannot,
)
from app.secretstore.values import SecretNotFound, Value

CURRENT = "AWSCURRENT"
DIGITS = 32  # the fewest characters that AWS takes
DAYS = 30  # until what is deleted is gone
ATTEMPTS = 10  # of a put that expects nothing and meets others


class SecretsManager:
    """Secrets whose names begin with a prefix such as `brokerflow/`, encrypted by AWS with the account's key."""

    name = "aws-secrets-manager"
    largest = 65536
    lacks: ClassVar[Mapping[str, str]] = {
        OVERWRITE: "Secrets Manager holds the name for thirty days; undelete it, then put",
        DESTROY: "Secrets Manager gives up what is older than its last 100 versions, and nothing else",
    }

    def __init__(self, prefix: str = "brokerflow/") -> None:
        self._prefix = prefix
        self._service = Service(self.name, "secretsmanager")

    async def read(self, key: str, version: int | None = None) -> Value:
        """Return a value as it is now or was in a version."""
        which: dict[str, Any] = {} if version is None else {"VersionId": _identifier(version)}
        with metrics.counted(self.name, metrics.READ):
            found = await self._call("get_secret_value", key, **which)
            if "SecretString" not in found:
                raise ProviderCannot(f"{self.name} has bytes under {key}, and a secret is JSON or a text")
        return Value(key, _number(found["VersionId"]), json_of(found["SecretString"]))

    async def put(self, key: str, raw: bytes, expected_version: int | None = None) -> int:
        """Put JSON as the version after the latest; tries again when others came first, unless one was expected."""
        with metrics.counted(self.name, "secret.write"):
            for _ in range(ATTEMPTS - 1):
                try:
                    return await self._put(key, raw, expected_version)
                except SecretConflict:
                    if expected_version is not None:
                        raise
            return await self._put(key, raw, expected_version)

    async def delete(self, key: str) -> None:
        """Take a secret away; it can be undeleted for thirty days."""
        with metrics.counted(self.name, "secret.delete"):
            await self._call("delete_secret", key, RecoveryWindowInDays=DAYS)

    async def undelete(self, key: str) -> int:
        """Bring a deleted secret back."""
        with metrics.counted(self.name, "secret.undelete"):
            told = await self._call("describe_secret", key)
            if "DeletedDate" not in told:
                raise SecretNotFound(key)
            await self._call("restore_secret", key)
            return _current(told)

    async def roll_back(self, key: str, version: int) -> int:
        """Put the value of an earlier version once more."""
        return await self.put(key, (await self.read(key, version)).raw)

    async def destroy(self, key: str, version: int) -> None:
        """Raise ProviderCannot."""
        del key, version
        raise cannot(self, DESTROY)

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys under the prefix."""
        whole = self._prefix + prefix
        named = {"Filters": [{"Key": "name", "Values": [whole]}]} if whole else {}
        found = await self._pages("list_secrets", "SecretList", **named)
        names = [each["Name"] for each in found]
        return sorted(name.removeprefix(self._prefix) for name in names if name.startswith(whole))

    async def versions(self, key: str) -> list[Version]:
        """Return the versions that are kept and have a number."""
        await self._call("describe_secret", key)
        listed = [Version(_number(each["VersionId"]), each["CreatedDate"]) for each in await self._listed(key)]
        return sorted((each for each in listed if each.version), key=lambda each: -each.version)

    async def _put(self, key: str, raw: bytes, expected_version: int | None) -> int:
        known: dict[str, Exception] = {"ResourceExistsException": SecretConflict(f"secret {key}: another came first")}
        try:
            told = await self._call("describe_secret", key)
        except SecretNotFound:
            if expected_version:
                raise SecretConflict(f"secret {key}: there is none") from None
            known["InvalidRequestException"] = cannot(self, OVERWRITE)
            value = {"Name": self._prefix + key, "SecretString": raw.decode(), "ClientRequestToken": _identifier(1)}
            await self._service.call("create_secret", known, **value)
            return 1
        if "DeletedDate" in told:
            raise cannot(self, OVERWRITE)
        if expected_version not in (None, _current(told)):
            raise SecretConflict(f"secret {key}: it is at version {_current(told)}")
        number = await self._latest(key, told) + 1
        await self._call(
            "put_secret_value", key, known, SecretString=raw.decode(), ClientRequestToken=_identifier(number)
        )
        return number

    async def _latest(self, key: str, told: dict[str, Any]) -> int:
        """Return the highest number in use; where others put the latest versions, it takes a look at all."""
        if _current(told):
            return max(map(_number, _staged(told)))
        return max((_number(each["VersionId"]) for each in await self._listed(key)), default=0)

    async def _listed(self, key: str) -> list[dict[str, Any]]:
        arguments = {"SecretId": self._prefix + key, "IncludeDeprecated": True}
        return await self._pages("list_secret_version_ids", "Versions", **arguments)

    async def _pages(self, action: str, items: str, **arguments: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more: dict[str, object] = {"MaxResults": 100}
        while True:
            answer = await self._service.call(action, **arguments, **more)
            found += answer[items]
            if not answer.get("NextToken"):
                return found
            more["NextToken"] = answer["NextToken"]

    async def _call(
        self, action: str, key: str, known: Mapping[str, Exception] | None = None, /, **arguments: object
    ) -> dict[str, Any]:
        """Call an action on a secret; what is to be deleted is not there for most of them."""
        missing = SecretNotFound(key)
        known = {"ResourceNotFoundException": missing, "InvalidRequestException": missing, **(known or {})}
        return await self._service.call(action, known, SecretId=self._prefix + key, **arguments)


def _identifier(version: int) -> str:
    return f"{version:0{DIGITS}}"


def _number(identifier: str) -> int:
    """Return a version's number; 0 when somebody else put it."""
    return int(identifier) if len(identifier) == DIGITS and identifier.isdecimal() else 0


def _current(told: dict[str, Any]) -> int:
    return max((_number(each) for each, stages in _staged(told).items() if CURRENT in stages), default=0)


def _staged(told: dict[str, Any]) -> dict[str, list[str]]:
    """Return the versions that have a stage; a secret may have been made without a value."""
    staged: dict[str, list[str]] = told.get("VersionIdsToStages", {})
    return staged
