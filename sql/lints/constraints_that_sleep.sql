-- What is written down and does not hold: constraints that were never validated, triggers that are off or fire for
-- replicas alone.
select k.conrelid::regclass || ' ' || k.conname as subject, 'it was never validated' as finding
from pg_constraint as k
where not k.convalidated
union all
select t.tgrelid::regclass || ' ' || t.tgname, 'it does not fire'
from pg_trigger as t
where t.tgenabled in ('D', 'R')
order by 1
