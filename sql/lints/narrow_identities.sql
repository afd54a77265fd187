-- Numbers that run out: a generated key of four bytes ends at two milliards.
select a.attrelid::regclass || '.' || a.attname as subject, 'it runs out of numbers' as finding
from pg_attribute as a
join pg_class as c on c.oid = a.attrelid
where c.relkind in ('r', 'p') and c.relnamespace in (select oid from pg_namespace where nspowner = 'brokerflow_owner'::regrole)
    and a.attnum > 0 and not a.attisdropped and a.atttypid in ('int2'::regtype, 'int4'::regtype)
    and (a.attidentity <> '' or pg_get_serial_sequence(c.oid::regclass::text, a.attname) is not null)
order by 1
