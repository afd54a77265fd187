"""A11: a secret's value is sealed to its scope, key and version; versions are immutable; all access is audited."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import SEALED, VAULT, Actor, Given, Party, Stage, keeps, waits_for_a_lock

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

GRANT = "select key, refusal from secretstore.grant_reads(%s, %s, %s, %s, '{r}', null)"
TAKE = "select key, version, ciphertext, wrapped_key from secretstore.take_reads(%s)"
RESERVE = "select secret_id, version from secretstore.reserve_version(%s, null, %s, null, null)"
PUT = "select (secretstore.put_version(%s, %s, %s, %s, %s, %s, null, %s, 'r', null)).version"
INSERT = (
    "insert into secretstore.secret_versions (secret_id, version, ciphertext, wrapped_key, master_key_id, restores) "
    "values (%s, %s, %s, %s, %s, %s)"
)


def digest(number: bytes) -> bytes:
    return hashlib.sha256(number).digest()


async def trace(stage: Stage, key: str = "key") -> list[tuple[Any, ...]]:
    """Return what the audit log has of a key of the referrer's organization."""
    subject = f"secret/{stage.people['referrer'].organization_id}/-/{key}"
    return await stage.as_auditor(
        "select action, outcome, reason, (detail ->> 'version')::int from shared.audit_log "
        "where subject = %s order by id",
        subject,
    )


async def test_a_value_is_read_by_a_committed_grant_once(given: Given, as_nobody: Actor) -> None:
    await given.secret()
    number = await given.committed_read_grant()
    assert await as_nobody(TAKE, number) == [("key", 1, *SEALED[:2])]
    assert await as_nobody(TAKE, number) == []


async def test_a_new_version_is_announced_by_its_secrets_id(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    async with enter_from_outside() as stage:
        secret = await stage.given.secret("announced")
        await stage.connection.commit()
        superuser.execute("listen secrets")
        assert await stage.given.secret("announced") == secret
        await stage.connection.commit()
    superuser.execute("notify secrets, 'the end'")
    told = [each.payload for each in superuser.notifies(timeout=5, stop_after=2)]
    assert told == [str(secret), "the end"]


async def test_a_version_that_is_destroyed_is_announced_by_its_secrets_id(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    async with enter_from_outside() as stage:
        secret = await stage.given.secret("destroyed/announced")
        await stage.connection.commit()
        superuser.execute("listen secrets")
        await stage.as_referrer("select secretstore.destroy_version('destroyed/announced', null, 1, null, 'r', null)")
        await stage.connection.commit()
    superuser.execute("notify secrets, 'the end'")
    told = [each.payload for each in superuser.notifies(timeout=5, stop_after=2)]
    assert told == [str(secret), "the end"]


async def test_what_its_reader_holds_is_audited_and_not_granted_again(given: Given, as_referrer: Party) -> None:
    """If it is the very version to be read; whatever else he says to hold, he is granted what there is."""
    secret, other = await given.secret(), await given.secret("other")
    statement = (
        "select refusal, is_held from secretstore.grant_reads(%s, array['key'], null, %s, '{r}', null, "
        "array[%s]::uuid[], array[%s]::int[])"
    )
    grants = "select cardinality(versions) from secretstore.read_grants where digest = %s"
    for number, (version, held_id, held_version, is_held) in enumerate(
        [
            (None, secret, 1, True), (1, secret, 1, True), (None, secret, 2, False), (None, other, 1, False),
            (None, None, None, False), (None, secret, None, False),
        ]
    ):  # fmt: skip
        told = await as_referrer(statement, bytes([number] * 32), version, held_id, held_version)
        assert told == [(None, is_held)]
        assert await given.stage.as_postgres(grants, bytes([number] * 32)) == ([] if is_held else [(1,)])
        assert len(await trace(given.stage)) == number + 2
    await as_referrer("select secretstore.delete_secret('key', null, null, 'r', null)")
    assert await as_referrer(statement, bytes(32), None, secret, 1) == [("deleted", True)]


@keeps("read_grants_committed_first")
async def test_a_grant_of_the_same_transaction_is_refused(given: Given, refused: Refused, as_referrer: Party) -> None:
    await given.secret()
    number = await given.read_grant()
    async with refused("read_grants_committed_first"):
        await as_referrer(TAKE, number)
    async with given.stage.connection.transaction():
        number = await given.read_grant()
    async with refused("read_grants_committed_first"):
        await as_referrer(TAKE, number)


async def test_a_grant_is_good_for_seconds(given: Given, stage: Stage, as_referrer: Party) -> None:
    await given.secret()
    number = await given.committed_read_grant()
    await stage.unbound("update secretstore.read_grants set granted_at = granted_at - interval '11 seconds'")
    assert await as_referrer(TAKE, number) == []


@keeps("read_grants_written_once")
async def test_a_grant_is_not_turned_to_another_secret(given: Given, refused: Refused, as_vault: Actor) -> None:
    await given.secret()
    await given.read_grant()
    async with refused("read_grants_written_once"):
        await as_vault("update secretstore.read_grants set versions = '{7}'")


@keeps("read_grants_stored_as_digest")
async def test_a_grant_is_stored_as_a_digest(given: Given, refused: Refused, as_referrer: Party) -> None:
    await given.secret()
    async with refused("read_grants_stored_as_digest"):
        await as_referrer(GRANT, b"the number itself", ["key"], None, None)


async def test_rolling_back_does_not_erase_a_read(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Whoever sees a value has left its row: the row is committed before, and rolling back takes the read only."""
    async with enter_from_outside() as stage:
        await stage.given.secret("undone")
        await stage.connection.commit()
        number = await stage.given.read_grant("undone")
        await stage.connection.commit()
        assert len(await stage.as_referrer(TAKE, number)) == 1
        await stage.connection.rollback()
        unseen = await stage.given.read_grant("undone")
        await stage.connection.rollback()
        assert await stage.as_referrer(TAKE, unseen) == []
    rows = superuser.execute(
        "select action, outcome, user_id from shared.audit_log where subject like '%/undone' order by id"
    ).fetchall()
    user = stage.people["referrer"].user_id
    assert rows == [("secret.write", "done", user), ("secret.read", "done", user)]


async def test_a_grant_waits_for_its_commit(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        await one.given.secret("waits")
        await one.connection.commit()
        number = await one.given.read_grant("waits")
        assert await other.as_referrer(TAKE, number) == []
        await one.connection.commit()
        assert len(await other.as_referrer(TAKE, number)) == 1


async def test_every_key_that_is_asked_leaves_a_row(given: Given, stage: Stage, as_referrer: Party) -> None:
    for key in ("live", "deleted", "destroyed"):
        await given.secret(key)
    expired = await given.secret("expired")
    await as_referrer("select secretstore.delete_secret('deleted', null, null, 'r', null)")
    await as_referrer("select secretstore.destroy_version('destroyed', null, 1, null, 'r', null)")
    for table, rows in (("secrets", "key = 'expired'"), ("secret_versions", f"secret_id = '{expired}'")):
        await stage.unbound(f"update secretstore.{table} set expires_at = now() where {rows}")
    keys = ["live", "deleted", "expired", "destroyed", "missing"]
    refusals = [None, "deleted", "expired", "destroyed", "missing"]
    assert await as_referrer(GRANT, bytes(32), keys, None, None) == list(zip(keys, refusals, strict=True))
    for key, refusal in zip(keys, refusals, strict=True):
        action, outcome, reason, _ = (await trace(stage, key))[-1]
        assert (action, outcome, reason) == ("secret.read", "denied" if refusal else "done", refusal)
    assert await as_referrer(GRANT, bytes(31) + b"1", ["live"], None, 2) == [("live", "missing_version")]


async def test_writes_and_denials_leave_a_row(given: Given, stage: Stage, as_referrer: Party, refused: Refused) -> None:
    await given.secret()
    await as_referrer("select secretstore.delete_secret('key', null, 1, 'r', null)")
    await as_referrer("select secretstore.undelete_secret('key', null, null, 'r', null)")
    await as_referrer("select secretstore.destroy_version('key', null, 1, null, 'r', null)")
    await as_referrer("select secretstore.record_denials('secret.write', '{key}', null, 'member_role', 'r', null)")
    assert await trace(stage) == [
        ("secret.write", "done", None, 1), ("secret.delete", "done", None, 1), ("secret.undelete", "done", None, 1),
        ("secret.destroy", "done", None, 1), ("secret.write", "denied", "member_role", None),
    ]  # fmt: skip
    await as_referrer("select secretstore.record_denials('secret.read', '{key,other}', null, 'member_role', 'r', null)")
    for key in ("key", "other"):
        assert (await trace(stage, key))[-1] == ("secret.read", "denied", "member_role", None)
    for keys in ([], ["k"] * 101):
        async with refused("record_denials", "22023"):
            await as_referrer("select secretstore.record_denials('secret.read', %s, null, 'x', 'r', null)", keys)
    async with refused("current_actor", "28000"):
        await stage.as_nobody("select secretstore.record_denials('secret.write', '{key}', null, 'x', 'r', null)")


@pytest.mark.parametrize("role", ["as_referrer", "as_owner", "as_guard", "as_auditor", "as_nobody", "as_esign"])
@pytest.mark.parametrize(
    "attack",
    [
        "select ciphertext from secretstore.secret_versions",
        "select wrapped_key from secretstore.secret_versions",
        "select * from secretstore.secret_versions",
        "select * from secretstore.read_grants",
        "insert into secretstore.secrets (organization_id, key) values (gen_random_uuid(), 'x')",
        "insert into secretstore.secret_versions (secret_id, version) values (gen_random_uuid(), 1)",
        "insert into secretstore.read_grants (digest, secret_ids, versions) values ('', '{}', '{}')",
        "update secretstore.secrets set deleted_at = null",
        "update secretstore.secret_versions set wrapped_key = null",
        "delete from secretstore.secrets",
        "delete from secretstore.read_grants",
        "truncate secretstore.secret_versions",
        "copy secretstore.secret_versions to stdout",
        "select secretstore.locked_secret(null, 'key')",
    ],
)
async def test_nobody_goes_past_the_commands(stage: Stage, refused: Refused, role: str, attack: str) -> None:
    async with refused(None, "42501"):
        await getattr(stage, role)(attack)


@keeps("secret_versions_number")
async def test_versions_are_numbered_without_a_gap(given: Given, refused: Refused, as_referrer: Party) -> None:
    secret = await given.secret()
    for wrong in (0, 1, 3):
        async with refused("secret_versions_number"):
            await as_referrer(PUT, secret, wrong, *SEALED, None, None)
    assert await as_referrer(PUT, secret, 2, *SEALED, None, None) == [(2,)]


@keeps("secret_versions_number")
async def test_a_version_says_which_proved_actor_put_it(given: Given, stage: Stage, as_referrer: Party) -> None:
    secret = await given.secret()
    assert await as_referrer(
        "select credential_kind::text, created_by, created_at <= clock_timestamp() from secretstore.secret_versions "
        "where secret_id = %s",
        secret,
    ) == [("session", as_referrer.user_id, True)]


@keeps("secret_versions_number")
async def test_a_number_is_reserved_in_its_own_transaction(
    given: Given, stage: Stage, refused: Refused, as_referrer: Party
) -> None:
    """Else the version would bear the moment of another, to which its value is not sealed."""
    secret = await given.secret()
    reserved = "update secretstore.secrets set reserved_in = %s"
    here = await stage.as_postgres("select pg_current_xact_id()::text")
    await stage.unbound(reserved, "3")
    async with refused("secret_versions_number"):
        await as_referrer(PUT, secret, 2, *SEALED, None, None)
    await stage.unbound(reserved, here[0][0])
    assert await as_referrer(PUT, secret, 2, *SEALED, None, None) == [(2,)]


async def test_a_value_is_sealed_to_what_stands_beside_it(given: Given, stage: Stage, as_referrer: Party) -> None:
    """Whoever reads it or wraps its key anew is told what the writer was told, to the byte."""
    for key, restores, expires in (("plain", None, None), ("key", None, "2199-01-01"), ("key", 1, "infinity")):
        [[secret, version, told]] = await as_referrer(
            "select secret_id, version, provenance from secretstore.reserve_version(%s, null, null, %s, %s)",
            key, restores, expires,
        )  # fmt: skip
        await as_referrer(
            "select secretstore.put_version(%s, %s, %s, %s, %s, %s, %s, null, 'r', null)",
            secret, version, *SEALED, restores, expires,
        )  # fmt: skip
        number = await given.committed_read_grant(key)
        taken = await stage.as_nobody("select provenance from secretstore.take_reads(%s)", number)
        wrapped = await stage.as_vault(
            "select provenance from secretstore.list_wrapped_keys('', %s, %s, 1)", secret, version - 1
        )
        assert taken == wrapped == [(told,)]


async def test_no_two_provenances_are_the_same_bytes(as_vault: Actor) -> None:
    [[told, different]] = await as_vault(
        "select count(*), count(distinct secretstore.provenance_of(r, e, k, c, u, t)) "
        "from (values (1), (2), (null)) as r (r), (values (now()), (null)) as e (e), "
        "(values ('session'::shared.credential_kind), ('jwt')) as k (k), "
        "(values (gen_random_uuid()), (null)) as c (c), (values (gen_random_uuid()), (null)) as u (u), "
        "(values (now()), (now() + interval '1 microsecond')) as t (t)"
    )
    assert told == different == 96


@keeps("secret_versions_gapless")
async def test_no_two_values_share_a_number(given: Given, refused: Refused, stage: Stage) -> None:
    secret = await given.secret()
    async with refused("secret_versions_gapless", "23505"):
        await stage.unbound(
            "insert into secretstore.secret_versions "
            "select * from secretstore.secret_versions where secret_id = %s", secret
        )  # fmt: skip


@keeps("secrets_one_per_key")
async def test_a_scope_has_a_key_once(given: Given, refused: Refused, as_referrer: Party) -> None:
    environment = await given.environment()
    first = await given.secret()
    assert await given.secret(environment=environment) != first
    vault = as_referrer.turned(VAULT)
    for place in (None, environment):
        async with refused("secrets_one_per_key", "23505"):
            await vault(
                "insert into secretstore.secrets (organization_id, environment_id, key) values (%s, %s, 'key')",
                as_referrer.organization_id, place,
            )  # fmt: skip


@keeps("secrets_environment_of_organization")
async def test_a_secrets_environment_is_of_its_organization(
    given: Given, refused: Refused, as_mentor: Party, as_referrer: Party
) -> None:
    environment = await given.environment()
    async with refused("secrets_environment_of_organization"):
        await as_mentor.turned(VAULT)(
            "insert into secretstore.secrets (organization_id, environment_id, key) values (%s, %s, 'key')",
            as_mentor.organization_id, environment,
        )  # fmt: skip
    for each in (environment, UUID(int=0)):
        async with refused("not_found", "P0002"):  # scope_of asks
            await as_mentor("select secretstore.reserve_version('key', %s, null, null, null)", each)


@keeps("secret_versions_immutable")
async def test_a_version_never_changes(given: Given, refused: Refused, as_vault: Actor) -> None:
    secret = await given.secret()
    changes = [
        "ciphertext = ciphertext || 'x'", "version = 2", "restores = 1", "created_by = gen_random_uuid()",
        "created_at = now()", "expires_at = now()", "credential_kind = 'esign'", "credential_id = gen_random_uuid()",
        "wrapped_key = set_byte(wrapped_key, 1, 1)", "master_key_id = '00000000000000ff'",
        "wrapped_key = null, destroyed_at = now(), master_key_id = '00000000000000ff'",
    ]  # fmt: skip
    for change in changes:
        async with refused("secret_versions_immutable"):
            await as_vault(f"update secretstore.secret_versions set {change} where secret_id = %s", secret)


@keeps("secret_versions_immutable")
async def test_what_is_destroyed_stays_destroyed(given: Given, refused: Refused, as_vault: Actor) -> None:
    await given.secret()
    await as_vault(
        "update secretstore.secret_versions set wrapped_key = null, destroyed_at = now() where wrapped_key is not null"
    )
    async with refused("secret_versions_immutable"):
        await as_vault(
            "update secretstore.secret_versions set wrapped_key = %s, destroyed_at = null, "
            "master_key_id = '00000000000000ff'", SEALED[1]
        )  # fmt: skip


async def test_a_key_may_be_wrapped_by_another_master_key(given: Given, as_vault: Actor) -> None:
    secret = await given.secret()
    rows = await as_vault(
        "update secretstore.secret_versions set wrapped_key = %s, master_key_id = '00000000000000ff' "
        "where secret_id = %s returning version",
        SEALED[1][::-1], secret,
    )  # fmt: skip
    assert rows == [(1,)]


@keeps("secret_versions_key_until_destroyed")
async def test_a_version_without_a_key_is_a_tombstone(given: Given, refused: Refused, as_vault: Actor) -> None:
    await given.secret()
    async with refused("secret_versions_key_until_destroyed"):
        await as_vault("update secretstore.secret_versions set wrapped_key = null")


@keeps("secret_versions_ciphertext_is_sealed")
async def test_what_is_no_envelope_is_not_taken(given: Given, refused: Refused, as_referrer: Party) -> None:
    secret = await given.secret()
    for ciphertext in (b"", b"in the clear", bytes(29), bytes(1024 * 1024 + 30)):
        async with refused("secret_versions_ciphertext_is_sealed"):
            await as_referrer(PUT, secret, 2, ciphertext, *SEALED[1:], None, None)


@keeps("secret_versions_restores_own", "secret_versions_restores_earlier")
async def test_a_rollback_names_an_earlier_version_of_its_own(
    given: Given, refused: Refused, as_referrer: Party
) -> None:
    secret, vault = await given.secret(), as_referrer.turned(VAULT)
    async with refused("secret_versions_restores_own"):
        await as_referrer(PUT, secret, 2, *SEALED, -1, None)
    async with refused("secret_versions_restores_earlier"):
        await vault(INSERT, secret, 2, *SEALED, 2)
    assert await as_referrer(PUT, secret, 2, *SEALED, 1, None) == [(2,)]
    assert (await trace(given.stage))[-1][0] == "secret.rollback"


@keeps(
    "secret_versions_never_deleted", "secret_versions_never_emptied", "secrets_never_deleted", "secrets_never_emptied"
)
async def test_nothing_is_removed(given: Given, refused: Refused, as_vault: Actor) -> None:
    await given.secret()
    await given.stage.run("set constraints all immediate")
    for table, others in (("secret_versions", ""), ("secrets", ", secretstore.secret_versions")):
        async with refused(f"{table}_never_deleted"):
            await as_vault(f"delete from secretstore.{table}")
        async with refused(f"{table}_never_emptied"):
            await as_vault(f"truncate secretstore.{table}{others}")


@keeps("secrets_stay_where_sealed")
async def test_a_secret_keeps_its_scope_key_and_count(
    given: Given, refused: Refused, as_vault: Actor, as_mentor: Party
) -> None:
    await given.secret()
    environment = await given.environment()
    for change in (
        "key = 'another'", f"organization_id = '{as_mentor.organization_id}'", f"environment_id = '{environment}'",
        "version = 0", "version = version + 2", "created_at = now()",
    ):  # fmt: skip
        async with refused("secrets_stay_where_sealed"):
            await as_vault(f"update secretstore.secrets set {change}")


@keeps("secrets_begin_with_a_version")
async def test_a_key_does_not_come_without_a_value(refused: Refused, as_referrer: Party) -> None:
    async with refused("secrets_begin_with_a_version"):
        await as_referrer(RESERVE, "empty", None)


async def test_a_key_comes_from_who_writes_and_reads_nothing(stage: Stage, as_referrer: Party) -> None:
    blind = await as_referrer.token("secrets:write")
    [[secret, version]] = await blind(RESERVE, "blind", None)
    assert await blind(PUT, secret, version, *SEALED, None, None) == [(1,)]
    await stage.run("set constraints secretstore.secrets_begin_with_a_version immediate")


NO_KEYS = {
    "secrets_key_is_at_most_255_letters_digits_dots_dashes_slashes": ["x" * 256, "a%", "a b", "a\n", "é"],
    "secrets_key_has_no_dot_or_empty_segment": ["", "..", "a/../b", "./a", "a//b", "/a", "a/"],
    "secrets_key_ends_in_no_reserved_word": [
        *("versions", "a/versions", "a/rollback", "a/undelete", "a/destroy"),
        *("who", "batch", "count"),
    ],
}


@pytest.mark.parametrize(
    ("key", "proposition"), [(key, proposition) for proposition, keys in NO_KEYS.items() for key in keys]
)
async def test_a_key_is_a_path_that_no_route_takes(
    refused: Refused, as_referrer: Party, key: str, proposition: str
) -> None:
    async with refused(proposition):
        await as_referrer(RESERVE, key, None)


async def test_who_expects_a_version_is_refused_another(given: Given, refused: Refused, as_referrer: Party) -> None:
    await given.secret()
    for stale in (0, 2):
        async with refused("secrets_version_matches", "55000"):
            await as_referrer(RESERVE, "key", stale)
    async with refused("secrets_version_matches", "55000"):
        await as_referrer(RESERVE, "another", 1)
    async with refused("secrets_version_matches", "55000"):
        await as_referrer("select secretstore.delete_secret('key', null, 2, 'r', null)")
    assert (await as_referrer(RESERVE, "key", 1))[0][1] == 2


async def test_writers_of_one_key_queue(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other, enter_from_outside() as observer:
        await one.given.secret("queue")
        waiting = asyncio.create_task(other.given.secret("queue"))
        await waits_for_a_lock(observer, other)
        await one.connection.commit()
        await waiting
        await other.connection.commit()
        rows = await observer.as_referrer(
            "select v.version from secretstore.secret_versions as v "
            "join secretstore.secrets as s on s.id = v.secret_id where s.key = 'queue' order by v.version"
        )
        assert rows == [(1,), (2,)]


async def test_scope_and_role_hold_in_sql(
    given: Given, refused: Refused, as_referrer: Party, as_colleague: Party, as_viewer: Party
) -> None:
    await given.secret()
    assert await as_colleague(GRANT, bytes(32), ["key"], None, None) == [("key", None)]
    for call in (
        "select secretstore.reserve_version('key', null, null, null, null)",
        "select secretstore.delete_secret('key', null, null, 'r', null)",
        "select secretstore.undelete_secret('key', null, null, 'r', null)",
        "select secretstore.destroy_version('key', null, 1, null, 'r', null)",
    ):
        async with refused("member_role", "42501"):
            await as_colleague(call)
        async with refused("credential_scope", "42501"):
            await (await as_referrer.token("secrets:read", "tokens:write"))(call)
    async with refused("member_role", "42501"):
        await as_viewer(GRANT, bytes(32), ["key"], None, None)
    async with refused("credential_scope", "42501"):
        await (await as_referrer.token("secrets:write", "tokens:write"))(GRANT, bytes(32), ["key"], None, None)
    for too_many in ([], ["k"] * 101):
        async with refused("grant_reads", "22023"):
            await as_referrer(GRANT, bytes(32), too_many, None, None)


async def test_keys_are_listed_in_a_scope_of_ones_own(given: Given, as_colleague: Party) -> None:
    program, _ = await given.keys()
    place = await program.value("select shared.current_environment_id()")
    for environment, scope in ((None, as_colleague.organization_id), (place, place)):
        assert await as_colleague.value("select (secretstore.visible_scope(%s)).id", environment) == scope


@keeps("row security")
async def test_keys_are_seen_by_their_own_organization(
    given: Given, as_referrer: Party, as_mentor: Party, as_auditor: Actor
) -> None:
    await given.secret()
    for table in ("secrets", "secret_versions"):
        assert await as_referrer.value(f"select count(*) from secretstore.{table}") >= 1
        assert await as_mentor.value(f"select count(*) from secretstore.{table}") == 0


async def test_an_organization_with_the_id_of_an_environment_has_none_of_its_keys(
    given: Given, stage: Stage, as_referrer: Party, as_stranger: Party
) -> None:
    """Nobody chooses an id; should two be the same nevertheless, each has its own."""
    place = await given.environment()
    secret = await given.secret(environment=place)
    await stage.unbound("insert into shared.organizations (id, title, slug) values (%s, 'Evil', 'evil')", place)
    await stage.unbound(
        "insert into shared.memberships (organization_id, user_id, role) values (%s, %s, 'owner')",
        place, as_stranger.user_id,
    )  # fmt: skip
    evil = Actor(stage, ("enter_session", as_stranger.person.digest, "evil"))
    assert await evil.value("select shared.current_organization_id()") == place
    assert await evil(GRANT, bytes(32), ["key"], None, None) == [("key", "missing")]
    [[own]] = await evil("select secret_id from secretstore.reserve_version('key', null, null, null, null)")
    assert own != secret


async def test_another_organizations_key_is_missing(given: Given, as_mentor: Party, refused: Refused) -> None:
    secret = await given.secret()
    assert await as_mentor(GRANT, bytes(32), ["key"], None, None) == [("key", "missing")]
    for each in (secret, UUID(int=0)):
        async with refused("not_found", "P0002"):
            await as_mentor(PUT, each, 2, *SEALED, None, None)


async def test_versions_beyond_the_limit_lose_their_keys(given: Given, as_referrer: Party, as_vault: Actor) -> None:
    secret = await given.secret()
    for version in (2, 3, 4):
        await as_referrer(PUT, secret, version, *SEALED, None, 2)
    rows = await as_vault(
        "select version, wrapped_key is null from secretstore.secret_versions where secret_id = %s order by version",
        secret,
    )
    assert rows == [(1, True), (2, True), (3, False), (4, False)]


async def test_a_pointer_that_was_set_back_is_noticed(given: Given, stage: Stage, as_referrer: Party) -> None:
    secret = await given.secret()
    await as_referrer(PUT, secret, 2, *SEALED, None, None)
    for version in (1, 3):
        await stage.unbound("update secretstore.secrets set version = %s where id = %s", version, secret)
        assert await as_referrer(GRANT, bytes(31) + bytes([version]), ["key"], None, None) == [
            ("key", "secret_integrity")
        ]
