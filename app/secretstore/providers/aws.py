"""Calls of AWS from worker threads, with what it refuses raised as any provider's refusal."""

import asyncio
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from app import aws
from app.secretstore.providers.protocol import ProviderCannot, ProviderRefused, ProviderUnavailable

UNAVAILABLE = (
    "",
    "InternalServerError",
    "InternalServiceError",
    "InternalFailure",
    "ServiceUnavailable",
    "ThrottlingException",
    "TooManyUpdates",
    "LimitExceededException",
)
UNFIT = ("ValidationException", "InvalidParameterException")


class Service:
    """One service of AWS, called for a provider."""

    def __init__(self, provider: str, service: str, attempts: int = aws.ATTEMPTS) -> None:
        self._provider = provider
        self._service = service
        self._attempts = attempts

    async def call(
        self, action: str, known: Mapping[str, Exception] | None = None, /, **arguments: object
    ) -> dict[str, Any]:
        """Call an action. AWS's word for a refusal is raised as the exception that is known for it.

        Others are ProviderCannot for what AWS takes no such key or value, ProviderUnavailable for what passes, and
        ProviderRefused.
        """
        try:
            return await asyncio.to_thread(self._called, action, arguments)
        except aws.AwsFailed as error:
            raise self._translated(error, known or {}) from None

    def _called(self, action: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        client = self._client
        with aws.failures():
            answer: dict[str, Any] = getattr(client, action)(**arguments)
            return answer

    @cached_property
    def _client(self) -> Any:
        return aws.client(self._service, self._attempts)

    def _translated(self, error: aws.AwsFailed, known: Mapping[str, Exception]) -> Exception:
        if error.code in known:
            return known[error.code]
        told = f"{self._provider}: {error}"
        if error.code in UNFIT:
            return ProviderCannot(f"{told}: it does not take such a key or value")
        return ProviderUnavailable(told) if error.code in UNAVAILABLE else ProviderRefused(told)


def json_of(text: str) -> bytes:
    """Return JSON as it stands; a text that is none, as others put them, is a string."""
    try:
        return bytes(msgspec.json.decode(text.encode(), type=msgspec.Raw))
    except msgspec.DecodeError:
        return msgspec.json.encode(text)
