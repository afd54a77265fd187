-- A policy of the service by whose columns no index finds rows: each read then looks at every tenant's.
select p.polrelid::regclass || ' ' || p.polname as subject, 'no index leads with one of its columns' as finding
from pg_policy as p
where 'brokerflow_app'::regrole = any (p.polroles) and p.polcmd in ('r', 'w', 'd')
    and exists (
        select from pg_depend as d
        where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refobjid = p.polrelid and d.refobjsubid > 0
    )
    and not exists (
        select from pg_depend as d
        join pg_index as i on i.indrelid = p.polrelid and i.indkey[0] = d.refobjsubid
        where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refobjid = p.polrelid
    )
order by 1
