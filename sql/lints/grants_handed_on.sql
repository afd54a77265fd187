-- A grant that its holder may hand on: then the chapters no longer say who may what.
select format('%s on %s to %s', lower(a.privilege_type), o.name, a.grantee::regrole) as subject, 'it may be granted on' as finding
from (
    select c.oid::regclass::text as name, c.relacl as acl, c.relowner as owner from pg_class as c
    union all select p.oid::regprocedure::text, p.proacl, p.proowner from pg_proc as p
    union all select n.nspname::text, n.nspacl, n.nspowner from pg_namespace as n
) as o
cross join aclexplode(o.acl) as a
where a.is_grantable and a.grantee <> o.owner and o.owner in ('brokerflow_owner'::regrole, 'brokerflow_guard'::regrole, 'brokerflow_vault'::regrole)
order by 1
