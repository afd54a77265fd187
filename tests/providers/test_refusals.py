"""How providers refuse and fail: in sentences, without values; and what is read that others put."""

import base64
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from app import aws as clients
from app import masterkeys
from app.secretstore.providers.postgresql import PostgreSQL
from app.secretstore.providers.protocol import (
    COMPARE,
    DESTROY,
    OVERWRITE,
    UNDELETE,
    ProviderCannot,
    ProviderRefused,
    ProviderUnavailable,
    SecretProvider,
)
from app.secretstore.providers.secretsmanager import SecretsManager
from app.secretstore.providers.ssm import ParameterStore
from app.secretstore.providers.vault import Vault
from app.secretstore.secrets import Secrets, secrets_at
from app.settings import SecretPlace, Settings
from tests import aws
from tests.cli.conftest import environment, run
from tests.conftest import Database

CANARY = "canary-9b1e"


@pytest.fixture
def parameters(in_cloud: aws.Variables) -> Secrets:
    return secrets_at(SecretPlace("aws-ssm", "refusals"), None)


@pytest.fixture
def manager(in_cloud: aws.Variables) -> Secrets:
    return secrets_at(SecretPlace("aws-secrets-manager", "refusals"), None)


@pytest.fixture
def silence() -> Iterator[str]:
    """An address where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_what_others_put_is_read_json_as_json_and_text_as_text(
    parameters: Secrets, manager: Secrets, in_cloud: aws.Variables
) -> None:
    ssm, secretsmanager = clients.client("ssm"), clients.client("secretsmanager")
    ssm.put_parameter(Name="/refusals/text", Value="hunter 2", Type="SecureString")
    ssm.put_parameter(Name="/refusals/json", Value='{"a": 1}', Type="String")
    secretsmanager.create_secret(Name="refusals/text", SecretString="hunter 2")
    secretsmanager.create_secret(Name="refusals/json", SecretString='{"a": 1}')
    secretsmanager.create_secret(Name="refusals/bytes", SecretBinary=b"\0")
    for kept in (parameters, manager):
        assert await kept.get("text") == "hunter 2"
        assert await kept.get("json") == {"a": 1}
    with pytest.raises(ProviderCannot, match="aws-secrets-manager has bytes under bytes"):
        await manager.get("bytes")


async def test_versions_of_others_have_no_number_and_ours_go_on(manager: Secrets, in_cloud: aws.Variables) -> None:
    console = clients.client("secretsmanager")
    console.create_secret(Name="refusals/shared", SecretString="theirs")
    assert (await manager.provider.read("shared")).version == 0
    assert await manager.versions("shared") == []
    assert [await manager.set("shared", number) for number in (1, 2)] == [1, 2]
    for number in range(2):
        console.put_secret_value(SecretId="refusals/shared", SecretString=f"theirs again {number}")
    assert await manager.get("shared") == "theirs again 1"
    assert await manager.set("shared", 3) == 3
    assert await manager.get_or_raise("shared", int, version=2) == 2


async def test_a_secret_that_was_made_without_a_value_takes_one(manager: Secrets, in_cloud: aws.Variables) -> None:
    clients.client("secretsmanager").create_secret(Name="refusals/empty")
    assert await manager.get("empty") is None
    assert await manager.set("empty", 1) == 1
    assert await manager.get("empty") == 1


def test_no_log_holds_a_value_or_the_master_key(in_cloud: aws.Variables) -> None:
    """Not at debug either, where boto3 tells requests and answers whole."""
    kept = masterkeys.wrapped(
        [CANARY.encode().ljust(32)], str(clients.client("kms").create_key()["KeyMetadata"]["Arn"])
    )
    program = (
        "import asyncio, sys; from app import logs, masterkeys; from app.secretstore.secrets import secrets_at\n"
        "from app.settings import SecretPlace; logs.configure('debug')\n"
        "masterkeys.opened(masterkeys.parse(sys.argv[1]))\n"
        "secrets = secrets_at(SecretPlace('aws-secrets-manager', 'logs'), None)\n"
        f"asyncio.run(secrets.set('k', '{CANARY}')); assert asyncio.run(secrets.get('k')) == '{CANARY}'"
    )
    command = [sys.executable, "-c", program, str(kept[0])]
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert CANARY not in told
    assert base64.b64encode(CANARY.encode().ljust(32)).decode() not in told


async def test_a_name_of_too_many_levels_is_refused(parameters: Secrets) -> None:
    assert await parameters.set("/".join("abcdefghijklmn"), 1) == 1
    with pytest.raises(ProviderCannot, match="at most 15 levels"):
        await parameters.set("/".join("abcdefghijklmno"), 1)


@pytest.mark.parametrize("name", ["aws-ssm", "aws-secrets-manager"])
async def test_what_does_not_answer_is_told_with_its_address(
    name: str, in_cloud: aws.Variables, monkeypatch: pytest.MonkeyPatch, silence: str
) -> None:
    for endpoint in ("http://127.0.0.1:1", silence):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(clients, "READ_TIMEOUT", 0.2)
        kept = secrets_at(SecretPlace(name, ""), None)
        for act in (kept.get("k"), kept.set("k", CANARY)):
            with pytest.raises(ProviderUnavailable, match=f'^{name}: .*"{endpoint}/"$') as caught:
                await act
            assert CANARY not in str(caught.value)


async def test_without_credentials_it_is_refused(in_cloud: aws.Variables, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    kept = secrets_at(SecretPlace("aws-ssm", ""), None)
    with pytest.raises(ProviderUnavailable, match="aws-ssm: Unable to locate credentials"):
        await kept.get("k")


async def test_a_vault_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_TOKEN", CANARY)
    kept = secrets_at(SecretPlace("vault", "kv/here"), None)
    for act in (kept.get("k"), kept.set("k", CANARY)):
        with pytest.raises(ProviderUnavailable, match="vault does not answer at kv/here/: ConnectionError"):
            await act


async def test_a_vault_says_whom_and_what_it_does_not_have(in_vault: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderRefused, match="vault has no KV engine of version 2 at nowhere/x/"):
        await secrets_at(SecretPlace("vault", "nowhere/x"), None).get("k")
    monkeypatch.setenv("VAULT_TOKEN", "none")
    with pytest.raises(ProviderRefused, match="VAULT_TOKEN does not allow this at secret/brokerflow/"):
        await secrets_at(SecretPlace("vault", ""), None).set("k", CANARY)


async def test_postgresql_needs_a_token_of_the_services_own() -> None:
    kept = secrets_at(SecretPlace("postgresql", ""), None)
    for act in (kept.get("k"), kept.set("k", CANARY), kept.keys()):
        with pytest.raises(ProviderRefused, match="set BROKERFLOW_SECRET_TOKEN"):
            await act


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("aws-ssm", "boto3", "aws"), ("aws-secrets-manager", "boto3", "aws"), ("vault", "hvac", "vault")],
)
def test_without_its_package_a_provider_says_what_to_install(name: str, package: str, extra: str) -> None:
    program = (
        f"import asyncio, sys; sys.modules.update({package}=None)\n"
        "from app.secretstore.secrets import secrets_at; from app.settings import SecretPlace\n"
        f"asyncio.run(secrets_at(SecretPlace('{name}', ''), None).get('k'))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(f"needs {package}: install brokerflow[{extra}]")


def test_nothing_of_a_provider_is_imported_unless_it_is_chosen(tmp_path: Path) -> None:
    program = (
        "import sys; from app.main import create_app; from app.settings import Settings\n"
        "create_app(Settings(app_url='postgresql://x@127.0.0.1:1/x', home=sys.argv[1]))\n"
        "print(sorted({'boto3', 'botocore', 'hvac', 'requests'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_check_says_whether_secrets_can_be_read(in_cloud: aws.Variables, database: Database, tmp_path: Path) -> None:
    variables = {
        "BROKERFLOW_APP_URL": database.app_url,
        "BROKERFLOW_OWNER_URL": database.owner_url,
        "BROKERFLOW_HOME": str(tmp_path),
        "BROKERFLOW_SECRET_PROVIDER": "aws-ssm:/check",
    }
    assert run(variables, "check").returncode == 0
    away = run({**variables, **aws.leading_to("http://127.0.0.1:1")}, "check")
    assert away.returncode == 1
    assert away.stdout.startswith(
        "Secrets cannot be read as BROKERFLOW_SECRET_PROVIDER says: aws-ssm: Could not connect"
    )


def test_what_is_no_provider_is_none() -> None:
    for text in ("", "vaults", "postgresql:x", "vault:", "aws-ssm:a b", "aws-kms:x", "Vault", "vault\n"):
        with pytest.raises(ValidationError, match="should be postgresql, "):
            Settings(secret_provider=text)
    assert Settings(secret_provider="vault:kv/here").secret_place == SecretPlace("vault", "kv/here")
    assert Settings().secret_place == SecretPlace("postgresql", "")


def test_the_readme_tells_what_each_can_do() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text().partition("\n### Secrets kept elsewhere\n")[2]
    lines = [line for line in text.partition("\n### ")[0].splitlines() if line.startswith("| ")]
    names, *rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    told = {row[0]: row[1:] for row in rows}
    providers: list[SecretProvider] = [PostgreSQL(None), ParameterStore(), SecretsManager(), Vault()]
    assert names[1:] == [provider.name for provider in providers]
    assert told["largest value, bytes of JSON"] == [str(provider.largest) for provider in providers]
    for lack in (COMPARE, OVERWRITE, UNDELETE, DESTROY):
        lacking = [cell in {"no", "0 only"} for cell in told[lack]]
        assert lacking == [lack in provider.lacks for provider in providers], lack
