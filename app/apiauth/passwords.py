"""Stretches passwords, so that guessing one is dear even for a thief of the database."""

import asyncio
import os
import re
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from argon2.low_level import Type, hash_secret_raw

from app.errors import TOO_MANY_REQUESTS, Refusal

SALT_BYTES = 16
KEY_BYTES = 32

_METHOD = re.compile(r"\$argon2id\$v=19\$m=(?P<kibibytes>\d+),t=(?P<rounds>\d+),p=1")


class Cost(NamedTuple):
    """What one stretching takes: passes over so much memory."""

    rounds: int
    kibibytes: int

    @property
    def method(self) -> str:
        """What the database keeps beside what was stretched so: the beginning of a PHC string."""
        return f"$argon2id$v=19$m={self.kibibytes},t={self.rounds},p=1"

    @classmethod
    def of(cls, method: str) -> "Cost":
        """Read it; raises ValueError for another's."""
        if (told := _METHOD.fullmatch(method)) is None:
            raise ValueError(f"{method!r} is no way in which passwords are stretched")
        return cls(int(told["rounds"]), int(told["kibibytes"]))


# The second recommendation of RFC 9106, in one lane: with two passwords at once every core is busy already. It may be
# changed: each password is kept with the cost that it had, and gets this one at its next login.
COST = Cost(rounds=3, kibibytes=64 * 1024)

AT_ONCE = 2  # so the service never holds more than 128 MiB for it
WAITING = 64  # some seconds' worth; more would only time out

_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords")
_places = threading.BoundedSemaphore(AT_ONCE + WAITING)


def new_salt() -> bytes:
    """Make the salt of a new password."""
    return os.urandom(SALT_BYTES)


async def stretch(password: str, salt: bytes, cost: Cost) -> bytes:
    """Return the 32 bytes of argon2id (RFC 9106) over a password in normal form C, which keyboards differ in.

    Raises Refusal (429) when too many others wait for theirs.
    """
    if not _places.acquire(blocking=False):
        raise Refusal(TOO_MANY_REQUESTS, "Too many passwords are being checked; try again.")
    try:
        normal = unicodedata.normalize("NFC", password).encode()
        return await asyncio.get_running_loop().run_in_executor(_threads, _stretched, normal, salt, cost)
    finally:
        _places.release()


def _stretched(password: bytes, salt: bytes, cost: Cost) -> bytes:
    return hash_secret_raw(
        password,
        salt,
        time_cost=cost.rounds,
        memory_cost=cost.kibibytes,
        parallelism=1,
        hash_len=KEY_BYTES,
        type=Type.ID,
    )
