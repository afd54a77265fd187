"""Clients' contacts: read by a party of an effective agreement, and never without a trace that stays."""

import hashlib

import httpx
import msgspec
import psycopg
import pytest
from psycopg import sql

from tests.api.conftest import Caller, Json, Look, fields, problem
from tests.api.steps import (
    CONTACT,
    SigningService,
    accept,
    agreement_of,
    axiom_of,
    count,
    invite,
    move,
    open_dispute,
    read_contact,
    refer,
    resolve,
    timeline,
    types,
)
from tests.conftest import Database

pytest_plugins = ("tests.api.brokerage",)


def put_contact(caller: Caller, referral_id: str, **changes: object) -> httpx.Response:
    return caller.put(f"/api/referrals/{referral_id}/contact", json={**CONTACT, **changes})


def shred(caller: Caller, referral_id: str) -> httpx.Response:
    return caller.delete(f"/api/referrals/{referral_id}/contact")


def test_both_parties_read_the_contact_once_it_is_effective(referrer: Caller, referee: Caller, effective: Json) -> None:
    for party in (referrer, referee):
        response = read_contact(party, effective)
        assert response.status_code == 201
        assert response.json() == {**CONTACT, "id": response.json()["id"]}
    assert types(timeline(referee, effective))[-2:] == ["PII_VIEWED", "PII_VIEWED"]


FLIPPED = "set_bit({0}, (%s * 31) %% (length({0}) * 8), 1 - get_bit({0}, (%s * 31) %% (length({0}) * 8)))"


@pytest.mark.parametrize("column", ["ciphertext", "wrapped_key"])
def test_a_flipped_bit_is_an_error_of_integrity_and_never_a_wrong_contact(
    referee: Caller, effective: Json, look: Look, column: str
) -> None:
    look.execute("create table public.whole as select * from agreement.contacts")
    for number in range(20):
        look.execute(f"update agreement.contacts set {column} = {FLIPPED.format(column)}".encode(), [number, number])
        assert problem(read_contact(referee, effective), 500, "contact_integrity")["axiom"] == "A2"
        look.execute(f"update agreement.contacts as c set {column} = w.{column} from public.whole as w".encode())
    denied = "select count(*) from shared.audit_log where outcome = 'denied' and reason = 'contact_integrity'"
    assert count(look, denied) == 20
    look.execute("update agreement.contacts set sealed_at = sealed_at + interval '1 microsecond'")
    assert read_contact(referee, effective).json()["name"] == CONTACT["name"]


def test_a_contact_that_was_moved_does_not_open(referrer: Caller, referee: Caller, effective: Json, look: Look) -> None:
    other = refer(referrer, client={**CONTACT, "name": "Somebody else"})
    look.execute(
        "update agreement.contacts as c set (ciphertext, wrapped_key) = (o.ciphertext, o.wrapped_key) "
        "from agreement.contacts as o where o.referral_id = %s and c.referral_id <> o.referral_id",
        [other["id"]],
    )
    problem(read_contact(referee, effective), 500, "contact_integrity")


def test_before_the_signature_nobody_reads_it(referrer: Caller, referee: Caller, pending: Json, look: Look) -> None:
    for party in (referrer, referee):
        axiom_of(read_contact(party, pending), 409, "A2")
    assert count(look, "select count(*) from agreement.contact_reads") == 0


def test_while_disputed_nobody_reads_it_and_after_a_dismissal_both_do(
    referrer: Caller, referee: Caller, judge: Caller, effective: Json
) -> None:
    dispute = open_dispute(referee, effective)
    for party in (referrer, referee):
        axiom_of(read_contact(party, effective), 409, "A2")
    assert resolve(judge, dispute, "dismissed").status_code == 200
    assert read_contact(referee, effective).status_code == 201


def test_once_it_is_over_nobody_reads_it(referrer: Caller, referee: Caller, effective: Json) -> None:
    assert move(referrer, effective, "closed").status_code == 200
    axiom_of(read_contact(referee, effective), 409, "A2")


def test_a_stranger_and_a_judge_read_nothing(stranger: Caller, judge: Caller, effective: Json, look: Look) -> None:
    for caller in (stranger, judge):
        problem(read_contact(caller, effective), 404, "not_found")
        problem(caller.get(f"/api/agreements/{effective['id']}/contact-reads"), 404, "not_found")
    assert count(look, "select count(*) from agreement.contact_reads") == 0


def test_both_parties_see_who_read_it_when_and_why(referrer: Caller, referee: Caller, effective: Json) -> None:
    path = f"/api/agreements/{effective['id']}/contact-reads"
    assert referrer.get(path).json() == {"items": [], "next_cursor": None}
    first, second = (read_contact(referee, effective).json()["id"] for _ in range(2))
    items = referrer.get(path).json()["items"]
    assert [item["id"] for item in items] == [second, first]
    assert items == referee.get(path).json()["items"]
    assert (items[0]["user_id"], items[0]["organization_id"]) == (referee.user_id, referee.broker_id)
    assert (items[0]["purpose"], items[0]["consumed_at"] is None) == ("Arrange the first viewing", False)


def test_a_read_has_a_purpose(referee: Caller, effective: Json) -> None:
    path = f"/api/agreements/{effective['id']}/contact-reads"
    for purpose in ("", " ", "x" * 501, 1, None):
        response = referee.post(path, json={"purpose": purpose})
        assert fields(problem(response, 422, "invalid")) == ["purpose"]


def test_the_audit_row_is_committed_before_the_contact_leaves(
    referee: Caller, effective: Json, database: Database, look: Look
) -> None:
    """The vault's table is locked: the read cannot end, and its trace is there for everybody to see."""
    with psycopg.connect(database.superuser_url) as blocker:
        blocker.execute("lock table agreement.contacts in access exclusive mode")
        problem(read_contact(referee, effective), 503, "database_unavailable")
        assert count(look, "select count(*) from agreement.contact_reads where consumed_at is null") == 1
        assert count(look, "select count(*) from shared.audit_log where action = 'agreement.pii_viewed'") == 1
        blocker.rollback()
    assert types(timeline(referee, effective))[-1] == "PII_VIEWED"


def test_a_read_that_failed_is_finished_with_the_same_key(
    referee: Caller, effective: Json, database: Database, look: Look
) -> None:
    headers = {"Idempotency-Key": "read-1"}
    with psycopg.connect(database.superuser_url) as blocker:
        blocker.execute("lock table agreement.contacts in access exclusive mode")
        problem(read_contact(referee, effective, headers), 503, "database_unavailable")
        blocker.rollback()
    response = read_contact(referee, effective, headers)
    assert (response.status_code, response.json()["email"]) == (201, CONTACT["email"])
    assert count(look, "select count(*) from agreement.contact_reads") == 1


def test_a_repeated_read_hands_nothing_out_again(
    referrer: Caller, referee: Caller, effective: Json, look: Look
) -> None:
    headers = {"Idempotency-Key": "read-2"}
    assert read_contact(referee, effective, headers).status_code == 201
    refusal = problem(read_contact(referee, effective, headers), 409, "contact_read_consumed")
    assert refusal["axiom"] == "A7"
    assert "once" in refusal["detail"]
    assert count(look, "select count(*) from agreement.contact_reads") == 1
    move(referrer, effective, "closed")
    assert read_contact(referee, effective, headers).status_code == 409


def test_a_grant_is_of_no_use_once_the_agreement_is_not_effective(
    referrer: Caller, referee: Caller, effective: Json, database: Database
) -> None:
    headers = {"Idempotency-Key": "read-3"}
    with psycopg.connect(database.superuser_url) as blocker:
        blocker.execute("lock table agreement.contacts in access exclusive mode")
        problem(read_contact(referee, effective, headers), 503, "database_unavailable")
        blocker.rollback()
    open_dispute(referrer, effective)
    axiom_of(read_contact(referee, effective, headers), 409, "A2")


def test_a_contact_is_written_and_replaced_and_not_read_back(
    referrer: Caller, referee: Caller, signing: SigningService
) -> None:
    referral = refer(referrer)
    path = f"/api/referrals/{referral['id']}/contact"
    for name in ("Lin", "Wang"):
        response = put_contact(referrer, referral["id"], name=name)
        assert (response.status_code, response.content) == (204, b"")
    assert referrer.get(path).status_code == 405
    agreement = accept(referee, invite(referrer, referral, referee))
    signing.report(agreement)
    assert read_contact(referee, agreement).json()["name"] == "Wang"


def test_a_referral_without_a_contact_says_so(referrer: Caller, referee: Caller, signing: SigningService) -> None:
    agreement = accept(referee, invite(referrer, refer(referrer), referee))
    signing.report(agreement)
    refusal = problem(read_contact(referee, agreement), 404, "not_found")
    assert refusal["detail"] == "The referral has no contact: none was given, or it was shredded."


def test_a_shredded_contact_is_gone_for_good_and_leaves_a_receipt(
    referrer: Caller, referee: Caller, effective: Json, look: Look
) -> None:
    assert read_contact(referee, effective).status_code == 201
    response = shred(referrer, effective["referral_id"])
    assert (response.status_code, response.content) == (204, b"")
    assert "shredded" in problem(read_contact(referee, effective), 404, "not_found")["detail"]
    axiom_of(put_contact(referrer, effective["referral_id"]), 409, "A2")
    axiom_of(shred(referrer, effective["referral_id"]), 409, "A2")
    assert count(look, "select count(*) from agreement.contacts where wrapped_key is not null") == 0
    receipt = next(event for event in timeline(referee, effective) if event["type"] == "CONTACT_SHREDDED")
    assert receipt["payload"].keys() == {"referral_id", "ciphertext_sha256", "wrapped_key_sha256"}


def test_only_the_referrals_broker_writes_and_shreds(referrer: Caller, referee: Caller, effective: Json) -> None:
    problem(put_contact(referee, effective["referral_id"]), 404, "not_found")
    problem(shred(referee, effective["referral_id"]), 404, "not_found")
    assert read_contact(referrer, effective).json()["name"] == CONTACT["name"]
    problem(shred(referrer, refer(referrer)["id"]), 404, "not_found")


def test_no_column_of_the_database_holds_a_contact_in_clear(referee: Caller, effective: Json, look: Look) -> None:
    read_contact(referee, effective, {"Idempotency-Key": "read-4"})
    tables = look.execute(
        "select schemaname, tablename from pg_tables "
        "where schemaname in ('shared', 'apiauth', 'secretstore', 'agreement', 'vote')"
    ).fetchall()
    for name in tables:
        table = sql.Identifier(*name)
        for value in CONTACT.values():
            found = look.execute(
                sql.SQL("select count(*) from {} as t where position(%s in t::text) > 0").format(table),
                [value],
            ).fetchone()
            hexed = look.execute(
                sql.SQL("select count(*) from {} as t where position(%s in t::text) > 0").format(table),
                [value.encode().hex()],
            ).fetchone()
            assert (found, hexed) == ((0,), (0,)), name


def test_no_digest_at_rest_confirms_a_guess_of_a_contact(referrer: Caller, referral: Json, look: Look) -> None:
    """Whoever has a dump and guesses the whole request still lacks the master key."""
    path, body = f"/api/referrals/{referral['id']}/contact", msgspec.json.encode(CONTACT)
    headers = {"Idempotency-Key": "put-1", "content-type": "application/json"}
    assert referrer.put(path, content=body, headers=headers).status_code == 204
    row = look.execute("select request_digest from shared.idempotency_keys").fetchone()
    parts = (b"PUT", path.encode(), b"", b"", b"", body)
    for guess in (body, b"".join(parts), b"".join(len(part).to_bytes(8) + part for part in parts)):
        assert row != (hashlib.sha256(guess).digest(),)


def test_a_key_is_bound_to_the_organization_that_is_named(referrer: Caller, referral: Json) -> None:
    path = f"/api/referrals/{referral['id']}/contact"
    assert referrer.put(path, json=CONTACT, headers={"Idempotency-Key": "put-2"}).status_code == 204
    named = {"Idempotency-Key": "put-2", "X-Organization": "north"}
    problem(referrer.put(path, json=CONTACT, headers=named), 422, "idempotency_key_reused")


def test_a_sealed_contact_opens_for_its_own_referral_only(
    referrer: Caller, referee: Caller, signing: SigningService, effective: Json, look: Look
) -> None:
    other = accept(referee, invite(referrer, refer(referrer, client={**CONTACT, "name": "Wu"}), referee))
    signing.report(other)
    look.execute("alter table agreement.contacts disable trigger all")
    look.execute(
        "update agreement.contacts set (ciphertext, wrapped_key) = "
        "(select ciphertext, wrapped_key from agreement.contacts where referral_id = %s) where referral_id = %s",
        [effective["referral_id"], other["referral_id"]],
    )
    response = read_contact(referee, other)
    assert response.status_code == 500
    assert CONTACT["name"] not in response.text
    assert agreement_of(referee, other["id"])["status"] == "effective"
