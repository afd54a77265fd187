"""The configuration is checked whole, and its secrets stay secret."""

import base64
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.settings import SettingsError, load

KEY = base64.b64encode(bytes(range(32))).decode()
SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(64)).decode()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("APP_URL", "OWNER_URL", "MASTER_KEY", "ESIGN_SECRET", "ENV", "PORT"):
        monkeypatch.delenv(f"BROKERFLOW_{name}", raising=False)
    monkeypatch.setenv("BROKERFLOW_HOME", str(tmp_path / "home"))
    return monkeypatch


def refused() -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load()
    return caught.value.sentences


def test_nothing_set_is_the_embedded_development_setup() -> None:
    settings = load()
    assert settings.is_embedded
    assert not settings.is_production
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)


def test_empty_is_unset(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BROKERFLOW_APP_URL", "")
    assert load().is_embedded


MASTER_KEY_SENTENCE = (
    "BROKERFLOW_MASTER_KEY should be 32 bytes in base64, such as brokerflow master-key new prints, or "
    "aws-kms:KEY:CIPHERTEXT; several are separated by spaces, the one that seals first."
)
PROVIDER_SENTENCE = (
    "BROKERFLOW_SECRET_PROVIDER should be postgresql, aws-ssm[:/PATH], aws-secrets-manager[:PREFIX] or "
    "vault[:MOUNT/PATH]."
)

ISSUER_SENTENCE = (
    "BROKERFLOW_OIDC_ISSUER should be a URL that begins with https://, without a query (http:// on this machine only)."
)


def test_every_variable_at_fault_is_named_at_once(environment: pytest.MonkeyPatch) -> None:
    for name, value in {
        "APP_URL": "mysql://localhost",
        "OWNER_URL": "postgresql://u:p%zz@localhost/x",
        "PORT": "http",
        "MASTER_KEY": "c2hvcnQ=",
        "ESIGN_SECRET": f"{SECRET} whsec_short",
        "SECRET_PROVIDER": "vaults",
        "SECRET_TOKEN": "tr_oat_typo",
        "SECRET_CACHE_SECONDS": "3601",
        "SESSION_URL": "redis://:pass-word@localhost/sessions",
        "SESSION_IDLE": "0",
        "SESSION_ABSOLUTE": "2592001",
        "LOG_LEVEL": "loud",
        "POOL_SIZE": "0",
        "LOGIN_LIMIT": "0",
        "BODY_LIMIT": "-1",
        "OIDC_ISSUER": "http://id.example",
        "PUBLIC_URL": "https://flow.example/path",
        "OIDC_SCOPES": "openid",
        "LOGIN_URL": "mysql://localhost",
    }.items():
        environment.setenv(f"BROKERFLOW_{name}", value)
    assert refused() == [
        "BROKERFLOW_APP_URL should be a URL that begins with postgresql://.",
        "BROKERFLOW_OWNER_URL is no PostgreSQL URL: percent-encode special characters in its parts.",
        "BROKERFLOW_PORT should be a valid integer.",
        MASTER_KEY_SENTENCE,
        "BROKERFLOW_ESIGN_SECRET should be whsec_ and 24 to 64 bytes in base64; several are separated by spaces.",
        PROVIDER_SENTENCE,
        "BROKERFLOW_SECRET_TOKEN should be a token of an organization or the secret key of an environment, whole.",
        "BROKERFLOW_SECRET_CACHE_SECONDS should be less than or equal to 3600.",
        "BROKERFLOW_SESSION_URL should be redis://host:port/number, rediss://... or unix:///path.",
        "BROKERFLOW_SESSION_IDLE should be greater than or equal to 1.",
        "BROKERFLOW_SESSION_ABSOLUTE should be less than or equal to 2592000.",
        "BROKERFLOW_LOG_LEVEL should be 'debug', 'info', 'warning' or 'error'.",
        "BROKERFLOW_POOL_SIZE should be greater than or equal to 3.",
        "BROKERFLOW_LOGIN_LIMIT should be greater than or equal to 1.",
        ISSUER_SENTENCE,
        "BROKERFLOW_PUBLIC_URL should end with the host and its port.",
        "BROKERFLOW_OIDC_SCOPES should hold openid and email, separated by spaces.",
        "BROKERFLOW_LOGIN_URL should be a URL that begins with postgresql://.",
        "BROKERFLOW_BODY_LIMIT should be greater than or equal to 1024.",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:pass@redis.example:6380/2",
        "rediss://redis.example",
        "unix:///run/redis.sock",
    ],
)
def test_a_session_store_is_a_redis(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("BROKERFLOW_SESSION_URL", url)
    assert load().session_url == SecretStr(url)


@pytest.mark.parametrize(
    "url",
    ["redis://", "redis://localhost:0", "redis://localhost:seven", "redis://[::1", "unix://", "http://localhost"],
)
def test_no_other_url_is(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("BROKERFLOW_SESSION_URL", url)
    [sentence] = refused()
    assert sentence.startswith("BROKERFLOW_SESSION_URL should be redis://")


def test_production_makes_no_secrets_and_no_server(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BROKERFLOW_ENV", "production")
    variables = [sentence.split()[0] for sentence in refused()]
    assert variables == ["BROKERFLOW_APP_URL", "BROKERFLOW_MASTER_KEY", "BROKERFLOW_ESIGN_SECRET"]


def test_secrets_are_printed_nowhere(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BROKERFLOW_APP_URL", "postgresql://u:pass-word@localhost/x")
    environment.setenv("BROKERFLOW_MASTER_KEY", KEY)
    environment.setenv("BROKERFLOW_ESIGN_SECRET", SECRET)
    settings = load()
    assert settings.master_key == bytes(range(32))
    assert settings.esign_keys == (bytes(24),)
    printed = repr(settings) + str(settings) + settings.model_dump_json()
    assert not [secret for secret in ("pass-word", KEY, SECRET) if secret in printed]


@pytest.mark.parametrize("separator", [" ", ",", ", "])
def test_several_webhook_secrets_are_good_at_once(environment: pytest.MonkeyPatch, separator: str) -> None:
    environment.setenv("BROKERFLOW_ESIGN_SECRET", f"{SECRET}{separator}{OTHER_SECRET}")
    assert load().esign_keys == (bytes(24), bytes(64))


def test_made_secrets_are_private_and_stay(tmp_path: Path) -> None:
    first, second = load(), load()
    assert len(first.master_key) == 32
    assert (first.master_key, first.esign_keys) == (second.master_key, second.esign_keys)
    files = list((tmp_path / "home").iterdir())
    assert {file.name for file in files} == {"master.key", "esign.secret"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    load()
    assert not (tmp_path / "home").exists()


def test_yoyos_spelling_of_a_url_is_understood(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BROKERFLOW_OWNER_URL", "postgresql+psycopg://u@localhost/x")
    owner_url = load().owner_url
    assert owner_url is not None
    assert owner_url.get_secret_value() == "postgresql://u@localhost/x"


OIDC = {
    "OIDC_ISSUER": "https://id.example/realm",
    "OIDC_CLIENT_ID": "brokerflow",
    "OIDC_CLIENT_SECRET": "client-secret",
}


def test_a_provider_takes_all_that_belongs_to_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BROKERFLOW_APP_URL", "postgresql://u@localhost/x")
    environment.setenv("BROKERFLOW_OIDC_ISSUER", OIDC["OIDC_ISSUER"])
    environment.setenv("BROKERFLOW_ENV", "production")
    environment.setenv("BROKERFLOW_MASTER_KEY", KEY)
    environment.setenv("BROKERFLOW_ESIGN_SECRET", SECRET)
    assert [sentence.partition(":")[0] for sentence in refused()] == [
        "BROKERFLOW_PUBLIC_URL is required with BROKERFLOW_OIDC_ISSUER in production",
        "BROKERFLOW_OIDC_CLIENT_ID is required with BROKERFLOW_OIDC_ISSUER",
        "BROKERFLOW_OIDC_CLIENT_SECRET is required with BROKERFLOW_OIDC_ISSUER",
        "BROKERFLOW_LOGIN_URL is required with BROKERFLOW_OIDC_ISSUER",
    ]


def test_what_belongs_to_a_provider_means_nothing_without_one(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BROKERFLOW_OIDC_CLIENT_ID", "brokerflow")
    assert refused() == ["BROKERFLOW_OIDC_CLIENT_ID means nothing without BROKERFLOW_OIDC_ISSUER."]


def test_a_whole_provider_is_read_and_its_secret_printed_nowhere(environment: pytest.MonkeyPatch) -> None:
    for name, value in OIDC.items():
        environment.setenv(f"BROKERFLOW_{name}", value)
    settings = load()
    assert settings.oidc is None, "the embedded server's login is known once it runs"
    environment.setenv("BROKERFLOW_LOGIN_URL", "postgresql://u:pass-word@localhost/x")
    oidc = load().oidc
    assert oidc == (*OIDC.values(), "openid email profile", "postgresql://u:pass-word@localhost/x")
    assert "client-secret" not in repr(settings) + settings.model_dump_json()


NO_ISSUERS = (
    "id.example", "ftp://id.example", "http://id.example", "https://", "https://a b", "https://u@id",
    "https://id.example?x=1", "https://id.example#x", "https://id.example:port", "https://[::1",
)  # fmt: skip


@pytest.mark.parametrize("issuer", NO_ISSUERS)
def test_an_issuer_is_an_https_url(environment: pytest.MonkeyPatch, issuer: str) -> None:
    environment.setenv("BROKERFLOW_OIDC_ISSUER", issuer)
    assert refused()[0].startswith("BROKERFLOW_OIDC_ISSUER ")


@pytest.mark.parametrize(
    "issuer", ["https://id.example", "https://id.example/realms/a", "http://127.0.0.1:8080", "http://[::1]:80"]
)
def test_an_issuer_may_be_near(environment: pytest.MonkeyPatch, issuer: str) -> None:
    for name, value in {**OIDC, "OIDC_ISSUER": issuer}.items():
        environment.setenv(f"BROKERFLOW_{name}", value)
    assert load().oidc_issuer == issuer
