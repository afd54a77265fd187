"""A peer: Litestar as its documentation recommends, with Advanced Alchemy's plugin and DTOs of its models."""

import uuid
from datetime import datetime
from typing import Any, Literal

import deeds
import msgspec
from advanced_alchemy.extensions.litestar import (
    AsyncSessionConfig,
    EngineConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyDTO,
    SQLAlchemyDTOConfig,
    SQLAlchemyInitPlugin,
)
from deeds import Problem
from litestar import Litestar, Request, Response, get, patch, post
from litestar.di import Provide
from models import Agreement, Event, User
from sqlalchemy.ext.asyncio import AsyncSession


class AgreementOut(SQLAlchemyDTO[Agreement]):
    """An agreement as it is answered."""

    config = SQLAlchemyDTOConfig(exclude={"last_seq"})


class EventOut(SQLAlchemyDTO[Event]):
    """An event as it is answered."""

    config = SQLAlchemyDTOConfig(exclude={"broker_id"})


class EventIn(msgspec.Struct):
    """An event to append."""

    type: str
    payload: dict[str, Any] = {}


class AnswerIn(msgspec.Struct):
    """An answer to an invitation."""

    state: Literal["accepted"]


class SignatureIn(msgspec.Struct):
    """What the signing service reports."""

    agreement_id: uuid.UUID
    signed_at: datetime
    envelope_id: str


async def provide_user(db_session: AsyncSession, request: Request[Any, Any, Any]) -> User:
    """Provide the user who asks."""
    return await deeds.find_user(db_session, request.headers.get("authorization", ""))


def refuse(request: Request[Any, Any, Any], problem: Problem) -> Response[dict[str, str]]:
    """Answer a refusal."""
    del request
    return Response({"detail": problem.detail}, status_code=problem.status)


@get("/livez", sync_to_thread=False)
def livez() -> dict[str, str]:
    """Answer without the database."""
    return {"status": "ok"}


@get("/api/agreements/{agreement_id:uuid}", return_dto=AgreementOut)
async def get_agreement(agreement_id: uuid.UUID, db_session: AsyncSession, user: User) -> Agreement:
    """Show an agreement."""
    return await deeds.get_agreement(db_session, user, agreement_id)


@get("/api/agreements", return_dto=AgreementOut)
async def list_agreements(db_session: AsyncSession, user: User, limit: int = 20) -> list[Agreement]:
    """List the newest agreements."""
    return list(await deeds.list_agreements(db_session, user, limit))


@post("/api/agreements/{agreement_id:uuid}/events", return_dto=EventOut)
async def append_event(agreement_id: uuid.UUID, data: EventIn, db_session: AsyncSession, user: User) -> Event:
    """Append an event."""
    return await deeds.append_event(db_session, user, agreement_id, data.type, data.payload)


@patch("/api/referrals/{referral_id:uuid}/matches/{match_id:uuid}", return_dto=AgreementOut)
async def answer_match(
    referral_id: uuid.UUID, match_id: uuid.UUID, data: AnswerIn, db_session: AsyncSession, user: User
) -> Agreement:
    """Accept an invitation."""
    del data  # there is one answer
    return await deeds.accept_match(db_session, user, referral_id, match_id)


@post("/webhooks/esign", status_code=200, return_dto=AgreementOut)
async def complete_signature(request: Request[Any, Any, Any], data: SignatureIn, db_session: AsyncSession) -> Agreement:
    """Make an agreement effective."""
    deeds.check_signature(request.headers, await request.body())
    return await deeds.complete_signature(db_session, data.agreement_id, data.envelope_id, data.signed_at)


alchemy = SQLAlchemyInitPlugin(
    config=SQLAlchemyAsyncConfig(
        connection_string=deeds.URL,
        session_config=AsyncSessionConfig(expire_on_commit=False),
        engine_config=EngineConfig(pool_size=deeds.POOL_SIZE, max_overflow=0),
    )
)
app = Litestar(
    route_handlers=[livez, get_agreement, list_agreements, append_event, answer_match, complete_signature],
    dependencies={"user": Provide(provide_user)},
    exception_handlers={Problem: refuse},
    plugins=[alchemy],
)
