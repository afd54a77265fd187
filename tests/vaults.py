"""A Vault for tests: the one of BROKERFLOW_TEST_VAULT_ADDR, else OpenBao from Docker, else none and they say so."""

import os
import secrets
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from app.servers import _docker_answers

Variables = dict[str, str]

ADDRESS, TOKEN = "BROKERFLOW_TEST_VAULT_ADDR", "BROKERFLOW_TEST_VAULT_TOKEN"
IMAGE = "openbao/openbao:2"
PORT = 8200
PATIENCE = 60  # seconds


@contextmanager
def running() -> Iterator[Variables]:
    """Yield the environment that leads to a Vault with a KV engine of version 2 at `secret`."""
    if address := os.environ.get(ADDRESS):
        yield {"VAULT_ADDR": address, "VAULT_TOKEN": os.environ.get(TOKEN, "")}
    elif _docker_answers():
        with _container() as variables:
            yield variables
    else:
        pytest.skip(f"NO VAULT WAS TRIED: Docker does not answer; set {ADDRESS} and {TOKEN} to a server for tests")


@contextmanager
def _container() -> Iterator[Variables]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow to import

    token = secrets.token_hex(16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        container = DockerContainer(IMAGE).with_exposed_ports(PORT)
        container.with_env("BAO_DEV_ROOT_TOKEN_ID", token).with_env("BAO_DEV_LISTEN_ADDRESS", f"0.0.0.0:{PORT}")
        container.start()
    try:
        address = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(PORT)}"
        _await(address)
        yield {"VAULT_ADDR": address, "VAULT_TOKEN": token}
    finally:
        container.stop()


def _await(address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/v1/sys/health", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"OpenBao from {IMAGE} did not answer within {PATIENCE} seconds")
