-- A table without a primary key: its rows have no name, and logical replication cannot tell them apart.
select c.oid::regclass::text as subject, 'it has no primary key' as finding
from pg_class as c
where c.relkind in ('r', 'p') and c.relnamespace in (select oid from pg_namespace where nspowner = 'brokerflow_owner'::regrole)
    and not exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary)
order by 1
