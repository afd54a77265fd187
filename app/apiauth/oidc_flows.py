"""What a login at the provider must remember until the browser comes back, and where it does."""

import base64
import binascii
import hashlib
import hmac
import secrets
import time

import msgspec
from litestar.datastructures import Cookie

from app.errors import UNAUTHENTICATED, Refusal
from app.sealing import SealBroken, Sealer

LIFETIME = 600  # seconds that a person has at the provider
PURPOSE = "logins at the provider"


class Flow(msgspec.Struct, frozen=True):
    """One login under way.

    The state ties the provider's answer to this browser, the nonce the ID token to this login, and the verifier
    (RFC 7636) the code to us.
    """

    state: str
    nonce: str
    verifier: str
    path: str
    ends_at: float

    @property
    def challenge(self) -> str:
        """The S256 challenge of the verifier."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")


def begin(path: str) -> Flow:
    """Begin a login that ends on a path of this service."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Flow(state, nonce, verifier, path, time.time() + LIFETIME)


# A flow is kept by the browser, sealed, and not in a row. A row would be written for whoever asks, proving nothing, and
# would need a cookie all the same to know the browser again: then the cookie may as well be the row. Nobody reads it
# on the way (HttpOnly; under the master key) nor makes one. Nobody else's is accepted, since the state in the address
# must be the one in the cookie, and `__Host-` keeps neighbouring hosts from planting theirs. To repeat one gains
# nothing: its verifier opens the codes that the provider gave to this very flow, each of them once, for ten minutes.
def cookie_name(*, production: bool) -> str:
    """Return the flow cookie's name."""
    return "__Host-brokerflow_login" if production else "brokerflow_login"


def cookie(flow: Flow | None, sealer: Sealer, *, production: bool) -> Cookie:
    """Make the cookie that keeps a flow; without one, the cookie that takes it back."""
    sealed = b"" if flow is None else sealer.seal(msgspec.json.encode(flow), b"")
    return Cookie(
        key=cookie_name(production=production),
        value=base64.urlsafe_b64encode(sealed).decode(),
        max_age=0 if flow is None else LIFETIME,
        path="/",
        httponly=True,
        samesite="lax",  # strict would keep it back when the provider sends the browser here
        secure=production,
    )


def opened(value: str | None, state: str | None, sealer: Sealer) -> Flow:
    """Return the flow that a cookie keeps. Raises Refusal (401) if the state is not this browser's."""
    try:
        flow = msgspec.json.decode(sealer.open(base64.urlsafe_b64decode(value or ""), b""), type=Flow)
    except (SealBroken, binascii.Error, ValueError) as error:
        raise _refused("no login is under way in this browser") from error
    if not hmac.compare_digest((state or "").encode(errors="replace"), flow.state.encode()):
        raise _refused("the answer is another browser's, or another login's")
    if flow.ends_at < time.time():
        raise _refused("more than ten minutes have passed")
    return flow


def _refused(reason: str) -> Refusal:
    return Refusal(UNAUTHENTICATED, f"The login was refused: {reason}. Begin it again.")
