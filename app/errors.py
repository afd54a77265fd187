"""The one table from SQLSTATE and constraint name to an RFC 9457 problem."""

import re
from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import psycopg
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import HTTPRouteHandler

from app.queries import RowMissing

T = TypeVar("T")

logger = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field of a request."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An RFC 9457 problem: what every answer that is not a success looks like."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    axiom: str | None = None
    errors: Sequence[FieldError] = ()
    error: str | None = None


class Axiom(msgspec.Struct, frozen=True):
    """A rule of the house that an object of the database enforces, and why that object does."""

    axiom: str
    rule: str
    why: str

    @property
    def sentence(self) -> str:
        """The rule and its reason, for people."""
        return f"{self.rule[:1].upper()}{self.rule[1:]}. {self.why}".rstrip()


Axioms = Mapping[str, Axiom]
"""The enforcing object's name (constraint, index, trigger's proposition) to its axiom."""


class Kind(NamedTuple):
    """A kind of problem: the status, the code that machines read, and the sentence that people read.

    A code of OAuth's is told a second time, as the `error` that its clients look for.
    """

    status: int
    code: str
    detail: str
    retry_after: int | None = None
    is_oauth: bool = False


MALFORMED = Kind(400, "malformed", "The request could not be read.")
AUTHORIZATION_PENDING = Kind(400, "authorization_pending", "Nobody has approved it yet: ask again.", is_oauth=True)
SLOW_DOWN = Kind(400, "slow_down", "That was too soon: ask again, less often.", is_oauth=True)
EXPIRED_TOKEN = Kind(400, "expired_token", "The code was not approved in time: begin anew.", is_oauth=True)
ACCESS_DENIED = Kind(400, "access_denied", "Whom it was shown to denied it.", is_oauth=True)
INVALID_GRANT = Kind(400, "invalid_grant", "The code is unknown, or was used.", is_oauth=True)
UNAUTHENTICATED = Kind(401, "unauthenticated", "A valid credential is needed.")
BRANCH_REQUIRED = Kind(
    401, "branch_required", "A credential of a PREVIEW environment needs X-Branch to name a live branch of it."
)
FORBIDDEN = Kind(403, "forbidden", "The credential does not allow this.")
INSUFFICIENT_SCOPE = Kind(403, "insufficient_scope", "The credential lacks a scope that this needs.")
NOT_FOUND = Kind(404, "not_found", "There is no such thing, or it is not yours.")
METHOD_NOT_ALLOWED = Kind(405, "method_not_allowed", "The path does not take this method.")
CONFLICT = Kind(409, "conflict", "The request contradicts what is recorded.")
CONTENTION = Kind(409, "contention", "Others were changing the same rows; try again.", 1)
IN_FLIGHT = Kind(409, "idempotency_in_flight", "A request with this Idempotency-Key is still running.", 1)
CONTACT_READ_CONSUMED = Kind(409, "contact_read_consumed", "This grant was used, or a minute has passed: ask anew.")
ARCHIVED = Kind(410, "archived", "This was archived, and is no longer read here: ask the operator for it.")
VERSION_MISMATCH = Kind(412, "version_mismatch", "If-Match names another version than the current one.")
TOO_LARGE = Kind(413, "too_large", "The body is larger than the service reads.")
UNSUPPORTED_MEDIA_TYPE = Kind(415, "unsupported_media_type", "A body is sent as application/json.")
INVALID = Kind(422, "invalid", "A field is not acceptable.")
KEY_REUSED = Kind(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
TOO_MANY_REQUESTS = Kind(429, "too_many_requests", "Too many requests.", 1)
SECRET_INTEGRITY = Kind(500, "secret_integrity", "The stored secret was altered, or its master key is not configured.")
CONTACT_INTEGRITY = Kind(
    500, "contact_integrity", "The stored contact was altered, or its master key is not configured."
)
INTERNAL = Kind(500, "internal", "The service failed; the request_id finds the cause in its log.")
DATABASE_UNAVAILABLE = Kind(503, "database_unavailable", "The database is away or too busy; try again.", 1)
SCHEMA_MISMATCH = Kind(503, "schema_mismatch", "The schema is not the one that the service was written for.", 1)
SESSION_STORE_UNAVAILABLE = Kind(503, "session_store_unavailable", "The session store does not answer; try again.", 1)
PROVIDER_UNAVAILABLE = Kind(
    503, "provider_unavailable", "The login provider does not answer as it should; try again.", 5
)

_BY_REFUSAL = {
    ("branch_is_live", "28000"): BRANCH_REQUIRED,
    ("contact_reads_consumed_once", "23514"): CONTACT_READ_CONSUMED,
    ("credential_scope", "42501"): INSUFFICIENT_SCOPE,
    ("idempotency_keys_once_an_actor", "23514"): KEY_REUSED,
    ("idempotency_keys_once_an_actor", "55P03"): IN_FLIGHT,
}

_BY_STATE = {
    "23502": INVALID,  # not null
    "23505": CONFLICT,  # unique
    "23P01": CONFLICT,  # exclusion
    "25006": DATABASE_UNAVAILABLE,  # a standby that was not promoted yet
    "28000": UNAUTHENTICATED,
    "40001": CONTENTION,
    "40P01": CONTENTION,
    "42501": FORBIDDEN,
    "55000": CONFLICT,
    "55P03": DATABASE_UNAVAILABLE,  # lock_timeout
    "57014": DATABASE_UNAVAILABLE,  # statement_timeout
    "57P01": DATABASE_UNAVAILABLE,
    "57P02": DATABASE_UNAVAILABLE,
    "57P03": DATABASE_UNAVAILABLE,
    "P0001": CONFLICT,
    "P0002": NOT_FOUND,
}

_BY_CLASS = {
    "08": DATABASE_UNAVAILABLE,  # connection
    "22": INVALID,  # data
    "53": DATABASE_UNAVAILABLE,  # resources
    "54": INVALID,  # a limit of PostgreSQL: too long for its index, a NUL
}

_BY_STATUS = {
    400: MALFORMED,
    401: UNAUTHENTICATED,
    403: FORBIDDEN,
    404: NOT_FOUND,
    405: METHOD_NOT_ALLOWED,
    413: TOO_LARGE,
    415: UNSUPPORTED_MEDIA_TYPE,
    422: INVALID,
    429: TOO_MANY_REQUESTS,
    503: DATABASE_UNAVAILABLE,
}

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}}


class DatabaseUnavailable(Exception):  # noqa: N818 - a condition, as statuses are named
    """PostgreSQL did not answer in time; nothing of the request was executed."""


_BY_TYPE: Sequence[tuple[type[Exception], Kind]] = (
    (DatabaseUnavailable, DATABASE_UNAVAILABLE),
    (RowMissing, NOT_FOUND),
    (UnicodeEncodeError, INVALID),
)


class Refusal(Exception):  # noqa: N818 - it is an answer, not a mistake
    """A request that is refused, and how to say so.

    `errors` names fields; `axiom` is set when the rule that refused is one; `source` is the constraint or
    SQLSTATE that the audit log keeps.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        axiom: str | None = None,
        source: str | None = None,
    ) -> None:
        super().__init__(detail or kind.detail)
        self.kind = kind
        self.detail = detail or kind.detail
        self.errors = errors
        self.axiom = axiom
        self.source = source or kind.code


class RecordedRefusal(Refusal):
    """A refusal that the audit log has already."""


def invalid(field: str, message: str) -> Refusal:
    """Refuse one field of a request: 422."""
    return Refusal(INVALID, errors=[FieldError(field, message)])


async def found(row: Awaitable[T | None]) -> T:
    """Await a query and return its row; no row is 404, be it absent or another tenant's."""
    if (value := await row) is None:
        raise Refusal(NOT_FOUND)
    return value


def refusal_of(error: Exception, axioms: Axioms, *, deleting: bool = False, fields: Sequence[str] = ()) -> Refusal:
    """Translate whatever a request raised.

    `deleting` tells what a foreign key means: a row that is still in use (409), else one not there (422).
    `fields` are those of the request's body and path, among which the one that a constraint speaks of is found.
    """
    match error:
        case Refusal():
            return error
        case psycopg.Error():
            return _of_database(error, axioms, fields, deleting=deleting)
        case ValidationException():
            return Refusal(INVALID, errors=_validation_errors(error))
        case HTTPException():
            return _of_litestar(error)
        case _:
            return Refusal(next((kind for cause, kind in _BY_TYPE if isinstance(error, cause)), INTERNAL))


def _of_litestar(error: HTTPException) -> Refusal:
    if (kind := _BY_STATUS.get(error.status_code)) is not None:
        return Refusal(kind)
    if error.status_code >= 500:
        return Refusal(INTERNAL)
    phrase = HTTPStatus(error.status_code).phrase
    return Refusal(Kind(error.status_code, phrase.lower().replace(" ", "_"), f"{phrase}."))


def _validation_errors(error: ValidationException) -> Sequence[FieldError]:
    extra = error.extra if isinstance(error.extra, list) else []
    return [FieldError(item.get("key", "request"), item["message"]) for item in extra]


def _of_database(error: psycopg.Error, axioms: Axioms, fields: Sequence[str], *, deleting: bool) -> Refusal:
    constraint = proposition_of(error.diag.constraint_name) or ""
    axiom = axioms.get(constraint)
    kind = _kind(error, constraint, deleting=deleting, is_axiom=axiom is not None)
    return Refusal(
        kind,
        _told(error) or (axiom.sentence if axiom else None),
        axiom=axiom.axiom if axiom else _axiom_of_policy(error),
        errors=_database_errors(error, constraint, fields) if kind in {INVALID, CONFLICT} and not axiom else (),
        source=constraint or error.sqlstate,
    )


def proposition_of(constraint: str | None) -> str | None:
    """Return what a constraint is called on its table: a key of a partition has the month behind its name."""
    return constraint and _OF_PARTITION.sub("", constraint)


def _kind(error: psycopg.Error, constraint: str, *, deleting: bool, is_axiom: bool) -> Kind:
    if (kind := _BY_REFUSAL.get((constraint, error.sqlstate or ""))) is not None:
        return kind
    if constraint.endswith("_version_matches"):
        return VERSION_MISMATCH
    match error.sqlstate:
        case None:
            return _without_state(error)
        case "23514":  # check; one that was raised is a trigger's, which minds states, not fields
            return CONFLICT if is_axiom or _is_raised(error) else INVALID
        case "23503":  # foreign key
            return CONFLICT if is_axiom or deleting else INVALID
        case state:
            return _BY_STATE.get(state) or _BY_CLASS.get(state[:2]) or INTERNAL


def _without_state(error: psycopg.Error) -> Kind:
    """Sort what psycopg refused by itself: a lost connection, or a text with a NUL."""
    if isinstance(error, psycopg.OperationalError):
        return DATABASE_UNAVAILABLE
    return INVALID if isinstance(error, psycopg.DataError) else INTERNAL


def _told(error: psycopg.Error) -> str | None:
    """Quote our own RAISE that named a constraint; PostgreSQL's own messages hold names and values."""
    message = error.diag.message_primary
    if not _is_raised(error) or not message:
        return None
    return message[:1].upper() + message[1:].rstrip(".") + "."


def _axiom_of_policy(error: psycopg.Error) -> str | None:
    """Return the axiom that every policy keeps: PostgreSQL names no object when row security refuses a row."""
    return "A9" if error.diag.source_function == "ExecWithCheckOptions" else None


def _is_raised(error: psycopg.Error) -> bool:
    """Tell a RAISE that names a constraint from PostgreSQL's own refusals."""
    return error.diag.source_function == "exec_stmt_raise" and bool(error.diag.constraint_name)


_OF_PARTITION = re.compile(r"_(default|\d{4}_\d{2})$")
_STRUCTURAL = re.compile(r"_(check|fkey|key|not_null)\d*$")


def _database_errors(error: psycopg.Error, constraint: str, fields: Sequence[str]) -> Sequence[FieldError]:
    """Name the field that a constraint speaks of: `brokers_fein_is_nine_digits` is about `fein`."""
    rule = constraint.removeprefix(f"{error.diag.table_name or ''}_")
    about = [field for field in fields if f"{rule}_".startswith(f"{field}_")]
    field = error.diag.column_name or max(about, key=len, default="")
    if not field:
        return ()
    if error.sqlstate == "23505":
        return [FieldError(field, "is taken")]
    is_proposition = rule and rule != field and not _STRUCTURAL.search(rule)
    return [FieldError(field, f"must hold: {rule.replace('_', ' ')}" if is_proposition else "is not acceptable")]


def answer_refusal(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer an exception as a problem; the exception handler of the whole application."""
    axioms: Axioms = request.app.state.get("axioms", {})
    refusal = refusal_of(
        error,
        axioms,
        deleting=request.method == "DELETE",
        fields=[*_body_fields(request.scope.get("route_handler")), *request.scope.get("path_params", ())],
    )
    if refusal.kind.status == 500:
        logger.error("failed", exc_info=error)
    return problem_response(refusal, request.scope["state"]["request_id"], _headers_of(error))


def _body_fields(handler: Any) -> Sequence[str]:
    data = handler.parsed_fn_signature.parameters.get("data") if isinstance(handler, HTTPRouteHandler) else None
    if data is None or not data.is_subclass_of(msgspec.Struct):
        return ()
    return cast("Sequence[str]", data.annotation.__struct_encode_fields__)


def problem_response(refusal: Refusal, request_id: str, headers: Mapping[str, str] | None = None) -> Response[Problem]:
    """Encode a refusal as `application/problem+json`."""
    status, code, _, retry_after, is_oauth = refusal.kind
    problem = Problem(
        type=f"urn:brokerflow:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=refusal.detail,
        code=code,
        request_id=request_id,
        axiom=refusal.axiom,
        errors=refusal.errors,
        error=code if is_oauth else None,
    )
    extra = {"Retry-After": str(retry_after)} if retry_after else {}
    return Response(
        problem,
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={**_HEADERS.get(status, {}), **extra, **(headers or {})},
    )


def _headers_of(error: Exception) -> Mapping[str, str]:
    return (error.headers or {}) if isinstance(error, HTTPException) else {}
