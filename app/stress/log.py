"""Decisions: made from a seed, written down before they are acted on, and replayed from what was written."""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, Self

import msgspec

ASTRAY = 0.12  # how often an actor does not mind whose turn it is
OVER_SQL = 0.4
KEYED = 0.6


class LogError(Exception):
    """A log that cannot be replayed; the message says why."""


class Head(msgspec.Struct, frozen=True):
    """The first line of a log: the run whose decisions follow."""

    seed: int
    concurrency: int
    duration: float


class Decision(msgspec.Struct, frozen=True):
    """What an actor will try, as its generator says.

    `pick` says which of several things it will be about, `chance` whatever else there is to choose.
    """

    actor: str
    number: int
    deed: str
    over: Literal["http", "sql"]
    pick: float
    astray: bool
    keyed: bool
    chance: int

    @property
    def mark(self) -> str:
        """What is written into the things that it makes, to find them by."""
        return f"{self.actor}/{self.number}"


def decisions(seed: int, actor: str, deeds: Mapping[str, int]) -> Iterator[Decision]:
    """Decide, without end, among deeds by their weights."""
    generator = random.Random(f"{seed}/{actor}")  # noqa: S311 - it is to be repeatable, not secret
    names, weights = list(deeds), list(deeds.values())
    number = 0
    while True:
        number += 1
        [deed] = generator.choices(names, weights)
        yield Decision(
            actor,
            number,
            deed,
            over="sql" if generator.random() < OVER_SQL else "http",
            pick=generator.random(),
            astray=generator.random() < ASTRAY,
            keyed=generator.random() < KEYED,
            chance=generator.getrandbits(32),
        )


class Log:
    """The file of a run's decisions, a line each."""

    def __init__(self, file: IO[bytes], head: Head) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()
        self._write(head)

    def write(self, decision: Decision) -> None:
        """Write a decision down."""
        self._write(decision)

    def _write(self, line: Head | Decision) -> None:
        self._file.write(self._encoder.encode(line) + b"\n")


class Replay(msgspec.Struct, frozen=True):
    """What is decided by a log instead of a seed."""

    head: Head
    decided: Sequence[Decision]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a log. Raises LogError."""
        try:
            head, *lines = path.read_bytes().splitlines()
            decode = msgspec.json.Decoder(Decision).decode
            return cls(msgspec.json.decode(head, type=Head), [decode(line) for line in lines])
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise LogError(f"{path} is no log of decisions: {error}") from error

    def decisions(self, actor: str) -> Iterator[Decision]:
        """Return what an actor decided, in order, to its end."""
        return (each for each in self.decided if each.actor == actor)
