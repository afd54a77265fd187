"""AWS as moto plays it: an HTTP server on the loopback, and the configuration that leads boto3 there."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from boto3.session import Session
from moto.server import ThreadedMotoServer

Variables = dict[str, str]

REGION = "eu-central-1"


@contextmanager
def playing() -> Iterator[Variables]:
    """Serve KMS, Parameter Store and Secrets Manager, empty; yields the environment that leads there."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = leading_to(f"http://{host}:{port}")
    httpx.post(f"{variables['AWS_ENDPOINT_URL']}/moto-api/reset", trust_env=False).raise_for_status()
    _load(variables)
    try:
        yield variables
    finally:
        server.stop()


def _load(variables: Variables) -> None:
    """Have each service loaded, which takes moto longer than the product waits for an answer."""
    session = Session("nobody", "nothing", region_name=REGION)
    for service, question in {
        "kms": "list_keys",
        "ssm": "describe_parameters",
        "secretsmanager": "list_secrets",
    }.items():
        getattr(session.client(service, endpoint_url=variables["AWS_ENDPOINT_URL"]), question)()


def leading_to(endpoint: str) -> Variables:
    """Return the environment in which boto3 calls an endpoint, with credentials of no worth."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
