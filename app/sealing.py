"""AES-256-GCM under keys derived from the master key, for what the database keeps but may not read."""

import hashlib
import hmac
import os
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
VERSION = b"\x01"


class SealBroken(Exception):  # noqa: N818 - a state of the seal, not an error class of ours
    """A sealed value was altered, moved from where it belongs, or sealed under another key."""


class Envelope(msgspec.Struct, frozen=True):
    """A value under a data key of its own, and that key wrapped. Destroying the key shreds the value."""

    wrapped_key: bytes
    ciphertext: bytes


class Sealer:
    """Seals values for one purpose; each opens only in the context (associated data) it was sealed in.

    What older master keys sealed opens still.
    """

    def __init__(self, master_key: bytes, purpose: str, older: Sequence[bytes] = ()) -> None:
        self._key, *self._older = (derive(key, purpose) for key in (master_key, *older))

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Seal a value: a version byte, 12 bytes of nonce, ciphertext, 16 bytes of tag."""
        return _encrypt(self._key, plaintext, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Open a sealed value; raises SealBroken."""
        for key in (self._key, *self._older):
            with suppress(SealBroken):
                return _decrypt(key, sealed, context)
        raise SealBroken

    def renew(self, sealed: bytes, context: bytes) -> bytes | None:
        """Seal anew what an older master key sealed; None where the current one did. Raises SealBroken."""
        with suppress(SealBroken):
            _decrypt(self._key, sealed, context)
            return None
        return self.seal(self.open(sealed, context), context)

    def enclose(self, plaintext: bytes, context: bytes) -> Envelope:
        """Seal a value under a fresh data key and wrap that key."""
        data_key = os.urandom(KEY_BYTES)
        return Envelope(_encrypt(self._key, data_key, context), _encrypt(data_key, plaintext, context))

    def disclose(self, envelope: Envelope, context: bytes) -> bytes:
        """Open an envelope; raises SealBroken."""
        return _decrypt(self.open(envelope.wrapped_key, context), envelope.ciphertext, context)


class Keyring:
    """The master keys of a purpose, each known by an id: the first seals, every one opens what it sealed."""

    def __init__(self, master_keys: Sequence[bytes], purpose: str) -> None:
        self._sealers = {key_id(key): Sealer(key, purpose) for key in master_keys}
        self.current = key_id(master_keys[0])

    def enclose(self, plaintext: bytes, context: bytes) -> Envelope:
        """Seal a value under a fresh data key, which the current master key wraps."""
        return self._sealers[self.current].enclose(plaintext, context)

    def disclose(self, master_key_id: str, envelope: Envelope, context: bytes) -> bytes:
        """Open an envelope with the master key that wraps it; raises SealBroken."""
        return self._sealer(master_key_id).disclose(envelope, context)

    def rewrap(self, master_key_id: str, wrapped_key: bytes, context: bytes) -> bytes:
        """Wrap a data key with the current master key; raises SealBroken."""
        return self._sealers[self.current].seal(self._sealer(master_key_id).open(wrapped_key, context), context)

    def _sealer(self, master_key_id: str) -> Sealer:
        if (sealer := self._sealers.get(master_key_id)) is None:
            raise SealBroken("the master key that wraps it is not configured")
        return sealer


class Stamp:
    """Authenticates short public values (cursors) with 8 bytes of HMAC-SHA256."""

    LENGTH = 8

    def __init__(self, master_key: bytes, purpose: str) -> None:
        self._key = derive(master_key, purpose)

    def of(self, message: bytes) -> bytes:
        """Return the stamp of a message."""
        return self.whole(message)[: self.LENGTH]

    def whole(self, message: bytes) -> bytes:
        """Return the 32 bytes that a stamp is the beginning of."""
        return hmac.digest(self._key, message, hashlib.sha256)


def derive(master_key: bytes, purpose: str) -> bytes:
    """Derive the key of one purpose (RFC 5869), so that no key serves two."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=f"brokerflow {purpose}".encode()).derive(master_key)


def key_id(master_key: bytes) -> str:
    """Return the name of a master key: the first eight bytes of its SHA-256, in hexadecimal digits."""
    return hashlib.sha256(master_key).hexdigest()[:16]


def half_of(master_key: bytes) -> bytes:
    """Return the service's half of the keys that sign JWTs and seal tickets; the other is PostgreSQL's."""
    return derive(master_key, "halves of keys")


def proof(master_key: bytes) -> bytes:
    """Return what only who holds a master key can say, and what opens nothing."""
    return derive(master_key, "proof")


def _encrypt(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return VERSION + nonce + AESGCM(key).encrypt(nonce, plaintext, VERSION + context)


def _decrypt(key: bytes, sealed: bytes, context: bytes) -> bytes:
    version, nonce, ciphertext = sealed[:1], sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    if version != VERSION or len(ciphertext) < 16:
        raise SealBroken
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, version + context)
    except InvalidTag as error:
        raise SealBroken from error
