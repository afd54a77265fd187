"""How far a referral has come: fixtures for the modules that name this one in `pytest_plugins`."""

from pathlib import Path

import httpx
import pytest

from tests.api.conftest import Caller, Json
from tests.api.steps import CONTACT, SigningService, accept, agreement_of, invite, refer


@pytest.fixture
def signing(client: httpx.Client, tmp_path: Path) -> SigningService:
    """The signing service with the secret that the service made for itself."""
    return SigningService(client, (tmp_path / "esign.secret").read_text())


@pytest.fixture
def referral(referrer: Caller) -> Json:
    """An open referral of the broker `north`, with its client's contact."""
    return refer(referrer, client=CONTACT)


@pytest.fixture
def invitation(referrer: Caller, referee: Caller, referral: Json) -> Json:
    """An invitation of the owner of `south` to take it."""
    return invite(referrer, referral, referee)


@pytest.fixture
def pending(referee: Caller, invitation: Json) -> Json:
    """The agreement that he accepted."""
    return accept(referee, invitation)


@pytest.fixture
def effective(pending: Json, referrer: Caller, signing: SigningService) -> Json:
    """The agreement once it is signed."""
    assert signing.report(pending).status_code == 200
    return agreement_of(referrer, pending["id"])
