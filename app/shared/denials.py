"""A refusal leaves a trace: the refused transaction took its own along, so a second writes the denial."""

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import structlog
from litestar.enums import ScopeType
from litestar.types import Scope
from msgspec.structs import replace

from app.database import Credential, Database
from app.errors import CONTACT_INTEGRITY, SECRET_INTEGRITY, RecordedRefusal, Refusal, refusal_of
from app.queries import Connection, RowMissing
from app.shared import queries
from app.shared.axioms import AxiomTable
from app.shared.credentials import SAFE_METHODS

logger = structlog.get_logger(__name__)

Recorder = Callable[[Scope, str], Callable[[Connection], Awaitable[None]]]
"""What a route gives as `opt={"denial": …}` to record its denials itself, also of its reads: of a request and the
reason it makes the body of the transaction."""

RECORDED = frozenset({403, 404, 409, 412})
ALTERED = frozenset({SECRET_INTEGRITY, CONTACT_INTEGRITY})


async def record_denial(error: Exception, scope: Scope) -> None:
    """Write the denial of a request that a proved actor made, before its problem is sent.

    Reads are attempted freely, but for those whose route has a recorder.
    What is invalid (422) was never an attempt, and who is not authenticated (401) is nobody.
    """
    if scope["type"] != ScopeType.HTTP or not isinstance(error, psycopg.Error | Refusal | RowMissing):
        return
    axioms: AxiomTable = scope["litestar_app"].state.axioms
    if isinstance(error, psycopg.Error):
        await axioms.load()
    credential: Credential | None = scope["state"].get("credential")
    method = scope["method"]
    if credential is None or (method in SAFE_METHODS and "denial" not in scope["route_handler"].opt):
        return
    refusal = refusal_of(error, axioms, deleting=method == "DELETE")
    is_recorded = refusal.kind.status in RECORDED or refusal.kind in ALTERED
    if is_recorded and not isinstance(refusal, RecordedRefusal):
        await _write(scope, credential, refusal)


async def _write(scope: Any, credential: Credential, refusal: Refusal) -> None:
    database: Database = scope["litestar_app"].state.database
    credential = replace(credential, scopes=())  # who lacks one enters to be denied, and for nothing else
    if refusal.source == "actor_is_member":  # then he cannot enter that organization to be denied in it either
        credential = replace(credential, organization=None)
    if refusal.source == "branch_of_preview":
        credential = replace(credential, branch=None)
    recorder: Recorder = scope["route_handler"].opt.get("denial", _recorded)
    try:
        await database.ask(credential, recorder(scope, refusal.source))
    except Exception as failure:  # noqa: BLE001 - the refusal is the answer, whatever happens to its trace
        logger.warning("denial not recorded", reason=refusal.source, failure=repr(failure))


def _recorded(scope: Any, reason: str) -> Callable[[Connection], Awaitable[None]]:
    return lambda db: queries.record_denial(
        db,
        action=f"{scope['method']} {scope['path_template']}",
        subject=scope["path"],
        reason=reason,
        request_id=scope["state"]["request_id"],
    )
