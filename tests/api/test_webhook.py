"""The signing service's webhook: a proved signature, and nothing else, makes an agreement effective."""

import base64
import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from app.agreement.webhooks import signing_key
from app.errors import Refusal
from tests.api.conftest import Caller, Json, Look, at_once, fields, problem, serving
from tests.api.steps import (
    SigningService,
    accept,
    agreement_of,
    axiom_of,
    completion,
    count,
    invite,
    move,
    refer,
    signature,
    timeline,
    types,
)
from tests.conftest import Database

pytest_plugins = ("tests.api.brokerage",)


def new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def untouched(look: Look) -> bool:
    """Whether nothing happened to the pending agreement."""
    row = look.execute("select status::text, envelope_id from agreement.agreements").fetchone()
    return row == ("pending_signature", None) and count(look, "select count(*) from shared.outbox") == 1


def test_a_signature_makes_the_agreement_effective(referrer: Caller, pending: Json, signing: SigningService) -> None:
    response = signing.report(pending, envelope="env_1")
    assert response.status_code == 200
    agreement = agreement_of(referrer, pending["id"])
    assert response.json() == {name: agreement[name] for name in ("id", "status", "effective_at")}
    assert (agreement["status"], agreement["envelope_id"], agreement["version"]) == ("effective", "env_1", 2)
    assert types(timeline(referrer, agreement)) == ["AGREEMENT_CREATED", "ESIGN_COMPLETED"]


def test_a_replay_changes_nothing(referrer: Caller, pending: Json, signing: SigningService, look: Look) -> None:
    body = completion(pending)
    first = signing.send(body)
    before = agreement_of(referrer, pending["id"])
    for _ in range(3):
        replay = signing.send(body)
        assert (replay.status_code, replay.content) == (200, first.content)
    assert agreement_of(referrer, pending["id"]) == before
    assert count(look, "select count(*) from shared.outbox") == 2


def test_reports_at_once_make_it_effective_once(pending: Json, signing: SigningService, look: Look) -> None:
    body = completion(pending)
    answers = at_once([lambda: signing.send(body)] * 10)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert count(look, "select count(*) from shared.outbox") == 2


def test_another_envelope_on_an_effective_agreement_is_refused(
    referrer: Caller, effective: Json, signing: SigningService
) -> None:
    axiom_of(signing.report(effective, envelope="env_other"), 409, "A8")
    assert agreement_of(referrer, effective["id"]) == effective


@pytest.mark.parametrize("status", ["void", "closed"])
def test_what_is_over_is_not_revived(
    referrer: Caller, pending: Json, signing: SigningService, look: Look, status: str
) -> None:
    assert move(referrer, pending, "void").status_code == 200
    if status == "closed":
        assert move(referrer, pending, "closed").status_code == 200
    axiom_of(signing.report(pending), 409, "A8")
    after = agreement_of(referrer, pending["id"])
    assert (after["status"], after["effective_at"], after["envelope_id"]) == (status, None, None)
    reasons = look.execute("select credential_kind::text, reason from shared.audit_log where outcome = 'denied'")
    assert len(reasons.fetchall()) == 1


def test_a_signature_from_the_future_is_refused(pending: Json, signing: SigningService, look: Look) -> None:
    axiom_of(signing.report(pending, signed_at=datetime.now(UTC) + timedelta(minutes=1)), 409, "A3")
    assert untouched(look)


def test_an_unknown_agreement_is_not_found(signing: SigningService) -> None:
    problem(signing.report({"id": "019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23"}), 404, "not_found")


def test_one_envelope_signs_one_agreement(
    referrer: Caller, referee: Caller, effective: Json, signing: SigningService
) -> None:
    other = accept(referee, invite(referrer, refer(referrer), referee))
    problem(signing.report(other, envelope=effective["envelope_id"]), 409, "conflict")
    assert agreement_of(referrer, other["id"]) == other


def test_a_body_that_is_none_is_refused_after_its_signature_was_proved(
    pending: Json, signing: SigningService, look: Look
) -> None:
    body = completion(pending)
    for altered, status, named in (
        (body.replace(b'"envelope_id"', b'"envelope":1,"envelope_id"'), 422, ["envelope"]),
        (body.replace(pending["id"].encode(), b"1"), 422, ["agreement_id"]),
        (body[:-1], 400, []),
        (b"", 400, []),
        (b"\xff", 400, []),
    ):
        response = signing.send(altered)
        assert (response.status_code, fields(response.json())) == (status, named), response.text
    assert untouched(look)


WRONG_HEADERS: list[tuple[str, str | None]] = [
    ("webhook_id", None),
    ("webhook_id", ""),
    ("webhook_id", "msg_2"),
    ("webhook_timestamp", None),
    ("webhook_timestamp", "now"),
    ("webhook_timestamp", "9" * 400),
    ("webhook_timestamp", "-1"),
    ("webhook_timestamp", "1e9"),
    ("webhook_signature", None),
    ("webhook_signature", ""),
    ("webhook_signature", "v1"),
    ("webhook_signature", "v1,"),
    ("webhook_signature", "v1,AAAA v1, ,,, v2,x"),
    ("webhook_signature", "v1,!"),
]


def test_a_missing_or_wrong_header_is_refused_and_nothing_written(
    pending: Json, signing: SigningService, look: Look
) -> None:
    for header, value in WRONG_HEADERS:
        response = signing.send(completion(pending), **{header: value})
        assert "postgres" not in problem(response, 401, "unauthenticated")["detail"].lower(), (header, value)
    body = completion(pending)
    doubled = [*signature(signing.secret, body).items(), ("webhook-id", "msg_1"), ("content-type", "application/json")]
    problem(signing.client.post("/webhooks/esign", content=body, headers=doubled), 401, "unauthenticated")
    assert untouched(look)
    assert count(look, "select count(*) from shared.audit_log where outcome = 'denied'") == 0


def test_a_signature_is_good_for_five_minutes(pending: Json, signing: SigningService, look: Look) -> None:
    body = completion(pending)
    for away in (-301, 302, -(10**9)):
        stale = signature(signing.secret, body, at=time.time() + away)
        problem(signing.send(body, **underscored(stale)), 401, "unauthenticated")
    assert untouched(look)
    fresh = signature(signing.secret, body, at=time.time() - 295)
    assert signing.send(body, **underscored(fresh)).status_code == 200


def test_a_signature_of_another_body_or_another_secret_is_refused(
    pending: Json, signing: SigningService, look: Look
) -> None:
    body = completion(pending)
    other = signature(signing.secret, completion(pending, envelope="env_other"))
    problem(signing.send(body, **underscored(other)), 401, "unauthenticated")
    problem(signing._replace(secret=new_secret()).send(body), 401, "unauthenticated")
    assert untouched(look)


def test_one_good_signature_among_several_is_enough(pending: Json, signing: SigningService) -> None:
    body = completion(pending)
    good, bad = signature(signing.secret, body), signature(new_secret(), body)
    several = f"v1a,xyz {bad['webhook-signature']} {good['webhook-signature']}"
    assert signing.send(body, webhook_signature=several).status_code == 200


def test_the_webhooks_credential_opens_no_other_door(client: httpx.Client, signing: SigningService) -> None:
    for token in (signing.secret, signing.secret.removeprefix("whsec_")):
        headers = {"Authorization": f"Bearer {token}"}
        problem(client.get("/api/agreements", headers=headers), 401, "unauthenticated")


def test_an_agreement_that_is_pending_needs_a_signature_even_from_a_party(referrer: Caller, pending: Json) -> None:
    problem(referrer.post("/webhooks/esign", content=completion(pending)), 401, "unauthenticated")


@contextmanager
def service(database: Database, home: Path, *listed: str) -> Iterator[httpx.Client]:
    """A service with these webhook secrets, and a client of it."""
    given = {"BROKERFLOW_ESIGN_SECRET": " ".join(listed)}
    with serving(database, home, **given) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


def test_secrets_rotate_by_overlap(database: Database, tmp_path: Path) -> None:
    unknown = completion({"id": "019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23"})
    old, new = new_secret(), new_secret()
    for listed, statuses in (((old,), (404, 401)), ((old, new), (404, 404)), ((new,), (401, 404))):
        with service(database, tmp_path, *listed) as client:
            answers = [SigningService(client, secret).send(unknown).status_code for secret in (old, new)]
            assert tuple(answers) == statuses, listed


def test_a_secret_that_nobody_introduced_is_not_trusted(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = completion({"id": "019a9d2c-4f5e-7a31-8c27-5d0e6b9f1a23"})
    old, stranger = new_secret(), new_secret()
    with service(database, tmp_path, old):
        pass
    with service(database, tmp_path, stranger) as client:
        problem(SigningService(client, stranger).send(unknown), 401, "unauthenticated")
        assert client.get("/healthz").status_code == 200
    assert "webhook secrets not trusted" in caplog.text
    with service(database, tmp_path, old) as client:
        assert SigningService(client, old).send(unknown).status_code == 404


def test_no_secret_is_found_whole_in_the_database(effective: Json, signing: SigningService, look: Look) -> None:
    rows = look.execute("select digest from apiauth.esign_keys").fetchall()
    key = base64.b64decode(signing.secret.removeprefix("whsec_"))
    assert len(rows) == 1
    assert rows[0][0] not in {key, hashlib.sha256(key).digest()}


def test_the_specifications_own_example_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vector that every Standard Webhooks library is tested with."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body, message, moment = b'{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"
    monkeypatch.setattr(time, "time", lambda: float(moment))
    given = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signing_key([b"x" * 32, key], message, moment, given, body) == key
    with pytest.raises(Refusal):
        signing_key([key], message, moment, given, body + b" ")


def underscored(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}
