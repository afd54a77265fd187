"""The signing service's side of the e-sign webhook: messages signed as Standard Webhooks says."""

import base64
import hashlib
import hmac


class Signer:
    """Signs webhooks with a secret's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def headers(self, identifier: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the headers of a message with this JSON body; `timestamp` is in seconds."""
        signed = f"{identifier}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
        return {
            "Content-Type": "application/json",
            "webhook-id": identifier,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"v1,{signature}",
        }
