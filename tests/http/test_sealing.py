"""Sealed values open for whom they were sealed, where they were sealed, and whole."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sealing import Envelope, Keyring, SealBroken, Sealer, Stamp, derive

MASTER = bytes(range(32))
SEALER = Sealer(MASTER, "tests")


@given(st.binary(), st.binary())
def test_a_sealed_value_opens_in_its_context(plaintext: bytes, context: bytes) -> None:
    assert SEALER.open(SEALER.seal(plaintext, context), context) == plaintext
    assert SEALER.disclose(SEALER.enclose(plaintext, context), context) == plaintext


@given(st.binary(), st.binary(), st.binary())
def test_it_does_not_open_in_another_context(plaintext: bytes, context: bytes, other: bytes) -> None:
    if context != other:
        with pytest.raises(SealBroken):
            SEALER.open(SEALER.seal(plaintext, context), other)


@given(st.binary(min_size=1), st.data())
def test_a_flipped_bit_is_found(plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(SEALER.seal(plaintext, b""))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealBroken):
        SEALER.open(bytes(sealed), b"")


@pytest.mark.parametrize("length", [0, 1, 12, 13, 28])
def test_a_truncated_value_is_refused(length: int) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(SEALER.seal(b"", b"")[:length], b"")


def test_another_purpose_and_another_master_key_are_other_keys() -> None:
    sealed = SEALER.seal(b"x", b"")
    for stranger in (Sealer(MASTER, "others"), Sealer(os.urandom(32), "tests")):
        with pytest.raises(SealBroken):
            stranger.open(sealed, b"")


def test_the_same_value_is_never_sealed_alike() -> None:
    assert len({SEALER.seal(b"x", b"") for _ in range(100)}) == 100


def test_an_envelope_needs_its_own_key() -> None:
    first, second = SEALER.enclose(b"one", b"c"), SEALER.enclose(b"two", b"c")
    with pytest.raises(SealBroken):
        SEALER.disclose(Envelope(second.wrapped_key, first.ciphertext), b"c")


def test_derived_keys_are_stable_between_releases() -> None:
    assert derive(MASTER, "tests").hex() == derive(MASTER, "tests").hex()
    assert len(Stamp(MASTER, "tests").of(b"x")) == Stamp.LENGTH


def test_what_an_older_master_key_sealed_opens_still() -> None:
    old, new = Sealer(MASTER, "contacts"), Sealer(bytes(32), "contacts", [MASTER])
    assert new.open(old.seal(b"a value", b"here"), b"here") == b"a value"
    assert new.disclose(old.enclose(b"a value", b"here"), b"here") == b"a value"
    with pytest.raises(SealBroken):
        old.open(new.seal(b"a value", b"here"), b"here")


def test_a_keyring_opens_by_the_id_of_the_key_and_wraps_anew() -> None:
    old, both = Keyring([MASTER], "secrets"), Keyring([bytes(32), MASTER], "secrets")
    envelope = old.enclose(b"a value", b"here")
    assert both.disclose(old.current, envelope, b"here") == b"a value"
    rewrapped = Envelope(both.rewrap(old.current, envelope.wrapped_key, b"here"), envelope.ciphertext)
    assert Keyring([bytes(32)], "secrets").disclose(both.current, rewrapped, b"here") == b"a value"
    for unknown in (old.current, "ffffffffffffffff"):
        with pytest.raises(SealBroken):
            both.disclose(unknown, rewrapped, b"here")
