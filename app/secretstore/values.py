"""A secret's value: JSON of any kind, kept to the byte, and what it is sealed to."""

import re
from typing import TypeVar
from uuid import UUID

import msgspec
from prometheus_client import Counter

from app.errors import TOO_LARGE, Refusal, invalid
from app.sealing import Envelope, Keyring, SealBroken
from app.secretstore.queries import Place, SealedVersion, WrappedKey

T = TypeVar("T")

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
PURPOSE = "secrets"

DECRYPT_FAILURES = Counter("brokerflow_secret_decrypt_failures", "Sealed values that did not open.")

_NO_ENVIRONMENT = UUID(int=0)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(rb"[\[\]{}]")
_PLACE = re.compile(r" - at `(?:key in )?(\$.*)`$")


class SecretNotFound(Exception):  # noqa: N818 - named for what happened
    """There is no such secret, or it is not the caller's: missing, deleted, expired or destroyed."""


class SecretAltered(Exception):  # noqa: N818
    """What is stored does not open: it was altered, moved, or its master key is not configured."""


class SecretMismatch(Exception):  # noqa: N818
    """A value is not of the type that was asked for; the message names the place, never the value."""


class Value(msgspec.Struct, frozen=True):
    """An opened version of a secret."""

    key: str
    version: int
    raw: bytes

    def __repr__(self) -> str:
        """Leave the value out, wherever it might be printed."""
        return f"Value(key={self.key!r}, version={self.version})"

    def decode(self, kind: type[T]) -> T:
        """Decode the value strictly; raises SecretMismatch."""
        try:
            return msgspec.json.decode(self.raw, type=kind)
        except ValueError as error:
            place = _PLACE.search(str(error))
            told = f"secret {self.key} is not of the type expected at {place[1] if place else '$'}"
        raise SecretMismatch(told)  # outside, so that no context quotes the value


def sealable(value: msgspec.Raw) -> bytes:
    """Return the bytes of a JSON value that may be sealed. Raises Refusal: 413 when too large, 422 when too deep."""
    raw = bytes(value)
    if len(raw) > MAX_BYTES:
        raise Refusal(TOO_LARGE, f"A value is at most {MAX_BYTES} bytes of JSON.")
    if is_deeper(raw, MAX_DEPTH):
        raise invalid("value", f"nests deeper than {MAX_DEPTH} levels")
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise invalid("value", "is not UTF-8") from None
    return raw


def is_deeper(raw: bytes, limit: int) -> bool:
    """Tell whether JSON nests deeper than a limit."""
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return False
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", raw)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > limit:
            return True
    return False


def seal(keyring: Keyring, place: Place, raw: bytes) -> Envelope:
    """Seal a value to its organization, environment, key and version, and to its provenance."""
    return keyring.enclose(raw, context_of(place))


def open_sealed(keyring: Keyring, sealed: SealedVersion) -> Value:
    """Open a value where it was sealed to; raises SecretAltered."""
    envelope = Envelope(sealed.wrapped_key, sealed.ciphertext)
    try:
        raw = keyring.disclose(sealed.master_key_id, envelope, context_of(sealed))
    except SealBroken:
        DECRYPT_FAILURES.inc()
        raise SecretAltered(f"secret {sealed.key}, version {sealed.version}, does not open") from None
    return Value(sealed.key, sealed.version, raw)


def context_of(place: Place | SealedVersion | WrappedKey) -> bytes:
    """Write down what a value is sealed to: fields of fixed length, the key, which has no zero byte, and the rest."""
    environment = place.environment_id or _NO_ENVIRONMENT
    scope = (place.organization_id.bytes, environment.bytes)
    return b"\0".join((b"secret", *scope, place.version.to_bytes(4), place.key.encode(), place.provenance))
