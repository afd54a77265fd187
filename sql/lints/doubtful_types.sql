-- A column whose type promises what it does not keep: time without a zone, text that is cut or padded, money of a
-- locale, json that keeps no order of its own, and names of catalog objects, which stop pg_upgrade.
select a.attrelid::regclass || '.' || a.attname as subject, 'it is ' || format_type(a.atttypid, a.atttypmod) as finding
from pg_attribute as a
join pg_class as c on c.oid = a.attrelid
where c.relkind in ('r', 'p') and c.relnamespace in (select oid from pg_namespace where nspowner = 'brokerflow_owner'::regrole)
    and a.attnum > 0 and not a.attisdropped
    and a.atttypid = any (array[
        'timestamp', 'timetz', 'varchar', 'bpchar', 'money', 'json', 'regclass', 'regproc', 'regprocedure', 'regoper',
        'regoperator', 'regconfig', 'regdictionary', 'regnamespace', 'regrole', 'regcollation'
    ]::regtype[])
order by 1
