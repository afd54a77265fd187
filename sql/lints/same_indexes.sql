-- Two indexes for the same: every write pays for both, no read needs the second.
select later.indexrelid::regclass::text as subject, 'it is the same as ' || earlier.indexrelid::regclass as finding
from pg_index as later
join pg_class as c on c.oid = later.indrelid and c.relnamespace in (select oid from pg_namespace where nspowner = 'brokerflow_owner'::regrole)
join pg_index as earlier on earlier.indrelid = later.indrelid and earlier.indexrelid < later.indexrelid
where earlier.indkey = later.indkey and earlier.indclass = later.indclass and earlier.indcollation = later.indcollation
    and earlier.indoption = later.indoption
    and pg_get_expr(earlier.indexprs, earlier.indrelid) is not distinct from pg_get_expr(later.indexprs, later.indrelid)
    and pg_get_expr(earlier.indpred, earlier.indrelid) is not distinct from pg_get_expr(later.indpred, later.indrelid)
order by 1
