"""`brokerflow verify` finds what was altered in an exported timeline."""

import hashlib
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from app.verify import FORMAT, Link, Proof, genesis_of, verify
from tests.cli.conftest import run

AGREEMENT = UUID("01a202c0-bda6-7ac8-8d43-20a789412cc6")


def export() -> bytes:
    """Export a chain of three events."""
    links: list[Link] = []
    hashed = genesis_of(AGREEMENT)
    for seq in (1, 2, 3):
        event = {"agreement_id": AGREEMENT, "seq": seq, "recorded_at": f"2026-11-22T10:00:0{seq}Z", "note": "a \u2603"}
        body = msgspec.json.encode(event).decode()
        hashed = hashlib.sha256(hashed + body.encode()).digest()
        links.append(Link(seq, body, hashed.hex()))
    return msgspec.json.encode(Proof(FORMAT, AGREEMENT, genesis_of(AGREEMENT).hex(), links, hashed.hex()))


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    path = tmp_path / "proof.json"
    path.write_bytes(export())
    return path


def test_an_export_is_intact(proof: Path) -> None:
    told = run({}, "verify", str(proof))
    assert told.returncode == 0
    assert told.stdout.startswith(f"Intact: 3 events of agreement {AGREEMENT}.\nHead:   ")


def test_standard_input_is_read_too(proof: Path) -> None:
    assert run({}, "verify", "-", stdin=proof.read_text()).returncode == 0


def test_every_altered_byte_is_found() -> None:
    whole = export()
    for place in range(len(whole)):
        for byte in {whole[place] ^ 1, whole[place] ^ 32, ord(" ")} - {whole[place]}:
            altered = whole[:place] + bytes([byte]) + whole[place + 1 :]
            assert not verify(altered, None).is_intact, altered[max(0, place - 20) : place + 20]


def test_an_altered_byte_is_told_with_its_event(proof: Path) -> None:
    proof.write_bytes(proof.read_bytes().replace(b"10:00:02", b"10:00:00"))
    told = run({}, "verify", str(proof))
    assert told.returncode == 1
    assert told.stdout.startswith("Not intact: event 2: ")


def test_a_chain_that_was_cut_short_is_found_by_its_head(proof: Path) -> None:
    whole = msgspec.json.decode(export(), type=Proof)
    links = whole.events[:2]
    proof.write_bytes(msgspec.json.encode(msgspec.structs.replace(whole, events=links, head=links[-1].hash)))
    assert run({}, "verify", str(proof)).returncode == 0
    told = run({}, "verify", str(proof), "--head", whole.head.upper())
    assert told.returncode == 1
    assert "does not end in the head that was kept" in told.stdout


@pytest.mark.parametrize("text", ["", "{}", "[]", "\udcff", "[" * 100_000])
def test_what_is_no_proof_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "proof.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    told = run({}, "verify", str(path))
    assert told.returncode == 1
    assert told.stdout.startswith("Not intact: this is no exported timeline: ")
    assert "Traceback" not in told.stderr
