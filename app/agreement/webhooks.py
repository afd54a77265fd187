"""What the signing service reports, signed as Standard Webhooks says."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter, JSONBody

from app.agreement import queries
from app.agreement.queries import AgreementStatus
from app.database import Credential
from app.errors import CONFLICT, NOT_FOUND, UNAUTHENTICATED, Refusal
from app.shared.actor import acting
from app.shared.openapi import problem_spec

TOLERANCE = 5 * 60  # seconds between the sender's clock and this one
VERSION = "v1"
MAX_SIGNATURES = 16


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That all parties have signed."""

    agreement_id: Annotated[UUID, msgspec.Meta(examples=["019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23"])]
    signed_at: Annotated[datetime, msgspec.Meta(tz=True, examples=["2026-11-22T10:15:00Z"])]
    envelope_id: Annotated[str, msgspec.Meta(min_length=1, max_length=255, examples=["env_5Qk2"])]


class SignedAgreement(msgspec.Struct, frozen=True):
    """What became of the agreement."""

    id: UUID
    status: AgreementStatus
    effective_at: datetime | None


async def require_signature(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Refuse (401) whatever no active secret has signed within five minutes, before anything of it is decoded."""
    request: Request[Any, Any, Any] = Request(connection.scope, connection.receive)
    key = signing_key(
        connection.app.state.settings.esign_keys,
        _once(connection, "webhook-id"),
        _once(connection, "webhook-timestamp"),
        _once(connection, "webhook-signature"),
        await request.body(),
    )
    await connection.app.state.esign_trust.establish()
    connection.scope["state"]["credential"] = Credential("esign", hashlib.sha256(key).digest())


def signing_key(keys: Sequence[bytes], message_id: str, timestamp: str, signatures: str, body: bytes) -> bytes:
    """Return the secret that signed a message; raises Refusal (401)."""
    if not timestamp.isascii() or not timestamp.isdigit() or abs(time.time() - int(timestamp[:20])) > TOLERANCE:
        raise Refusal(UNAUTHENTICATED, "The signature's timestamp is missing, or more than five minutes away.")
    given = [_decoded(each) for each in signatures.split(" ")[:MAX_SIGNATURES]]
    signed = f"{message_id}.{timestamp}.".encode() + body
    matching = [key for key in keys if _is_among(given, hmac.digest(key, signed, hashlib.sha256))]
    if not message_id or not matching:
        raise Refusal(UNAUTHENTICATED, "No signature of an active secret.")
    return matching[0]


def _is_among(given: Sequence[bytes], expected: bytes) -> bool:
    return any(hmac.compare_digest(each, expected) for each in given)


def _decoded(signature: str) -> bytes:
    version, _, encoded = signature.partition(",")
    try:
        return base64.b64decode(encoded, validate=True) if version == VERSION else b""
    except (binascii.Error, ValueError):
        return b""


def _once(connection: ASGIConnection[Any, Any, Any, Any], name: str) -> str:
    """Return a header's value, empty where it is missing or given twice."""
    values = connection.headers.getall(name, [])
    return values[0] if len(values) == 1 else ""


@post(
    "/webhooks/esign",
    status_code=200,
    tags=["webhooks"],
    summary="Report a signature",
    guards=[require_signature],
    responses={401: problem_spec(UNAUTHENTICATED), 404: problem_spec(NOT_FOUND), 409: problem_spec(CONFLICT)},
)
async def complete_signature(
    request: Request[Any, Any, Any],
    data: JSONBody[Signature],
    webhook_id: Annotated[str, HeaderParameter(name="webhook-id")],
    webhook_timestamp: Annotated[str, HeaderParameter(name="webhook-timestamp", description="Unix seconds.")],
    webhook_signature: Annotated[
        str, HeaderParameter(name="webhook-signature", description="`v1,<base64>`, several separated by spaces.")
    ],
) -> SignedAgreement:
    """Make an agreement effective that is pending signature.

    Signed by HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>` with an active `whsec_` secret. The same
    envelope again changes nothing; another one, or a void or closed agreement, is refused with axiom A8.
    """
    del webhook_id, webhook_timestamp, webhook_signature  # the guard has read them; declared for the documentation
    signing_service = acting(request, request.scope["state"]["credential"])
    agreement = await signing_service.run(
        lambda db: queries.complete_signature(
            db, agreement_id=data.agreement_id, signed_at=data.signed_at, envelope_id=data.envelope_id
        )
    )
    return SignedAgreement(agreement.id, agreement.status, agreement.effective_at)


handlers = [complete_signature]
