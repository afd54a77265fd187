"""The API's description: security, the problems of each route, and a page that needs no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, Example, Operation, Parameter, Schema, SecurityScheme
from litestar.openapi.spec.enums import OpenAPIType
from litestar.plugins import OpenAPISchemaPlugin
from litestar.routes import HTTPRoute
from litestar.static_files import create_static_files_router
from litestar.typing import FieldDefinition
from swagger_ui_bundle import swagger_ui_path  # type: ignore[import-untyped]

from app import errors
from app.database import OF_ENVIRONMENTS
from app.errors import MEDIA_TYPE, Kind, Problem
from app.shared.credentials import SAFE_METHODS, Taken, taken_by
from app.shared.idempotency import is_replayed
from app.shared.pagination import Items

VERSION = version("brokerflow")
ASSETS = "/schema/assets"

_ALWAYS = (errors.MALFORMED, errors.INTERNAL, errors.DATABASE_UNAVAILABLE)
_WITH_ACTOR = (errors.UNAUTHENTICATED, errors.FORBIDDEN, errors.TOO_MANY_REQUESTS)
_WITH_BODY = (errors.TOO_LARGE, errors.UNSUPPORTED_MEDIA_TYPE, errors.INVALID)
# Else the null that a handler returns would be promised as JSON.
_NOTHING = {204: {204: ResponseSpec(None, description="Done; there is no body")}}

IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    description="Makes the request safe to repeat: it happens once, a repetition reads the stored answer.",
    schema=Schema(type=OpenAPIType.STRING, pattern=r"^[\x21-\x7e]{1,255}$", examples=["1b0c6f7e-order-42"]),
)
BRANCH = Parameter(
    name="X-Branch",
    param_in="header",
    description="The live branch to act in; a credential of a PREVIEW environment needs one, others have none.",
    schema=Schema(type=OpenAPIType.STRING, max_length=255, examples=["feature/listing-photos"]),
)


class RawJson(OpenAPISchemaPlugin):
    """Describes `msgspec.Raw`, JSON that passes through: as an object, or whatever a Meta beside it says."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Tell whether the field is raw JSON."""
        return field_definition.annotation is msgspec.Raw

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Describe it."""
        del schema_creator
        said = next((each for each in field_definition.metadata if isinstance(each, msgspec.Meta)), None)
        if said is None:
            return Schema(type=OpenAPIType.OBJECT, additional_properties=True)
        return Schema(description=said.description, examples=said.examples)


class Lists(OpenAPISchemaPlugin):
    """Describes `Items[Row]` in place, for a component of its own would have an unreadable name."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Tell whether the field is a page of a list."""
        return field_definition.origin is Items

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Describe it."""
        row = schema_creator.for_field_definition(field_definition.inner_types[0])
        return Schema(
            type=OpenAPIType.OBJECT,
            required=["items", "next_cursor"],
            properties={
                "items": Schema(type=OpenAPIType.ARRAY, items=row),
                "next_cursor": Schema(
                    type=[OpenAPIType.STRING, OpenAPIType.NULL], description="Null on the last page."
                ),
            },
        )


@dataclass
class Command(Operation):
    """An operation that takes an Idempotency-Key."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), IDEMPOTENCY_KEY]


@dataclass
class Branched(Operation):
    """An operation for credentials of environments, some of which name a branch."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), BRANCH]


@dataclass
class BranchedCommand(Command):
    """Both."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters = [*(self.parameters or []), BRANCH]


@dataclass
class Anonymous(Operation):
    """An operation for anybody."""

    def __post_init__(self) -> None:
        self.security = []


_BEARERS: dict[str, tuple[str, str]] = {
    "session": ("bf_ses_…", "Whom a login proved. A browser sends it as a cookie."),
    "personal_token": ("tr_pat_…", "A program of a user."),
    "organization_token": ("tr_oat_…", "A program of an organization; never a user."),
    "secret_key": ("tr_dev_… tr_stg_… tr_prev_… tr_prod_…", "A program in an environment; never a user."),
    "jwt": ("JWT", "Minted by a secret key for less and for a while; perhaps for one request."),
    "public_key": (
        "pk_dev_… pk_stg_… pk_prev_…",
        "Anybody who saw it. It bears no scope and is refused in PRODUCTION.",
    ),
}

_SECURITY = {
    kind: SecurityScheme(type="http", scheme="bearer", bearer_format=format_, description=description)
    for kind, (format_, description) in _BEARERS.items()
} | {
    "session_cookie": SecurityScheme(
        type="apiKey",
        name="brokerflow_session",
        security_scheme_in="cookie",
        description="Prefixed `__Host-` in production. Mutating requests need a same-origin Origin.",
    ),
}


def config() -> OpenAPIConfig:
    """Describe the API as a whole."""
    return OpenAPIConfig(
        title="BrokerFlow",
        version=VERSION,
        description="A real-estate brokerage backend in which PostgreSQL keeps the promises.",
        use_handler_docstrings=True,
        components=Components(security_schemes={**_SECURITY}),
        render_plugins=[_page(), JsonRenderPlugin(), YamlRenderPlugin()],
    )


def _page() -> SwaggerRenderPlugin:
    """Show the description on a page that loads nothing from elsewhere."""
    return SwaggerRenderPlugin(
        js_url=f"{ASSETS}/swagger-ui-bundle.js",
        css_url=f"{ASSETS}/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
        favicon=f"<link rel='icon' type='image/png' href='{ASSETS}/favicon-32x32.png'>",
        path="/",
    )


assets = create_static_files_router(
    path=ASSETS, directories=[swagger_ui_path], include_in_schema=False, cache_control=None
)


def describe(app: Litestar) -> None:
    """Give each route its problems and parameters, derived from what its handler takes."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.resolve_include_in_schema():
                    _describe(handler, has_path_parameters=bool(route.path_parameters))


def _describe(handler: HTTPRouteHandler, *, has_path_parameters: bool) -> None:
    takes = handler.parsed_fn_signature.parameters.keys()
    mutates = not handler.http_methods <= SAFE_METHODS
    kinds = list(_ALWAYS)
    if "actor" in takes:
        handler.security = _security(taken_by(handler))
        kinds += _WITH_ACTOR
        kinds += (errors.BRANCH_REQUIRED,) if _is_branched(handler) else ()
        kinds += (errors.INSUFFICIENT_SCOPE,) if taken_by(handler).scopes else ()
        if mutates:
            kinds += (errors.CONFLICT, errors.KEY_REUSED) if is_replayed(handler) else (errors.CONFLICT,)
    handler.operation_class = _operation_of(handler)
    kinds += _WITH_BODY if "data" in takes else ()
    kinds += (errors.NOT_FOUND,) if has_path_parameters else ()
    kinds += (errors.INVALID,) if "page" in takes else ()
    kinds += (errors.VERSION_MISMATCH,) if "expected_version" in takes else ()
    handler.responses = {**_specified(kinds), **_NOTHING.get(handler.status_code, {}), **(handler.responses or {})}


def _operation_of(handler: HTTPRouteHandler) -> type[Operation]:
    if "actor" not in handler.parsed_fn_signature.parameters:
        return Anonymous
    if handler.http_methods <= SAFE_METHODS or not is_replayed(handler):
        return Branched if _is_branched(handler) else Operation
    return BranchedCommand if _is_branched(handler) else Command


def _is_branched(handler: HTTPRouteHandler) -> bool:
    return not OF_ENVIRONMENTS.isdisjoint(taken_by(handler).kinds)


def _security(taken: Taken) -> list[dict[str, list[str]]]:
    """Name the credentials that an operation takes, each with the scopes that it must bear."""
    schemes = [*taken.kinds, *(["session_cookie"] if "session" in taken.kinds else [])]
    return [{scheme: list(taken.scopes)} for scheme in schemes]


def _specified(kinds: list[Kind]) -> dict[int, ResponseSpec]:
    return {kind.status: problem_spec(*(k for k in kinds if k.status == kind.status)) for kind in kinds}


def problem_spec(
    *kinds: Kind, shape: type[Problem] = Problem, members: Mapping[Kind, Mapping[str, object]] = {}
) -> ResponseSpec:
    """Describe the answer of one status, with an example of each kind of problem that has it.

    `shape` is the problem with its extension members, of which the example of a kind has these `members`.
    """
    status = kinds[0].status
    return ResponseSpec(
        shape,
        generate_examples=False,
        description=HTTPStatus(status).phrase,
        media_type=MEDIA_TYPE,
        examples=[
            Example(summary=kind.code, value={**_example(kind), **members.get(kind, {})})
            for kind in dict.fromkeys(kinds)
        ],
    )


def _example(kind: Kind) -> dict[str, object]:
    return {
        "type": f"urn:brokerflow:problem:{kind.code}",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "detail": kind.detail,
        "code": kind.code,
        "request_id": "5f0c3f2ac1a84e0e9a3f6b1d2c4e5f60",
    }
