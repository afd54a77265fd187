"""What the actors know of: things that an answer told of, newest last, each in the state that was last heard of."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.stress.log import Decision

REMEMBERED = 300  # of a kind; older ones are left in peace


@dataclass
class Thing:
    """Something with an id."""

    id: str
    state: str
    about: dict[str, Any] = field(default_factory=dict)


class Board:
    """The things, by kind."""

    def __init__(self) -> None:
        self._things: dict[str, deque[Thing]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def add(self, kind: str, id: object, state: str, **about: Any) -> None:  # noqa: A002 - it is one
        """Tell of something, once."""
        if self.find(kind, str(id)) is None:
            self._things[kind].append(Thing(str(id), state, about))

    def find(self, kind: str, id: str) -> Thing | None:  # noqa: A002
        """Return a thing by its id."""
        return next((thing for thing in self._things[kind] if thing.id == id), None)

    def pick(
        self, kind: str, decision: Decision, *states: str, where: Callable[[Thing], bool] = lambda _: True
    ) -> Thing | None:
        """Return what a decision is about: of those in one of the states, or astray of all, the newest most likely."""
        things = list(self._things[kind])
        if not decision.astray:
            things = [thing for thing in things if thing.state in states and where(thing)]
        return things[-1 - int(decision.pick**2 * len(things))] if things else None
