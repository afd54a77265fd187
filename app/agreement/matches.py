"""Matches: invitations of an agent of another broker to take a referral."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response, get, patch, post
from litestar.params import FromPath, JSONBody, QueryParameter

from app.agreement import queries
from app.agreement.queries import Agreement, Invitation, Match, MatchState
from app.queries import Connection
from app.shared.actor import Actor
from app.shared.credentials import PERSON, PROGRAM, takes
from app.shared.pagination import Items, Page


class NewMatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to invite."""

    candidate_user_id: Annotated[UUID, msgspec.Meta(examples=["019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23"])]


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the candidate answers."""

    state: Annotated[Literal["accepted", "declined"], msgspec.Meta(examples=["accepted"])]


class AnsweredMatch(msgspec.Struct, frozen=True):
    """An invitation that was answered, and the agreement that accepting it made."""

    id: UUID
    referral_id: UUID
    broker_id: UUID
    candidate_user_id: UUID
    candidate_broker_id: UUID
    state: MatchState
    invited_by: UUID
    created_at: datetime
    responded_at: datetime | None
    agreement: Agreement | None


@post(
    "/api/referrals/{referral_id:uuid}/matches",
    tags=["matches"],
    summary="Invite a candidate",
    opt=takes(PERSON, "agreements:write"),
)
async def invite_candidate(actor: Actor, referral_id: FromPath[UUID], data: JSONBody[NewMatch]) -> Response[Match]:
    """Invite an agent of another broker to take a referral of the caller's broker; each at most once."""
    return await actor.answer(
        lambda db: queries.invite_candidate(db, referral_id=referral_id, candidate_user_id=data.candidate_user_id)
    )


@get(
    "/api/referrals/{referral_id:uuid}/matches",
    tags=["matches"],
    summary="List invitations of a referral",
    opt=takes(PROGRAM, "agreements:read"),
)
async def list_matches(actor: Actor, referral_id: FromPath[UUID], page: Page) -> Items[Match]:
    """List the invitations of a referral; a candidate sees his own."""
    after = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_matches(db, referral_id=referral_id, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


@patch(
    "/api/referrals/{referral_id:uuid}/matches/{match_id:uuid}",
    tags=["matches"],
    summary="Accept or decline an invitation",
    opt=takes(PERSON, "agreements:write"),
)
async def answer_match(
    actor: Actor, referral_id: FromPath[UUID], match_id: FromPath[UUID], data: JSONBody[Reply]
) -> Response[AnsweredMatch]:
    """Accept or decline an invitation, as its candidate.

    Accepting makes the agreement, pending signature, and answers with it; accepting again answers with the same.
    When another candidate was faster, the refusal names axiom A1.
    """

    async def answer(db: Connection) -> AnsweredMatch:
        return _nested(await queries.answer_match(db, referral_id=referral_id, id=match_id, state=data.state))

    return await actor.answer(answer)


@get(
    "/api/matches",
    tags=["matches"],
    summary="List one's invitations to referrals",
    opt=takes(PERSON, "agreements:read"),
)
async def list_invitations(
    actor: Actor, page: Page, answer: Annotated[MatchState | None, QueryParameter(name="state")] = None
) -> Items[Invitation]:
    """List the caller's own invitations, newest first, each with what the referral offers."""
    after = page.after(UUID)
    rows = await actor.run(lambda db: queries.list_invitations(db, state=answer, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.id)


def _nested(row: queries.AnsweredMatch) -> AnsweredMatch:
    return AnsweredMatch(
        id=row.id,
        referral_id=row.referral_id,
        broker_id=row.broker_id,
        candidate_user_id=row.candidate_user_id,
        candidate_broker_id=row.candidate_broker_id,
        state=row.state,
        invited_by=row.invited_by,
        created_at=row.created_at,
        responded_at=row.responded_at,
        agreement=_agreement(row, row.agreement_id) if row.agreement_id else None,
    )


def _agreement(row: queries.AnsweredMatch, agreement_id: UUID) -> Agreement:
    return Agreement(
        id=agreement_id,
        referral_id=row.referral_id,
        match_id=row.id,
        from_broker_id=row.from_broker_id,
        to_broker_id=row.to_broker_id,
        region=row.agreement_region,
        fee_rate=row.fee_rate,
        protect_days=row.protect_days,
        status=row.agreement_status,
        version=row.agreement_version,
        envelope_id=row.envelope_id,
        signed_at=row.signed_at,
        created_by=row.agreement_created_by,
        created_at=row.agreement_created_at,
        effective_at=row.effective_at,
    )


handlers = [invite_candidate, list_matches, answer_match, list_invitations]
