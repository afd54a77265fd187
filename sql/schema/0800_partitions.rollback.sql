-- The months stay with their tables, and what is in them; to roll the tables back is to lose both. An archive would be
-- lost unasked, so that its owner empties it first.
do $$
begin
    if exists (select from archive.months) then
        raise exception 'the archive holds months that would be lost: dump its tables, then drop them and delete their rows of archive.months';
    end if;
end;
$$;

do $$
declare
    v_statement text;
begin
    for v_statement in
        select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
        from pg_catalog.pg_trigger as t
        join pg_catalog.pg_class as c on c.oid = t.tgrelid
        where c.relispartition and c.relnamespace = 'partitions'::regnamespace and not t.tgisinternal and t.tgparentid = 0
    loop
        execute v_statement;
    end loop;
end;
$$;

revoke usage on schema shared from brokerflow_worker;
drop function shared.count_archived();
drop function shared.archive_partition(text);
drop function shared.make_partition(text);
drop function shared.archivable_partitions(date);
drop function shared.missing_partitions(integer);
drop function shared.month_of(text);
drop function shared.dress_partition(regclass, regclass);
drop function shared.tables_by_month();
drop function shared.first_id(date);
