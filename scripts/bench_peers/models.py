"""The tables of schema.sql as SQLAlchemy's models, which both Python peers use."""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ARRAY, DateTime, ForeignKey, Identity, LargeBinary, MetaData, Numeric, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The models of schema app_public; the others name theirs."""

    metadata = MetaData(schema="app_public")
    type_annotation_map = {  # noqa: RUF012 - as SQLAlchemy's documentation has it
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
        str: Text,
    }


class User(Base):
    """Somebody who works for a broker."""

    __tablename__ = "users"
    __table_args__ = {"schema": "app_private"}  # noqa: RUF012 - as SQLAlchemy's documentation has it

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    broker_id: Mapped[uuid.UUID]
    email: Mapped[str]


class Token(Base):
    """A credential, by the SHA-256 of what its bearer holds."""

    __tablename__ = "tokens"
    __table_args__ = {"schema": "app_private"}  # noqa: RUF012 - as SQLAlchemy's documentation has it

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(User.id))
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Referral(Base):
    """A client whom a broker offers to others."""

    __tablename__ = "referrals"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    broker_id: Mapped[uuid.UUID]
    region: Mapped[list[str]]
    status: Mapped[str]


class Match(Base):
    """An invitation to take a referral."""

    __tablename__ = "matches"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    referral_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Referral.id))
    candidate_user_id: Mapped[uuid.UUID]
    candidate_broker_id: Mapped[uuid.UUID]
    state: Mapped[str]
    created_at: Mapped[datetime]
    responded_at: Mapped[datetime | None]


class Agreement(Base):
    """What two brokers agreed on; `last_seq` is the number of its last event, which its row lock guards."""

    __tablename__ = "agreements"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    referral_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Referral.id))
    match_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey(Match.id))
    from_broker_id: Mapped[uuid.UUID]
    to_broker_id: Mapped[uuid.UUID]
    region: Mapped[list[str]]
    fee_rate: Mapped[Decimal] = mapped_column(Numeric(7, 4), default=Decimal(25))
    protect_days: Mapped[int] = mapped_column(default=90)
    status: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    last_seq: Mapped[int] = mapped_column(default=0)
    envelope_id: Mapped[str | None]
    signed_at: Mapped[datetime | None]
    created_by: Mapped[uuid.UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    effective_at: Mapped[datetime | None]


class Event(Base):
    """What happened to an agreement."""

    __tablename__ = "events"

    agreement_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Agreement.id), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    type: Mapped[str]
    payload: Mapped[dict[str, Any]]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    user_id: Mapped[uuid.UUID | None]
    broker_id: Mapped[uuid.UUID | None]


class Outbox(Base):
    """A message about an event, for whoever sends them."""

    __tablename__ = "outbox"
    __table_args__ = {"schema": "app_private"}  # noqa: RUF012 - as SQLAlchemy's documentation has it

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    topic: Mapped[str]
    event_id: Mapped[uuid.UUID]
    payload: Mapped[dict[str, Any]]
