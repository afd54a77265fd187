"""Secrets of the service's own code: read with its own token, where it says so."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.main import create_app
from app.secretstore.providers.protocol import ProviderRefused
from app.settings import Settings
from tests.api.conftest import Caller, Json, Look, created
from tests.conftest import Database


def token(owner: Caller, *scopes: str) -> SecretStr:
    body: Json = {"name": "the service", "expires_in_days": 1, "scopes": scopes}
    return SecretStr(created(owner.post(f"/api/organizations/{owner.organization['id']}/tokens", json=body))["token"])


async def test_the_service_reads_with_its_own_token_and_leaves_a_trace(
    owner: Caller, database: Database, tmp_path: Path, look: Look
) -> None:
    app = create_app(
        Settings(app_url=SecretStr(database.app_url), home=tmp_path, secret_token=token(owner, "secrets:read"))
    )
    writer = create_app(
        Settings(app_url=SecretStr(database.app_url), home=tmp_path, secret_token=token(owner, "secrets:write"))
    )
    async with app.lifespan(), writer.lifespan():
        assert await writer.state.secrets.set("esign/webhook", ["whsec_x"]) == 1
        assert await app.state.secrets.get_or_raise("esign/webhook", list[str]) == ["whsec_x"]
        assert await app.state.secrets.get("none") is None
        with pytest.raises(ProviderRefused, match="postgresql: The credential lacks the scope secrets:"):
            await app.state.secrets.set("esign/webhook", [])
        with pytest.raises(ProviderRefused, match="postgresql: The credential lacks the scope secrets:"):
            await writer.state.secrets.get("esign/webhook")
    traces = look.execute(
        "select action, outcome, reason, regexp_replace(subject, '^.*/-/', '') from shared.audit_log "
        "where request_id = 'service' and credential_kind = 'organization_token' order by id"
    ).fetchall()
    assert traces == [
        ("secret.write", "done", None, "esign/webhook"),
        ("secret.read", "done", None, "esign/webhook"),
        ("secret.read", "denied", "missing", "none"),
        ("secret.write", "denied", "credential_scope", "esign/webhook"),
        ("secret.read", "denied", "credential_scope", "esign/webhook"),
    ]
