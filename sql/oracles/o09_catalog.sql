-- O9: What enforces the axioms is missing, disabled or altered.
-- axioms: all
--
-- Compares the catalog with sql/oracles/manifest.json, which scripts/generate writes from the migrated schema. With
-- psql: \set manifest `cat sql/oracles/manifest.json`, then \i this file. Indexes for speed, comments and who else may
-- log in are not compared; everything that decides what is allowed is, on PostgreSQL 15 to 18 alike. Partitions come and
-- go with the months, so each is compared with its table: it has every rule of it, and nothing that opens it.
with own as (
    select n.oid, n.nspname, n.nspowner, n.nspacl
    from pg_catalog.pg_namespace as n
    where n.nspowner = (select r.oid from pg_catalog.pg_roles as r where r.rolname = 'brokerflow_owner')
),
house as (
    select r.*
    from pg_catalog.pg_roles as r
    where r.rolname in ('brokerflow_owner', 'brokerflow_guard', 'brokerflow_vault', 'brokerflow_app', 'brokerflow_worker', 'brokerflow_login', 'brokerflow_auditor')
),
relations as (
    select c.*, format('%I.%I', own.nspname, c.relname) as name
    from pg_catalog.pg_class as c
    join own on own.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c') and not c.relispartition
),
partitions as (
    select i.inhrelid as oid, i.inhparent as parent, c.relacl, c.relowner, format('%I.%I', own.nspname, c.relname) as name
    from pg_catalog.pg_inherits as i
    join relations as r on r.oid = i.inhparent and r.relkind = 'p'
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
    join own on own.oid = c.relnamespace
),
rules as (
    select
        c.oid, concat_ws(
            ', ', 'of ' || c.relowner::regrole, case when c.relpersistence <> 'p' then 'not permanent' end,
            case when c.relrowsecurity then 'row security' end, case when c.relforcerowsecurity then 'forced' end
        ) as rule, true as is_alike
    from pg_catalog.pg_class as c
    union all
    -- Of a trigger all but the table that it is on.
    select t.tgrelid, regexp_replace(pg_get_triggerdef(t.oid), ' ON [^ ]+ ', ' ') || ', enabled ' || t.tgenabled::text, true
    from pg_catalog.pg_trigger as t
    where not t.tgisinternal
    union all
    select t.tgrelid, 'a trigger of the system is not enabled', true
    from pg_catalog.pg_trigger as t
    where t.tgisinternal and t.tgenabled <> 'O'
    union all
    -- A partition may have more of them: those of an archived month, and what its month is.
    select c.conrelid, pg_get_constraintdef(c.oid), false
    from pg_catalog.pg_constraint as c
    where c.contype not in ('n', 't')
    union all
    select p.polrelid, 'policy ' || p.polname, true
    from pg_catalog.pg_policy as p
    where p.polrelid not in (select r.oid from relations as r)
    union all
    select x.oid, format('%s is granted to %s', x.privilege_type, case x.grantee when 0 then 'public' else x.grantee::regrole::text end), true
    from (
        select p.oid, p.relowner, a.*
        from partitions as p
        cross join aclexplode(p.relacl) as a
        union all
        select p.oid, p.relowner, a.*
        from partitions as p
        join pg_catalog.pg_attribute as c on c.attrelid = p.oid
        cross join aclexplode(c.attacl) as a
    ) as x
    where x.grantee <> x.relowner
    union all
    select w.ev_class, 'rule ' || w.rulename, true
    from pg_catalog.pg_rewrite as w
),
undressed as (
    select p.name, 'it lacks a rule of its table' as finding, r.rule as expected, null as found
    from partitions as p
    join rules as r on r.oid = p.parent
    where not exists (select from rules as x where x.oid = p.oid and x.rule = r.rule)
    union all
    select p.name, 'it has what its table has not', null, r.rule
    from partitions as p
    join rules as r on r.oid = p.oid
    where r.is_alike and not exists (select from rules as x where x.oid = p.parent and x.rule = r.rule)
),
columns as (
    select a.*, r.relowner, format('%s.%I', r.name, a.attname) as name
    from pg_catalog.pg_attribute as a
    join relations as r on r.oid = a.attrelid
    where a.attnum > 0 and not a.attisdropped and r.relkind <> 'S'
),
functions as (
    select p.*, format('%I.%I(%s)', own.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as name
    from pg_catalog.pg_proc as p
    join own on own.oid = p.pronamespace
),
types as (
    select t.*, format('%I.%I', own.nspname, t.typname) as name
    from pg_catalog.pg_type as t
    join own on own.oid = t.typnamespace
    where t.typtype in ('e', 'd')
),
-- What is null is the default: everybody may execute a function.
grants as (
    select g.kind, g.name || ' to ' || case x.grantee when 0 then 'public' else x.grantee::regrole::text end as name,
        string_agg(x.privilege_type || case when x.is_grantable then ' with grant option' else '' end, ', ' order by x.privilege_type) as definition
    from (
        select 'grant on schema' as kind, nspname::text as name, nspowner as owner, nspacl as acl from own
        union all
        select 'grant on table', name, relowner, relacl from relations
        union all
        select 'grant on column', name, relowner, attacl from columns
        union all
        select 'grant on function', name, proowner, coalesce(proacl, acldefault('f', proowner)) from functions
        union all
        select 'grant on database', 'this', datdba, coalesce(datacl, acldefault('d', datdba))
        from pg_catalog.pg_database where datname = current_database()
    ) as g
    cross join lateral aclexplode(g.acl) as x
    where x.grantee <> g.owner
        and (g.kind <> 'grant on database' or x.grantee = 0 or x.grantee in (select oid from house))
    group by g.kind, g.name, x.grantee
),
found as (
    select 'schema' as kind, nspname::text as name, format('of %s', nspowner::regrole) as definition from own
    union all
    select
        'table', name, concat_ws(
            ', ', 'kind ' || relkind::text, 'of ' || relowner::regrole, case when relpersistence <> 'p' then 'not permanent' end,
            case when relrowsecurity then 'row security' end, case when relforcerowsecurity then 'forced' end,
            case when relkind in ('v', 'm') then pg_get_viewdef(oid) end, 'by ' || pg_get_partkeydef(oid), array_to_string(reloptions, ' ')
        )
    from relations
    union all
    select
        'column', c.name, concat_ws(
            ' ', format_type(c.atttypid, c.atttypmod), case when c.attnotnull then 'not null' end,
            case when c.attidentity <> '' then 'identity ' || c.attidentity::text end,
            case when c.attgenerated <> '' then 'generated ' || c.attgenerated::text end,
            'default ' || pg_get_expr(d.adbin, d.adrelid)
        )
    from columns as c
    left join pg_catalog.pg_attrdef as d on d.adrelid = c.attrelid and d.adnum = c.attnum
    union all
    -- A foreign key is enforced by triggers of the system, which can be disabled like others. PostgreSQL 18 lists
    -- NOT NULL as a constraint; here it is the column's.
    select
        'constraint', concat_ws(' ', coalesce(r.name, t.name), c.conname), concat_ws(
            ' ', pg_get_constraintdef(c.oid), case when not c.convalidated then 'not validated' end, (
                select format('by %s triggers %s', count(*), string_agg(distinct g.tgenabled::text, ''))
                from pg_catalog.pg_trigger as g
                where g.tgconstraint = c.oid
                having count(*) > 0
            )
        )
    from pg_catalog.pg_constraint as c
    left join relations as r on r.oid = c.conrelid
    left join types as t on t.oid = c.contypid
    where c.contype not in ('n', 't') and coalesce(r.oid, t.oid) is not null
    union all
    select
        'unique index', format('%s %I', r.name, c.relname), concat_ws(
            ' ', pg_get_indexdef(i.indexrelid), case when not (i.indisvalid and i.indisready and i.indimmediate) then 'not valid' end
        )
    from pg_catalog.pg_index as i
    join relations as r on r.oid = i.indrelid
    join pg_catalog.pg_class as c on c.oid = i.indexrelid
    where i.indisunique
    union all
    select 'trigger', format('%s %I', r.name, t.tgname), format('%s, enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
    from pg_catalog.pg_trigger as t
    join relations as r on r.oid = t.tgrelid
    where not t.tgisinternal
    union all
    select 'rule', format('%s %I', r.name, w.rulename), format('%s, enabled %s', pg_get_ruledef(w.oid), w.ev_enabled)
    from pg_catalog.pg_rewrite as w
    join relations as r on r.oid = w.ev_class
    where w.rulename <> '_RETURN'
    union all
    select
        'policy', format('%s %I', r.name, p.polname), concat_ws(
            ' ', case when not p.polpermissive then 'restrictive' end, 'for',
            case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
            'to', (
                select string_agg(case o.role when 0 then 'public' else o.role::regrole::text end, ', ' order by o.role::regrole::text)
                from unnest(p.polroles) as o (role)
            ),
            'using (' || pg_get_expr(p.polqual, p.polrelid) || ')', 'with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'
        )
    from pg_catalog.pg_policy as p
    join relations as r on r.oid = p.polrelid
    union all
    select
        'function', f.name, concat_ws(
            ', ', 'takes (' || pg_get_function_arguments(f.oid) || ')', 'returns ' || coalesce(pg_get_function_result(f.oid), 'nothing'),
            'of ' || f.proowner::regrole, 'language ' || l.lanname, 'kind ' || f.prokind::text,
            case f.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end, 'parallel ' || f.proparallel::text,
            case when f.prosecdef then 'security definer' end, case when f.proisstrict then 'strict' end,
            case when f.proleakproof then 'leakproof' end, 'set ' || array_to_string(f.proconfig, ' '),
            'sha256 ' || encode(sha256(convert_to(f.prosrc || coalesce(pg_get_function_sqlbody(f.oid), ''), 'UTF8')), 'hex')
        )
    from functions as f
    join pg_catalog.pg_language as l on l.oid = f.prolang
    union all
    select
        'type', t.name, case t.typtype
            when 'e' then (select string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_catalog.pg_enum as e where e.enumtypid = t.oid)
            else format_type(t.typbasetype, t.typtypmod) || case when t.typnotnull then ' not null' else '' end
        end
    from types as t
    union all
    select
        'default grants', concat_ws(' ', d.defaclrole::regrole, 'on', d.defaclobjtype, 'in ' || own.nspname), coalesce(
            (
                select string_agg(
                    x.privilege_type || ' to ' || case x.grantee when 0 then 'public' else x.grantee::regrole::text end, ', '
                    order by x.privilege_type, x.grantee::regrole::text
                )
                from aclexplode(d.defaclacl) as x
                where x.grantee <> d.defaclrole
            ),
            'none'
        )
    from pg_catalog.pg_default_acl as d
    join house on house.oid = d.defaclrole
    left join own on own.oid = d.defaclnamespace
    union all
    select kind, name, definition from grants
    union all
    select
        'role', h.rolname::text, concat_ws(
            ', ', case when h.rolcanlogin then 'login' else 'no login' end, case when h.rolsuper then 'superuser' end,
            case when h.rolbypassrls then 'bypassrls' end, case when h.rolcreaterole then 'createrole' end,
            case when h.rolcreatedb then 'createdb' end, case when h.rolreplication then 'replication' end
        )
    from house as h
    union all
    select 'membership', format('%s in %s', m.member::regrole, m.roleid::regrole), 'member'
    from pg_catalog.pg_auth_members as m
    where m.member in (select oid from house)
    union all
    -- With replica no trigger of ours fires; a setting of a role or of the database would do that unseen.
    select 'setting', 'session_replication_role', current_setting('session_replication_role')
    union all
    select 'setting', concat_ws(' ', split_part(c.setting, '=', 1), 'of', coalesce(nullif(s.setrole, 0)::regrole::text, 'this database')), substring(c.setting from position('=' in c.setting) + 1)
    from pg_catalog.pg_db_role_setting as s
    cross join unnest(s.setconfig) as c (setting)
    where (s.setrole = 0 or s.setrole in (select oid from house))
        and s.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_database()))
        and split_part(c.setting, '=', 1) in ('session_replication_role', 'row_security', 'role', 'session_authorization', 'search_path')
    union all
    -- The state machines are rows, and rules all the same.
    select 'edge', format('agreement from %s to %s', t.from_status, t.to_status), t.event_type::text from agreement.transitions as t
    union all
    select 'edge', format('referral from %s to %s', t.from_status, t.to_status), 'allowed' from agreement.referral_transitions as t
),
expected as (
    select k.kind, o.name, o.definition
    from jsonb_each(:'manifest'::jsonb) as k (kind, objects)
    cross join lateral jsonb_each_text(k.objects) as o (name, definition)
)
select
    coalesce(e.kind, f.kind) || '/' || coalesce(e.name, f.name) as subject,
    case when f.name is null then 'it is missing' when e.name is null then 'it is not in the manifest' else 'it is altered' end as finding,
    e.definition as expected, f.definition as found
from expected as e
full join found as f on f.kind = e.kind and f.name = e.name
where e.definition is distinct from f.definition
union all
select 'partition/' || u.name, u.finding, u.expected, u.found
from undressed as u
order by subject, finding, expected, found;
