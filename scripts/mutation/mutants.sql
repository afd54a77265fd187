-- Every mutant of a migrated database: what of its catalog could be lost or weakened, and the statement that does it.
--
-- kind: what sort of object; object: its name; change: what becomes of it; statement: the DDL, as a superuser; words: the
-- names by which tests speak of it, the most telling first. Nothing is listed by hand: a new chapter has its mutants.

with
schemas as (
    select n.oid, n.nspname::text as name, n.nspacl, n.nspowner
    from pg_namespace as n
    where starts_with(n.nspowner::regrole::text, 'brokerflow_')
),
roles as (
    select r.oid, r.rolname::text as name
    from pg_roles as r
    where r.rolname in ('brokerflow_app', 'brokerflow_auditor', 'brokerflow_guard', 'brokerflow_vault', 'brokerflow_owner')
        or exists (
            select from pg_class as c, aclexplode(c.relacl) as a
            where c.relnamespace in (select s.oid from schemas as s) and a.grantee = r.oid
        )
),
tables as (
    select c.oid, format('%I.%I', s.name, c.relname) as name, s.name as schema, c.relname::text as bare,
        c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity
    from pg_class as c
    join schemas as s on s.oid = c.relnamespace
    -- A partition is as its table is: O9 compares them.
    where c.relkind in ('r', 'p') and not c.relispartition
),
functions as (
    select p.oid, format('%I.%I(%s)', s.name, p.proname, pg_get_function_identity_arguments(p.oid)) as name,
        format('%s %s', case p.prokind when 'p' then 'procedure' else 'function' end, p.oid::regprocedure) as signature,
        s.name as schema, p.proname::text as bare, p.proowner, p.proacl, p.prosecdef, p.proconfig, p.prosrc,
        p.prorettype = 'trigger'::regtype as is_trigger,
        p.prolang = (select l.oid from pg_language as l where l.lanname = 'plpgsql') as is_plpgsql
    from pg_proc as p
    join schemas as s on s.oid = p.pronamespace
    where p.prokind in ('f', 'p')
)

-- Constraints. What refers to a key goes with it.
select 'constraint' as kind, format('%s %I', t.name, c.conname) as object, 'dropped' as change,
    format('alter table %s drop constraint %I cascade', t.name, c.conname) as statement,
    array[c.conname::text, t.bare] as words
from pg_constraint as c
join tables as t on t.oid = c.conrelid
where c.contype in ('c', 'f', 'p', 'u', 'x') and c.conparentid = 0

union all
select 'constraint', format('domain %s %I', c.contypid::regtype, c.conname), 'dropped',
    format('alter domain %s drop constraint %I', c.contypid::regtype, c.conname),
    array[c.conname::text, split_part(c.contypid::regtype::text, '.', 2)]
from pg_constraint as c
where c.contypid <> 0 and c.contype = 'c' and c.connamespace in (select s.oid from schemas as s)

union all
select 'not null', format('%s.%I', t.name, a.attname), 'dropped',
    format('alter table %s alter %I drop not null', t.name, a.attname), array[a.attname::text, t.bare]
from pg_attribute as a
join tables as t on t.oid = a.attrelid
where a.attnum > 0 and not a.attisdropped and a.attnotnull and a.attidentity = ''
    -- In the archive rows arrive with their table. A generated column is as null as its expression; and a primary key says so too.
    and t.schema <> 'archive'
    and a.attgenerated = ''
    and not exists (select from pg_index as i where i.indrelid = t.oid and i.indisprimary and a.attnum = any (i.indkey::smallint[]))

union all
select 'unique index', format('%I.%I', t.schema, c.relname), 'dropped',
    format('drop index %I.%I', t.schema, c.relname), array[c.relname::text, t.bare]
from pg_index as i
join pg_class as c on c.oid = i.indexrelid
join tables as t on t.oid = i.indrelid
where i.indisunique and not exists (select from pg_constraint as k where k.conindid = i.indexrelid)

union all
-- Of a whole statement each partition has its own.
select 'trigger', format('%s %I', t.name, g.tgname), 'disabled', concat_ws(
        '; ', format('alter table %s disable trigger %I', t.name, g.tgname), (
            select string_agg(format('alter table %s disable trigger %I', p.tgrelid::regclass, p.tgname), '; ')
            from pg_trigger as p
            join pg_inherits as i on i.inhrelid = p.tgrelid and i.inhparent = t.oid
            where p.tgname = g.tgname and p.tgparentid = 0
        )
    ), array[g.tgname::text, t.bare]
from pg_trigger as g
join tables as t on t.oid = g.tgrelid
where not g.tgisinternal and g.tgparentid = 0

-- Policies: gone, or open to every row.
union all
select 'policy', format('%s %I', t.name, p.polname), m.change, format(m.statement, p.polname, t.name),
    array[t.bare, p.polname::text, 'row security']
from pg_policy as p
join tables as t on t.oid = p.polrelid
cross join (
    values
        ('dropped', 'drop policy %I on %s'),
        ('using true', 'alter policy %I on %s using (true)'),
        ('with check true', 'alter policy %I on %s with check (true)')
) as m (change, statement)
where case m.change
    when 'using true' then pg_get_expr(p.polqual, p.polrelid) <> 'true'
    when 'with check true' then pg_get_expr(p.polwithcheck, p.polrelid) <> 'true'
    else true
end

union all
select 'row security', t.name, m.change, format('alter table %s %s row level security', t.name, m.verb), array[t.bare]
from tables as t
cross join (values ('disabled', 'disable'), ('not forced', 'no force')) as m (change, verb)
where case m.change when 'disabled' then t.relrowsecurity else t.relforcerowsecurity end

-- Grants on tables and columns: taken away, or wider than they were.
union all
select 'grant', format('%s on %s to %s', lower(a.privilege_type), t.name, a.grantee::regrole), 'revoked',
    format('revoke %s on %s from %s', a.privilege_type, t.name, a.grantee::regrole), array[t.bare, a.grantee::regrole::text]
from tables as t
cross join aclexplode(t.relacl) as a
where a.grantee not in (0, t.relowner)

union all
select 'grant', format('%s (%I) on %s to %s', lower(g.privilege_type), a.attname, t.name, g.grantee::regrole), 'revoked',
    format('revoke %s (%I) on %s from %s', g.privilege_type, a.attname, t.name, g.grantee::regrole),
    array[a.attname::text, t.bare, g.grantee::regrole::text]
from pg_attribute as a
join tables as t on t.oid = a.attrelid
cross join aclexplode(a.attacl) as g
where a.attnum > 0 and not a.attisdropped and g.grantee not in (0, t.relowner)

union all
select 'grant', format('%s on %s to %s', lower(w.privilege), t.name, r.name), 'added',
    format('grant %s on %s to %s', w.privilege, t.name, r.name), array[t.bare, r.name]
from tables as t
cross join roles as r
cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) as w (privilege)
where r.oid <> t.relowner and not has_table_privilege(r.oid, t.oid, w.privilege)
    -- To the service each right apart; the others have no login.
    and (r.name = 'brokerflow_app' or w.privilege in ('SELECT', 'UPDATE'))

-- Functions: who may execute each, and as whom and in which search path it runs.
union all
select 'execute', format('%s to %s', f.name, a.grantee::regrole), 'revoked',
    format('revoke execute on %s from %s', f.signature, a.grantee::regrole), array[f.bare]
from functions as f
cross join aclexplode(f.proacl) as a
where a.grantee not in (0, f.proowner)

union all
select 'execute', format('%s to %s', f.name, r.name), 'added',
    format('grant execute on %s to %s', f.signature, r.name), array[f.bare, r.name]
from functions as f
cross join (
    select 'public' as name union all select 'brokerflow_app'
) as r
where not has_function_privilege(r.name, f.oid, 'execute')

union all
select 'execute', format('new functions of %s to public', d.defaclrole::regrole), 'added',
    format('alter default privileges for role %s grant execute on functions to public', d.defaclrole::regrole),
    array['default', d.defaclrole::regrole::text]
from pg_default_acl as d
where d.defaclobjtype = 'f' and d.defaclnamespace = 0

union all
select 'function', f.name, 'as its caller', format('alter %s security invoker', f.signature), array[f.bare]
from functions as f
where f.prosecdef

-- Where there is a table to reach, and somebody else who calls.
union all
select 'function', f.name, 'as its owner', format('alter %s security definer', f.signature), array[f.bare]
from functions as f
where not f.prosecdef
    and (f.is_trigger or exists (select from aclexplode(f.proacl) as a where a.grantee <> f.proowner))
    and f.prosrc ~* format('\m(from|into|update|join|table|using)\s+(%s)\.\w+\M(?!\()', (select string_agg(s.name, '|') from schemas as s))

union all
select 'function', f.name, 'without its ' || split_part(c.setting, '=', 1),
    format('alter %s reset %s', f.signature, split_part(c.setting, '=', 1)), array[f.bare]
from functions as f
cross join unnest(f.proconfig) as c (setting)
-- What runs as its caller and is SQL through and through, its caller could as well write himself.
where (f.prosecdef or f.is_plpgsql)
    -- How a statement is planned is a matter of speed, which tests/plans holds.
    and not starts_with(c.setting, 'plan_cache_mode=')

union all
select 'function', f.name, 'owned by ' || r.name, format('alter %s owner to %s', f.signature, r.name), array[f.bare]
from functions as f
join roles as r on r.name = case f.proowner::regrole::text when 'brokerflow_owner' then 'brokerflow_guard' else 'brokerflow_owner' end
where f.prosecdef

-- Tables in other hands than those that may read them, and the doors of the schemas.
union all
select 'owner', t.name, 'owned by brokerflow_owner', format('alter table %s owner to brokerflow_owner', t.name), array[t.bare]
from tables as t
where t.relowner <> 'brokerflow_owner'::regrole

union all
select 'schema', format('%s on %s to %s', lower(a.privilege_type), s.name, a.grantee::regrole), 'revoked',
    format('revoke %s on schema %I from %s', a.privilege_type, s.name, a.grantee::regrole), array[s.name]
from schemas as s
cross join aclexplode(s.nspacl) as a
where a.grantee not in (0, s.nspowner) and a.privilege_type = 'USAGE'

union all
select 'schema', format('create on %s to %s', s.name, r.name), 'added',
    format('grant create on schema %I to %s', s.name, r.name), array[s.name, r.name]
from schemas as s
cross join roles as r
where r.name in ('brokerflow_app', 'brokerflow_auditor') and not has_schema_privilege(r.oid, s.oid, 'create')

union all
select 'database', w.change, 'added', format('grant %s on database %I to %s', w.privilege, current_database(), w.grantee),
    array[lower(w.privilege)]
from (
    values
        ('temporary tables to brokerflow_app', 'TEMPORARY', 'brokerflow_app'),
        ('create to brokerflow_app', 'CREATE', 'brokerflow_app'),
        ('connect to public', 'CONNECT', 'public')
) as w (change, privilege, grantee)

order by 1, 2, 3
