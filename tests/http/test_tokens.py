"""Tokens: what is ours is told from what is not, without a query."""

import re

from hypothesis import given
from hypothesis import strategies as st

from app.shared import tokens
from app.shared.tokens import ALPHABET, Prefix

PREFIXES = st.sampled_from(list(Prefix))


@given(PREFIXES)
def test_a_token_is_its_prefix_and_forty_base62_characters(prefix: Prefix) -> None:
    token = tokens.mint(prefix)
    assert re.fullmatch(rf"{prefix}[0-9A-Za-z]{{40}}", token)
    assert tokens.prefix_of(token) is prefix


@given(PREFIXES, st.data())
def test_any_single_character_changed_is_refused(prefix: Prefix, data: st.DataObject) -> None:
    token = tokens.mint(prefix)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(ALPHABET + "_-. \u00e9\u0660").filter(lambda c: c != token[place]))
    assert tokens.prefix_of(token[:place] + other + token[place + 1 :]) is None


@given(PREFIXES, st.data())
def test_two_neighbours_swapped_are_refused(prefix: Prefix, data: st.DataObject) -> None:
    token = tokens.mint(prefix)
    place = data.draw(st.integers(0, len(token) - 2).filter(lambda n: token[n] != token[n + 1]))
    assert tokens.prefix_of(token[:place] + token[place + 1] + token[place] + token[place + 2 :]) is None


@given(st.text())
def test_any_text_is_refused_quietly(text: str) -> None:
    assert tokens.prefix_of(text) is None


@given(PREFIXES)
def test_a_prefix_cannot_be_exchanged(prefix: Prefix) -> None:
    token = tokens.mint(prefix)
    for other in Prefix:
        if other is not prefix:
            assert tokens.prefix_of(other + token.removeprefix(prefix)) is None


def test_the_digest_is_sha256_of_the_text() -> None:
    assert tokens.digest("abc").hex().startswith("ba7816bf8f01cfea414140de5dae2223")
