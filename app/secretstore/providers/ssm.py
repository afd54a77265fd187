"""Secrets in AWS Systems Manager Parameter Store: SecureString parameters under one path."""

from collections.abc import Mapping
from typing import Any, ClassVar

from app.secretstore import metrics
from app.secretstore.providers.aws import Service, json_of
from app.secretstore.providers.protocol import (
    COMPARE,
    DESTROY,
    UNDELETE,
    ProviderCannot,
    SecretConflict,
    Version,
    cannot,
)
from app.secretstore.values import SecretNotFound, Value

LEVELS = 15  # of a parameter's name


class ParameterStore:
    """Parameters under a path such as `/brokerflow/`, encrypted by AWS with the account's key."""

    name = "aws-ssm"
    largest = 8192  # beyond 4096 a parameter becomes an advanced one, which AWS charges for
    lacks: ClassVar[Mapping[str, str]] = {
        COMPARE: "Parameter Store takes a new value whatever version is there; 0, that there is none, it does compare",
        UNDELETE: "Parameter Store forgets what is deleted",
        DESTROY: "Parameter Store keeps the last 100 versions and gives none of them up",
    }

    def __init__(self, path: str = "/brokerflow/") -> None:
        self._path = path
        self._service = Service(self.name, "ssm")
        self._once = Service(self.name, "ssm", attempts=1)  # a put whose answer was lost is not to be put twice

    async def read(self, key: str, version: int | None = None) -> Value:
        """Return a value as it is now or was in a version."""
        name = self._name_of(key) if version is None else f"{self._name_of(key)}:{version}"
        with metrics.counted(self.name, metrics.READ):
            answer = await self._call("get_parameter", key, Name=name, WithDecryption=True)
        found = answer["Parameter"]
        return Value(key, found["Version"], json_of(found["Value"]))

    async def put(self, key: str, raw: bytes, expected_version: int | None = None) -> int:
        """Put JSON; of versions to expect, there is only 0."""
        with metrics.counted(self.name, "secret.write"):
            if expected_version:
                raise cannot(self, COMPARE)
            answer = await self._once.call(
                "put_parameter",
                {"ParameterAlreadyExists": SecretConflict(f"secret {key}: there is one")},
                Name=self._name_of(key),
                Value=raw.decode(),
                Type="SecureString",
                Tier="Intelligent-Tiering",
                Overwrite=expected_version is None,
            )
            return int(answer["Version"])

    async def delete(self, key: str) -> None:
        """Delete a parameter for good."""
        with metrics.counted(self.name, "secret.delete"):
            await self._call("delete_parameter", key, Name=self._name_of(key))

    async def undelete(self, key: str) -> int:
        """Raise ProviderCannot."""
        del key
        raise cannot(self, UNDELETE)

    async def roll_back(self, key: str, version: int) -> int:
        """Put the value of an earlier version once more."""
        return await self.put(key, (await self.read(key, version)).raw)

    async def destroy(self, key: str, version: int) -> None:
        """Raise ProviderCannot."""
        del key, version
        raise cannot(self, DESTROY)

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys under the path."""
        filters = [{"Key": "Name", "Option": "BeginsWith", "Values": [self._path + prefix]}]
        found = await self._pages("describe_parameters", "", "Parameters", ParameterFilters=filters, MaxResults=50)
        return sorted(each["Name"].removeprefix(self._path) for each in found)

    async def versions(self, key: str) -> list[Version]:
        """Return the last hundred versions."""
        name = self._name_of(key)
        found = await self._pages("get_parameter_history", key, "Parameters", Name=name, MaxResults=50)
        listed = [Version(each["Version"], each["LastModifiedDate"], each.get("LastModifiedUser")) for each in found]
        return sorted(listed, key=lambda each: -each.version)

    async def _pages(self, action: str, key: str, items: str, **arguments: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more: dict[str, object] = {}
        while True:
            answer = await self._call(action, key, **arguments, **more)
            found += answer[items]
            if not answer.get("NextToken"):
                return found
            more = {"NextToken": answer["NextToken"]}

    async def _call(self, action: str, key: str, **arguments: object) -> dict[str, Any]:
        missing = SecretNotFound(key)
        known = {"ParameterNotFound": missing, "ParameterVersionNotFound": missing}
        return await self._service.call(action, known, **arguments)

    def _name_of(self, key: str) -> str:
        name = self._path + key
        if name.count("/") > LEVELS:
            raise ProviderCannot(f"{self.name} takes names of at most {LEVELS} levels, and {name} has more")
        return name
