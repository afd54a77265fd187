"""What the catalog must show: row security, comments, search paths, grants, indexes under foreign keys."""

import re

from tests.architecture.conftest import Ask

ROLES = (
    "brokerflow_owner", "brokerflow_guard", "brokerflow_vault", "brokerflow_app", "brokerflow_worker",
    "brokerflow_login", "brokerflow_auditor",
)  # fmt: skip
VAULTED = (
    "agreement.contacts", "secretstore.master_keys", "secretstore.read_grants",
    "secretstore.secret_versions", "secretstore.secrets",
)  # fmt: skip
FUNCTIONS = """
select p.oid::regprocedure::text, p.prosecdef, l.lanname, coalesce(p.proconfig, '{}'), p.prosrc,
    p.prorettype = 'trigger'::regtype, obj_description(p.oid, 'pg_proc')
from pg_proc as p
join pg_language as l on l.oid = p.prolang
where p.pronamespace::regnamespace::text = any (%(ours)s)
order by 1
"""
COMMENTS = "select objoid, description from pg_description where description like 'Axiom%%'"
# What is refused without an object of its name: each is a question that an entrance, a policy or a command asks.
QUESTIONS = {
    "credential_authenticates",  # an entrance: who is it?
    "actor_is_member",  # an entrance: of that organization?
    "branch_is_live",  # an entrance: which branch of a PREVIEW environment?
    "branch_of_preview",  # an entrance: has it branches at all?
    "actor_is_person",  # a policy, a command: is it a person, where a person is recorded?
    "credential_scope",  # a policy: does the token bear the scope?
    "member_role",  # a policy: may the role use it?
    "not_found",  # a command: what is not the caller's does not exist
    "agreements_version_matches",  # a command: is it still what the caller saw?
    "secrets_version_matches",  # likewise
}
# Their function serves two triggers, or is named for its deed where the trigger is named for the refusal.
NAMED_APART = {
    "agreements_tell_created": "agreements_tell_timeline",
    "agreements_tell_moved": "agreements_tell_timeline",
    "agreements_zz_stamp": "agreements_stamp",
    "matches_on_open_referral": "matches_accepting_agrees",
}


def test_every_table_has_row_security(ask: Ask) -> None:
    rows = ask(
        "select oid::regclass::text, relrowsecurity, relforcerowsecurity from pg_class "
        "where relkind in ('r', 'p') and relnamespace::regnamespace::text = any (%(ours)s) order by 1"
    )
    assert len(rows) > 25
    assert [name for name, is_secured, _ in rows if not is_secured] == []
    assert [name for name, _, is_forced in rows if is_forced] == list(VAULTED)


def test_no_view_runs_as_its_owner(ask: Ask) -> None:
    views = ask(
        "select oid::regclass::text from pg_class where relkind in ('v', 'm') "
        "and relnamespace::regnamespace::text = any (%(ours)s) "
        "and not coalesce(reloptions @> '{security_invoker=true}', false)"
    )
    assert views == []


def test_every_policy_is_of_one_command_and_named_for_it(ask: Ask) -> None:
    commands = {"r": "select", "a": "insert", "w": "update", "d": "delete", "*": "all"}
    policies = ask(
        "select polrelid::regclass::text, polname, polcmd::text, array(select case r when 0 then 'public' else "
        "r::regrole::text end from unnest(polroles) as r), polpermissive from pg_policy"
    )
    assert len(policies) > 50
    for table, name, command, roles, is_permissive in policies:
        assert is_permissive
        assert name.startswith(f"{commands[command]}_"), f"{name} on {table}"
        assert (
            roles == ["public"] if name == "select_anyone" and table != "agreement.brokers" else "public" not in roles
        )
        assert command != "*" or (table, name) in {(vaulted, "all_vault") for vaulted in VAULTED}


def test_policies_ask_for_the_actor_once_a_statement(ask: Ask) -> None:
    asked = r"(?<!SELECT )shared\.(acting_organization|current_\w+)\("
    policies = ask(
        "select polrelid::regclass::text, polname, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) "
        "from pg_policy"
    )
    assert len(policies) > 50
    for table, name, using, check in policies:
        for expression in (using or "", check or ""):
            bare = re.search(asked, expression.replace("SELECT (shared", "SELECT shared"))
            assert bare is None, f"{name} on {table}: {expression}"


def test_every_function_that_could_be_misled_has_an_empty_search_path(ask: Ask) -> None:
    exposed = [
        name
        for name, is_definer, language, settings, *_ in ask(FUNCTIONS)
        if (is_definer or language == "plpgsql") and 'search_path=""' not in (settings or [])
    ]
    assert exposed == []


def test_every_definer_function_says_what_it_crosses(ask: Ask) -> None:
    definers = [row for row in ask(FUNCTIONS) if row[1]]
    assert len(definers) > 20
    silent = [name for name, *_, comment in definers if not re.search(r"Cross(es)? |Axiom A\d+: ", comment or "")]
    # Their comments say what they answer; the note above each in sql/schema says what it crosses.
    assert set(silent) <= {
        "shared.write_audit(text,text,text,text,jsonb,text)", "shared.member_role_in(uuid)",
        "shared.find_user_by_email(text)", "apiauth.list_personal_tokens(uuid,integer)",
    }  # fmt: skip


def test_nobody_but_the_named_executes_a_function(ask: Ask) -> None:
    public = ask(
        "select p.oid::regprocedure::text from pg_proc as p "
        "where p.pronamespace::regnamespace::text = any (%(ours)s) "
        "and has_function_privilege('public', p.oid, 'execute')"
    )
    assert public == []


def test_no_trigger_function_is_granted_to_the_service(ask: Ask) -> None:
    granted = ask(
        "select p.oid::regprocedure::text from pg_proc as p where p.pronamespace::regnamespace::text = any (%(ours)s) "
        "and p.prorettype = 'trigger'::regtype and has_function_privilege('brokerflow_app', p.oid, 'execute')"
    )
    assert granted == []


def test_every_foreign_key_says_what_a_deletion_does_and_has_an_index(ask: Ask) -> None:
    keys = ask(
        """
        select c.conname, c.confdeltype::text, exists (
            select from pg_index as i
            where i.indrelid = c.conrelid
                and (i.indkey::smallint[])[0:cardinality(c.conkey) - 1] @> c.conkey
                and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) ~ 'IS NOT NULL')
        )
        from pg_constraint as c
        where c.contype = 'f' and c.connamespace::regnamespace::text = any (%(ours)s)
        """
    )
    assert len(keys) > 25
    assert [name for name, deletion, _ in keys if deletion == "a"] == [], "on delete is not stated"
    assert [name for name, _, is_indexed in keys if not is_indexed] == [], "no index leads with its columns"


def test_no_check_is_anonymous(ask: Ask) -> None:
    names = ask(
        "select conname from pg_constraint where contype = 'c' and connamespace::regnamespace::text = any (%(ours)s)"
    )
    assert [name for (name,) in names if re.search(r"_check\d*$", name)] == []


def test_the_names_of_constraints_triggers_and_indexes_are_unique(ask: Ask) -> None:
    """A refusal is told apart by its constraint's name alone."""
    twice = ask(
        "select name from ("
        "select conname as name from pg_constraint "
        "where connamespace::regnamespace::text = any (%(ours)s) and contype <> 't'"
        " union all select tgname from pg_trigger as t join pg_class as c on c.oid = t.tgrelid "
        "where not tgisinternal and relnamespace::regnamespace::text = any (%(ours)s)"
        ") as n group by name having count(*) > 1"
    )
    assert twice == []


def test_a_trigger_and_its_function_share_a_name(ask: Ask) -> None:
    rows = ask(
        "select t.tgname, p.proname, obj_description(t.oid, 'pg_trigger') from pg_trigger as t "
        "join pg_proc as p on p.oid = t.tgfoid where not t.tgisinternal and t.tgparentid = 0"
    )
    apart = {
        trigger: function
        for trigger, function, _ in rows
        if function not in {trigger, "refuse_change", "refuse_impersonator"}
    }
    assert apart == NAMED_APART
    assert [trigger for trigger, _, comment in rows if comment is None] == []


def test_tables_functions_and_types_are_commented(ask: Ask) -> None:
    silent = ask(
        """
        select c.oid::regclass::text from pg_class as c
        where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text = any (%(ours)s)
            and obj_description(c.oid, 'pg_class') is null
        union all
        select n::text from unnest(%(ours)s) as n where obj_description(n::regnamespace, 'pg_namespace') is null
        union all
        select p.oid::regprocedure::text from pg_proc as p
        where p.pronamespace::regnamespace::text = any (%(ours)s) and obj_description(p.oid, 'pg_proc') is null
            -- What a trigger's function does is told by its trigger.
            and p.prorettype <> 'trigger'::regtype
            and p.proname not in ('current_user_name')
        """
    )
    assert silent == []


def test_comments_of_axioms_are_well_formed(ask: Ask) -> None:
    axioms = {name for (name,) in ask("select id from shared.axioms")}
    named = set()
    for _, comment in ask(COMMENTS):
        told = re.fullmatch(r"Axiom (A\d+): [^A-Z].*\.", comment, re.DOTALL)
        assert told, comment
        named.add(told[1])
    assert named == axioms


def test_every_refusal_names_what_refuses(ask: Ask) -> None:
    objects = {
        name
        for (name,) in ask(
            "select conname from pg_constraint union select tgname from pg_trigger union select proname from pg_proc "
            "where pronamespace::regnamespace::text = any (%(ours)s) "
            "union select relname from pg_class where relkind = 'i'"
        )
    }
    told = set()
    for name, *_, source, _, _ in ask(FUNCTIONS):
        told |= set(re.findall(r"shared\.refuse\(\s*'(\w+)'", source)) | set(
            re.findall(r"constraint = '(\w+)'", source)
        )
        assert not re.search(r"\braise\s+exception\b(?!\s+using)", source), f"{name} raises without a proposition"
    assert told - objects == QUESTIONS


def test_the_service_writes_columns_and_deletes_what_leaves_no_trace_only(ask: Ask) -> None:
    grants = ask(
        "select c.oid::regclass::text, a.grantee::regrole::text, a.privilege_type, a.is_grantable from pg_class as c, "
        "aclexplode(c.relacl) as a where c.relnamespace::regnamespace::text = any (%(ours)s) "
        "and a.grantee <> c.relowner"
    )
    assert {(table, role, right) for table, role, right, _ in grants if right != "SELECT"} == {
        ("shared.memberships", "brokerflow_app", "DELETE"),
        ("shared.external_accounts", "brokerflow_app", "DELETE"),
        ("vote.votes", "brokerflow_app", "DELETE"),
    }
    assert not [row for row in grants if row[3]]


def test_what_nobody_may_write_is_granted_to_nobody(ask: Ask) -> None:
    readable = ask(
        "select c.oid::regclass::text from pg_class as c where c.relkind in ('r', 'p') "
        "and c.relnamespace::regnamespace::text = any (%(ours)s) "
        "and not has_any_column_privilege('brokerflow_app', c.oid, 'select, insert, update, references')"
    )
    assert {name for (name,) in readable} == {
        "apiauth.seal_keys", "apiauth.root_keys", "apiauth.passwords", "apiauth.sessions", "apiauth.personal_tokens",
        "apiauth.organization_tokens", "apiauth.environment_keys", "apiauth.used_jwts", "apiauth.rate_buckets",
        "apiauth.esign_keys", "apiauth.key_halves", "apiauth.identities", "apiauth.device_codes", "apiauth.logouts",
        "apiauth.ended_tickets",
        "apiauth.impersonations", "secretstore.master_keys", "secretstore.read_grants",
        "agreement.contacts", "agreement.timeline_heads", "shared.outbox", "shared.audit_log", "shared.platform_admins",
    }  # fmt: skip


def test_every_grant_to_write_stands_behind_a_policy(ask: Ask) -> None:
    bare = ask(
        """
        select c.oid::regclass::text, r.name, w.command
        from pg_class as c
        cross join unnest(%(roles)s::text[]) as r (name)
        cross join (values ('a', 'insert'), ('w', 'update'), ('r', 'select')) as w (command, privilege)
        where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text = any (%(ours)s)
            and c.relowner <> r.name::regrole
            and has_any_column_privilege(r.name, c.oid, w.privilege)
            and not exists (
                select from pg_policy as p
                where p.polrelid = c.oid and p.polcmd::text in (w.command, '*')
                    and (0::oid = any (p.polroles) or r.name::regrole = any (p.polroles))
            )
        """,
        roles=list(ROLES),
    )
    assert bare == []


def test_our_roles_are_no_more_than_they_are_said_to_be(ask: Ask) -> None:
    rows = ask(
        "select rolname, rolcanlogin, rolsuper or rolbypassrls or rolcreatedb or rolcreaterole or rolreplication "
        "from pg_roles where rolname = any (%(roles)s)",
        roles=list(ROLES),
    )
    assert {name for name, *_ in rows} == set(ROLES)
    assert [name for name, _, is_mighty in rows if is_mighty] == []
    assert {name for name, can_log_in, _ in rows if can_log_in} == {
        "brokerflow_app", "brokerflow_worker", "brokerflow_login",
    }  # fmt: skip


def test_no_role_of_ours_is_a_member_of_another(ask: Ask) -> None:
    members = ask(
        "select member::regrole::text, roleid::regrole::text from pg_auth_members "
        "where member::regrole::text = any (%(roles)s)",
        roles=list(ROLES),
    )
    assert members == []


def test_nobody_else_connects_or_creates(ask: Ask) -> None:
    for schema in ("shared", "apiauth", "secretstore", "agreement", "vote", "public"):
        [[may_create]] = ask("select has_schema_privilege('brokerflow_app', %(schema)s, 'create')", schema=schema)
        assert not may_create, schema
    public = ask(
        "select n.nspname from pg_namespace as n, aclexplode(n.nspacl) as a "
        "where n.nspname = any (%(ours)s) and a.grantee = 0"
    )
    assert public == []
