"""Master keys that AWS KMS keeps: over HTTP, as the service and the operator meet them."""

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import aws as clients
from app import masterkeys
from app.masterkeys import KmsKey, MasterKeyUnavailable
from app.sealing import Envelope, Keyring, SealBroken, key_id
from app.settings import Settings, SettingsError
from tests import aws
from tests.cli.conftest import environment, run, served
from tests.conftest import Database

PLAIN = bytes(range(32))
PLAIN_TEXT = base64.b64encode(PLAIN).decode()


@pytest.fixture
def kms(in_cloud: aws.Variables) -> Any:
    """A client of KMS."""
    return clients.client("kms")


@pytest.fixture
def key(kms: Any) -> str:
    """The ARN of a key in KMS."""
    return str(kms.create_key()["KeyMetadata"]["Arn"])


def keys(listed: str, home: Path) -> tuple[bytes, ...]:
    return Settings.model_validate({"given_master_key": listed, "home": home}).master_keys


def refused(listed: str, home: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        keys(listed, home)
    assert caught.value.__suppress_context__
    [sentence] = caught.value.sentences
    return sentence


def test_a_key_that_kms_made_is_had_at_start_the_same_each_time(key: str, tmp_path: Path) -> None:
    listed = str(masterkeys.generated(key))
    assert listed.startswith(f"aws-kms:{key}:")
    [first], [second] = keys(listed, tmp_path), keys(listed, tmp_path)
    assert (len(first), first) == (32, second)
    assert keys(str(masterkeys.generated(key)), tmp_path) != (first,)


def test_an_alias_names_the_key_too(kms: Any, key: str, tmp_path: Path) -> None:
    kms.create_alias(AliasName="alias/brokerflow", TargetKeyId=key)
    listed = str(masterkeys.generated("alias/brokerflow"))
    assert listed.startswith("aws-kms:alias/brokerflow:")
    assert len(keys(listed, tmp_path)[0]) == 32


def test_one_moves_from_a_plain_key_to_kms_and_back(key: str, tmp_path: Path) -> None:
    kept = str(masterkeys.generated(key))
    plain, kms, back = (
        Keyring(keys(listed, tmp_path), "secrets")
        for listed in (PLAIN_TEXT, f"{kept} {PLAIN_TEXT}", f"{PLAIN_TEXT},{kept}")
    )
    first, second = plain.enclose(b"first", b"c"), kms.enclose(b"second", b"c")
    assert kms.disclose(plain.current, first, b"c") == b"first"
    assert back.disclose(kms.current, second, b"c") == b"second"
    moved = Envelope(kms.rewrap(plain.current, first.wrapped_key, b"c"), first.ciphertext)
    assert kms.disclose(kms.current, moved, b"c") == b"first"
    with pytest.raises(SealBroken):
        plain.disclose(kms.current, moved, b"c")
    assert back.current == plain.current == key_id(PLAIN)


def test_a_key_in_use_is_kept_by_kms_and_stays_the_same(key: str, tmp_path: Path) -> None:
    [kept] = masterkeys.wrapped([PLAIN], key)
    assert PLAIN_TEXT not in str(kept)
    assert keys(str(kept), tmp_path) == (PLAIN,)
    assert keys(f"{kept} {PLAIN_TEXT}", tmp_path) == (PLAIN,)


def test_the_file_in_the_home_folder_may_name_kms_too(key: str, tmp_path: Path) -> None:
    (tmp_path / "master.key").write_text(str(masterkeys.wrapped([PLAIN], key)[0]))
    assert Settings(home=tmp_path).master_keys == (PLAIN,)


def test_what_was_altered_or_encrypted_for_others_is_refused(kms: Any, key: str, tmp_path: Path) -> None:
    good = masterkeys.generated(key)
    altered = KmsKey(key, good.ciphertext[:-1] + bytes([good.ciphertext[-1] ^ 1]))
    foreign = KmsKey(
        key, kms.encrypt(KeyId=key, Plaintext=PLAIN, EncryptionContext={"application": "x"})["CiphertextBlob"]
    )
    for wrong in (altered, foreign):
        assert refused(str(wrong), tmp_path) == (
            f"BROKERFLOW_MASTER_KEY cannot be had from AWS KMS by {key}: AWS answers InvalidCiphertextException."
        )


def test_what_is_no_master_key_is_refused(kms: Any, key: str, tmp_path: Path) -> None:
    short = kms.encrypt(KeyId=key, Plaintext=b"short", EncryptionContext=masterkeys.KMS_CONTEXT)["CiphertextBlob"]
    assert refused(str(KmsKey(key, short)), tmp_path) == (
        f"BROKERFLOW_MASTER_KEY holds 5 bytes under {key}, and a master key has 32."
    )


def test_a_key_that_kms_does_not_have_is_refused(in_cloud: aws.Variables) -> None:
    with pytest.raises(MasterKeyUnavailable, match="by alias/none: AWS answers NotFoundException"):
        masterkeys.generated("alias/none")


@pytest.mark.parametrize(
    "item", ["aws-kms:", "aws-kms:alias/x", "aws-kms:alias/x:", "aws-kms::AQID", "aws-kms:alias/x:?"]
)
def test_what_is_not_written_as_it_should_be_is_refused_before_kms_is_asked(item: str) -> None:
    with pytest.raises(ValueError, match="aws-kms:KEY:CIPHERTEXT"):
        masterkeys.parse(f"{PLAIN_TEXT} {item}")


def test_the_service_serves_with_a_key_of_kms_and_not_without_kms(
    key: str, in_cloud: aws.Variables, database: Database, tmp_path: Path
) -> None:
    variables = {
        "BROKERFLOW_APP_URL": database.app_url,
        "BROKERFLOW_OWNER_URL": database.owner_url,
        "BROKERFLOW_HOME": str(tmp_path),
        "BROKERFLOW_MASTER_KEY": str(masterkeys.generated(key)),
    }
    with served(variables) as url:
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    sentence = f"BROKERFLOW_MASTER_KEY cannot be had from AWS KMS by {key}: "
    sentence += 'Could not connect to the endpoint URL: "http://127.0.0.1:1/".'
    away = run({**variables, **aws.leading_to("http://127.0.0.1:1")}, "serve")
    assert (away.returncode, away.stdout) == (2, "")
    assert away.stderr.splitlines()[-2:] == ["brokerflow: the configuration cannot be used:", sentence]


def test_the_command_makes_wraps_and_lists_master_keys(key: str, in_cloud: aws.Variables, tmp_path: Path) -> None:
    variables = {"BROKERFLOW_HOME": str(tmp_path), "BROKERFLOW_MASTER_KEY": PLAIN_TEXT}
    made = run(variables, "master-key", "new")
    assert len(base64.b64decode(made.stdout.strip(), validate=True)) == 32
    kept = run(variables, "master-key", "new", "--aws-kms", key).stdout.strip()
    both = {**variables, "BROKERFLOW_MASTER_KEY": f"{kept} {PLAIN_TEXT}"}
    wrapped = run(both, "master-key", "wrap", "--aws-kms", key)
    assert PLAIN_TEXT not in wrapped.stdout
    assert keys(wrapped.stdout.strip(), tmp_path) == keys(f"{kept} {PLAIN_TEXT}", tmp_path)
    listed = run(both, "master-key", "list").stdout.split()
    assert listed == [key_id(each) for each in keys(f"{kept} {PLAIN_TEXT}", tmp_path)]
    absent = run(variables, "master-key", "new", "--aws-kms", "alias/none")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert absent.stderr == (
        "brokerflow: a master key cannot be had from AWS KMS by alias/none: AWS answers NotFoundException.\n"
    )


def test_without_boto3_it_says_what_to_install_and_nothing_else_needs_it(tmp_path: Path) -> None:
    """In a process where it cannot be imported."""
    program = "import sys; sys.modules.update(boto3=None, botocore=None, hvac=None)\nfrom app.cli import main; main()"
    command = [sys.executable, "-c", program, "master-key", "new"]
    alone = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False)
    assert (alone.returncode, len(alone.stdout)) == (0, 45)
    asking = subprocess.run(
        [*command, "--aws-kms", "alias/x"], env=environment({}), capture_output=True, text=True, check=False
    )
    assert (asking.returncode, asking.stderr) == (
        2, "brokerflow: a master key cannot be had from AWS KMS by alias/x: it needs boto3: install brokerflow[aws].\n"
    )  # fmt: skip
