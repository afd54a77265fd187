"""Where logins are kept: a file of the user's own, a token for each service that he is logged in to."""

import os
import secrets
from pathlib import Path

import click
import msgspec

from app.cli import Refused


class Login(msgspec.Struct, frozen=True):
    """A token, and the one service that it is for."""

    url: str
    token: str


def path() -> Path:
    """Return the file: in XDG_CONFIG_HOME or ~/.config, and where macOS and Windows keep such things."""
    return Path(click.get_app_dir("brokerflow")) / "logins.json"


def read() -> list[Login]:
    """Return the logins, the latest first; refuses a file that others can read."""
    file = path()
    try:
        if os.name == "posix" and file.stat().st_mode & 0o077:
            raise Refused(f"{file} can be read by others, and so were your tokens, perhaps: revoke them and remove it.")
        return msgspec.json.decode(file.read_bytes(), type=list[Login])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise Refused(f"{file} cannot be used ({error}): remove it and log in again.") from None


def keep(login: Login) -> None:
    """Put a login first, in place of what there was for its service."""
    _write([login, *(each for each in read() if each.url != login.url)])


def forget(url: str) -> None:
    """Remove the login of a service."""
    _write([each for each in read() if each.url != url])


def _write(logins: list[Login]) -> None:
    """Replace the file as a whole, so that who reads it meanwhile reads the one or the other."""
    file = path()
    partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(logins)) + b"\n")
        partial.replace(file)
    except OSError as error:
        raise Refused(f"{file} cannot be written: {error.strerror}.") from None
