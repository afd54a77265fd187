"""What a login of the service's role can do beyond its functions: nothing, whatever PostgreSQL offers."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from tests.oracles.conftest import ORACLES, answer
from tests.schema.stage import APP, Given, Stage, World
from tests.schema.test_a09_tenants import SCHEMAS, TABLES, Outside, populate
from tests.schema.test_privileges import DELETED

DENIED = "42501"
# One script tries them all, and tells which were not denied.
SCRIPT = Path(__file__).with_name("attacks.sql").read_text()
# What there is to be attacked, and how: {} is the name of one.
FUNCTIONS = f"select oid::regprocedure::text from pg_proc where pronamespace::regnamespace::text in {SCHEMAS}"
ROLES = "select quote_ident(rolname) from pg_roles where rolname <> 'brokerflow_app'"
ATTACKS = {
    ROLES: ["set role {}", "set local role {}", "set session authorization {}", "drop role {}"],
    TABLES: [
        "truncate {}", "drop table {}", "alter table {} disable trigger all",
        "alter table {} disable row level security",
        "alter table {} owner to brokerflow_app", "alter table {} add column x int", "comment on table {} is 'x'",
        "create index on {} ((1))", "create rule r as on update to {} do instead nothing",
        "create policy p on {} using (true)", "create temporary table t (like {})",
        "create trigger t before update on {} execute function shared.refuse_change()",
        "create table public.t () inherits ({})", "create view public.v as table {}",
        "create statistics public.s on (1) from {}", "create publication p for table {}", "cluster {}",
    ],
    FUNCTIONS: [
        "drop function {}", "alter function {} owner to brokerflow_app", "alter function {} security definer",
        "alter function {} reset all", "alter function {} leakproof",
    ],
    "select nspname::text from pg_namespace where nspname !~ '^pg_(toast|temp)'": [
        "drop schema {} cascade", "alter schema {} rename to x", "create table {}.t ()",
        "create function {}.f() returns int language sql as 'select 1'", "create domain {}.d as int",
        "create operator {}.=== (function = int4eq, leftarg = int4, rightarg = int4)", "create sequence {}.s",
        "create type {}.t as enum ()", 'create collation {}.c from "C"',
    ],
}  # fmt: skip
SINGLE = """
create event trigger e on ddl_command_start execute function shared.refuse_change()
create foreign data wrapper w
create cast (uuid as integer) without function
create access method m type table handler heap_tableam_handler
create schema s
create role r
alter role brokerflow_app superuser
alter role brokerflow_app bypassrls
alter role brokerflow_app set brokerflow.actor = 'x'
alter role all set search_path = 'x'
alter default privileges for role brokerflow_owner grant select on tables to brokerflow_app
reassign owned by brokerflow_owner to brokerflow_app
drop owned by brokerflow_owner
load 'passwordcheck'
set session_replication_role to replica
set local session_replication_role to replica
set log_statement to 'all'
set log_parameter_max_length to -1
set zero_damaged_pages to on
set allow_system_table_mods to on
set plpgsql.variable_conflict to use_variable
copy shared.axioms to '/tmp/x'
copy shared.axioms to program 'cat'
copy shared.axioms from '/etc/passwd'
copy shared.axioms from program 'id'
copy apiauth.passwords to stdout
copy agreement.contacts to stdout
copy agreement.timeline_events from stdin
select pg_read_file('/etc/passwd')
select pg_read_binary_file('/etc/passwd')
select pg_stat_file('/etc/passwd')
select pg_ls_dir('/')
select pg_ls_logdir()
select lo_import('/etc/passwd')
select lo_export(1, '/tmp/x')
select pg_reload_conf()
select pg_rotate_logfile()
select pg_switch_wal()
select pg_create_restore_point('x')
select pg_create_physical_replication_slot('x')
select pg_create_logical_replication_slot('x', 'pgoutput')
select pg_replication_origin_create('x')
select pg_logical_slot_get_changes('x', null, null)
select set_config('role', 'brokerflow_guard', false)
select set_config('session_authorization', 'brokerflow_guard', false)
select rolpassword from pg_authid
select passwd from pg_shadow
select * from pg_statistic
select * from pg_hba_file_rules
select * from pg_file_settings
select stxdmcv from pg_statistic_ext_data
do $$ begin execute 'set role brokerflow_owner'; end $$
do $$ begin perform apiauth.seal_of('x', null); end $$
do language plpgsql $$ begin execute 'create temporary table t ()'; end $$
"""
# Settings that anybody may change and that are no switches.
SETTINGS = {
    "datestyle": "ISO, DMY", "timezone": "Pacific/Kiritimati", "bytea_output": "escape",
    "extra_float_digits": "-15", "work_mem": "64kB", "plan_cache_mode": "force_generic_plan", "jit_above_cost": "0",
    "constraint_exclusion": "on", "join_collapse_limit": "1", "from_collapse_limit": "1", "random_page_cost": "0",
    "cursor_tuple_fraction": "0", "backslash_quote": "off", "xmlbinary": "hex", "client_min_messages": "error",
    "default_toast_compression": "pglz", "plpgsql.extra_warnings": "all", "min_parallel_table_scan_size": "0",
}  # fmt: skip
# Not in a transaction; and what is not installed cannot be refused for any other reason.
OUTSIDE = """
create database d
create tablespace t location '/tmp'
create subscription s connection 'host=127.0.0.1' publication p
alter system set log_statement = 'all'
vacuum full agreement.agreements
"""
ABSENT = ["create extension dblink", "create extension postgres_fdw", "create language plpython3u"]
GRANTS = (
    "select format('grant all on %s to public', c.oid::regclass) from pg_class as c "
    f"where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in {SCHEMAS} "
    "union all select format('grant execute on function %s to public', p.oid::regprocedure) from pg_proc as p "
    f"where p.pronamespace::regnamespace::text in {SCHEMAS} "
    "union all select format('grant all on schema %s to public', n.oid::regnamespace) from pg_namespace as n "
    "union all select format('grant %I to brokerflow_app', r.rolname) from pg_roles as r "
    "where r.rolname ~ '^brokerflow_' and r.rolname <> 'brokerflow_app'"
)
GRANTED = (
    "select 'table', oid, relacl::text from pg_class union all select 'function', oid, proacl::text from pg_proc "
    "union all select 'schema', oid, nspacl::text from pg_namespace "
    "union all select 'member', roleid, member::text from pg_auth_members order by 1, 2, 3"
)


@pytest.fixture
async def login(enter_from_outside: Outside) -> AsyncIterator[Stage]:
    """A login of the service's own role, in a transaction whose actor a stranger proved; it is rolled back."""
    async with enter_from_outside() as stage:
        await stage.as_stranger.enter()
        yield stage


async def outcome(login: Stage, attack: str) -> str:
    """Return the SQLSTATE of a refusal, or none."""
    try:
        async with login.connection.transaction(force_rollback=True):
            await login.run(attack)
    except psycopg.Error as error:
        return error.sqlstate or str(error)
    return ""


async def test_everything_there_is_can_be_altered_by_nobody_who_serves(login: Stage) -> None:
    tried = [
        attack.format(name)
        for names, attacks in ATTACKS.items()
        for (name,) in await login.run(names)
        for attack in attacks
    ]
    assert len(tried) > 1_000
    await login.run("select set_config('adversary.calls', %s, true)", json.dumps(tried))
    await login.run(SCRIPT)
    assert await login.run("select current_setting('adversary.told')::jsonb") == [([],)]


async def test_no_power_of_the_server_is_the_services(login: Stage) -> None:
    told = {attack: await outcome(login, attack) for attack in SINGLE.strip().splitlines()}
    assert {attack: state for attack, state in told.items() if state != DENIED} == {}
    assert {await outcome(login, attack) for attack in ABSENT} <= {DENIED, "0A000"}


async def test_nor_outside_of_a_transaction(world: World) -> None:
    async with await AsyncConnection.connect(world.app_url, autocommit=True) as connection:
        for attack in OUTSIDE.strip().splitlines():
            if attack.startswith("vacuum"):  # a warning, and nothing done
                await connection.execute(attack.encode())
                continue
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(attack.encode())


async def test_a_grant_of_what_one_was_not_given_gives_nothing(login: Stage) -> None:
    """PostgreSQL only warns of most."""
    before = await login.run(GRANTED)
    for (grant,) in await login.run(GRANTS):
        try:
            async with login.connection.transaction():
                await login.run(grant)
        except psycopg.errors.InsufficientPrivilege:
            continue
    assert await login.run(GRANTED) == before


async def test_a_login_stays_who_it_is(login: Stage) -> None:
    """What PostgreSQL lets anybody say changes nothing of what he may."""
    who = "select current_user::text, session_user::text, rolsuper from pg_roles where rolname = current_user"
    for harmless in ("reset role", "set role none", "reset session authorization", "set session authorization default"):
        await login.run(harmless)
        assert await login.run(who) == [(APP, APP, False)]


async def test_only_what_may_be_deleted_from_can_be_locked(login: Stage) -> None:
    """LOCK asks for a privilege on the whole table, which the service has where it may delete."""
    tables = {table for (table,) in await login.run(TABLES)}
    locked = {
        table
        for table in tables
        for mode in ("access exclusive", "exclusive", "share")
        if await outcome(login, f"lock table {table} in {mode} mode nowait") != DENIED
    }
    assert locked == {table for role, table in DELETED if role == APP}


async def test_there_is_no_counter_to_exhaust(login: Stage) -> None:
    """Rows count by themselves: a sequence of ours, or one that may be read or set, would be everybody's to spend."""
    sequences = (
        "select oid::regclass::text from pg_class where relkind = 'S' "
        f"and (relnamespace::regnamespace::text in {SCHEMAS} or has_sequence_privilege(oid, 'usage, select, update'))"
    )
    assert await login.run(sequences) == []


async def test_nothing_shadows_what_the_functions_name(login: Stage, given: Given) -> None:
    """The path of the session is the attacker's, that of the functions is not."""
    await login.run("set local search_path = pg_temp, agreement, shared, apiauth, public")
    for temporary in ("table agreements ()", "view v as select 1", "sequence s"):
        assert await outcome(login, f"create temporary {temporary}") == DENIED
    assert (
        await outcome(login, "create function pg_temp.clock() returns timestamptz language sql as 'select now()'")
        == DENIED
    )
    assert await login.as_stranger.value("select shared.current_user_id()") == login.people["stranger"].user_id
    agreement = await login.given.agreement("effective")
    assert await login.as_referee("select status from agreement.agreements where id = %s", agreement) == [
        ("effective",)
    ]


async def test_no_function_has_a_backslash_whose_meaning_is_the_sessions(login: Stage) -> None:
    assert await login.run(f"{FUNCTIONS} and position('\\' in prosrc) > 0") == []


async def test_every_switch_of_the_session_turned_leaves_no_violation(stage: Stage, given: Given) -> None:
    """Every boolean setting that anybody may change is the other way round, days come first, times are far away."""
    await stage.become(APP)
    switches = await stage.run(
        "select name, case setting when 'on' then 'off' else 'on' end from pg_settings "
        "where context = 'user' and vartype = 'bool' and not name = any (%s)",
        [
            "row_security",
            "transaction_read_only",
            "default_transaction_read_only",
            "transaction_deferrable",
            "exit_on_error",
        ],
    )
    assert len(switches) > 40
    for name, value in [*switches, *SETTINGS.items()]:
        await stage.run("select set_config(%s, %s, true)", name, value)
    await populate(given)
    await stage.run("reset all")
    for oracle in ORACLES.values():
        assert (oracle.id, await answer(stage, oracle)) == (oracle.id, [])
