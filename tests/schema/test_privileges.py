"""No role may more than it needs: the grants themselves, and what stands where one was given by mistake."""

import re
from uuid import UUID

import pytest

from app import oracles, queries
from app.database import ENTRANCES
from tests.schema.conftest import Refused
from tests.schema.stage import APP, AUDITOR, GUARD, LOGIN, OWNER, VAULT, WORKER, Actor, Given, Party, Stage, keeps
from tests.schema.test_a09_tenants import TABLES, populate

ROLES = [APP, WORKER, LOGIN, AUDITOR, GUARD, VAULT, OWNER]
OURS = "(select oid from pg_namespace where starts_with(nspowner::regrole::text, 'brokerflow_'))"

# The columns that a role writes in a table that is not its own, these and no others.
INSERTED = {
    (APP, "shared.organizations"): "title slug",
    (APP, "shared.projects"): "organization_id name slug",
    (APP, "shared.environments"): "organization_id project_id slug type",
    (APP, "shared.preview_branches"): "environment_id name",
    (APP, "shared.invitations"): "organization_id email role expires_at",
    (APP, "shared.external_accounts"): "organization_id environment_id identifier metadata",
    (APP, "shared.idempotency_keys"): "user_id environment_id organization_id key route request_digest status response",
    (APP, "agreement.brokers"): "id name",
    (APP, "agreement.broker_registrations"): "broker_id fein",
    (APP, "agreement.referrals"): "id broker_id region price_min price_max property_type deal_type languages sla_hours "
    "created_by",
    (APP, "agreement.matches"): "referral_id candidate_user_id",
    (APP, "agreement.agreements"): "referral_id from_broker_id to_broker_id fee_rate protect_days",
    (APP, "agreement.timeline_events"): "agreement_id type payload occurred_at corrects_seq",
    (APP, "agreement.contact_reads"): "agreement_id purpose",
    (APP, "agreement.disputes"): "agreement_id reason",
    (APP, "agreement.invoices"): "agreement_id amount currency",
    (APP, "vote.votes"): "api_identifier",
    (GUARD, "shared.users"): "email full_name",
}
UPDATED = {
    (APP, "shared.memberships"): "role",
    (APP, "shared.preview_branches"): "archived_at",
    (APP, "shared.invitations"): "state",
    (APP, "shared.external_accounts"): "metadata",
    (APP, "agreement.brokers"): "name",
    (APP, "agreement.broker_registrations"): "fein",
    (APP, "agreement.referrals"): "status cancel_reason",
    (APP, "agreement.matches"): "state",
    (APP, "agreement.agreements"): "region status",
    (APP, "agreement.disputes"): "outcome note",
    (APP, "agreement.invoices"): "status",
    (VAULT, "agreement.contact_reads"): "consumed_at",
}
REFERRED = {
    (GUARD, "shared.users"): "id",
    (GUARD, "shared.organizations"): "id",
    (GUARD, "shared.environments"): "id organization_id",
    (VAULT, "shared.organizations"): "id",
    (VAULT, "shared.environments"): "id organization_id",
    (VAULT, "agreement.referrals"): "id",
}
DELETED = {(APP, "shared.memberships"), (APP, "shared.external_accounts"), (APP, "vote.votes")}
# What the two that act for others read of their rows.
READ = {
    (GUARD, "shared.users"): "*",
    (GUARD, "shared.organizations"): "*",
    (GUARD, "shared.memberships"): "*",
    (GUARD, "shared.environments"): "*",
    (GUARD, "shared.preview_branches"): "*",
    (GUARD, "shared.platform_admins"): "*",
    (VAULT, "shared.environments"): "id organization_id",
    (VAULT, "agreement.referrals"): "id broker_id",
    (VAULT, "agreement.agreements"): "id referral_id",
    (VAULT, "agreement.contact_reads"): "*",
}
# What neither the service nor the auditor reads: credentials, what is sealed, the grants that open it, and a month
# apart from its table.
CLOSED = re.compile(
    r"apiauth\.|partitions\.|agreement\.contacts\.|secretstore\.(read_grants|master_keys)\.|secretstore\.secret_versions\.(ciphertext|wrapped_key)$"
)
# What is written for the service, and is nobody's business over HTTP.
UNSEEN = re.compile(r"archive\.|shared\.(outbox|audit_log|platform_admins)\.|agreement\.timeline_heads\.")
# For the operator, who is the owner or the guard.
OPERATORS = [
    (OWNER, "shared.grant_platform_admin('a@example.org')"),
    (OWNER, "shared.revoke_platform_admin('a@example.org')"),
    (GUARD, "apiauth.replace_esign_keys('{}')"),
    (VAULT, "secretstore.list_wrapped_keys('', null, 0, 1)"),
    (VAULT, "secretstore.rewrap_keys('', '{}', '{}', '{}', '{}')"),
    (AUDITOR, "shared.record_oracle_results('[]')"),
    (WORKER, "shared.missing_partitions(0)"),
    (WORKER, "shared.make_partition('outbox_2000_01')"),
    (WORKER, "shared.archivable_partitions('-infinity')"),
    (WORKER, "shared.archive_partition('outbox_2000_01')"),
    (WORKER, "shared.count_archived()"),
    (LOGIN, "apiauth.open_identity_session(null, null, null, null, null, null, null, null)"),
]

# What runs with a role's rights: the policies on what it sees, the rules of what it writes, the triggers that it makes
# and those that fire as it, and its functions that others call.
RUN_AS = f"""
with asking as materialized (select %s::regrole::oid as role),
written as (
    select c.oid, c.relowner = a.role as is_own
    from asking as a join pg_class as c on c.relkind in ('r', 'p') and c.relnamespace in {OURS}
    where has_any_column_privilege(a.role, c.oid, 'insert, update') or has_table_privilege(a.role, c.oid, 'delete')
)
select concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
from asking as a join pg_policy as p on p.polroles && array[0, a.role]
union all
select pg_get_constraintdef(c.oid)
from pg_constraint as c left join written as w on w.oid = c.conrelid
where c.contype = 'c' and c.connamespace in {OURS} and (w.oid is not null or c.conrelid = 0)
union all
select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef as d join written as w on w.oid = d.adrelid
union all
select pg_get_indexdef(i.indexrelid) from pg_index as i join written as w on w.oid = i.indrelid
union all
select concat(
    split_part(pg_get_triggerdef(t.oid), 'EXECUTE FUNCTION', 1),
    case when not p.prosecdef then p.prosrc end,
    case when not p.prosecdef and w.is_own then p.oid::regprocedure end
)
from written as w join pg_trigger as t on t.tgrelid = w.oid and not t.tgisinternal join pg_proc as p on p.oid = t.tgfoid
union all
select p.prosrc
from asking as a join pg_proc as p on p.prosecdef and p.proowner = a.role and p.pronamespace in {OURS}
"""


async def granted(stage: Stage, privilege: str) -> set[tuple[str, str, str]]:
    """Return who may do it, beside the owner, to which column of which table."""
    rows = await stage.as_postgres(
        f"select r.rolname::text, c.oid::regclass::text, a.attname::text from pg_class as c "
        "join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
        "cross join pg_roles as r "
        f"where c.relkind in ('r', 'p') and c.relnamespace in {OURS} and r.rolname = any (%s) "
        "and r.oid <> c.relowner and has_column_privilege(r.oid, c.oid, a.attnum, %s)",
        ROLES, privilege,
    )  # fmt: skip
    return {(role, table, column) for role, table, column in rows}


def told(listed: dict[tuple[str, str], str]) -> set[tuple[str, str, str]]:
    return {(*place, column) for place, columns in listed.items() for column in columns.split()}


@keeps("grant")
@pytest.mark.parametrize(("privilege", "listed"), [("INSERT", INSERTED), ("UPDATE", UPDATED), ("REFERENCES", REFERRED)])
async def test_a_role_writes_the_columns_that_it_must_and_no_others(
    stage: Stage, privilege: str, listed: dict[tuple[str, str], str]
) -> None:
    assert await granted(stage, privilege) == told(listed)


@keeps("grant")
@pytest.mark.parametrize("privilege", ["DELETE", "TRUNCATE", "TRIGGER"])
async def test_no_role_takes_rows_away_that_are_not_its_own(stage: Stage, privilege: str) -> None:
    rows = await stage.as_postgres(
        "select r.rolname::text, c.oid::regclass::text from pg_class as c cross join pg_roles as r "
        f"where c.relkind in ('r', 'p') and c.relnamespace in {OURS} and r.rolname = any (%s) "
        "and r.oid <> c.relowner and has_table_privilege(r.oid, c.oid, %s)",
        ROLES, privilege,
    )  # fmt: skip
    assert set(rows) - (DELETED if privilege == "DELETE" else set()) == set()


@keeps("grant", "owner")
async def test_a_role_reads_what_is_open_to_it_and_nothing_else(stage: Stage) -> None:
    columns = await stage.as_postgres(
        "select r.rolname::text, c.oid::regclass::text, a.attname::text from pg_class as c "
        "join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
        "cross join pg_roles as r "
        f"where c.relkind in ('r', 'p') and c.relnamespace in {OURS} and r.rolname = any (%s) and r.oid <> c.relowner",
        ROLES,
    )
    assert await granted(stage, "SELECT") == {each for each in columns if is_open(*each)}


def is_open(role: str, table: str, column: str) -> bool:
    name = f"{table}.{column}"
    if role in {APP, AUDITOR}:
        return not CLOSED.match(name) and not (role == APP and UNSEEN.match(name))
    return READ.get((role, table)) == "*" or column in READ.get((role, table), "").split()


@keeps("execute")
@pytest.mark.parametrize("role", ROLES)
async def test_no_role_executes_what_it_never_calls(stage: Stage, role: str) -> None:
    """Neither does anything that it asks, nor a policy, a rule, a trigger or a function that runs with its rights."""
    functions = await stage.as_postgres(
        "select p.pronamespace::regnamespace || '.' || p.proname, p.prosecdef, p.prosrc, "
        "p.proowner <> %s::regrole and has_function_privilege(%s, p.oid, 'execute') "
        f"from pg_proc as p where p.pronamespace in {OURS}",
        role, role,
    )  # fmt: skip
    text = asked(role) + "".join(rule for (rule,) in await stage.as_postgres(RUN_AS, role))
    called: set[str] = set()
    while new := {name for name, *_ in functions if name not in called and f"{name}(" in text}:
        called |= new
        text = "".join(source for name, is_definer, source, _ in functions if name in new and not is_definer)
    assert {name for name, *_, may in functions if may} - called == set()


def asked(role: str) -> str:
    """Return what a role asks of PostgreSQL."""
    read = [query for domain in queries.ROOT.iterdir() for query in queries.load(domain.name).values()]
    texts = [query.sql for query in read if (query.role or APP) == role]
    texts += [call for operator, call in OPERATORS if operator == role]
    if role == APP:
        texts += ENTRANCES.values()
    if role == AUDITOR:
        texts += [oracle.sql for oracle in oracles.load()]
    return "".join(texts)


@keeps("execute")
@pytest.mark.parametrize(("role", "call"), OPERATORS)
async def test_what_is_anothers_to_call_is_refused_to_the_service(
    stage: Stage, refused: Refused, as_referrer: Actor, role: str, call: str
) -> None:
    async with refused(None, "42501"):
        await as_referrer(f"select * from {call}")
    name = call.partition("(")[0]
    await stage.become("postgres")
    rows = await stage.run(
        "select has_function_privilege(%s, oid, 'execute') from pg_proc "
        "where pronamespace::regnamespace || '.' || proname = %s",
        role, name,
    )  # fmt: skip
    assert rows == [(True,)]


@keeps("execute", "database")
async def test_nobody_executes_or_enters_anything_for_being_somebody(stage: Stage) -> None:
    """Whoever else logs in, and finds the way into a schema, is granted nothing there."""
    await stage.become("postgres")
    await stage.run("create role passer_by")
    assert (
        await stage.run(
            "select nspname::text from pg_namespace "
            f"where oid in {OURS} and has_schema_privilege('passer_by', oid, 'usage, create') "
            "union all select oid::regprocedure::text from pg_proc "
            f"where pronamespace in {OURS} and has_function_privilege('passer_by', oid, 'execute') "
            "union all select oid::regclass::text from pg_class "
            f"where relkind in ('r', 'v', 'p') and relnamespace in {OURS} "
            "and has_any_column_privilege('passer_by', oid, 'select, insert, update, references') "
            "union all select datname::text from pg_database where datname = current_database() "
            "and has_database_privilege('passer_by', oid, 'connect, create, temporary')"
        )
        == []
    )


@keeps("execute")
@pytest.mark.parametrize("owner", [OWNER, GUARD, VAULT])
async def test_a_function_that_is_new_is_nobodys_to_execute(stage: Stage, owner: str) -> None:
    await stage.become("postgres")
    await stage.run(f"grant create on schema shared to {owner}")
    await stage.become(owner)
    await stage.run("create function shared.news() returns integer language sql as 'select 1'")
    await stage.become("postgres")
    assert await stage.run("select has_function_privilege('brokerflow_auditor', 'shared.news()', 'execute')") == [
        (False,)
    ]


@keeps("schema", "database")
@pytest.mark.parametrize("role", [APP, AUDITOR, LOGIN, WORKER])
async def test_who_serves_and_who_watches_make_nothing(stage: Stage, refused: Refused, role: str) -> None:
    schemas = await stage.as_postgres(
        f"select nspname::text from pg_namespace where oid in {OURS} or nspname = 'public'"
    )
    await stage.become(role)
    for (schema,) in schemas:
        async with refused(None, "42501"):
            await stage.run(f"create table {schema}.shadow ()")
    for attempt in ("create temporary table shadow ()", "create schema shadow"):
        async with refused(None, "42501"):
            await stage.run(attempt)


@keeps("row security")
async def test_a_table_that_is_granted_by_mistake_shows_nobody_a_row(given: Given, stage: Stage) -> None:
    """Row security stands behind the grants, also where there is no policy because there is no grant."""
    await populate(given)
    await stage.become("postgres")
    await stage.run("set constraints all immediate")
    tables = await stage.run(TABLES)
    for (table,) in tables:
        async with stage.connection.transaction(force_rollback=True):
            await stage.become("postgres")
            await stage.run(f"grant select on {table} to {LOGIN}")
            await stage.run(f"grant usage on schema {table.partition('.')[0]} to {LOGIN}")
            [[everybodys]] = await stage.run(
                "select count(*) from pg_policy where polrelid = %s::regclass and 0::oid = any (polroles)", table
            )
            await stage.become(LOGIN)
            seen = await stage.run(f"select 1 from {table} limit 1")
            assert seen == [] or everybodys, table


@keeps("row security")
async def test_row_security_binds_the_vault_too(given: Given, stage: Stage) -> None:
    """The vault owns its tables, and still sees what its policy says and no more."""
    await populate(given)
    await stage.become("postgres")
    await stage.run("set constraints all immediate")
    tables = await stage.run(
        f"select c.oid::regclass::text from pg_class as c where c.relkind in ('r', 'p') and c.relnamespace in {OURS} "
        "and c.relowner = 'brokerflow_vault'::regrole order by 1"
    )
    assert tables
    for (table,) in tables:
        async with stage.connection.transaction(force_rollback=True):
            await stage.become("postgres")
            await stage.run(f"drop policy all_vault on {table}")
            await stage.become(VAULT)
            assert await stage.run(f"select 1 from {table} limit 1") == [], table


@keeps("row security")
async def test_where_a_trigger_is_lost_the_policy_behind_it_refuses(
    given: Given, stage: Stage, refused: Refused, as_stranger: Party, as_judge: Party
) -> None:
    """A trigger asks first, so that the refusal has a name; without it there is none, and still no way."""
    referral = await given.referral()
    agreement = await given.agreement("effective", await given.referral())
    dispute = await given.dispute(await given.agreement("effective"))
    await stage.become("postgres")
    await stage.run("set constraints all immediate")
    attempts: list[tuple[Actor, str, str, UUID]] = [
        (as_stranger, "contact_reads", "insert into {} (agreement_id, purpose) values (%s, 'x')", agreement),
        (as_stranger, "invoices", "insert into {} (agreement_id, amount, currency) values (%s, 1, 'USD')", agreement),
        (
            as_stranger,
            "matches",
            "insert into {} (referral_id, candidate_user_id) values (%s, shared.current_user_id())",
            referral,
        ),
        (as_judge, "disputes", "update {} set outcome = 'withdrawn', note = 'so' where id = %s", dispute),
    ]
    for actor, table, attempt, id_ in attempts:
        await stage.become("postgres")
        await stage.run(f"alter table agreement.{table} disable trigger user")
        async with refused(None, "42501"):
            await actor(attempt.format(f"agreement.{table}"), id_)


@keeps("execute")
async def test_a_trigger_is_made_again_by_the_owner_of_its_table(stage: Stage) -> None:
    """As a chapter that comes later and a partition that is added do; but what crosses a boundary is made once."""
    triggers = await stage.as_postgres(
        "select c.relowner::regrole::text, t.tgname, c.oid::regclass::text, pg_get_triggerdef(t.oid) "
        "from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join pg_proc as p on p.oid = t.tgfoid "
        f"where not t.tgisinternal and t.tgparentid = 0 and c.relnamespace in {OURS} "
        "and not (p.prosecdef and p.proowner <> c.relowner)"
    )
    for owner, name, table, definition in triggers:
        await stage.become(owner)
        await stage.run(f"drop trigger {name} on {table}")
        await stage.run(definition)


@keeps("function")
async def test_a_trigger_that_crosses_a_boundary_acts_as_the_owner_of_its_table(stage: Stage) -> None:
    """Or as the owner of the schema it stands in, where that is another's; and as nobody mightier."""
    rows = await stage.as_postgres(
        "select p.oid::regprocedure::text, p.proowner::regrole::text from pg_trigger as t "
        "join pg_proc as p on p.oid = t.tgfoid join pg_class as c on c.oid = t.tgrelid "
        f"where p.prosecdef and p.pronamespace in {OURS} and p.pronamespace = c.relnamespace "
        "and p.proowner <> c.relowner"
    )
    assert rows == []
