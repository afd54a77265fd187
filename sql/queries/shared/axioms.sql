-- name: list_axioms()
-- List the axioms, in order, each with what its oracles found when they were last asked.
-- record: Axiom
select a.id, a.rule, o.oracles as "oracles?", o.violations as "violations?", o.checked_at as "checked_at?"
from shared.axioms as a
cross join lateral (
    select
        array_agg(r.oracle order by length(r.oracle), r.oracle) as oracles, sum(r.violations)::bigint as violations,
        min(r.checked_at) as checked_at
    from shared.oracle_results as r
    where r.axioms = '{}' or a.id = any (r.axioms)
) as o
order by length(a.id), a.id;

-- name: list_enforcing_objects()
-- List what enforces the axioms, as the catalog's comments tell it: objects with rule and reason.
-- record: EnforcingObject
with commented as materialized (
    select d.classoid, d.objoid,
        substring(d.description from 7 for position(':' in d.description) - 7) as axiom,
        substring(d.description from position(': ' in d.description) + 2) as text
    from pg_description as d
    where d.objsubid = 0 and d.description like 'Axiom A%:%'
),
object as (
    select 'pg_class'::regclass as classoid, c.oid, c.relname as name,
        case c.relkind when 'i' then 'index' else 'table' end as kind,
        coalesce((select i.indrelid from pg_index as i where i.indexrelid = c.oid), c.oid) as relation, null::oid as namespace
    from pg_class as c
    union all
    select 'pg_constraint'::regclass, c.oid, c.conname, 'constraint', c.conrelid, null from pg_constraint as c
    union all
    select 'pg_trigger'::regclass, t.oid, t.tgname, 'trigger', t.tgrelid, null from pg_trigger as t
    union all
    select 'pg_policy'::regclass, p.oid, p.polname, 'policy', p.polrelid, null from pg_policy as p
    union all
    select 'pg_proc'::regclass, f.oid, f.proname, 'function', null, f.pronamespace from pg_proc as f
)
select
    c.axiom as "axiom!", rtrim(split_part(c.text, '. ', 1), '.') as "rule!",
    substring(c.text from length(split_part(c.text, '. ', 1)) + 3) as "why!",
    o.name::text as "object!", o.kind as "kind!",
    coalesce(o.relation::regclass::text, o.namespace::regnamespace::text) as "location!"
from commented as c
join object as o on o.classoid = c.classoid and o.oid = c.objoid
-- A partition's are its table's.
where not exists (select from pg_class as p where p.oid = o.relation and p.relispartition)
order by length(c.axiom), c.axiom, "location!", "kind!", "object!";
