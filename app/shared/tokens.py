"""Tokens: what they look like, how one is minted, and how a typo is refused without a query."""

import hashlib
import secrets
import string
import zlib
from enum import StrEnum

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_LENGTH = 34  # 202 bits
CHECKSUM_LENGTH = 6


class Prefix(StrEnum):
    """What a token is, for people and for scanners of leaked secrets."""

    SESSION = "bf_ses_"
    PERSONAL = "tr_pat_"
    ORGANIZATION = "tr_oat_"
    SECRET_DEVELOPMENT = "tr_dev_"  # noqa: S105 - a prefix
    SECRET_STAGING = "tr_stg_"  # noqa: S105 - a prefix
    SECRET_PREVIEW = "tr_prev_"  # noqa: S105 - a prefix
    SECRET_PRODUCTION = "tr_prod_"  # noqa: S105 - a prefix
    PUBLIC_DEVELOPMENT = "pk_dev_"
    PUBLIC_STAGING = "pk_stg_"
    PUBLIC_PREVIEW = "pk_prev_"
    PUBLIC_PRODUCTION = "pk_prod_"

    @property
    def is_secret_key(self) -> bool:
        """Whether it is an environment's secret key."""
        return self.name.startswith("SECRET_")


_PREFIXES = {prefix.value: prefix for prefix in Prefix}


def mint(prefix: Prefix) -> str:
    """Make a new token: its prefix, 34 random base62 characters, and the CRC32 of both in 6 more."""
    body = prefix + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return body + _checksum(body)


def prefix_of(token: str) -> Prefix | None:
    """Return what a token claims to be; None for a wrong prefix, length or checksum."""
    prefix = _PREFIXES.get(token[: -(RANDOM_LENGTH + CHECKSUM_LENGTH)])
    if prefix is None or not token.isascii():
        return None
    body, checksum = token[:-CHECKSUM_LENGTH], token[-CHECKSUM_LENGTH:]
    return prefix if secrets.compare_digest(_checksum(body), checksum) else None


def digest(token: str) -> bytes:
    """Return the SHA-256 of a token: what an entrance takes. The database keeps the digest of this digest."""
    return hashlib.sha256(token.encode()).digest()


def example(prefix: Prefix) -> str:
    """Return what such a token looks like, for the documentation: well-formed, and plainly nobody's."""
    body = prefix + ("EXAMPLE" * RANDOM_LENGTH)[:RANDOM_LENGTH]
    return body + _checksum(body)


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
