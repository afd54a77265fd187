"""Tells the story while it happens, and shows what it left: on a terminal in colours, elsewhere as plain text."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

LABELS = {"done": "green", "there": "cyan", "same": "cyan", "refused": "yellow", "skipped": "magenta"}
_MARGIN = 9
_WRAPPED = {"what it says", "rule"}


class Teller:
    """Prints one line a deed, and counts deeds by label and refusals by axiom."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.counts: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._console.print(Text(f"\n{title}", style="bold"))

    def done(self, sentence: str, *, was_there: bool = False) -> None:
        """Tell what somebody did, now or when the story was first told."""
        self._line("there" if was_there else "done", Text(sentence))

    def same(self, sentence: str) -> None:
        """Tell what changes nothing, in a first telling either."""
        self._line("same", Text(sentence))

    def refused(self, tried: str, problem: Mapping[str, Any]) -> None:
        """Tell what somebody tried, and how the service said no."""
        axiom = problem.get("axiom")
        self._refusals[axiom or ""] += 1
        reasons = "; ".join(f"{each['field']}: {each['message']}" for each in problem.get("errors", ()))
        code = f"{problem['status']} {problem['code']}" + (f", axiom {axiom}" if axiom else "")
        self._line("refused", Text.assemble(tried, "\n", (code, "bold"), f". {reasons or problem['detail']}"))

    def skipped(self, sentence: str) -> None:
        """Tell what cannot be played here, and why."""
        self._line("skipped", Text(sentence))

    def say(self, sentence: str) -> None:
        """Say something beside the story, on one line: it may be copied."""
        self._console.print(Text(sentence), soft_wrap=True)

    def timeline(self, events: Iterable[Mapping[str, Any]], people: Mapping[str, str]) -> None:
        """Show an agreement's events, with names for ids."""
        self.chapter("The timeline, as it was recorded")
        table = _table("seq", "recorded (UTC)", "event", "by", "what it says")
        for event in events:
            recorded_at = event["recorded_at"][5:19].replace("T", " ")
            by = people.get(event["user_id"], "somebody") if event["user_id"] else "signing service"
            table.add_row(str(event["seq"]), recorded_at, event["type"], by, _gist(event))
        self._console.print(table)

    def axioms(self, axioms: Iterable[Mapping[str, Any]]) -> None:
        """Show the axioms as the database tells them, and how often each refused something here."""
        self.chapter("The axioms, as the database tells them")
        table = _table("axiom", "rule", "objects", "refusals above")
        for axiom in axioms:
            refusals = str(self._refusals[axiom["id"]] or "")
            table.add_row(axiom["id"], axiom["rule"], str(len(axiom["enforced_by"])), refusals)
        self._console.print(table)

    def _line(self, label: str, text: Text) -> None:
        self.counts[label] += 1
        shown = Text(f"{label:<{_MARGIN}}", style=LABELS[label])
        for line in text.wrap(self._console, self._console.width - _MARGIN):
            line.rstrip()
            self._console.print(Text.assemble(shown, line), soft_wrap=True)
            shown = Text(" " * _MARGIN)


def _table(*columns: str) -> Table:
    """Make a table without lines; only prose wraps."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column not in _WRAPPED, overflow="fold")
    return table


def _gist(event: Mapping[str, Any]) -> str:
    """Return what a reader wants to know of a payload: a move, a text, else nothing."""
    payload = event["payload"]
    if event["corrects_seq"] is not None:
        return f"corrects {event['corrects_seq']}: {payload.get('note', '')}"
    if "from" in payload:
        return f"{payload['from']} to {payload['to']}"
    return str(payload.get("note") or payload.get("purpose") or payload.get("status") or "")
