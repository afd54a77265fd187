"""A peer: FastAPI as its documentation recommends, a session a request, and Pydantic models of what it answers."""

import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import deeds
from deeds import Problem
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from models import Agreement, Event, User
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

engine = create_async_engine(deeds.URL, pool_size=deeds.POOL_SIZE, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class Shown(BaseModel):
    """What is read off a model of the database."""

    model_config = ConfigDict(from_attributes=True)


class AgreementOut(Shown):
    """An agreement as it is answered."""

    id: uuid.UUID
    referral_id: uuid.UUID
    match_id: uuid.UUID | None
    from_broker_id: uuid.UUID
    to_broker_id: uuid.UUID
    region: list[str]
    fee_rate: Decimal
    protect_days: int
    status: str
    version: int
    envelope_id: str | None
    signed_at: datetime | None
    created_by: uuid.UUID
    created_at: datetime
    effective_at: datetime | None


class AgreementsOut(Shown):
    """A page of agreements."""

    items: list[AgreementOut]


class EventOut(Shown):
    """An event as it is answered."""

    id: uuid.UUID
    agreement_id: uuid.UUID
    seq: int
    type: str
    payload: dict[str, Any]
    occurred_at: datetime
    recorded_at: datetime
    user_id: uuid.UUID | None


class EventIn(BaseModel):
    """An event to append."""

    type: str
    payload: dict[str, Any] = {}


class AnswerIn(BaseModel):
    """An answer to an invitation."""

    state: Literal["accepted"]


class SignatureIn(BaseModel):
    """What the signing service reports."""

    agreement_id: uuid.UUID
    signed_at: datetime
    envelope_id: str


async def get_session() -> AsyncIterator[AsyncSession]:
    """Provide a session for as long as the request lasts."""
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user(session: Session, authorization: Annotated[str, Header()]) -> User:
    """Provide the user who asks."""
    return await deeds.find_user(session, authorization)


Caller = Annotated[User, Depends(get_user)]


@app.exception_handler(Problem)
async def refuse(request: Request, problem: Problem) -> JSONResponse:
    """Answer a refusal."""
    del request
    return JSONResponse({"detail": problem.detail}, status_code=problem.status)


@app.get("/livez")
async def livez() -> dict[str, str]:
    """Answer without the database."""
    return {"status": "ok"}


@app.get("/api/agreements/{agreement_id}")
async def get_agreement(agreement_id: uuid.UUID, session: Session, user: Caller) -> AgreementOut:
    """Show an agreement."""
    return AgreementOut.model_validate(await deeds.get_agreement(session, user, agreement_id))


@app.get("/api/agreements")
async def list_agreements(session: Session, user: Caller, limit: int = 20) -> AgreementsOut:
    """List the newest agreements."""
    found = await deeds.list_agreements(session, user, limit)
    return AgreementsOut(items=[AgreementOut.model_validate(each) for each in found])


@app.post("/api/agreements/{agreement_id}/events", status_code=201)
async def append_event(agreement_id: uuid.UUID, data: EventIn, session: Session, user: Caller) -> EventOut:
    """Append an event."""
    event: Event = await deeds.append_event(session, user, agreement_id, data.type, data.payload)
    return EventOut.model_validate(event)


@app.patch("/api/referrals/{referral_id}/matches/{match_id}")
async def answer_match(
    referral_id: uuid.UUID, match_id: uuid.UUID, data: AnswerIn, session: Session, user: Caller
) -> AgreementOut:
    """Accept an invitation."""
    del data  # there is one answer
    agreement: Agreement = await deeds.accept_match(session, user, referral_id, match_id)
    return AgreementOut.model_validate(agreement)


@app.post("/webhooks/esign")
async def complete_signature(request: Request, data: SignatureIn, session: Session) -> AgreementOut:
    """Make an agreement effective."""
    deeds.check_signature(request.headers, await request.body())
    agreement = await deeds.complete_signature(session, data.agreement_id, data.envelope_id, data.signed_at)
    return AgreementOut.model_validate(agreement)
