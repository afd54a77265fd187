"""What could be lost or weakened in a migrated database, read from its catalog; and what is spared, from its source."""

import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

QUESTION = Path(__file__).with_name("mutants.sql").read_text().encode()
_SCHEMA = Path(__file__).parents[2] / "sql" / "schema"
_SPARED = re.compile(r"^-- Spared by scripts/mutate: (?P<name>.+?)\. (?P<reason>\S.+)$", re.MULTILINE)


class Mutant(NamedTuple):
    """One object weakened in one way: its name, the DDL that makes it, and the words by which tests speak of it."""

    kind: str
    object: str
    change: str
    statement: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """How the mutant is called everywhere."""
        return f"{self.kind} {self.object}: {self.change}"


def find(rows: Iterable[tuple[Any, ...]]) -> list[Mutant]:
    """Return every mutant of a migrated database, by name, from what a superuser is answered to the question."""
    found = [Mutant(kind, name, change, statement, tuple(words)) for kind, name, change, statement, words in rows]
    return sorted(found, key=lambda mutant: mutant.name)


def spared(folder: Path = _SCHEMA) -> dict[str, str]:
    """Return the mutants that no test can kill, each with the reason that stands beside its object.

    It is a comment of one line in the chapter: `-- Spared by scripts/mutate: <name of the mutant>. <reason>`.
    """
    chapters = sorted(folder.glob("*.sql"))
    return {told["name"]: told["reason"] for path in chapters for told in _SPARED.finditer(path.read_text())}


def choose(mutants: Iterable[Mutant], count: int, seed: str) -> Sequence[Mutant]:
    """Draw a sample; the same seed draws the same from the same catalog."""
    everything = list(mutants)
    drawn = random.Random(seed).sample(everything, min(count, len(everything)))  # noqa: S311 - nothing secret
    return sorted(drawn, key=lambda mutant: mutant.name)
