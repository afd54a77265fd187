"""What /metrics tells of secrets: how many, by result, and never of which."""

import re

import httpx
import pytest

from tests.api.conftest import Caller, Json, Look, bearer, created, problem

SAMPLE = re.compile(r"^brokerflow_secret_(\w+)_total(?:\{(.*)\})? (\S+)$", re.MULTILINE)

Samples = dict[tuple[str, ...], float]


class Meter:
    """Tells what moved since it was asked last, over HTTP: other tests of this process move the counters too."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._before = self._read()

    def _read(self) -> Samples:
        text = self._client.get("/metrics").text
        assert "canary" not in text
        return {
            (name, *sorted(re.findall(r'"([^"]*)"', labels))): float(value)
            for name, labels, value in SAMPLE.findall(text)
        }

    def moved(self) -> Samples:
        """Return by how much each counter moved, by its name and labels."""
        before, self._before = self._before, self._read()
        return {
            sample: value - before.get(sample, 0)
            for sample, value in self._before.items()
            if value != before.get(sample, 0)
        }


@pytest.fixture
def meter(client: httpx.Client) -> Meter:
    return Meter(client)


def test_reads_are_counted_one_by_one(owner: Caller, meter: Meter) -> None:
    owner.put("/api/secrets/canary/a", json={"value": "canary"})
    assert meter.moved() == {("writes", "done", "postgresql", "secret.write"): 1}
    assert owner.get("/api/secrets/canary/a").status_code == 200
    assert meter.moved() == {("reads", "done", "postgresql"): 1}
    owner.post("/api/secrets/batch", json={"keys": ["canary/a", "canary/b", "canary/c"]})
    assert meter.moved() == {
        ("reads", "done", "postgresql"): 1,
        ("reads", "denied", "postgresql"): 2,
        ("denials", "postgresql", "secret.read"): 2,
    }
    for path in ("/api/secrets", "/api/secrets/count", "/api/secrets/canary/a/versions"):
        assert owner.get(path).status_code == 200
    assert meter.moved() == {}


def test_a_failed_read_moves_its_counter(owner: Caller, meter: Meter, look: Look) -> None:
    problem(owner.get("/api/secrets/canary"), 404, "not_found")
    denied = {("reads", "denied", "postgresql"): 1, ("denials", "postgresql", "secret.read"): 1}
    assert meter.moved() == denied

    body = {"name": "a token", "expires_in_days": 1, "scopes": ["secrets:write"]}
    other = bearer(created(owner.post("/api/tokens", json=body))["token"])
    problem(owner.get("/api/secrets/canary", headers=other), 403, "insufficient_scope")
    assert meter.moved() == denied

    owner.put("/api/secrets/canary", json={"value": "canary"})
    look.execute("alter table secretstore.secret_versions disable trigger secret_versions_immutable")
    look.execute("update secretstore.secret_versions set ciphertext = set_byte(ciphertext, 20, 0) || '\\x00'")
    meter.moved()
    problem(owner.get("/api/secrets/canary"), 500, "secret_integrity")
    assert meter.moved() == {("reads", "altered", "postgresql"): 1, ("decrypt_failures",): 1}


def test_a_read_that_no_database_answers_has_failed(owner: Caller, meter: Meter, look: Look) -> None:
    look.execute("alter function secretstore.grant_reads rename to away")
    problem(owner.get("/api/secrets/canary"), 500, "internal")
    assert meter.moved() == {("reads", "failed", "postgresql"): 1}


def test_commands_are_counted_by_what_came_of_them(owner: Caller, meter: Meter) -> None:
    key = "/api/secrets/canary"
    steps: list[tuple[str, str, Json | None, str, str]] = [
        ("PUT", key, {"value": "canary"}, "secret.write", "done"),
        ("PUT", key, {"value": "canary", "expected_version": 0}, "secret.write", "denied"),
        ("PUT", key, {"canary": 2}, "secret.write", "invalid"),
        ("PUT", "/api/secrets/no%20canary", {"value": 1}, "secret.write", "invalid"),
        ("POST", f"{key}/rollback", {"version": 1}, "secret.rollback", "done"),
        ("POST", f"{key}/rollback", {"version": 9}, "secret.rollback", "denied"),
        ("DELETE", key, None, "secret.delete", "done"),
        ("DELETE", key, None, "secret.delete", "denied"),
        ("POST", f"{key}/undelete", None, "secret.undelete", "done"),
        ("POST", f"{key}/destroy", {"version": 1}, "secret.destroy", "done"),
    ]
    for method, path, body, action, result in steps:
        owner.request(method, path, json=body)
        written: Samples = {("writes", *sorted((result, "postgresql", action))): 1}
        denied: Samples = {("denials", "postgresql", action): 1} if result == "denied" else {}
        assert meter.moved() == written | denied


def test_an_answer_that_is_given_again_is_no_second_command(owner: Caller, meter: Meter) -> None:
    for _ in range(3):
        answer = owner.put("/api/secrets/canary", json={"value": 1}, headers={"Idempotency-Key": "canary"})
        assert answer.status_code == 200
    assert meter.moved() == {("writes", "done", "postgresql", "secret.write"): 1}
