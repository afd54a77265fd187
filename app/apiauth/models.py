"""What requests about credentials say, and the answers that are more than a row."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from app.apiauth.queries import RegisteredUser

DEFAULT_SCOPES = ("agreements:read", "agreements:write")

Email = Annotated[
    str, Meta(max_length=254, description="In any case and Unicode form.", examples=["rita@north.example"])
]


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants to register."""

    email: Email
    password: Annotated[
        str,
        Meta(
            min_length=8,
            max_length=1024,
            description="Any characters; length is what makes it strong.",
            examples=["correct horse battery staple"],
        ),
    ]
    full_name: Annotated[str, Meta(description="At most 200 characters.", examples=["Rita Moreno"])]


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants to log in."""

    email: Email
    password: Annotated[str, Meta(max_length=1024, examples=["correct horse battery staple"])]


class OpenedSession(msgspec.Struct, frozen=True):
    """A session, whose token is shown here and never again."""

    token: Annotated[str, Meta(examples=["bf_ses_5mPq2vXc8Lr0TzWn4KdYh7GsJb1FtQe9Ra3u0aZ4Kx"])]
    expires_at: Annotated[
        datetime,
        Meta(description="No activity moves this end; idleness ends it earlier.", examples=["2026-12-22T09:00:00Z"]),
    ]
    user: RegisteredUser


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that a user wants for a program."""

    name: Annotated[str, Meta(description="What it is for, at most 100 characters.", examples=["nightly import"])]
    expires_in_days: Annotated[int, Meta(ge=1, le=365, examples=[90])]
    scopes: Annotated[
        list[str],
        Meta(
            description="What it may do: accounts:read, accounts:write, agreements:read, agreements:write, "
            "contacts:read, organizations:write, secrets:read, secrets:write, tokens:write, votes:write; unless said, "
            "agreements:read and agreements:write. A token mints none that it lacks.",
            examples=[["agreements:read"]],
        ),
    ] = msgspec.field(default_factory=lambda: [*DEFAULT_SCOPES])


class CreatedToken(msgspec.Struct, frozen=True):
    """A personal access token, which is shown here and never again."""

    id: Annotated[UUID, Meta(examples=["019b3c5e-7d10-7a42-9c1f-5b8f0d6e2a11"])]
    name: Annotated[str, Meta(examples=["nightly import"])]
    token: Annotated[str, Meta(examples=["tr_pat_5mPq2vXc8Lr0TzWn4KdYh7GsJb1FtQe9Ra3u0aZ4Kx"])]
    token_hint: Annotated[str, Meta(description="Its last four characters.", examples=["Z4Kx"])]
    scopes: Annotated[list[str], Meta(examples=[["agreements:read"]])]
    created_at: Annotated[datetime, Meta(examples=["2026-11-22T09:00:00Z"])]
    expires_at: Annotated[datetime, Meta(examples=["2027-02-20T09:00:00Z"])]
