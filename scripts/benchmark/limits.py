"""What PostgreSQL alone is measured with: exactly the statements of a request, as scripts for pgbench."""

import asyncio
import hashlib
import json
import re
import time
from typing import NamedTuple
from uuid import UUID

import psycopg

from app.apiauth import passwords
from app.database import ENTRANCES
from app.queries import load
from scripts.benchmark import cases, crowd
from scripts.benchmark.world import PASSWORD, Person, World

# An entrance names its arguments by number; those of every script here are variables.
_SESSION = "select apiauth.enter_session(:digest, null, :scopes);\n"
_TURN = "turn"


class Limit(NamedTuple):
    """A script for pgbench and its variables; in one that does each thing but once, :number says which."""

    script: str
    variables: dict[str, str]
    is_once: bool = False

    @property
    def in_one_flight(self) -> "Limit | None":
        """The same as an implicit transaction without waiting between its statements; None of what needs an answer."""
        if self.script.count("begin;\n") != 1 or "\\gset" in self.script:
            return None
        script = self.script.replace("begin;\n", "\\startpipeline\n").replace("commit;\n", "\\endpipeline\n")
        return self._replace(script=script)


class _Literal(str):
    """SQL that stands for itself."""

    __slots__ = ()


def limits(world: World) -> dict[str, Limit]:
    """Write the transactions of every row that asks the database."""
    person = world.referee
    agreement = _one_of(cases.effective(world))
    event = {"type": cases.EVENT["type"], "payload": json.dumps(cases.EVENT["payload"])}
    get = _text("agreement", "get_agreement", id=agreement)
    return {
        cases.GET: _entered(person, "agreements:read", get),
        cases.GET_BY_TOKEN: _by_token(world.token_digest, "agreements:read", get),
        cases.LIST: _entered(
            person, "agreements:read", _text("agreement", "list_agreements", status=None, after=None, limit=21)
        ),
        cases.APPEND: _entered(
            person,
            "agreements:write",
            _text("agreement", "append_event", agreement_id=agreement, occurred_at=None, corrects_seq=None, **event),
        ),
        cases.ACCEPT: _accepting(person),
        cases.WEBHOOK: _signing(world),
        cases.CONTACT: _reading_a_contact(world),
        cases.SECRET: _reading_secrets(world.referrer, _Literal(f"array[{_one_of(cases.KEYS)}]")),
        cases.SECRETS: _reading_secrets(world.referrer, _Literal(f"array[{_list(cases.KEYS)}]")),
        cases.LOGIN: _logging_in(world),
    }


def _accepting(person: Person) -> Limit:
    referral, match = (_numbered(kind, crowd.INVITED_FROM) for kind in (crowd.REFERRAL, crowd.MATCH))
    text = _text("agreement", "answer_match", referral_id=referral, id=match, state="accepted")
    return _entered(person, "agreements:write", text)._replace(is_once=True)


def _signing(world: World) -> Limit:
    agreement = _numbered(crowd.AGREEMENT, crowd.PENDING_FROM)
    signed_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
    text = _text(
        "agreement",
        "complete_signature",
        agreement_id=agreement,
        signed_at=_Literal(":signed_at"),
        envelope_id=_Literal(f"{agreement}::text"),
    )
    variables = {"digest": _bytea(hashlib.sha256(world.esign_key).digest()), "signed_at": signed_at}
    return _scripted("select apiauth.enter_esign(:digest);\n", text, variables)._replace(is_once=True)


def _reading_a_contact(world: World) -> Limit:
    """Two transactions, each of which enters: what the first granted, the second consumes."""
    person = world.referee
    granted = _text("agreement", "grant_contact_read", agreement_id=_one_of(world.signed), purpose=cases.PURPOSE)
    consumed = _text("agreement", "consume_contact_read", id=_Literal(":read_id"))
    first = _entered(person, "contacts:read", f"{granted}\n\\gset read_")
    second = _entered(person, "contacts:read", consumed)
    return Limit(first.script + second.script, first.variables | second.variables)


def _reading_secrets(person: Person, keys: _Literal) -> Limit:
    """Two transactions, of which the first enters: the number that it grants to, the second knows."""
    number = _Literal("sha256(convert_to(:salt::text || :client_id::text || '/' || :count::text, 'UTF8'))")
    granted = _text(
        "secretstore",
        "grant_reads",
        digest=_Literal(f"sha256({number})"),
        keys=keys,
        environment_id=None,
        version=None,
        request_ids=_Literal(f"array_fill('bench'::text, array[cardinality({keys})])"),
        addresses=_Literal(f"array_fill('127.0.0.1'::text, array[cardinality({keys})])"),
        held_ids="{}",
        held_versions="{}",
    )
    first = _entered(person, "secrets:read", granted)
    taken = _text("secretstore", "take_reads", number=number)
    script = f"\\set count :count + 1\n{first.script}{taken};\n"
    return Limit(script, first.variables | {"count": "0", "salt": ""})


def _logging_in(world: World) -> Limit:
    """Four transactions of a statement each: two attempts, the salt, the session. The stretching is not among them."""
    email = world.referee.email
    with psycopg.connect(world.database.app_url) as connection:
        [salt] = connection.execute("select salt from apiauth.find_stretching(%s)", [email]).fetchone() or [b""]
    key = asyncio.run(passwords.stretch(PASSWORD, salt, passwords.COST))
    bucket = {"bucket": "login 127.0.0.1", "capacity": 1_000_000, "period": "1 minute"}
    attempts = [
        _text("apiauth", "take_attempt", **bucket),
        _text("apiauth", "take_attempt_on", account=email, **bucket),
    ]
    opened = _text(
        "apiauth",
        "open_session",
        email=email,
        key=_Literal(f"'{_bytea(key)}'"),
        digest=_Literal("uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())"),
        idle="7 days",
        lifetime="30 days",
    )
    return Limit(";\n".join([*attempts, _text("apiauth", "find_stretching", email=email), opened]) + ";\n", {})


def _entered(person: Person, scope: str, text: str) -> Limit:
    return _scripted(_SESSION, text, {"digest": person.digest, "scopes": f"{{{scope}}}"})


def _by_token(digest: str, scope: str, text: str) -> Limit:
    entrance = ENTRANCES["personal_token"].replace("$1, $2, $3", ":digest, null, :scopes")
    return _scripted(f"{entrance};\n", text, {"digest": digest, "scopes": f"{{{scope}}}"})


def _scripted(entrance: str, text: str, variables: dict[str, str]) -> Limit:
    """Put entrance and statement into one transaction."""
    for literal in set(re.findall(r"'\w+:\w+'", text)):  # pgbench takes a colon for a variable's, in literals too
        variable = literal.strip("'").replace(":", "_")
        variables = {**variables, variable: literal.strip("'")}
        text = text.replace(literal, f":{variable}")
    turn = f"\\set {_TURN} random(1, {cases.MOST})\n" if f":{_TURN} " in text else ""
    end = "" if "\\gset" in text else ";"
    return Limit(f"{turn}begin;\n{entrance}{text}{end}\ncommit;\n", variables)


def _text(domain: str, name: str, **values: object) -> str:
    """Return the very text that the service sends, with its values."""
    query = load(domain)[name]
    text = query.sql.rstrip("; \n")
    for number, parameter in reversed(list(enumerate(query.parameters, 1))):
        text = text.replace(f"${number}", _literal(values[parameter]))
    return text


def _literal(value: object) -> str:
    match value:
        case None:
            return "null"
        case int() | _Literal():
            return str(value)
        case UUID() | str():
            return "'" + str(value).replace("'", "''") + "'"
    raise TypeError(f"no literal for {value!r}")


def _one_of(values: list[str]) -> _Literal:
    """Return an expression for one of the values, by chance."""
    kind = "text" if values == cases.KEYS else "uuid"
    return _Literal(f"(array[{_list(values)}]::{kind}[])[1 + :{_TURN} % {len(values)}]")


def _numbered(kind: int, first: int) -> _Literal:
    return _Literal(crowd.row_expression(kind, f"({first} + :number)"))


def _list(values: list[str]) -> str:
    return ", ".join(_literal(value) for value in values)


def _bytea(value: bytes) -> str:
    return f"\\x{value.hex()}"
