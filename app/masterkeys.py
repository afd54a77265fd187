"""Master keys as they are configured: 32 bytes in base64, or their ciphertext, which AWS KMS decrypts at start."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from app import aws

KEY_BYTES = 32
KMS = "aws-kms:"
KMS_CONTEXT = {"application": "brokerflow"}  # what KMS decrypts for us was encrypted for us

FORM = (
    "should be 32 bytes in base64, such as brokerflow master-key new prints, or aws-kms:KEY:CIPHERTEXT; several are "
    "separated by spaces, the one that seals first"
)


class KmsKey(NamedTuple):
    """A master key that only a key of AWS KMS opens."""

    key_id: str  # an id, an ARN or an alias
    ciphertext: bytes

    def __str__(self) -> str:
        """Write it down as it is configured."""
        return f"{KMS}{self.key_id}:{base64.b64encode(self.ciphertext).decode()}"


Configured: TypeAlias = bytes | KmsKey


class MasterKeyUnavailable(Exception):  # noqa: N818 - named for what happened
    """A master key that is configured cannot be had now; the message says why."""


def parse(listed: str) -> tuple[Configured, ...]:
    """Read one or several keys, separated by spaces or commas. Raises ValueError with the form they should have."""
    keys = tuple(dict.fromkeys(_parsed(item) for item in listed.replace(",", " ").split()))
    if not keys:
        raise ValueError(FORM)
    return keys


def opened(configured: Iterable[Configured]) -> tuple[bytes, ...]:
    """Return the keys themselves, in their order, asking KMS for those that it keeps.

    Raises MasterKeyUnavailable.
    """
    return tuple(dict.fromkeys(_decrypted(key) if isinstance(key, KmsKey) else key for key in configured))


def generated(key_id: str) -> KmsKey:
    """Have KMS make a master key whose plaintext nobody sees before the service starts.

    Raises MasterKeyUnavailable.
    """
    answer = _asked(key_id, "generate_data_key_without_plaintext", NumberOfBytes=KEY_BYTES)
    return KmsKey(key_id, answer["CiphertextBlob"])


def wrapped(keys: Sequence[bytes], key_id: str) -> tuple[KmsKey, ...]:
    """Have KMS encrypt master keys that are in use, so that they need not change. Raises MasterKeyUnavailable."""
    return tuple(KmsKey(key_id, _asked(key_id, "encrypt", Plaintext=key)["CiphertextBlob"]) for key in keys)


def decode(encoded: str) -> bytes | None:
    """Read base64 in either alphabet; None when it is none."""
    try:
        return base64.b64decode(encoded.strip().replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        return None


def _parsed(item: str) -> Configured:
    key_id, separator, encoded = item.removeprefix(KMS).rpartition(":")
    key = decode(encoded)
    if item.startswith(KMS) and key_id and key:
        return KmsKey(key_id, key)
    if separator or key is None or len(key) != KEY_BYTES:
        raise ValueError(FORM)
    return key


def _decrypted(key: KmsKey) -> bytes:
    plaintext = bytes(_asked(key.key_id, "decrypt", CiphertextBlob=key.ciphertext)["Plaintext"])
    if len(plaintext) != KEY_BYTES:
        raise MasterKeyUnavailable(f"holds {len(plaintext)} bytes under {key.key_id}, and a master key has {KEY_BYTES}")
    return plaintext


def _asked(key_id: str, action: str, **arguments: object) -> dict[str, bytes]:
    try:
        kms = aws.client("kms")
        with aws.failures():
            answer: dict[str, bytes] = getattr(kms, action)(KeyId=key_id, EncryptionContext=KMS_CONTEXT, **arguments)
    except aws.AwsFailed as error:
        raise MasterKeyUnavailable(f"cannot be had from AWS KMS by {key_id}: {error}") from None
    return answer
