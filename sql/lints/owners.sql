-- What stands in our schemas and is another's: whoever it is may change it.
select c.oid::regclass::text as subject, 'it is owned by ' || c.relowner::regrole as finding
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
where n.nspowner = 'brokerflow_owner'::regrole
    and c.relowner not in ('brokerflow_owner'::regrole, 'brokerflow_guard'::regrole, 'brokerflow_vault'::regrole)
union all
select p.oid::regprocedure::text, 'it is owned by ' || p.proowner::regrole
from pg_proc as p
join pg_namespace as n on n.oid = p.pronamespace
where n.nspowner = 'brokerflow_owner'::regrole
    and p.proowner not in ('brokerflow_owner'::regrole, 'brokerflow_guard'::regrole, 'brokerflow_vault'::regrole)
order by 1
