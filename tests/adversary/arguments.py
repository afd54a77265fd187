"""What an attacker passes for an argument of each type: nothing, too much, and what belongs to others."""

from collections.abc import Iterator, Sequence

Call = list[str | None]

HUGE = "x" * 20_000
MANY = f"{{{','.join(['x'] * 2_000)}}}"
WEIRD = {
    "text": ["", HUGE, "%s\\x01'\"", "\U0001f3e0 ́\u202e", "key", "referrer@example.org"],
    "text[]": ["{}", "{NULL}", "{{a,b},{c,d}}", "[7:8]={a,b}", "{agreements:read,agreements:read}", MANY],
    "integer": ["0", "-1", "2147483647", "-2147483648"],
    "numeric": ["0", "-1", "NaN", "Infinity", "-Infinity", "1e131071", "1e-16383"],
    "timestamp with time zone": ["infinity", "-infinity", "4713-01-01 BC", "294276-12-31", "2001-01-01"],
    "interval": ["0", "-1 second", "178000000 years", "-178000000 years"],
    "jsonb": ["null", "[]", "{}", '"x"', "[" * 500 + "]" * 500, f'{{"x": "{HUGE}"}}'],
    "bytea": ["\\x", "\\x00", "\\x" + "00" * 32, "\\x" + "ff" * 20_000],
    "bytea[]": ["{}", "{NULL}", '{"\\\\x00"}'],
    "boolean": ["true", "false"],
    "inet": ["0.0.0.0/0", "::1"],
    "shared.actor": ["(session,,,,,,owner,,t)", "(esign,,,,,,,,f)"],
    "apiauth.jwt_lifetime": ["15 minutes", "0"],
    "agreement.timeline_events": ["(,,,,,,,,,,,,)"],
}  # fmt: skip
# With what the other arguments are filled while one is attacked.
PLAUSIBLE = {
    "text": "x",
    "integer": "1",
    "numeric": "1",
    "interval": "1 day",
    "bytea": "\\x" + "00" * 32,
    "text[]": "{x}",
}


def calls(types: Sequence[str], labels: dict[str, list[str]], ids: Sequence[str]) -> Iterator[Call]:
    """Yield the arguments of calls of one function: nothing at all, then each argument attacked beside plausible ones.

    `labels` are those of the enumerations, `ids` other tenants'. Each id is tried as all arguments that take one, and
    each of two such arguments with all of them.
    """
    values = {name: [*found, *WEIRD.get(name, ())] for name, found in labels.items()} | WEIRD
    plain: Call = [PLAUSIBLE.get(name) or next(iter(values.get(name, ())), None) for name in types]
    yield [None] * len(types)
    places = [place for place, name in enumerate(types) if name == "uuid"]
    for mine in ids if places else ():
        for other in ids if len(places) > 1 else (mine,):
            yield [
                ({places[0]: mine}).get(place, other) if place in places else kept for place, kept in enumerate(plain)
            ]
    for place, name in enumerate(types):
        for value in (None, *values.get(name, ())):
            for filler in ids[:1]:
                chosen = [filler if each == "uuid" else kept for each, kept in zip(types, plain, strict=True)]
                yield [*chosen[:place], value, *chosen[place + 1 :]]
