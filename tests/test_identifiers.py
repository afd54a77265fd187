"""UUIDs of version 7, as RFC 9562 says."""

import time
from datetime import timedelta
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from app.identifiers import earlier, uuid7


def test_an_identifier_is_of_version_7_and_of_this_moment() -> None:
    before = time.time_ns() // 1_000_000
    identifier = uuid7()
    after = time.time_ns() // 1_000_000
    assert (identifier.version, identifier.variant) == (7, RFC_4122)
    assert before <= identifier.int >> 80 <= after


def test_identifiers_differ_and_keep_the_order_of_their_making() -> None:
    made = []
    for _ in range(200):
        made.append(uuid7())
        now = time.time_ns()
        while time.time_ns() < now + 1_000:  # its resolution is a quarter of a microsecond
            pass
    assert len(set(made)) == 200
    assert made == sorted(made)


def test_the_fraction_fills_its_twelve_bits_and_no_more() -> None:
    fractions = [uuid7().int >> 64 & 0xFFF for _ in range(20_000)]
    assert max(fractions) > 3000
    assert min(fractions) < 1000


def test_the_random_bits_vary() -> None:
    tails = [uuid7().int & (1 << 62) - 1 for _ in range(1000)]
    for bit in range(62):
        assert 300 < sum(tail >> bit & 1 for tail in tails) < 700


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 74) - 1), st.integers(0, 10**9))
def test_earlier_is_the_least_of_its_millisecond(milliseconds: int, rest: int, back: int) -> None:
    identifier = UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | (rest >> 62) << 64 | rest & (1 << 62) - 1)
    assert identifier.version == 7
    least = earlier(identifier, timedelta(milliseconds=back))
    assert (least.version, least.variant) == (7, RFC_4122)
    assert least.int >> 80 == max(milliseconds - back, 0)
    assert least.int & (1 << 76) - 1 == 2 << 62
    assert least <= identifier or milliseconds < back
