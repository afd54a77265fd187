"""Identifiers that the service chooses itself, because something is sealed to them before their row exists."""

import secrets
import time
from datetime import timedelta
from uuid import UUID

_VERSION = 7 << 76
_VARIANT = 0b10 << 62
_MILLISECOND = timedelta(milliseconds=1)


def uuid7() -> UUID:
    """Make a version 7 UUID (RFC 9562): milliseconds, 12 bits of the fraction below them, 62 random bits."""
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = nanoseconds * 4096 // 1_000_000
    return UUID(int=milliseconds << 80 | _VERSION | fraction << 64 | _VARIANT | secrets.randbits(62))


def earlier(identifier: UUID, by: timedelta) -> UUID:
    """Return the least version 7 UUID of the millisecond that lies so long before an identifier's."""
    milliseconds = max((identifier.int >> 80) - by // _MILLISECOND, 0)
    return UUID(int=milliseconds << 80 | _VERSION | _VARIANT)
