"""What operators see of a request: its id, one line in the log, a few metrics, and the service's health."""

import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.shared import tokens
from app.shared.tokens import Prefix
from tests.conftest import Database
from tests.http.conftest import Person, problem, serving

Log = list[MutableMapping[str, Any]]

GOOD = {"title": "North", "slug": "north"}


@pytest.mark.parametrize("given", ["a", "x" * 128, "8f14e45f-ceea-467f-a8d6-1b2c3d4e5f60", "!~"])
def test_a_well_formed_request_id_is_kept(anybody: httpx.Client, log: Log, given: str) -> None:
    response = anybody.get("/nothing", headers={"X-Request-Id": given})
    assert response.headers["x-request-id"] == response.json()["request_id"] == given
    assert [entry["request_id"] for entry in log] == [given]


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "é", None])
def test_any_other_gets_a_new_one(anybody: httpx.Client, given: str | None) -> None:
    headers = [] if given is None else [(b"X-Request-Id", given.encode())]
    first, second = (anybody.get("/healthz", headers=headers).headers["x-request-id"] for _ in range(2))
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second


def test_each_request_is_one_line(client: httpx.Client, log: Log) -> None:
    made = client.post("/probe/organizations", json=GOOD).json()
    client.get(f"/probe/organizations/{made['id']}?cursor=secret")
    client.get("/nothing")
    told = [(each["method"], each["path"], each["route"], each["status"]) for each in log]
    assert told == [
        ("POST", "/probe/organizations", "/probe/organizations", 201),
        ("GET", f"/probe/organizations/{made['id']}", "/probe/organizations/{organization_id}", 200),
        ("GET", "/nothing", None, 404),
    ]


def test_no_secret_reaches_the_log(client: httpx.Client, person: Person, log: Log) -> None:
    other = tokens.mint(Prefix.PERSONAL)
    client.post("/probe/organizations?token=QUERYSECRET", json={"title": "BODYSECRET", "slug": "No!"})
    client.post("/probe/statements", json={"sql": "selec 'BODYSECRET'"})
    client.get("/probe/organizations", headers={"Authorization": f"Bearer {other}"})
    client.get("/probe/organizations", headers={"Cookie": f"brokerflow_session={person.token}; a=COOKIESECRET"})
    client.get("/probe/broken")
    told = repr([{k: v for k, v in entry.items() if k != "exc_info"} for entry in log])
    for secret in ("QUERYSECRET", "BODYSECRET", "COOKIESECRET", other, person.token):
        assert secret not in told
        assert tokens.digest(secret).hex() not in told
    assert len([entry for entry in log if entry["event"] == "failed"]) == 2


def test_answers_are_neither_stored_nor_sniffed(client: httpx.Client) -> None:
    for path in ("/probe/organizations", "/healthz", "/nothing"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


def test_metrics_know_routes_and_not_paths(client: httpx.Client) -> None:
    identifier = client.post("/probe/organizations", json=GOOD).json()["id"]
    client.get(f"/probe/organizations/{identifier}")
    client.get("/nothing/here")
    told = client.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain")
    assert 'path="/probe/organizations/{organization_id}",status_code="200"' in told.text
    assert identifier not in told.text
    assert "/nothing/here" not in told.text


def test_the_service_tells_its_health_and_versions(anybody: httpx.Client, look: psycopg.Connection[Any]) -> None:
    assert anybody.get("/healthz").json() == {"status": "ok", "database": "ok"}
    assert anybody.get("/api/system/health").json() == {"status": "ok", "database": "ok", "schema": "ok"}
    info = anybody.get("/api/system/info").json()
    assert info["postgresql"] == str(look.info.parameter_status("server_version")).partition(" ")[0]
    assert re.fullmatch(r"\d+\.\d+\.\d+", info["version"])
    assert re.fullmatch(r"\d{4}_\w+", info["schema"])


def test_an_edited_schema_is_not_healthy(anybody: httpx.Client, look: psycopg.Connection[Any]) -> None:
    table = "public._brokerflow_checksums"
    newest = f"(select max(migration_id) from {table})"
    [before] = look.execute(f"select apply_sha256 from {table} where migration_id = {newest}").fetchone() or [None]
    look.execute(f"update {table} set apply_sha256 = 'x' where migration_id = {newest}")
    try:
        unhealthy = anybody.get("/api/system/health")
        told = problem(unhealthy, 503, "schema_mismatch")
        assert (told["database"], told["schema"]) == ("ok", "altered")
        assert unhealthy.headers["retry-after"] == "1"
        assert anybody.get("/healthz").status_code == 200
    finally:
        look.execute(f"update {table} set apply_sha256 = %s where migration_id = {newest}", [before])


def test_a_service_without_a_database_is_up_and_not_healthy(tmp_path: Path, house: Database) -> None:
    with (
        serving("postgresql://nobody@127.0.0.1:1/nothing", tmp_path) as address,
        httpx.Client(base_url=address) as client,
    ):
        parts = {"/healthz": {"database": "unavailable"}, "/api/system/info": {}}
        parts["/api/system/health"] = {"database": "unavailable", "schema": "unknown"}
        for path, told in parts.items():
            response = client.get(path)
            answer = problem(response, 503, "database_unavailable")
            assert answer.keys() - {"type", "title", "status", "detail", "code", "request_id"} == told.keys()
            assert answer.items() >= told.items()
            assert response.elapsed.total_seconds() < 2
            assert response.headers["retry-after"] == "1"
        assert client.get("/livez").status_code == 204
