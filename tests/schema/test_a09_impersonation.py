"""A9, when a platform admin acts as a user: under both names, for an hour, and without what is only the user's."""

import secrets
from uuid import UUID

import pytest

from tests.schema.conftest import Party, Refused
from tests.schema.stage import GUARD, HALF, VAULT, Actor, Given, Stage, keeps, user_code

START = "select * from apiauth.start_impersonation(%s, %s, %s, %s)"
STOP = "select * from apiauth.stop_impersonation(%s)"
WHO = "select a.user_id, a.impersonator_id, a.is_platform_admin, a.scopes, a.role from shared.current_actor() as a"


def fresh() -> bytes:
    return secrets.token_bytes(32)


async def test_both_are_proved(given: Given, as_judge: Party, as_referee: Party) -> None:
    """scopes_of_impersonators is what he may; admit_session resolves the user's role as it is now."""
    [who] = await (await given.impersonator())(WHO)
    assert who == (as_referee.user_id, as_judge.user_id, False, ["agreements:read", "agreements:write"], "agent")
    [who] = await as_referee(WHO)
    assert who[:2] == (as_referee.user_id, None)


async def test_he_sees_and_does_what_the_user_would(given: Given, as_referrer: Party) -> None:
    agreement = await given.agreement("effective")
    acting = await given.impersonator()
    look = "select id from agreement.agreements where id = %s"
    assert await acting(look, agreement) == [(agreement,)]
    await acting("update agreement.agreements set status = 'success' where id = %s", agreement)
    assert await given.status(agreement) == "success"
    stranger = await given.impersonator(of="stranger")
    assert await stranger(look, agreement) == []


@keeps("impersonations_by_a_platform_admin")
async def test_only_a_platform_admin_acts_as_another(
    stage: Stage, given: Given, refused: Refused, as_referee: Party, as_judge: Party
) -> None:
    for actor in (stage.as_referrer, await as_judge.token("agreements:read"), await given.impersonator(of="rival")):
        async with refused("impersonations_by_a_platform_admin", "42501"):
            await _insert(actor, as_referee.user_id, as_judge.user_id)
    async with refused("impersonations_by_a_platform_admin", "42501"):
        await _insert(as_judge, as_referee.user_id, stage.people["partisan"].user_id)


async def _insert(actor: Actor, user_id: UUID, admin_id: UUID) -> None:
    """Write what start_impersonation would, as its owner and by this actor."""
    await actor.turned(GUARD)(
        "insert into apiauth.impersonations (admin_id, user_id, reason, ends_at) "
        "values (%s, %s, 'so', clock_timestamp() + interval '10 minutes')",
        admin_id, user_id,
    )  # fmt: skip


async def test_the_command_asks_the_same(stage: Stage, given: Given, refused: Refused, as_judge: Party) -> None:
    """start_impersonation takes a session of a platform admin who is himself."""
    user = stage.people["referee"].user_id
    for actor in (stage.as_referrer, await given.impersonator(of="rival")):
        async with refused("impersonations_by_a_platform_admin", "42501"):
            await actor(START, user, "so", "1 hour", fresh())
    for nobody in (await as_judge.token("agreements:read"), stage.as_nobody):
        async with refused("credential_authenticates", "28000"):
            await nobody(START, user, "so", "1 hour", fresh())
    async with refused("not_found", "P0002"):
        await as_judge(START, "00000000-0000-7000-8000-000000000000", "so", "1 hour", fresh())
    async with refused("impersonations_user_id_is_of_another"):
        await as_judge(START, as_judge.user_id, "so", "1 hour", fresh())


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, None])
async def test_he_says_why(refused: Refused, as_judge: Party, as_referee: Party, reason: str | None) -> None:
    async with refused("impersonations_reason_is_present" if reason is not None else None):
        await as_judge(START, as_referee.user_id, reason, "1 hour", fresh())


@keeps("impersonations_last_an_hour_at_most")
async def test_an_hour_is_the_most(refused: Refused, as_judge: Party, as_referee: Party) -> None:
    for lifetime in ("1 hour 1 second", "1 day", "0", "-1 second"):
        async with refused("impersonations_last_an_hour_at_most"):
            await as_judge(START, as_referee.user_id, "so", lifetime, fresh())
    [[_, started_at, ends_at, _]] = await as_judge(START, as_referee.user_id, "so", "1 hour", fresh())
    assert (ends_at - started_at).total_seconds() == 3600


async def test_a_new_token_each_way_and_the_old_one_ends(
    stage: Stage, refused: Refused, as_judge: Party, as_referee: Party
) -> None:
    """replace_session is no login: the session ends when it would have ended."""
    [[own, ends_at]] = await as_judge("select s.id, s.expires_at from apiauth.list_sessions() as s where s.is_current")
    acting, again = fresh(), fresh()
    await as_judge(START, as_referee.user_id, "so", "1 hour", acting)
    async with refused("credential_authenticates", "28000"):
        await as_judge.enter()
    acted = Actor(stage, ("enter_session", acting))
    [[expires_at, _]] = await acted(STOP, again)
    assert expires_at == ends_at
    async with refused("credential_authenticates", "28000"):
        await acted.enter()
    himself = Actor(stage, ("enter_session", again))
    assert (await himself(WHO))[0][:3] == (as_judge.user_id, None, True)
    [[session]] = await himself("select s.id from apiauth.list_sessions() as s where s.is_current")
    assert session != own
    async with refused("not_found", "P0002"):
        await himself(STOP, fresh())


@pytest.mark.parametrize(
    "end",
    [
        "update apiauth.impersonations set started_at = started_at - '1 hour'::interval, ends_at = started_at",
        "update apiauth.impersonations set stopped_at = now()",
        "select shared.revoke_platform_admin('judge@example.org')",
        "select shared.revoke_platform_admin('judge@example.org'), shared.grant_platform_admin('judge@example.org')",
        "delete from shared.users where email = 'newcomer@example.org'",
        "update apiauth.sessions set revoked_at = now() where impersonation_id is not null",
        "select apiauth.revoke_all('judge@example.org')",
    ],
)
async def test_it_ends_with_the_next_entrance(stage: Stage, given: Given, refused: Refused, end: str) -> None:
    """admit_session asks each time, of the admin's right as well."""
    acting = await given.impersonator(of="newcomer")
    await acting.enter()
    await stage.as_postgres("alter table apiauth.impersonations disable trigger impersonations_stop_once")
    await stage.as_postgres(end)
    async with refused("credential_authenticates", "28000"):
        await acting.enter()


@keeps("impersonations_stop_once", "impersonations_never_deleted", "impersonations_never_emptied")
async def test_what_was_said_stays_said(given: Given, refused: Refused, as_guard: Actor) -> None:
    await given.impersonator()
    change = "update apiauth.impersonations set {}"
    for altered in ("reason = 'another'", "ends_at = ends_at + interval '1 second'", "started_at = now()",
                    "user_id = gen_random_uuid()", "admin_id = gen_random_uuid()"):  # fmt: skip
        async with refused("impersonations_stop_once"):
            await as_guard(change.format(altered))
    await as_guard(change.format("stopped_at = clock_timestamp()"))
    for again in ("stopped_at = null", "stopped_at = clock_timestamp()"):
        async with refused("impersonations_stop_once"):
            await as_guard(change.format(again))
    async with refused("impersonations_never_deleted"):
        await as_guard("delete from apiauth.impersonations")
    async with refused("impersonations_never_emptied"):
        await as_guard("truncate apiauth.impersonations cascade")


SCOPED = {
    "read a contact": "insert into agreement.contact_reads (agreement_id, purpose) values (%(agreement)s, 'x')",
    "consume a read": "select agreement.consume_contact_read(%(read)s)",
    "read a secret": "select * from secretstore.grant_reads(sha256('x'), '{key}', null, null, '{r}', null)",
    "write a secret": "select secretstore.reserve_version('key', null, null, null, null)",
    "list secrets": "select * from secretstore.secrets",
    "make a token": "select apiauth.create_personal_token('x', 'x', 'abcd', '{agreements:read}', '1 day')",
    "revoke a token": "select apiauth.revoke_personal_token(gen_random_uuid())",
    "make an organization's token": (
        "select apiauth.create_organization_token(%(north)s, 'x', 'x', 'abcd', '{agreements:read}', null)"
    ),
    "make a key": "select apiauth.issue_environment_keys(%(environment)s, 'a', 'abcd', 'b', 'abcd', '0')",
    "vote": "insert into vote.votes (api_identifier) values ('x')",
    "withdraw a vote": "delete from vote.votes",
    "add a member": "select shared.add_member(%(north)s, 'newcomer@example.org', 'agent')",
    "change a role": "update shared.memberships set role = 'admin' where user_id = %(colleague)s",
    "leave": "delete from shared.memberships where user_id = %(referrer)s",
    "found an organization": "select shared.create_organization('x', 'x')",
}


@pytest.mark.parametrize("deed", SCOPED)
async def test_what_is_only_the_users_is_closed(
    stage: Stage, given: Given, refused: Refused, as_referrer: Party, deed: str
) -> None:
    """Where there is a scope for it he has none, whatever the path."""
    agreement = await given.agreement("effective")
    await given.secret()
    await as_referrer("insert into vote.votes (api_identifier) values ('listings')")
    names = {
        "agreement": agreement, "read": await given.grant(agreement, by="referrer"),
        "north": as_referrer.organization_id, "environment": await given.environment(),
        "colleague": stage.people["colleague"].user_id, "referrer": as_referrer.user_id,
    }  # fmt: skip
    acting = await given.impersonator(of="referrer")
    async with refused("credential_scope", "42501"):
        await acting.enter()
        await stage.connection.execute(SCOPED[deed].encode(), names)


@keeps("contacts_closed_to_impersonators")
async def test_a_contact_is_neither_sealed_nor_shredded(given: Given, refused: Refused) -> None:
    with_contact, without = await given.referral(), await given.referral()
    await given.contact(with_contact)
    acting = await given.impersonator(of="referrer")
    seal = "select agreement.seal_contact(%s, %s, 'k')"
    for referral in (with_contact, without):
        async with refused("contacts_closed_to_impersonators", "42501"):
            await acting(seal, referral, bytes(40))
    async with refused("contacts_closed_to_impersonators", "42501"):
        await acting("select agreement.shred_contact(%s)", with_contact)
    async with refused("contacts_closed_to_impersonators", "42501"):
        await acting.turned(VAULT)("update agreement.contacts set sealed_at = now()")


@keeps("passwords_closed_to_impersonators")
async def test_no_password_is_changed(given: Given, refused: Refused) -> None:
    acting = (await given.impersonator()).turned(GUARD)
    async with refused("passwords_closed_to_impersonators", "42501"):
        await acting("update apiauth.passwords set key_digest = sha256('x')")


@keeps("personal_tokens_closed_to_impersonators", "organization_tokens_closed_to_impersonators",
       "environment_keys_closed_to_impersonators")  # fmt: skip
async def test_no_credential_is_born(given: Given, refused: Refused, as_referrer: Party) -> None:
    """Also where a command that is yet to come forgets to ask for a scope."""
    environment = await given.environment()
    acting = (await given.impersonator(of="referrer")).turned(GUARD)
    async with refused("personal_tokens_closed_to_impersonators", "42501"):
        await acting(
            "insert into apiauth.personal_tokens (user_id, name, digest, token_hint, scopes, expires_at) "
            "values (%s, 'x', sha256('x'), 'abcd', '{agreements:read}', clock_timestamp() + interval '1 day')",
            as_referrer.user_id,
        )
    async with refused("organization_tokens_closed_to_impersonators", "42501"):
        await acting(
            "insert into apiauth.organization_tokens (organization_id, name, digest, token_hint, scopes) "
            "values (%s, 'x', sha256('x'), 'abcd', '{agreements:read}')",
            as_referrer.organization_id,
        )
    async with refused("environment_keys_closed_to_impersonators", "42501"):
        await acting(
            "insert into apiauth.environment_keys (organization_id, environment_id, kind, digest, token_hint) "
            "values (%s, %s, 'secret_key', sha256('x'), 'abcd')",
            as_referrer.organization_id, environment,
        )  # fmt: skip


@keeps("device_codes_closed_to_impersonators")
async def test_no_machine_is_let_in(given: Given, refused: Refused) -> None:
    await given.device("waiting")
    acting = await given.impersonator()
    async with refused("device_codes_closed_to_impersonators", "42501"):
        await acting("select apiauth.decide_device(%s, true)", user_code("waiting"))


async def test_the_users_sessions_are_not_his(stage: Stage, given: Given, refused: Refused, as_referee: Party) -> None:
    """revoke_sessions refuses; his own he may close, and is nobody then."""
    acting = await given.impersonator()
    assert await acting("select * from apiauth.list_sessions()") == []
    assert await as_referee("select * from apiauth.list_sessions()") != []
    async with refused("revoke_sessions", "42501"):
        await acting("select apiauth.revoke_sessions()")
    assert await acting.value("select apiauth.close_session()")
    async with refused("credential_authenticates", "28000"):
        await acting.enter()
    await as_referee.enter()
    assert await stage.as_guard.value("select stopped_at is not null from apiauth.impersonations")


async def test_he_judges_nothing(stage: Stage, given: Given, refused: Refused) -> None:
    """Neither as the user, who may be a platform admin, nor afterwards what he had a hand in."""
    agreement = await given.agreement("effective")
    dispute = await given.dispute(agreement)
    acting = await given.impersonator(of="partisan")
    judge = "update agreement.disputes set outcome = 'dismissed' where id = %s"
    async with refused("disputes_judged_by_neither_party", "42501"):
        await acting(judge, dispute)
    acting = await given.impersonator()
    async with refused("disputes_judged_by_neither_party", "42501"):
        await acting(judge, dispute)
    await acting(
        "insert into agreement.timeline_events (agreement_id, type) values (%s, 'CLIENT_CONTACTED')", agreement
    )
    async with refused("disputes_judged_by_neither_party", "42501"):
        await stage.as_judge(judge, dispute)


async def test_what_is_written_names_both(given: Given, as_judge: Party, as_referee: Party, as_auditor: Actor) -> None:
    agreement = await given.agreement("effective")
    acting = await given.impersonator()
    await acting(
        "insert into agreement.timeline_events (agreement_id, type) values (%s, 'CLIENT_CONTACTED')", agreement
    )
    await acting("select shared.record_denial('PUT /x', '/x', 'credential_scope', null)")
    await acting(STOP, fresh())
    both = (as_referee.user_id, as_judge.user_id)
    [event] = await as_referee(
        "select user_id, impersonator_id, agreement.event_body(e)::jsonb ->> 'impersonator_id' "
        "from agreement.timeline_events as e where type = 'CLIENT_CONTACTED'"
    )
    assert event == (*both, str(as_judge.user_id))
    rows = await as_auditor(
        "select action, user_id, impersonator_id, subject from shared.audit_log "
        "where impersonator_id is not null or action like 'impersonation%%' order by id"
    )
    subject = f"user/{as_referee.user_id}"
    assert rows == [
        ("impersonation.start", as_judge.user_id, None, subject),
        ("agreement.client_contacted", *both, f"agreement/{agreement}"),
        ("PUT /x", *both, "/x"),
        ("impersonation.stop", *both, subject),
    ]


async def test_the_users_stored_answers_are_not_his(stage: Stage, given: Given, as_referee: Party) -> None:
    """A stored answer may hold a token that was shown once."""
    store = (
        "insert into shared.idempotency_keys (user_id, key, route, request_digest, status, response) "
        "values (%s, 'k', 'r', sha256('x'), 200, 'sealed')"
    )
    find = "select * from shared.find_response('k', 'r', sha256('x'))"
    await as_referee(store, as_referee.user_id)
    acting = await given.impersonator()
    assert await acting(find) == []
    await acting(store, stage.people["judge"].user_id)
    assert len(await acting(find)) == 1


async def test_a_session_that_lives_elsewhere_acts_alike(stage: Stage, refused: Refused, as_referee: Party) -> None:
    start = "select new_ticket from apiauth.start_impersonation(%s, 'so', '1 hour', %s, %s, %s)"
    stop = "select new_ticket from apiauth.stop_impersonation(%s, %s, %s)"
    digests = [fresh() for _ in range(3)]
    await stage.as_nobody(
        "select apiauth.open_session('judge@example.org', 'judge', %s, '1 hour', '1 day')", digests[0]
    )
    ticket = await stage.as_nobody.value("select apiauth.exchange_session(%s, %s)", digests[0], HALF)
    actors = [ticketed(stage, digests[0], ticket)]
    ticket = await actors[0].value(start, as_referee.user_id, digests[1], ticket, HALF)
    actors.append(ticketed(stage, digests[1], ticket))
    assert (await actors[1](WHO))[0][:3] == (as_referee.user_id, stage.people["judge"].user_id, False)
    async with refused("credential_authenticates", "28000"):
        await actors[0].enter()
    ticket = await actors[1].value(stop, digests[2], ticket, HALF)
    actors.append(ticketed(stage, digests[2], ticket))
    assert (await actors[2](WHO))[0][:3] == (stage.people["judge"].user_id, None, True)
    async with refused("credential_authenticates", "28000"):
        await actors[1].enter()


def ticketed(stage: Stage, digest: bytes, ticket: str) -> Actor:
    return Actor(stage, ("enter_ticket", digest, None, [], ticket, HALF))
