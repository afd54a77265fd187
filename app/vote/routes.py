"""Cast and withdraw a vote for an API, and see how many others did."""

from litestar import Response, delete, get, put
from litestar.params import FromPath

from app.errors import INVALID, KEY_REUSED
from app.shared.actor import Actor
from app.shared.credentials import ANY, PERSON, takes
from app.shared.openapi import problem_spec
from app.shared.pagination import Items, Page
from app.vote import queries
from app.vote.queries import Tally, Vote

VOTE = "/api/votes/{api_identifier:str}"


@put(
    VOTE,
    tags=["votes"],
    summary="Vote for an API",
    responses={422: problem_spec(INVALID, KEY_REUSED)},
    opt=takes(PERSON, "votes:write"),
)
async def cast_vote(actor: Actor, api_identifier: FromPath[str]) -> Response[Vote]:
    """Vote for an API, once a user however often asked; `is_new_vote` tells whether this was the time.

    An identifier has letters, digits, dots, underscores, colons and hyphens, at most 128.
    """
    return await actor.answer(lambda db: queries.cast_vote(db, api_identifier=api_identifier))


@delete(VOTE, status_code=200, tags=["votes"], summary="Withdraw a vote", opt=takes(PERSON, "votes:write"))
async def withdraw_vote(actor: Actor, api_identifier: FromPath[str]) -> Response[Vote]:
    """Withdraw the caller's vote for an API; without one nothing changes."""
    return await actor.answer(lambda db: queries.withdraw_vote(db, api_identifier=api_identifier))


@get("/api/votes", tags=["votes"], summary="Count the votes", opt=takes(ANY))
async def list_tallies(actor: Actor, page: Page) -> Items[Tally]:
    """Count the votes of each API, in the order of their names; `is_mine` tells the caller's own."""
    after = page.after(str)
    rows = await actor.run(lambda db: queries.list_tallies(db, after=after, limit=page.fetch))
    return page.of(rows, position=lambda row: row.api_identifier)


handlers = [cast_vote, withdraw_vote, list_tallies]
