"""What requests about credentials say, and the answers that are more than a row."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from app.apiauth.queries import RegisteredUser
from app.shared.tokens import Prefix, example

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

    token: Annotated[str, Meta(examples=[example(Prefix.SESSION)])]
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
    token: Annotated[str, Meta(examples=[example(Prefix.PERSONAL)])]
    token_hint: Annotated[str, Meta(description="Its last four characters.", examples=[example(Prefix.PERSONAL)[-4:]])]
    scopes: Annotated[list[str], Meta(examples=[["agreements:read"]])]
    created_at: Annotated[datetime, Meta(examples=["2026-11-22T09:00:00Z"])]
    expires_at: Annotated[datetime, Meta(examples=["2027-02-20T09:00:00Z"])]


class NewDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine that wants to act for whoever approves it."""

    name: Annotated[
        str,
        Meta(
            description="What the person is shown, and the name of the token; at most 100 characters.",
            examples=["brokerflow on build-7"],
        ),
    ]
    scopes: Annotated[
        list[str],
        Meta(description="What it wants to do; as of personal access tokens.", examples=[["secrets:read"]]),
    ] = msgspec.field(default_factory=lambda: [*DEFAULT_SCOPES])
    expires_in_days: Annotated[int, Meta(ge=1, le=365, description="How long the token shall live.")] = 90


class DeviceAuthorization(msgspec.Struct, frozen=True):
    """The codes of a machine, as RFC 8628 (3.2) names them."""

    device_code: Annotated[str, Meta(examples=["GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eSQY"])]
    user_code: Annotated[str, Meta(examples=["WDJB-MJHT"])]
    verification_uri: Annotated[str, Meta(examples=["https://brokerflow.example/device"])]
    verification_uri_complete: Annotated[str, Meta(examples=["https://brokerflow.example/device?user_code=WDJB-MJHT"])]
    expires_in: Annotated[int, Meta(description="Seconds until both codes end.", examples=[600])]
    interval: Annotated[int, Meta(description="Seconds between two polls, at least.", examples=[5])]


class DeviceDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says to a machine that shows a code."""

    user_code: Annotated[str, Meta(max_length=40, examples=["WDJB-MJHT"])]
    decision: Literal["approve", "deny"]


class DeviceGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machine's own code, to be turned into a token."""

    device_code: Annotated[str, Meta(max_length=100, examples=["GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eSQY"])]


class DeviceToken(msgspec.Struct, frozen=True):
    """A personal access token as RFC 6749 (5.1) names its parts; shown here and never again."""

    access_token: Annotated[str, Meta(examples=[example(Prefix.PERSONAL)])]
    token_type: Annotated[str, Meta(examples=["Bearer"])]
    expires_in: Annotated[int, Meta(description="Seconds.", examples=[7776000])]
    scope: Annotated[str, Meta(description="Separated by spaces.", examples=["agreements:read agreements:write"])]
    id: Annotated[UUID, Meta(examples=["019b3c5e-7d10-7a42-9c1f-5b8f0d6e2a11"])]
    name: Annotated[str, Meta(examples=["brokerflow on build-7"])]
