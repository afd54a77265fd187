"""The caller of a request: runs a handler's query as him, and makes the response of what it returned."""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.params import HeaderParameter

from app.database import Credential, Database
from app.errors import MALFORMED, Refusal
from app.queries import Connection
from app.sealing import Sealer
from app.shared.credentials import SAFE_METHODS
from app.shared.idempotency import Answer, claim_of, once

T = TypeVar("T")
Body: TypeAlias = Callable[[Connection], Awaitable[T]]

_STRONG_TAG = re.compile(r'"(0|[1-9][0-9]{0,8})"')


class Caller:
    """Who asks. Without a credential: anybody, for whom Idempotency-Key means nothing."""

    def __init__(self, request: Request[Any, Any, Any], credential: Credential | None) -> None:
        self._request = request
        self._database: Database = request.app.state.database
        self._answers: Sealer = request.app.state.answers
        self.credential = credential
        request.scope["state"]["credential"] = credential  # for a denial, should there be one

    async def run(self, body: Body[T], *, several: bool = False) -> T:
        """Run a body of one statement as this actor and return its value, committed.

        `several` says that it makes more than one: they are one transaction, which what the body raises undoes.
        The body must be fit to run again: it may be, after a serialization failure.
        """
        if several:
            return await self._database.run(self.credential, body)
        return await self._database.ask(self.credential, body, reads=self._request.method in SAFE_METHODS)

    async def answer(self, body: Body[T], *, several: bool = False) -> Response[T]:
        """Run a body and answer its value with the handler's status; a `version` in it becomes the ETag.

        On a mutating request an Idempotency-Key is honoured: the answer is stored with the effect.
        """

        async def act(db: Connection) -> Answer:
            return _encoded(await body(db), self._request.route_handler.status_code)

        claim = await claim_of(self._request) if self._keeps_answers else None
        if claim is None:
            return _response(await self.run(act, several=several))
        return _response(await self.run(lambda db: once(db, claim, self._answers, act), several=True))

    @property
    def _keeps_answers(self) -> bool:
        """Whether this is an actor's command: an Idempotency-Key is his, and nobody and the webhook have none."""
        is_actor = self.credential is not None and self.credential.kind != "esign"
        return is_actor and self._request.method not in SAFE_METHODS

    async def effect(self, body: Body[object], *, several: bool = False) -> Response[None]:
        """Run a body for its effect and answer 204, whatever it returns."""

        async def act(db: Connection) -> None:
            await body(db)

        return await self.answer(act, several=several)


Actor: TypeAlias = NamedDependency[Caller]
"""`actor: Actor` in a handler: a credential is needed."""

Visitor: TypeAlias = NamedDependency[Caller]
"""`visitor: Visitor` in a handler: anybody may call."""

ExpectedVersion: TypeAlias = NamedDependency[int | None]
"""`expected_version: ExpectedVersion` in a handler: what If-Match names; None without it, or when it is `*`."""


def answered(value: T, status: int = 200) -> Response[T]:
    """Answer a value that is there; a `version` in it becomes the ETag."""
    return _response(_encoded(value, status))


def _encoded(value: object, status: int) -> Answer:
    version = getattr(value, "version", None)
    headers = {} if version is None else {"ETag": f'"{version}"'}
    return Answer(status, headers, b"" if status == 204 else msgspec.json.encode(value))


def _response(answer: Answer) -> Response[Any]:
    if not answer.body:
        return Response(None, status_code=answer.status, headers=answer.headers, media_type=MediaType.JSON)
    # Both are said here, since it takes Litestar longer to find that they are missing than to find them.
    headers = {**answer.headers, "content-type": "application/json", "content-length": str(len(answer.body))}
    return Response(answer.body, status_code=answer.status, headers=headers, media_type=MediaType.JSON)


def provide_actor(
    request: Request[Any, Any, Any],
    x_organization: Annotated[
        str | None,
        HeaderParameter(
            name="X-Organization",
            description="The slug of the organization to act in, of those you belong to.",
        ),
    ] = None,
) -> Caller:
    """Provide `actor: Actor` to a handler; a request without a credential does not come this far."""
    del x_organization  # read with the credential; declared for the documentation
    return Caller(request, request.scope["state"]["credential"])


def provide_visitor(request: Request[Any, Any, Any]) -> Caller:
    """Provide `visitor: Actor` to a handler that anybody may call."""
    return Caller(request, None)


def provide_expected_version(
    if_match: Annotated[
        str | None,
        HeaderParameter(name="If-Match", description='The ETag that the change is based on, such as `"3"`.'),
    ] = None,
) -> int | None:
    """Provide `expected_version: int | None` to a handler; None without If-Match, or when it is `*`."""
    if if_match is None or if_match.strip() == "*":
        return None
    if (match := _STRONG_TAG.fullmatch(if_match.strip())) is None:
        raise Refusal(MALFORMED, 'If-Match takes one strong ETag, such as "3", or *.')
    return int(match[1])


def acting(request: Request[Any, Any, Any], credential: Credential) -> Caller:
    """Act with a credential that is not in the headers (the webhook's)."""
    return Caller(request, credential)
