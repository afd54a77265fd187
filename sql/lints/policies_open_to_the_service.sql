-- A policy of the service that lets every row through: row security is on and keeps nobody out.
select p.polrelid::regclass || ' ' || p.polname as subject, 'it lets every row through' as finding
from pg_policy as p
where (0::oid = any (p.polroles) or 'brokerflow_app'::regrole = any (p.polroles))
    and 'true' in (pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
order by 1
