-- Code that no chapter shows: extensions, languages and C functions, which row security does not bind.
select e.extname::text as subject, 'it is an extension' as finding
from pg_extension as e
where e.extname <> 'plpgsql'
union all
select p.oid::regprocedure::text, 'it is not in SQL or PL/pgSQL'
from pg_proc as p
join pg_language as l on l.oid = p.prolang
where p.pronamespace in (select oid from pg_namespace where nspowner = 'brokerflow_owner'::regrole) and l.lanname not in ('sql', 'plpgsql')
order by 1
