"""Clients of AWS: made when something is configured to use them, with short patience, their failures in a sentence.

Credentials, region and endpoints are boto3's own configuration: `AWS_REGION`, `AWS_PROFILE`, an instance's role.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CONNECT_TIMEOUT = 2  # seconds
READ_TIMEOUT = 5
ATTEMPTS = 2


class AwsFailed(Exception):  # noqa: N818 - named for what happened
    """AWS refused a call or did not answer; `code` is its word for it, empty when none came."""

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


def client(service: str, attempts: int = ATTEMPTS) -> Any:
    """Return a client of a service, good for every thread. Raises AwsFailed."""
    try:
        from boto3.session import Session  # noqa: PLC0415 - optional, and slow to import
        from botocore.config import Config  # noqa: PLC0415
    except ImportError:
        raise AwsFailed("it needs boto3: install brokerflow[aws]") from None
    patience = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    with failures():
        return Session(region_name=os.environ.get("AWS_REGION")).client(service, config=patience)


@contextmanager
def failures() -> Iterator[None]:
    """Turn what boto3 raises into AwsFailed.

    Messages of AWS quote what was sent, so they are left out.
    """
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        code = str(error.response["Error"]["Code"])
        raise AwsFailed(f"AWS answers {code}", code) from None
    except ParamValidationError:
        raise AwsFailed("boto3 does not send it: ParamValidationError", "ValidationException") from None
    except BotoCoreError as error:
        raise AwsFailed(str(error).rstrip(".")) from None
