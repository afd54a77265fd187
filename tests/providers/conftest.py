"""AWS for these tests, and nothing of this machine's own configuration of it."""

import os
from collections.abc import Iterator

import pytest

from tests import aws, vaults


@pytest.fixture(scope="package")
def cloud() -> Iterator[aws.Variables]:
    """The environment that leads to AWS as moto plays it."""
    with aws.playing() as variables:
        yield variables


@pytest.fixture
def in_cloud(cloud: aws.Variables, monkeypatch: pytest.MonkeyPatch) -> aws.Variables:
    """That environment as this process's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in cloud.items():
        monkeypatch.setenv(name, value)
    return cloud


@pytest.fixture(scope="package")
def vault() -> Iterator[vaults.Variables]:
    """The environment that leads to a Vault."""
    with vaults.running() as variables:
        yield variables


@pytest.fixture
def in_vault(vault: vaults.Variables, monkeypatch: pytest.MonkeyPatch) -> None:
    """That environment as this process's own."""
    for name, value in vault.items():
        monkeypatch.setenv(name, value)
