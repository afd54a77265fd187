-- What is read with another's rights: views that run as their owner, copies and foreign tables, which have no policies.
select c.oid::regclass::text as subject,
    case c.relkind when 'v' then 'it is read with its owner''s rights' else 'it has no row security' end as finding
from pg_class as c
where c.relnamespace in (select oid from pg_namespace where nspowner = 'brokerflow_owner'::regrole)
    and (c.relkind in ('m', 'f') or c.relkind = 'v' and not coalesce(c.reloptions @> '{security_invoker=true}', false))
order by 1
