"""A9: who asks is proved to the database, not told to it: no setting, kept, carried or forged, makes an actor."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.schema.conftest import Refused
from tests.schema.stage import ESIGN, HALF, METHOD, Actor, Given, Party, Stage, keeps, waits_for_a_lock

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

WHO = "select shared.current_user_id()"
SETTING = "select current_setting('brokerflow.actor', true)"
SET = "select set_config('brokerflow.actor', %s, %s)"
READ = "select count(*) from agreement.agreements"
SCOPES = (True, False)  # for the transaction, for the session
LOCAL, SESSION = SCOPES
KNOW = "select count(*) from agreement.brokers"
FORGED = ("current_actor", "28000")


async def sealed(stage: Stage, name: str = "referrer") -> str:
    await stage.party(name).enter()
    [[setting]] = await stage.run(SETTING)
    return str(setting)


async def test_an_entrance_makes_the_actor_and_commit_ends_him(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as stage:
        assert await stage.as_referrer(WHO) == [(stage.people["referrer"].user_id,)]
        await stage.connection.commit()
        assert await stage.run(WHO) == [(None,)]
        assert await stage.run(KNOW) == [(0,)]


async def test_a_savepoint_takes_its_actor_along(stage: Stage, as_referrer: Party) -> None:
    await stage.as_nobody.enter()
    async with stage.connection.transaction(force_rollback=True):
        assert await as_referrer(WHO) == [(as_referrer.user_id,)]
    assert await stage.run(WHO) == [(None,)]


async def test_a_setting_made_by_hand_is_refused(stage: Stage, refused: Refused, as_referrer: Party) -> None:
    """Well formed, empty of a seal, of a wrong seal, of garbage, and of a megabyte."""
    body = f"(session,,{as_referrer.user_id},{as_referrer.organization_id},owner,,t)"
    await stage.become("brokerflow_app")
    for forged in (body, "0" * 64 + body, "x", "(", "\u00e9" * 80, " " * 64, "f" * 64, "0" * 1_000_000):
        for scope in SCOPES:
            await stage.run(SET, forged, scope)
            for question in (WHO, KNOW, "select shared.current_actor()"):
                async with refused(*FORGED):
                    await stage.run(question)


async def test_nothing_is_nobody(stage: Stage) -> None:
    await stage.become("brokerflow_app")
    for nothing in ("", None):
        await stage.run("select set_config('brokerflow.actor', %s, true)", nothing)
        assert await stage.run(WHO) == [(None,)]
        assert await stage.run(KNOW) == [(0,)]


async def test_what_is_sealed_cannot_be_altered(stage: Stage, refused: Refused, given: Given) -> None:
    """Each field in turn: role, organization, user, scopes, platform admin, impersonator; and the seal itself."""
    setting = await sealed(stage, "viewer")
    people = stage.people
    other = people["stranger"]
    alterations = [
        (",viewer,", ",owner,"),
        (str(people["viewer"].organization_id), str(other.organization_id)),
        (str(people["viewer"].user_id), str(other.user_id)),
        (",f,)", ",t,)"),
        (",f,)", f",f,{other.user_id})"),
        (",viewer,,", ",viewer,{contacts:read},"),
        ("(session,", "(personal_token,"),
        (setting[:2], "00" if setting[:2] != "00" else "11"),
        (setting[63:], setting[63:] + " "),
        (setting[:64], setting[:64].upper()),
    ]
    for old, new in alterations:
        altered = setting.replace(old, new, 1)
        assert altered != setting
        await stage.run(SET, altered, LOCAL)
        async with refused(*FORGED):
            await stage.run(WHO)
    await stage.run(SET, setting, LOCAL)
    assert await stage.run(WHO) == [(people["viewer"].user_id,)]


async def test_a_stolen_seal_is_worth_nothing_after_the_entrance_of_another(stage: Stage) -> None:
    """In one transaction both were proved; the later entrance is who acts, and going back is no gain."""
    before = await sealed(stage, "referrer")
    await stage.as_stranger.enter()
    assert await stage.run(WHO) == [(stage.people["stranger"].user_id,)]
    await stage.run(SET, before, LOCAL)
    assert await stage.run(WHO) == [(stage.people["referrer"].user_id,)]


async def test_a_seal_that_was_kept_is_refused_in_a_later_transaction(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as stage:
        kept = await sealed(stage)
        await stage.connection.commit()
        for scope in SCOPES:
            await stage.run(SET, kept, scope)
            async with stage.refused(*FORGED):
                await stage.run(WHO)
        await stage.connection.rollback()


async def test_nor_does_a_session_keep_it_for_itself(enter_from_outside: Outside) -> None:
    """Set for the session while it is valid, it outlives the transaction, and its validity does not."""
    async with enter_from_outside() as stage:
        await stage.run(SET, await sealed(stage), SESSION)
        await stage.connection.commit()
        async with stage.refused(*FORGED):
            await stage.run(WHO)
        assert await stage.as_stranger(WHO) == [(stage.people["stranger"].user_id,)]
        await stage.connection.commit()
        async with stage.refused(*FORGED):
            await stage.run(KNOW)


async def test_one_message_with_two_transactions_does_not_carry_it(enter_from_outside: Outside) -> None:
    """Both begin at the same microsecond, so the entrance refuses to seal where a second could follow."""
    async with enter_from_outside(autocommit=True) as stage:
        digest = stage.people["referrer"].digest.hex()
        enter = f"select apiauth.enter_session('\\x{digest}')"
        keep = "select set_config('my.own', current_setting('brokerflow.actor'), false)"
        restore = "select set_config('brokerflow.actor', current_setting('my.own'), true)"
        for message in (f"begin; {enter}; {keep}; commit; begin; {restore}; {WHO}", enter, f"begin; {enter}"):
            with pytest.raises(psycopg.Error) as refusal:
                await stage.connection.execute(message.encode())
            assert refusal.value.diag.constraint_name == "current_actor"
            await stage.connection.execute(b"rollback")


async def test_a_chained_transaction_does_not_carry_it(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as stage:
        kept = await sealed(stage)
        await stage.run("commit and chain")
        await stage.run(SET, kept, LOCAL)
        async with stage.refused(*FORGED):
            await stage.run(WHO)


async def test_a_block_that_commits_inside_does_not_carry_it(enter_from_outside: Outside) -> None:
    async with enter_from_outside(autocommit=True) as stage:
        await stage.connection.execute(
            b"select set_config('my.digest', %s, false)", [stage.people["referrer"].digest.hex()]
        )
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification) as refusal:
            await stage.connection.execute(b"""do $$
                declare v_kept text;
                begin
                    commit;
                    perform apiauth.enter_session(decode(current_setting('my.digest'), 'hex'));
                    v_kept := current_setting('brokerflow.actor');
                    commit;
                    perform set_config('brokerflow.actor', v_kept, true);
                    perform shared.current_user_id();
                end $$""")
        assert refusal.value.diag.constraint_name == "current_actor"


async def test_a_seal_that_was_carried_to_another_backend_is_refused(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        carried = await sealed(one)
        for scope in SCOPES:
            await other.run(SET, carried, scope)
            async with other.refused(*FORGED):
                await other.run(KNOW)
        assert await other.as_stranger(WHO) == [(other.people["stranger"].user_id,)]
        assert await one.run(WHO) == [(one.people["referrer"].user_id,)]


async def test_a_setting_of_the_login_poisons_nothing_but_itself(enter_from_outside: Outside) -> None:
    """Options of the connection and defaults of the role are settings by hand as well."""
    async with enter_from_outside(options="-c brokerflow.actor=poison") as stage:
        async with stage.refused(*FORGED):
            await stage.run(KNOW)
        assert await stage.as_referrer(WHO) == [(stage.people["referrer"].user_id,)]
        await stage.connection.commit()
        await stage.run("reset brokerflow.actor")
        async with stage.refused(*FORGED):
            await stage.run(WHO)


async def test_a_parallel_plan_sees_the_same_actor(stage: Stage, given: Given, as_referrer: Party) -> None:
    await given.draft()
    expected = await as_referrer(READ)
    await as_referrer.enter()
    for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
        await stage.run(f"set local {setting} to 0")
    await stage.run("set local max_parallel_workers_per_gather to 4")
    assert await stage.run(READ) == expected


async def test_a_prepared_statement_asks_anew(enter_from_outside: Outside) -> None:
    async with enter_from_outside() as stage:
        await stage.given.draft()
        await stage.connection.commit()
        for name, seen in (("referrer", True), ("stranger", False), ("referrer", True)) * 3:
            await stage.party(name).enter()
            cursor = await stage.connection.execute(f"{READ}".encode(), prepare=True)
            assert ((await cursor.fetchone()) != (0,)) is seen
            await stage.connection.commit()


async def test_the_keys_are_the_guards_alone(stage: Stage, refused: Refused) -> None:
    for role in ("as_referrer", "as_owner", "as_vault", "as_auditor"):
        for table in ("seal_keys", "root_keys", "passwords", "sessions", "personal_tokens", "esign_keys"):
            async with refused(None, "42501"):
                await getattr(stage, role)(f"select * from apiauth.{table}")
    assert len(await stage.as_guard("select * from apiauth.seal_keys")) == 1
    async with refused("root_keys_only_one"):
        await stage.as_guard("insert into apiauth.root_keys select 2, key from apiauth.root_keys")


async def forged_with(stage: Stage, key: tuple[object, ...], body: str) -> str:
    """Seal an actor for this transaction as the database would, with a key that was stolen."""
    identifier, inner, outer = key
    await stage.become("brokerflow_app")
    [[place]] = await stage.run(
        "select pg_backend_pid() || ' ' || (extract(epoch from transaction_timestamp()) * 1000000)::bigint"
    )
    digest = hashlib.sha256(bytes(inner) + f"{place} {body}".encode()).digest()  # type: ignore[call-overload]
    return f"{hashlib.sha256(bytes(outer) + digest).hexdigest()}{identifier}{body}"  # type: ignore[call-overload]


async def test_a_key_from_an_old_dump_forges_nothing(stage: Stage, refused: Refused) -> None:
    [stolen] = await stage.as_guard("select id, inner_block, outer_block from apiauth.seal_keys")
    body = f"(session,,{stage.people['referrer'].user_id},,,,,,f,)"
    await stage.run(SET, await forged_with(stage, stolen, body), LOCAL)
    assert await stage.run(WHO) == [(stage.people["referrer"].user_id,)], "the forger does not know his trade"
    await stage.as_guard("update apiauth.seal_keys set made_at = made_at - interval '3 hours'")
    await stage.party("stranger").enter()
    [renewed] = await stage.as_guard("select id from apiauth.seal_keys")
    assert renewed[0] != stolen[0]
    await stage.run(SET, await forged_with(stage, stolen, body), LOCAL)
    async with refused(*FORGED):
        await stage.run(WHO)


async def test_a_key_of_an_idle_database_forges_nothing(stage: Stage, refused: Refused) -> None:
    """Though nobody came who would have replaced it."""
    [stolen] = await stage.as_guard("select id, inner_block, outer_block from apiauth.seal_keys")
    body = f"(session,,{stage.people['referrer'].user_id},,,,,,f,)"
    await stage.as_guard("update apiauth.seal_keys set made_at = made_at - interval '3 hours'")
    await stage.run(SET, await forged_with(stage, stolen, body), LOCAL)
    async with refused(*FORGED):
        await stage.run(WHO)


async def test_who_comes_while_an_old_key_is_replaced_is_sealed_by_the_new_one(
    enter_from_outside: Outside, superuser: psycopg.Connection[tuple[Any, ...]]
) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        superuser.execute("update apiauth.seal_keys set made_at = made_at - interval '150 minutes'")
        await one.as_referrer.enter()
        entering = asyncio.create_task(other.as_colleague.enter())
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        await entering
        assert await other.run(WHO) == [(other.people["colleague"].user_id,)]


async def test_a_key_outlives_its_hour_for_who_entered_with_it(stage: Stage, as_referrer: Party) -> None:
    setting = await sealed(stage)
    await stage.as_guard("update apiauth.seal_keys set made_at = made_at - interval '61 minutes'")
    await stage.party("stranger").enter()
    assert len(await stage.as_guard("select id from apiauth.seal_keys")) == 2
    await stage.run(SET, setting, LOCAL)
    assert await stage.run(WHO) == [(as_referrer.user_id,)]


@pytest.mark.parametrize("digest", [b"", b"x", ESIGN[::-1], bytes(32)])
@pytest.mark.parametrize("entrance", ["enter_session", "enter_token", "enter_esign"])
async def test_an_unknown_credential_does_not_enter(
    stage: Stage, refused: Refused, entrance: str, digest: bytes
) -> None:
    async with refused("credential_authenticates", "28000"):
        await Actor(stage, (entrance, digest)).enter()


async def test_a_credential_enters_by_its_own_entrance(stage: Stage, refused: Refused, as_referrer: Party) -> None:
    for entrance in ("enter_token", "enter_esign"):
        async with refused("credential_authenticates", "28000"):
            await Actor(stage, (entrance, as_referrer.person.digest)).enter()


async def test_an_organization_is_ones_own(stage: Stage, refused: Refused, as_referrer: Party) -> None:
    digest = as_referrer.person.digest
    assert await Actor(stage, ("enter_session", digest, "north"))(WHO) == [(as_referrer.user_id,)]
    for slug in ("west", "no-such-organization", ""):
        async with refused("actor_is_member", "42501"):
            await Actor(stage, ("enter_session", digest, slug)).enter()


async def test_the_signing_service_is_of_no_tenant(given: Given, refused: Refused, as_esign: Actor) -> None:
    await given.invoice(await given.agreement("effective"))
    for table in ("agreements", "timeline_events", "referrals", "invoices"):
        async with refused("credential_scope", "42501"):
            await as_esign(f"select * from agreement.{table}")
    assert await as_esign("select * from shared.organizations") == []
    assert await as_esign("select * from shared.users") == []


async def test_a_webhook_secret_is_trusted_on_the_word_of_a_trusted_one(
    stage: Stage, refused: Refused, as_nobody: Actor, as_guard: Actor
) -> None:
    another = b"\1" * 32
    for digests in ([another], []):
        async with refused("credential_authenticates", "28000"):
            await as_nobody("select apiauth.trust_esign_keys(%s)", digests)
    await as_nobody("select apiauth.trust_esign_keys(%s)", [ESIGN, another])
    await Actor(stage, ("enter_esign", another)).enter()
    await as_guard("select apiauth.replace_esign_keys(%s)", [another])
    async with refused("credential_authenticates", "28000"):
        await Actor(stage, ("enter_esign", ESIGN)).enter()
    async with refused("credential_authenticates", "28000"):
        await as_nobody("select apiauth.trust_esign_keys(%s)", [ESIGN])


async def test_a_half_of_a_key_is_trusted_on_the_word_of_a_trusted_one(
    given: Given, refused: Refused, as_nobody: Actor, as_guard: Actor, as_referrer: Party
) -> None:
    """is_trusted_half: whoever read a dump and runs SQL as the service signs nothing with a half of his own."""
    own = b"\1" * 32
    for halves in ([own], [], [HALF, b"short"], [None]):
        async with refused("credential_authenticates", "28000"):
            await as_nobody("select apiauth.trust_key_halves(%s::bytea[])", halves)
    secret, _ = await given.keys()
    async with refused("credential_authenticates", "28000"):
        await secret("select apiauth.mint_jwt(shared.current_environment_id(), '{}', '1 hour', false, %s)", own)
    [[forged]] = await as_guard(
        "select apiauth.seal_ticket(row(gen_random_uuid(), %s, sha256(sha256('x')), now(), now() + interval '1 day', "
        "null)::apiauth.ticket, %s)",
        as_referrer.user_id, own,
    )  # fmt: skip
    assert forged is None
    await as_nobody("select apiauth.trust_key_halves(%s)", [HALF, own])
    await as_guard("select apiauth.keep_key_halves(%s)", [own])
    async with refused("credential_authenticates", "28000"):
        await as_nobody("select apiauth.trust_key_halves(%s)", [HALF])


@keeps("row security")
async def test_registration_makes_nobody_anything(stage: Stage, refused: Refused) -> None:
    [[user]] = await stage.as_nobody(
        "select (apiauth.register('x@example.org', 'X', %s, 'k', %s)).id", bytes(16), METHOD
    )
    digest = b"\2" * 32
    await stage.run("select apiauth.open_session('X@Example.org', 'k', %s, '1 hour', '1 day')", digest)
    actor = Actor(stage, ("enter_session", digest))
    who = "select organization_id, role, is_platform_admin from shared.current_actor()"
    assert await actor(who) == [(None, None, False)]
    organization = stage.people["referrer"].organization_id
    for attack in (
        "insert into shared.platform_admins (user_id) values (%(user)s)",
        "insert into shared.memberships (organization_id, user_id, role) values (%(organization)s, %(user)s, 'owner')",
        "select shared.grant_platform_admin('x@example.org')",
        "insert into shared.users (email, full_name) values ('y@example.org', 'Y')",
        "insert into agreement.brokers (id, name) values (%(organization)s, 'mine')",
    ):
        async with refused(None, "42501"):
            await actor(attack.replace("%(user)s", f"'{user}'").replace("%(organization)s", f"'{organization}'"))


@keeps("organizations_founder_is_owner")
async def test_the_founder_owns_what_he_founds(as_newcomer: Party) -> None:
    organization = await as_newcomer.value("select (shared.create_organization('New', 'new')).id")
    members = "select user_id, role from shared.memberships where organization_id = %s"
    assert await as_newcomer(members, organization) == [(as_newcomer.user_id, "owner")]


@keeps("memberships_role_from_another")
async def test_nobody_gives_himself_a_role(refused: Refused, as_referrer: Party, as_colleague: Party) -> None:
    change = "update shared.memberships set role = %s where user_id = %s returning role"
    async with refused("memberships_role_from_another", "42501"):
        await as_referrer(change, "viewer", as_referrer.user_id)
    async with refused("member_role", "42501"):
        await as_colleague(change, "owner", as_colleague.user_id)
    assert await as_referrer(change, "admin", as_colleague.user_id) == [("admin",)]
    for role in ("owner", "viewer"):
        async with refused("memberships_role_from_another", "42501"):
            await as_colleague(change, role, as_colleague.user_id)


@keeps("row security")
async def test_only_an_owner_makes_or_removes_an_owner(
    refused: Refused, as_referrer: Party, as_colleague: Party
) -> None:
    change = "update shared.memberships set role = %s where user_id = %s returning role"
    await as_referrer(change, "admin", as_colleague.user_id)
    viewer = as_referrer.stage.party("viewer")
    for attack in ((change, "owner", viewer.user_id), (change, "viewer", as_referrer.user_id)):
        async with refused("member_role", "42501"):
            await as_colleague(*attack)
    async with refused("member_role", "42501"):
        await as_colleague("delete from shared.memberships where user_id = %s", as_referrer.user_id)


async def test_the_last_owner_stays(refused: Refused, as_referrer: Party, as_owner: Actor) -> None:
    leave = "delete from shared.memberships where user_id = %s"
    for actor in (as_referrer, as_owner):
        async with refused("memberships_keep_an_owner"):
            await actor(leave, as_referrer.user_id)
    async with refused("memberships_keep_an_owner"):
        await as_owner("update shared.memberships set role = 'viewer' where user_id = %s", as_referrer.user_id)


@pytest.mark.parametrize("level", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ])
async def test_two_owners_who_leave_at_once_leave_one(enter_from_outside: Outside, level: IsolationLevel) -> None:
    async with enter_from_outside() as one, enter_from_outside() as other:
        slug = f"two-owners-{level.value}"
        organization = await one.as_newcomer.value("select (shared.create_organization('Two', %s)).id", slug)
        await one.as_newcomer("select shared.add_member(%s, 'judge@example.org', 'owner')", organization)
        await one.connection.commit()
        await other.connection.set_isolation_level(level)
        await other.as_judge.enter()  # from here on, a repeatable read sees both
        leave = "delete from shared.memberships where organization_id = %s and user_id = %s"
        await one.as_newcomer(leave, organization, one.people["newcomer"].user_id)
        late = asyncio.create_task(other.as_judge(leave, organization, one.people["judge"].user_id))
        await waits_for_a_lock(one, other)
        await one.connection.commit()
        if level is IsolationLevel.READ_COMMITTED:
            with pytest.raises(psycopg.errors.CheckViolation) as refusal:
                await late
            assert refusal.value.diag.constraint_name == "memberships_keep_an_owner"
        else:
            with pytest.raises(psycopg.errors.SerializationFailure):
                await late


async def test_being_added_moves_nobodys_work(
    stage: Stage, as_referrer: Party, as_colleague: Party, as_newcomer: Party, as_stranger: Party
) -> None:
    """Anybody may add anybody, as what he likes; where one works is where one chose to, if anywhere."""
    here = "select shared.current_organization_id()"
    own = {actor.person.name: await actor.value(here) for actor in (as_referrer, as_newcomer)}
    await as_colleague("select shared.create_organization('His own', 'his-own')")
    for actor in (as_referrer, as_newcomer, as_colleague):
        add = "select shared.add_member(%s, %s, 'owner')"
        await as_stranger(add, as_stranger.organization_id, f"{actor.person.name}@example.org")
    assert await as_referrer.value(here) == own[as_referrer.person.name]
    assert own[as_newcomer.person.name] is None
    assert await as_newcomer.value(here) == as_stranger.organization_id, "he has no other"
    founded = await as_newcomer.value("select (shared.create_organization('New', 'new')).id")
    assert await as_newcomer.value(here) == founded
    slug = "select slug from shared.organizations where id = shared.current_organization_id()"
    assert await as_colleague.value(slug) == "his-own"


async def test_an_invitation_that_is_taken_counts_as_chosen(
    given: Given, as_newcomer: Party, as_stranger: Party, as_referrer: Party
) -> None:
    await as_stranger("select shared.add_member(%s, 'newcomer@example.org', 'owner')", as_stranger.organization_id)
    invitation = await given.invitation()
    await as_newcomer("update shared.invitations set state = 'accepted' where id = %s", invitation)
    assert await as_newcomer.value("select shared.current_organization_id()") == as_referrer.organization_id


async def test_nobody_chooses_the_id_of_an_organization(refused: Refused, as_stranger: Party) -> None:
    """It could be that of another's environment, or of a user."""
    async with refused(None, "42501"):
        await as_stranger(
            "insert into shared.organizations (id, title, slug) values (gen_random_uuid(), 'Evil', 'evil')"
        )


@keeps("memberships_write_audit")
async def test_each_change_of_a_role_is_audited(stage: Stage, as_referrer: Party, as_colleague: Party) -> None:
    await as_referrer("update shared.memberships set role = 'admin' where user_id = %s", as_colleague.user_id)
    rows = await stage.as_auditor(
        "select user_id, detail ->> 'from', detail ->> 'to' from shared.audit_log "
        "where action = 'membership.update' and detail ->> 'user_id' = %s::uuid::text",
        as_colleague.user_id,
    )
    assert rows == [(as_referrer.user_id, "agent", "admin")]


@keeps("referrals_cancelled_by_creator_or_admin")
async def test_a_referral_is_cancelled_by_its_creator_or_an_admin(
    given: Given, refused: Refused, as_referrer: Party, as_colleague: Party, as_owner: Actor
) -> None:
    cancel = "update agreement.referrals set status = 'cancelled', cancel_reason = 'so' where id = %s returning status"
    referral, colleagues = await given.referral(), await given.referral("colleague")
    for actor in (as_colleague, as_owner):
        async with refused("referrals_cancelled_by_creator_or_admin", "42501"):
            await actor(cancel, referral)
    assert await as_referrer(cancel, colleagues) == [("cancelled",)], "an admin cancels what a colleague opened"
    assert await as_colleague(cancel, await given.referral("colleague")) == [("cancelled",)]


async def test_no_other_broker_cancels_it(
    given: Given, refused: Refused, as_stranger: Party, as_referee: Party
) -> None:
    referral = await given.referral()
    await given.match(referral)
    for actor in (as_stranger, as_referee):
        cancel = "update agreement.referrals set status = 'cancelled', cancel_reason = 'so' where id = %s returning id"
        assert await actor(cancel, referral) == []
        async with refused("not_found", "P0002"):
            await actor("select agreement.cancel_referral(%s, 'so')", referral)


@keeps("matches_candidate_is_agent")
async def test_an_invitation_starts_as_invited(
    given: Given, refused: Refused, as_referrer: Party, stage: Stage
) -> None:
    referral = await given.referral()
    born = (
        "insert into agreement.matches "
        "(referral_id, broker_id, candidate_user_id, candidate_broker_id, invited_by, state) "
        "values (%s, %s, %s, %s, %s, 'accepted') returning state, broker_id, candidate_broker_id, invited_by"
    )
    referee, stranger = stage.party("referee"), stage.party("stranger")
    told = (referral, stranger.organization_id, referee.user_id, stranger.organization_id, stranger.user_id)
    async with refused(None, "42501"):
        await as_referrer(born, *told)
    [row] = await as_referrer.turned("brokerflow_owner")(born, *told)
    assert row == ("invited", as_referrer.organization_id, referee.organization_id, as_referrer.user_id)


async def test_only_an_agent_of_another_broker_is_invited(given: Given, refused: Refused) -> None:
    referral = await given.referral()
    for candidate in ("colleague", "referrer", "newcomer", "partisan"):
        async with refused("matches_candidate_is_agent"):
            await given.match(referral, candidate)


@keeps("matches_answered_by_candidate")
async def test_an_invitation_is_answered_by_its_candidate(
    given: Given, refused: Refused, as_referrer: Party, as_mentor: Party, as_stranger: Party
) -> None:
    match = await given.match(await given.referral())
    answer = "update agreement.matches set state = 'accepted' where id = %s returning id"
    for actor in (as_referrer, given.stage.as_owner):
        async with refused("matches_answered_by_candidate", "42501"):
            await actor(answer, match)
    for actor in (as_mentor, as_stranger):
        assert await actor(answer, match) == []


@keeps("matches_answered_by_candidate")
async def test_who_left_a_broker_does_not_bind_it(
    given: Given, refused: Refused, as_mentor: Party, as_referee: Party
) -> None:
    answer = "update agreement.matches set state = %s where id = %s returning state"
    match = await given.match(await given.referral())
    await as_mentor("delete from shared.memberships where user_id = %s", as_referee.user_id)
    async with refused("matches_answered_by_candidate", "42501"):
        await as_referee(answer, "accepted", match)
    assert await as_referee(answer, "declined", match) == [("declined",)]


@keeps("timeline_events_by_party")
async def test_every_event_has_a_proved_party(
    given: Given, refused: Refused, as_stranger: Party, as_nobody: Actor, as_owner: Actor
) -> None:
    agreement = await given.agreement("effective")
    append = "insert into agreement.timeline_events (agreement_id, type) values (%s, 'CLIENT_CONTACTED')"
    for actor in (as_stranger, as_nobody):
        async with refused("timeline_events_by_party", "42501"):
            await actor(append, agreement)
    # The owner sees every agreement, and is nobody who proved himself: his event has no credential_kind.
    async with refused(None, "23502"):
        await as_owner(append, agreement)


async def test_an_event_names_the_actor_of_its_transaction(given: Given, as_referee: Party) -> None:
    agreement = await given.agreement("effective")
    await given.event(agreement)
    rows = await as_referee(
        "select credential_kind, user_id, organization_id from agreement.timeline_events "
        "where agreement_id = %s order by seq desc limit 2",
        agreement,
    )
    assert rows == [("session", as_referee.user_id, as_referee.organization_id), ("esign", None, None)]


@keeps("row security")
async def test_a_token_does_what_its_scopes_say(
    given: Given, refused: Refused, as_referrer: Party, stage: Stage
) -> None:
    agreement, referral = await given.agreement("effective"), await given.referral()
    match = await given.match(referral)
    await given.invoice(agreement)
    reader = await as_referrer.token("agreements:read")
    assert len(await reader("select id from agreement.agreements where id = %s", agreement)) == 1
    candidate = await stage.party("referee").token("agreements:read")
    judge = await stage.party("judge").token("agreements:read")
    dispute = await given.dispute(agreement)
    writes: list[tuple[Actor, str, tuple[object, ...]]] = [
        (reader, "update agreement.agreements set status = 'void' where id = %s", (agreement,)),
        (
            reader,
            "insert into agreement.timeline_events (agreement_id, type) values (%s, 'CLIENT_CONTACTED')",
            (agreement,),
        ),
        (reader, "insert into agreement.contact_reads (agreement_id, purpose) values (%s, 'x')", (agreement,)),
        (reader, "insert into agreement.disputes (agreement_id, reason) values (%s, 'x')", (agreement,)),
        (reader, "update agreement.invoices set status = 'paid' where agreement_id = %s", (agreement,)),
        (reader, "update agreement.referrals set status = 'cancelled', cancel_reason = 'x' where id = %s", (referral,)),
        (
            reader,
            "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id) values (%s, %s, %s)",
            (referral, as_referrer.organization_id, stage.party("referee").organization_id),
        ),
        (reader, "select shared.create_organization('x', 'x')", ()),
        (reader, "delete from shared.memberships where user_id = %s", (as_referrer.user_id,)),
        (reader, "update shared.memberships set role = 'viewer'", ()),
        (reader, "update agreement.brokers set name = 'x' where id = %s", (as_referrer.organization_id,)),
        (reader, "select apiauth.create_personal_token('x', 'd', 'abcd', '{agreements:read}', '1 day')", ()),
        (reader, "select apiauth.revoke_personal_token(gen_random_uuid())", ()),
        (candidate, "update agreement.matches set state = 'accepted' where id = %s", (match,)),
        (judge, "update agreement.disputes set outcome = 'upheld' where id = %s", (dispute,)),
    ]
    for actor, attack, parameters in writes:
        async with refused("credential_scope", "42501"):
            await actor(attack, *parameters)


@keeps("row security")
async def test_a_token_without_the_scope_reads_nothing(given: Given, refused: Refused, stage: Stage) -> None:
    agreement = await given.agreement("disputed")
    referral = await given.referral()
    match = await given.match(referral)
    candidate, judge = [await stage.party(name).token("tokens:write") for name in ("referee", "judge")]
    for actor, table, key, parameter in (
        (candidate, "matches", "id", match),
        (candidate, "referrals", "id", referral),
        (candidate, "agreements", "id", agreement),
        (candidate, "timeline_events", "agreement_id", agreement),
        (candidate, "disputes", "agreement_id", agreement),
        (judge, "disputes", "agreement_id", agreement),
    ):
        async with refused("credential_scope", "42501"):
            await actor(f"select * from agreement.{table} where {key} = %s", parameter)


async def test_a_token_mints_no_scope_that_it_lacks(refused: Refused, as_referrer: Party) -> None:
    token = await as_referrer.token("tokens:write")
    mint = "select apiauth.create_personal_token('x', 'd', 'abcd', %s, '1 day')"
    async with refused("credential_scope", "42501"):
        await token(mint, ["agreements:read"])
    await token(mint, ["tokens:write"])
    async with refused("personal_tokens_scopes_are_known"):
        await as_referrer(mint, ["everything"])


@keeps("row security")
async def test_a_viewer_writes_nothing(given: Given, refused: Refused, as_viewer: Party) -> None:
    agreement = await given.agreement("effective")
    assert len(await as_viewer("select id from agreement.agreements where id = %s", agreement)) == 1
    for attack in (
        "update agreement.agreements set status = 'void' where id = %s",
        "insert into agreement.timeline_events (agreement_id, type) values (%s, 'CLIENT_CONTACTED')",
        "insert into agreement.contact_reads (agreement_id, purpose) values (%s, 'x')",
        "insert into agreement.disputes (agreement_id, reason) values (%s, 'x')",
        "insert into agreement.invoices (agreement_id, amount, currency) values (%s, 1, 'USD')",
    ):
        async with refused("member_role", "42501"):
            await as_viewer(attack, agreement)
    async with refused("member_role", "42501"):
        await given.referral("viewer")


async def test_a_demotion_holds_from_the_next_entrance_on(
    given: Given, refused: Refused, as_referrer: Party, as_colleague: Party
) -> None:
    await given.referral("colleague")
    await as_referrer("update shared.memberships set role = 'viewer' where user_id = %s", as_colleague.user_id)
    async with refused("member_role", "42501"):
        await given.referral("colleague")


async def test_an_actor_acts_in_an_organization_of_his(
    stage: Stage, refused: Refused, as_viewer: Party, as_referrer: Party, as_nobody: Actor
) -> None:
    acting = "select shared.acting_organization(%s)"
    assert await as_viewer(acting, "agreements:read") == [(as_viewer.organization_id,)]
    async with refused("member_role", "42501"):
        await as_viewer(acting, "agreements:write")
    for actor in (as_nobody, stage.as_newcomer):
        assert await actor(acting, "agreements:write") == [(None,)]
    second = await as_referrer.value("select (shared.create_organization('Second', 'second')).id")
    every = "select shared.current_organization_ids()"
    assert await as_referrer(every) == [([as_referrer.organization_id, second],)]
    assert await as_nobody(every) == [([],)]
    elsewhere = Actor(stage, ("enter_session", as_referrer.person.digest, "second"))
    assert await elsewhere(acting, "agreements:read") == [(second,)]
    assert await elsewhere(READ) == [(0,)], "where he works now is all that he sees"


async def test_an_actor_acts_as_a_person_within_his_scopes(
    refused: Refused, as_referrer: Party, as_nobody: Actor
) -> None:
    acting = "select shared.acting_user(%s)"
    assert await as_referrer(acting, "agreements:read") == [(as_referrer.user_id,)]
    assert await as_nobody(acting, "agreements:read") == [(None,)]
    bearer = await as_referrer.token("votes:write")
    assert await bearer(acting, "votes:write") == [(as_referrer.user_id,)]
    async with refused("credential_scope", "42501"):
        await bearer(acting, "agreements:read")
    program = await as_referrer.organization_token("agreements:read")
    assert await program(acting, "agreements:read") == [(None,)]


async def test_a_member_is_added_by_his_address_and_by_nothing_else(
    refused: Refused, as_rival: Party, as_viewer: Party, as_referee: Party
) -> None:
    """Whose id one has seen, as a candidate's or in an event, one could else make a member, and read his address."""
    join = "insert into shared.memberships (organization_id, user_id, role) values (%s, %s, 'viewer')"
    async with refused(None, "42501"):
        await as_rival(join, as_rival.organization_id, as_referee.user_id)
    add = "select (shared.add_member(%s, %s, %s)).role"
    organization = as_rival.organization_id
    async with refused("memberships_user_id_fkey", "P0002"):
        await as_rival(add, organization, "nobody@example.org", "viewer")
    assert await as_rival(add, organization, "REFEREE@example.org", "agent") == [("agent",)]
    async with refused("memberships_pkey", "23505"):
        await as_rival(add, organization, "referee@example.org", "viewer")
    async with refused("memberships_organization_id_fkey", "P0002"):
        await as_viewer(add, organization, "referee@example.org", "viewer")
    async with refused("member_role", "42501"):
        await as_viewer(add, as_viewer.organization_id, "referee@example.org", "viewer")


async def test_an_admin_adds_no_owner(refused: Refused, as_referrer: Party, as_colleague: Party) -> None:
    await as_referrer("update shared.memberships set role = 'admin' where user_id = %s", as_colleague.user_id)
    add = "select (shared.add_member(%s, 'rival@example.org', %s)).role"
    async with refused("member_role", "42501"):
        await as_colleague(add, as_colleague.organization_id, "owner")
    assert await as_colleague(add, as_colleague.organization_id, "admin") == [("admin",)]


@keeps("row security")
async def test_a_candidate_drafts_nothing_in_the_referrers_name(
    given: Given, refused: Refused, as_referrer: Party, as_referee: Party
) -> None:
    """He sees the referral, so that no trigger stops him."""
    referral = await given.referral()
    await given.match(referral)
    for receiver in (as_referee.organization_id, given.stage.party("stranger").organization_id):
        async with refused(None, "42501"):
            await as_referee(
                "insert into agreement.agreements (referral_id, from_broker_id, to_broker_id) values (%s, %s, %s)",
                referral, as_referrer.organization_id, receiver,
            )  # fmt: skip


@keeps("row security")
async def test_a_broker_is_renamed_and_registered_by_its_owner(
    refused: Refused, as_referrer: Party, as_colleague: Party
) -> None:
    for change in (
        "update agreement.brokers set name = 'another' where id = %s returning 1",
        "update agreement.broker_registrations set fein = '98-7654321' where broker_id = %s returning 1",
    ):
        async with refused("member_role", "42501"):
            await as_colleague(change, as_referrer.organization_id)
        assert await as_referrer(change, as_referrer.organization_id) == [(1,)]
