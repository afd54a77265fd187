"""The figures as a picture: bars of requests a second, those of a row below each other."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from scripts.benchmark.measuring import Figures, Row

_BAR, _GAP, _LEFT, _WIDE, _RIGHT = 15, 16, 190, 470, 90
_SERVICE, _LIMIT = "BrokerFlow", "PostgreSQL alone"
_COLOURS = {_SERVICE: "#1f6feb", _LIMIT: "#b9c4d0"}
_PEER_COLOURS = ("#d9822b", "#8a5fbf", "#2c9a63", "#c2455e")
_SHADES = ("#9ec5fe", "#4d94f7", "#1f5fc4", "#0b3a85")
_INK, _NOTE = "#1f2328", "#57606a"
_FONT = 'font-family="system-ui, sans-serif" font-size="13"'
_TITLE = "What requests of BrokerFlow take, beside what is named in the legend"

Bars = list[tuple[str, float]]
Colours = dict[str, str]
Grown = tuple[Sequence[str], Sequence[tuple[str, list[Figures]]]]


def draw(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Draw requests a second of the service, of PostgreSQL alone and of the peers, as SVG."""
    colours = _COLOURS | dict(zip(_peers(rows), _PEER_COLOURS, strict=False))
    groups = [(row.name, _bars(row)) for row in rows]
    shown = {
        name: colour for name, colour in colours.items() if any(name == bar for _, bars in groups for bar, _ in bars)
    }
    longest = max(figure for _, bars in groups for _, figure in bars)
    path.write_text(_svg(groups, [shown], caption, "{:,.0f}", [longest] * len(groups)))


def draw_growth(parts: Sequence[Grown], path: Path, caption: str) -> None:
    """Draw median milliseconds as SVG: rows with the labels of their bars, a shade darker with each size.

    Each row has a scale of its own: how long its bars are beside each other is what is to be seen.
    """
    keys = [dict(zip(labels, _SHADES, strict=False)) for labels, _ in parts]
    groups = []
    for labels, measured in parts:
        for name, figures in measured:
            bars = [(label, figure.p50) for label, figure in zip(labels, figures, strict=True)]
            groups.append((name, bars))
    longest = [max(figure for _, figure in bars) for _, bars in groups]
    path.write_text(_svg(groups, keys, f"{caption}. Each row to its own scale", "{:.2f}", longest))


def _peers(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.peers))


def _bars(row: Row) -> Bars:
    bars = [(_SERVICE, row.service.rate)]
    if row.limit.rounds:
        bars.append((_LIMIT, row.limit.rate))
    return bars + [(name, figures.rate) for name, figures in row.peers.items()]


def _svg(
    groups: Sequence[tuple[str, Bars]], keys: Sequence[Colours], caption: str, form: str, longest: Sequence[float]
) -> str:
    """Write the bars of each group below each other, as long as the group's longest takes the whole width."""
    colours = {name: colour for key in keys for name, colour in key.items()}
    parts, top = [], 18
    for key in keys:
        parts += _legend(key, top)
        top += 20
    for (name, bars), whole in zip(groups, longest, strict=True):
        middle = top + len(bars) * _BAR / 2 + 5
        parts.append(f'<text x="{_LEFT - 12}" y="{middle:.0f}" text-anchor="end" fill="{_INK}">{escape(name)}</text>')
        for whose, figure in bars:
            parts += _bar(top, figure / (whole or 1.0) * _WIDE, form.format(figure), colours[whose])
            top += _BAR
        top += _GAP
    parts.append(f'<text x="16" y="{top + 6}" fill="{_NOTE}" font-size="11">{escape(caption)}</text>')
    return _framed(parts, _LEFT + _WIDE + _RIGHT, top + 20)


def _framed(parts: Sequence[str], width: int, height: int) -> str:
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" {_FONT}>'
    ground = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([opening, f"<title>{_TITLE}</title>", ground, *parts, "</svg>", ""])


def _legend(colours: Colours, top: int) -> list[str]:
    """Put the names in one line, each as wide as it is."""
    left, parts = 16.0, []
    for name, colour in colours.items():
        parts.append(f'<rect x="{left:.0f}" y="{top - 9}" width="11" height="11" fill="{colour}"/>')
        parts.append(f'<text x="{left + 16:.0f}" y="{top}" fill="{_INK}" font-size="12">{escape(name)}</text>')
        left += 34 + 6.6 * len(name)
    return parts


def _bar(top: int, width: float, figure: str, colour: str) -> list[str]:
    return [
        f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR - 2}" fill="{colour}"/>',
        f'<text x="{_LEFT + width + 5:.1f}" y="{top + 11}" fill="{_NOTE}" font-size="11">{figure}</text>',
    ]
