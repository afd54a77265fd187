-- name: list_axioms()
-- The axioms, in order.
-- record: Axiom
select a.id, a.rule from shared.axioms as a order by length(a.id), a.id;

-- name: list_enforcing_objects()
-- What enforces the axioms, as the catalog's comments tell it: each object with its rule and reason.
-- record: EnforcingObject
with commented as (
    select substring(d.description from 7 for position(':' in d.description) - 7) as axiom,
        substring(d.description from position(': ' in d.description) + 2) as text,
        o.name, o.kind, o.location
    from (
        select 'pg_class'::regclass as classoid, c.oid, c.relname as name,
            case c.relkind when 'i' then 'index' else 'table' end as kind,
            coalesce(i.indrelid, c.oid)::regclass::text as location
        from pg_class as c
        left join pg_index as i on i.indexrelid = c.oid
        union all
        select 'pg_constraint'::regclass, c.oid, c.conname, 'constraint', c.conrelid::regclass::text from pg_constraint as c
        union all
        select 'pg_trigger'::regclass, t.oid, t.tgname, 'trigger', t.tgrelid::regclass::text from pg_trigger as t
        union all
        select 'pg_policy'::regclass, p.oid, p.polname, 'policy', p.polrelid::regclass::text from pg_policy as p
        union all
        select 'pg_proc'::regclass, f.oid, f.proname, 'function', f.pronamespace::regnamespace::text from pg_proc as f
    ) as o
    join pg_description as d on d.classoid = o.classoid and d.objoid = o.oid and d.objsubid = 0
    where d.description like 'Axiom A%:%'
)
select
    c.axiom as "axiom!", rtrim(split_part(c.text, '. ', 1), '.') as "rule!",
    substring(c.text from length(split_part(c.text, '. ', 1)) + 3) as "why!",
    c.name::text as "object!", c.kind as "kind!", c.location as "location!"
from commented as c
order by length(c.axiom), c.axiom, c.location, c.kind, c.name;
