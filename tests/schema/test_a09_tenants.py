"""A9: nobody sees or touches another tenant's rows: asked of the catalog, table by table."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import psycopg
import pytest

from tests.schema.conftest import Refused
from tests.schema.stage import Actor, Given, Party, Stage, keeps

Outside = Callable[..., AbstractAsyncContextManager[Stage]]

SCHEMAS = "('shared', 'apiauth', 'secretstore', 'agreement', 'vote')"
TABLES = (
    "select c.oid::regclass::text from pg_class as c "
    f"where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in {SCHEMAS} order by 1"
)
# Everybody may read these, and they hold no tenant's facts.
PUBLIC = {"shared.axioms", "shared.oracle_results", "agreement.transitions", "agreement.referral_transitions"}
# Known to whoever is known: brokers find each other by name.
KNOWN = {"agreement.brokers"}
UNKNOWN = "00000000-0000-7000-8000-000000000000"


async def populate(given: Given) -> None:  # noqa: PLR0915 - a statement a table
    """Leave a row of the referrer's and the referee's in every table."""
    referral = await given.referral()
    await given.contact(referral)
    agreement = await given.accepted(referral)
    await given.sign(agreement)
    await given.event(agreement)
    await given.grant(agreement)
    await given.invoice(agreement)
    await given.dispute(agreement)
    referrer = given.stage.party("referrer")
    secret, _ = await given.keys()
    await (await given.jwt(secret, one_time=True)).enter()
    await referrer.organization_token("agreements:read")
    await referrer("select apiauth.take_attempt('login', 10, interval '1 minute')")
    await referrer("insert into vote.votes (api_identifier) values ('listings')")
    await given.secret(environment=await given.environment())
    await given.branch(await given.environment("PREVIEW"))
    await given.invitation()
    await given.account()
    await given.device()
    await referrer("select secretstore.admit_master_keys(array['0123456789abcdef'], array[sha256('proof')])")
    await given.stage.as_login(
        "select apiauth.open_identity_session('https://id.example', 'subject', 'x@id.example', 'Somebody', null, "
        "sha256('a session'), interval '1 hour', interval '1 day')"
    )
    await given.secret()
    await given.read_grant()
    await referrer.token("agreements:read")
    await given.stage.as_guard(
        "insert into apiauth.identities (user_id, issuer, subject) values (%s, 'https://id.example', 'x')",
        referrer.user_id,
    )
    await given.device("waiting")
    await given.impersonator()
    await given.stage.as_nobody("select secretstore.admit_master_keys('{0123456789abcdef}', array[sha256('x')])")
    await given.stage.as_guard("insert into apiauth.logouts values (%s, '-infinity')", referrer.user_id)
    await given.stage.as_guard(
        "insert into apiauth.ended_tickets (session_id, expires_at) values (gen_random_uuid(), clock_timestamp())"
    )
    await referrer(
        "insert into shared.idempotency_keys (user_id, key, route, request_digest, status, response) "
        "values (%s, 'k', 'r', sha256('x'), 200, '')",
        referrer.user_id,
    )
    await given.stage.as_login(
        "select apiauth.open_identity_session('https://id.example', 'subject', 'newcomer@example.org', 'Newcomer', "
        "null, sha256('identity'), interval '1 hour', interval '1 day')"
    )
    await given.stage.as_auditor(
        """select shared.record_oracle_results('[{"oracle": "O1", "axioms": [], "violations": 0, "seconds": 0}]')"""
    )


async def is_readable(stage: Stage, table: str) -> bool:
    return bool(await stage.as_postgres.value("select has_any_column_privilege('brokerflow_app', %s, 'SELECT')", table))


async def own(stage: Stage, table: str, name: str) -> str:
    """Tell which rows of a table are a person's own, whoever else may see them."""
    person = stage.people[name]
    return {
        "shared.users": f"id = '{person.user_id}'",
        "shared.memberships": f"organization_id = '{person.organization_id}'",
        "shared.organizations": f"id = '{person.organization_id}'",
        "agreement.broker_registrations": f"broker_id = '{person.organization_id}'",
    }.get(table, "false")


async def seen(actor: Actor, table: str, condition: str) -> int:
    return int(await actor.value(f"select count(*) from {table} where not ({condition})"))


@keeps("row security")
async def test_a_stranger_and_nobody_see_no_tenants_row(
    given: Given, stage: Stage, refused: Refused, as_stranger: Party, as_nobody: Actor
) -> None:
    await populate(given)
    for (table,) in await stage.as_postgres(TABLES):
        assert await seen(stage.as_postgres, table, "false") > 0, f"{table} is empty, so the test says nothing"
        if table in PUBLIC | KNOWN:
            continue
        for actor in (as_stranger, as_nobody):
            if await is_readable(stage, table):
                assert await seen(actor, table, await own(stage, table, "stranger")) == 0, table
            else:
                async with refused(None, "42501"):
                    await actor(f"select * from {table}")


@keeps("row security")
async def test_nobody_reads_even_the_brokers(stage: Stage, as_nobody: Actor) -> None:
    for table in KNOWN:
        assert await seen(as_nobody, table, "false") == 0


@keeps("row security")
async def test_a_stranger_and_nobody_change_no_tenants_row(
    given: Given, stage: Stage, refused: Refused, as_stranger: Party, as_nobody: Actor
) -> None:
    await populate(given)
    for (table,) in await stage.as_postgres(TABLES):
        columns = await stage.as_postgres(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped "
            "and has_column_privilege('brokerflow_app', attrelid, attnum, 'UPDATE')",
            table,
        )
        others = f"not ({await own(stage, table, 'stranger')})"
        if table in KNOWN:
            others = f"id <> '{as_stranger.organization_id}'"
        for actor in (as_stranger, as_nobody):
            for (column,) in columns:
                assert await actor(f"update {table} set {column} = {column} where {others} returning 1") == []
            if table in {"shared.memberships", "shared.external_accounts", "vote.votes"}:
                assert await actor(f"delete from {table} where {others} returning 1") == []
            else:
                async with refused(None, "42501"):
                    await actor(f"delete from {table} where {others}")
            async with refused(None, "42501"):
                await actor(f"truncate {table} cascade")


async def test_a_party_sees_what_is_between_the_two_and_no_more(
    given: Given, as_referrer: Party, as_referee: Party, as_rival: Party
) -> None:
    referral = await given.referral()
    await given.match(referral, "rival")
    await given.agreement("effective", referral)
    counts = {}
    for actor in (as_referrer, as_referee, as_rival):
        counts[actor.person.name] = [
            await actor.value(f"select count(*) from agreement.{table} where {key} = %s", referral)
            for table, key in (("referrals", "id"), ("matches", "referral_id"), ("agreements", "referral_id"))
        ]
    assert counts == {"referrer": [1, 1, 1], "referee": [0, 0, 1], "rival": [1, 1, 0]}


@keeps("environments_of_their_projects_organization")
async def test_an_environment_is_of_its_projects_organization(
    given: Given, refused: Refused, as_referrer: Party, as_mentor: Party, as_owner: Actor
) -> None:
    insert = "insert into shared.environments (organization_id, project_id, slug, type) values (%s, %s, %s, 'STAGING')"
    project = await given.project()
    await as_referrer(insert, as_referrer.organization_id, project, "staging")
    for actor in (as_mentor, as_owner):
        async with refused("environments_of_their_projects_organization"):
            await actor(insert, as_mentor.organization_id, project, "theirs")


async def test_projects_and_environments_are_an_admins_to_make(
    given: Given, refused: Refused, as_referrer: Party, as_colleague: Party, as_viewer: Party
) -> None:
    project = await given.project()
    for actor in (as_colleague, as_viewer):
        assert await actor("select 1 from shared.projects where id = %s", project) == [(1,)]
        async with refused("member_role", "42501"):
            await actor("select shared.create_project(%s, 'Web', 'web')", as_referrer.organization_id)
        async with refused("member_role", "42501"):
            await actor("select shared.create_environment(%s, 'live', 'PRODUCTION')", project)
    poor = await as_referrer.token("agreements:read")
    async with refused("credential_scope", "42501"):
        await poor("select shared.create_project(%s, 'Web', 'web')", as_referrer.organization_id)


@keeps("row security")
async def test_a_stranger_builds_nothing_for_another_organization(
    given: Given, refused: Refused, as_referrer: Party, as_stranger: Party
) -> None:
    project, organization = await given.project(), as_referrer.organization_id
    async with refused(None, "42501"):
        await as_stranger(
            "insert into shared.projects (organization_id, name, slug) values (%s, 'W', 'w')", organization
        )
    insert = "insert into shared.environments (organization_id, project_id, slug, type) values (%s, %s, 'x', 'STAGING')"
    async with refused(None, "42501"):
        await as_stranger(insert, organization, project)


async def test_a_slug_names_one_project_and_one_environment(
    given: Given, refused: Refused, as_referrer: Party, as_mentor: Party
) -> None:
    project = await given.project(slug="web")
    async with refused("projects_slug_once_an_organization", "23505"):
        await given.project(slug="web")
    await as_mentor("select shared.create_project(%s, 'Web', 'web')", as_mentor.organization_id)
    await as_referrer("select shared.create_environment(%s, 'live', 'PRODUCTION')", project)
    async with refused("environments_slug_once_a_project", "23505"):
        await as_referrer("select shared.create_environment(%s, 'live', 'STAGING')", project)
    await as_referrer("select shared.create_environment(%s, 'live', 'STAGING')", await given.project())


async def test_a_fein_is_for_its_own_members(stage: Stage, as_referrer: Party, as_viewer: Party) -> None:
    for actor in (as_referrer, as_viewer):
        rows = await actor("select broker_id from agreement.broker_registrations")
        assert rows == [(as_referrer.organization_id,)]


async def test_the_auditor_reads_all_but_contacts_and_credentials_and_writes_nothing(
    given: Given, stage: Stage, refused: Refused, as_auditor: Actor
) -> None:
    await populate(given)
    closed = {"agreement.contacts", "secretstore.read_grants", "secretstore.master_keys"}
    for (table,) in await stage.as_postgres(TABLES):
        if table in closed or table.startswith("apiauth."):
            async with refused(None, "42501"):
                await as_auditor(f"select * from {table}")
        else:
            assert await seen(as_auditor, table, "false") == await seen(stage.as_postgres, table, "false")
        for attack in (f"delete from {table}", f"truncate {table}", f"insert into {table} default values"):
            async with refused(None, "42501"):
                await as_auditor(attack)


@keeps("row security")
async def test_what_is_anothers_answers_as_what_is_not(  # noqa: PLR0915 - a statement a thing
    given: Given, stage: Stage, as_stranger: Party
) -> None:
    """An existing id and an unknown one are refused alike, so that no constraint tells which ids exist."""
    referral = await given.referral()
    agreement = await given.agreement("effective", referral)
    await given.contact(referral)
    grant = await given.committed_grant(agreement)
    match = await given.match(await given.referral())
    invoice, dispute = await given.invoice(agreement), await given.dispute(await given.agreement("effective"))
    project = await given.project()
    environment = await given.environment(project=project)
    preview = await given.environment("PREVIEW")
    branch = await given.branch(preview)
    invitation = await given.invitation()
    account = await given.account(environment)
    secret = await given.secret()
    account_of = "insert into shared.external_accounts (organization_id, environment_id, identifier) values"
    put = "select secretstore.put_version(%s, 2, '', '', '', null, null, null, null, null)"
    referrer, referee, stranger = (stage.party(name) for name in ("referrer", "referee", "stranger"))
    insert, join = "insert into agreement.", "insert into shared.memberships (organization_id, user_id, role)"
    draft = f"{insert}agreements (referral_id, from_broker_id, to_broker_id) values (%s, "
    attacks = [
        (f"{draft}'{stranger.organization_id}', '{referee.organization_id}')", referral),
        (f"{draft}'{referrer.organization_id}', '{stranger.organization_id}')", referral),
        (f"select agreement.draft_agreement(%s, '{referee.organization_id}', 1, 1)", referral),
        (f"{insert}matches (referral_id, candidate_user_id) values (%s, '{referee.user_id}')", referral),
        (f"select agreement.invite_candidate(%s, '{referee.user_id}')", referral),
        (f"{insert}timeline_events (agreement_id, type) values (%s, 'CLIENT_CONTACTED')", agreement),
        (f"{insert}timeline_events (agreement_id, type) values (%s, 'PROPERTY_SHOWN')", agreement),
        ("select agreement.append_event(%s, 'CLIENT_CONTACTED', '{}')", agreement),
        (f"{insert}contact_reads (agreement_id, purpose) values (%s, 'x')", agreement),
        ("select agreement.grant_contact_read(%s, 'x')", agreement),
        (f"{insert}invoices (agreement_id, amount, currency) values (%s, 1, 'USD')", agreement),
        ("select agreement.issue_invoice(%s, 1, 'USD')", agreement),
        (f"{insert}disputes (agreement_id, reason) values (%s, 'x')", agreement),
        ("select agreement.open_dispute(%s, 'x')", agreement),
        ("select agreement.change_agreement(%s, 'void')", agreement),
        ("select agreement.complete_signature(%s, now(), 'x')", agreement),
        ("select agreement.cancel_referral(%s, 'x')", referral),
        ("select agreement.seal_contact(%s, repeat('x', 40)::bytea, 'x')", referral),
        ("select agreement.shred_contact(%s)", referral),
        ("select agreement.consume_contact_read(%s)", grant),
        ("select secretstore.reserve_version('key', %s, null, null, null)", environment),
        ("select secretstore.delete_secret('key', %s, null, null, null)", environment),
        ("select secretstore.undelete_secret('key', %s, null, null, null)", environment),
        ("select secretstore.destroy_version('key', %s, 1, null, null, null)", environment),
        ("select secretstore.grant_reads('', '{key}', %s, null, null, null)", environment),
        ("select secretstore.visible_scope(%s)", environment),
        ("select secretstore.find_secret('key', %s)", environment),
        (put, secret),
        ("select * from agreement.rank_candidates(%s)", referral),
        ("select agreement.find_agreement(%s)", agreement),
        ("select agreement.find_referral(%s)", referral),
        ("select * from agreement.agreement_of_match(%s)", match),
        (f"select agreement.answer_match('{referral}', %s, 'accepted')", match),
        ("update agreement.invoices set status = 'paid' where id = %s returning 1", invoice),
        ("update agreement.disputes set outcome = 'upheld' where id = %s returning 1", dispute),
        ("select apiauth.revoke_personal_token(%s)", grant),
        ("select shared.member_role_in(%s)", referrer.organization_id),
        ("select shared.add_member(%s, 'judge@example.org', 'viewer')", referrer.organization_id),
        ("select agreement.register_broker(%s, 'x', '12-3456789')", referrer.organization_id),
        ("select shared.create_project(%s, 'x', 'x')", referrer.organization_id),
        ("insert into shared.projects (organization_id, name, slug) values (%s, 'x', 'x')", referrer.organization_id),
        ("select shared.create_environment(%s, 'x', 'STAGING')", project),
        ("select apiauth.create_environment(%s, 'x', 'STAGING', 'x', 'abcd', 'y', 'abcd')", project),
        ("select apiauth.issue_environment_keys(%s, 'x', 'abcd', 'y', 'abcd', '0')", environment),
        ("select shared.create_invitation(%s, 'x@x.org', 'viewer', '1 day')", referrer.organization_id),
        (
            "insert into shared.invitations (organization_id, role, email) values (%s, 'agent', 'x@x.org')",
            referrer.organization_id,
        ),
        ("update shared.invitations set state = 'revoked' where id = %s returning 1", invitation),
        ("update shared.invitations set state = 'accepted' where id = %s returning 1", invitation),
        ("select shared.create_external_account(%s, 'x', '{}')", environment),
        (f"{account_of} ('{referrer.organization_id}', %s, 'x')", environment),
        ("update shared.external_accounts set metadata = '{}' where id = %s returning 1", account),
        ("delete from shared.external_accounts where id = %s returning 1", account),
        ("select shared.create_branch(%s, 'x')", preview),
        ("insert into shared.preview_branches (environment_id, name) values (%s, 'x')", preview),
        ("update shared.preview_branches set archived_at = now() where id = %s returning 1", branch),
        (
            "select apiauth.create_organization_token(%s, 'x', 'x', 'abcd', '{agreements:read}', '1 day')",
            referrer.organization_id,
        ),
        ("select * from apiauth.list_organization_tokens(%s, null, 10)", referrer.organization_id),
        ("select apiauth.revoke_organization_token(%s, gen_random_uuid())", referrer.organization_id),
        (f"{join} values (%s, '{stranger.user_id}', 'viewer')", referrer.organization_id),
        ("insert into agreement.brokers (id, name) values (%s, 'x') on conflict do nothing", referrer.organization_id),
        ("insert into agreement.broker_registrations values (%s, '12-3456789')", referrer.organization_id),
    ]  # fmt: skip
    for attack, existing in attacks:
        told = [await answer(as_stranger, attack, each) for each in (existing, UNKNOWN)]
        assert told[0] == told[1], attack


async def answer(actor: Actor, attack: str, parameter: object) -> object:
    """Return what a caller learns: the rows, or all that the refusal says."""
    try:
        async with actor.stage.connection.transaction():
            return await actor(attack, parameter)
    except psycopg.Error as error:
        told = (error.sqlstate, error.diag.constraint_name, error.diag.message_primary, error.diag.message_detail)
        return tuple(str(part).replace(str(parameter), "the id") for part in told)


ATTACKS = """
set role brokerflow_owner
set role brokerflow_guard
set role brokerflow_vault
set role brokerflow_auditor
set session authorization brokerflow_owner
select set_config('role', 'brokerflow_owner', true)
create temporary table t (x int)
create table t (x int)
create table shared.t (x int)
create table agreement.t (x int)
create table apiauth.t (x int)
create schema s
create function f() returns int language sql as 'select 1'
create function shared.f() returns int language sql as 'select 1'
create or replace function shared.clock() returns timestamptz language sql as 'select now()'
create role r
alter role brokerflow_app superuser
alter role brokerflow_app bypassrls
grant brokerflow_owner to brokerflow_app
grant select on agreement.contacts to brokerflow_app
alter table agreement.timeline_events disable trigger all
alter table agreement.agreements disable row level security
alter function shared.clock() owner to brokerflow_app
drop table agreement.agreements
drop trigger agreements_never_deleted on agreement.agreements
create policy p on agreement.agreements using (true)
create event trigger t on ddl_command_start execute function shared.refuse_change()
comment on table agreement.agreements is 'x'
lock table agreement.agreements in access exclusive mode
set session_replication_role to replica
set local session_replication_role to replica
set log_parameter_max_length to -1
copy agreement.agreements to program 'cat'
copy agreement.agreements to '/tmp/out'
copy shared.users from program 'echo x'
select pg_read_file('/etc/passwd')
select lo_import('/etc/passwd')
"""


@pytest.mark.parametrize("attack", ATTACKS.strip().splitlines())
async def test_the_services_role_is_only_that(enter_from_outside: Outside, attack: str) -> None:
    """On a login of its own, since a superuser who plays the role would be let through here and there."""
    async with enter_from_outside() as stage:
        await stage.as_referrer.enter()
        async with stage.refused(None, "42501"):
            await stage.run(attack)


async def test_row_security_cannot_be_turned_off(given: Given, refused: Refused, as_stranger: Party) -> None:
    await given.draft()
    await as_stranger("set local row_security to off")
    async with refused(None, "42501"):
        await as_stranger("select * from agreement.agreements")


async def test_no_function_is_executable_but_those_that_were_granted(stage: Stage, refused: Refused) -> None:
    """Each function of ours that the service was not given is called, and refused."""
    functions = await stage.run(
        "select p.oid::regproc::text, array(select 'null::' || format_type(a, null) from unnest(p.proargtypes) as a) "
        f"from pg_proc as p where p.pronamespace::regnamespace::text in {SCHEMAS} and p.prokind = 'f' "
        "and p.prorettype <> 'trigger'::regtype and not has_function_privilege('brokerflow_app', p.oid, 'execute')"
    )
    assert {name for name, _ in functions} >= {
        "apiauth.seal_actor", "apiauth.seal_of", "apiauth.jwt_key", "apiauth.hmac", "apiauth.use_jwt",
        "apiauth.derived", "apiauth.newest_seal_key", "apiauth.make_seal_key", "apiauth.admit",
        "shared.write_audit", "shared.grant_platform_admin", "agreement.tell_shredded", "apiauth.replace_esign_keys",
    }  # fmt: skip
    for name, arguments in functions:
        async with refused(None, "42501"):
            await stage.as_referrer(f"select {name}({', '.join(arguments)})")


async def test_candidates_are_agents_of_others_whom_who_asks_cannot_see(
    given: Given, as_referrer: Party, as_referee: Party
) -> None:
    referral = await given.referral()
    assert await as_referrer("select 1 from shared.users where id = %s", as_referee.user_id) == []
    ranked = await as_referrer("select user_id, broker_id from agreement.rank_candidates(%s)", referral)
    assert (as_referee.user_id, as_referee.organization_id) in ranked
    assert as_referrer.organization_id not in {broker for _, broker in ranked}
