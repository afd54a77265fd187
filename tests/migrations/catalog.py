"""Writes a database's catalog down, one line an object, so that two can be compared."""

import psycopg

# Whether an ACL was ever touched is no difference, and neither is the order of its items.
_ACL = "array(select a::text from unnest(coalesce({}, acldefault('{}', {}))) as a order by 1)::text"

_OBJECTS = f"""
with own as (
    select oid, nspname from pg_namespace where nspname <> 'information_schema' and nspname !~ '^pg_'
),
relations as (
    select c.* from pg_class as c join own on own.oid = c.relnamespace
),
functions as (
    select p.* from pg_proc as p join own on own.oid = p.pronamespace
),
types as (
    select t.* from pg_type as t join own on own.oid = t.typnamespace where t.typrelid = 0 and t.typelem = 0
)
select 'database', '', {_ACL.format("datacl", "d", "datdba")} from pg_database where datname = current_database()
union all
select 'schema', nspname, concat_ws(' ', nspowner::regrole, {_ACL.format("nspacl", "n", "nspowner")})
from pg_namespace where oid in (select oid from own)
union all
select
    'relation', oid::regclass::text,
    concat_ws(' ', relkind, relpersistence, relowner::regrole, relrowsecurity, relforcerowsecurity, reloptions,
        relreplident, {_ACL.format("relacl", "r", "relowner")}, pg_get_viewdef(oid), pg_get_partkeydef(oid))
from relations where relkind <> 'i'
union all
select
    'column', a.attrelid::regclass || '.' || a.attnum || ' ' || a.attname,
    concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage,
        a.attcollation::regcollation, array(select i::text from unnest(a.attacl) as i order by 1)::text,
        pg_get_expr(d.adbin, d.adrelid))
from pg_attribute as a
join relations on relations.oid = a.attrelid and relations.relkind <> 'i'
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attnum > 0 and not a.attisdropped
union all
select
    'constraint', concat_ws(' ', nullif(conrelid, 0)::regclass, nullif(contypid, 0)::regtype, conname),
    concat_ws(' ', pg_get_constraintdef(c.oid), condeferrable, condeferred, convalidated)
from pg_constraint as c join own on own.oid = c.connamespace
union all
select
    'index', i.indexrelid::regclass::text,
    concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisprimary)
from pg_index as i join relations on relations.oid = i.indexrelid
union all
select
    'function', oid::regprocedure::text,
    concat_ws(' ', proowner::regrole, {_ACL.format("proacl", "f", "proowner")},
        case when prokind <> 'a' then pg_get_functiondef(oid) end)
from functions
union all
select 'trigger', t.tgrelid::regclass || ' ' || t.tgname, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
from pg_trigger as t join relations on relations.oid = t.tgrelid where not t.tgisinternal
union all
select 'rule', r.ev_class::regclass || ' ' || r.rulename, pg_get_ruledef(r.oid)
from pg_rewrite as r join relations on relations.oid = r.ev_class
union all
select
    'policy', p.polrelid::regclass || ' ' || p.polname,
    concat_ws(' ', p.polcmd, p.polpermissive,
        array(select r::regrole::text from unnest(p.polroles) as r order by 1)::text,
        'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
from pg_policy as p join relations on relations.oid = p.polrelid
union all
select
    'type', oid::regtype::text,
    concat_ws(' ', typtype, typowner::regrole, typnotnull, typdefault, nullif(typbasetype, 0)::regtype,
        {_ACL.format("typacl", "T", "typowner")},
        array(select enumlabel from pg_enum where enumtypid = types.oid order by enumsortorder)::text)
from types
union all
select 'sequence', seqrelid::regclass::text, concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmax, seqcycle)
from pg_sequence join relations on relations.oid = seqrelid
union all
select 'default grants', concat_ws(' ', defaclrole::regrole, own.nspname, defaclobjtype), defaclacl::text
from pg_default_acl left join own on own.oid = defaclnamespace
union all
select 'extension', extname, extversion from pg_extension
union all
select 'event trigger', evtname, concat_ws(' ', evtevent, evtfoid::regprocedure, evtenabled) from pg_event_trigger
union all
select 'comment', o.type || ' ' || o.identity, d.description
from pg_description as d
cross join lateral pg_identify_object(d.classoid, d.objoid, d.objsubid) as o
left join own on own.nspname = o.schema
where own.oid is not null
    or (o.type = 'schema' and o.name in (select nspname from own))
    or o.identity ~ ('^(' || (select string_agg(nspname, '|') from own) || ')[.]')
    or o.identity ~ (' on (' || (select string_agg(nspname, '|') from own) || ')[.]')
"""


def snapshot(url: str) -> list[str]:
    """Return what a database's catalog holds beyond PostgreSQL's own: owners, grants, definitions and comments."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set search_path to ''")
        rows = connection.execute(_OBJECTS.encode()).fetchall()
    return sorted(f"{kind} {identity}: {detail}" for kind, identity, detail in rows)
