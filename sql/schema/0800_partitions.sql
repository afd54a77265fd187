-- Months of what grows for ever: each table that is partitioned by the time in its ids gets a partition a month, made
-- ahead by the worker, which also archives the months that are over.
--
-- A partition made by CREATE TABLE ... PARTITION OF would stop all business for a moment; one that is attached does
-- not. PostgreSQL gives it the row triggers, keys, checks and foreign keys of its table, but neither row security nor
-- the triggers of a whole statement: dress_partition does. Usage of their schema is granted to nobody.
-- depends: 0610_vote_access

set local role brokerflow_owner;

create function shared.first_id(month date) returns uuid
language sql immutable parallel safe
as $$ select (lpad(to_hex(extract(epoch from first_id.month::timestamp)::bigint * 1000), 12, '0') || repeat('0', 20))::uuid $$;

comment on function shared.first_id(date) is 'The least identifier that a month can have, in UTC: its first millisecond, and nothing behind.';

-- The tables that are kept by month, with the column that is both their key and their time.
create function shared.tables_by_month() returns table (parent regclass, name text, key text)
language sql stable
set search_path = ''
as $$
    select c.oid::regclass, c.relname::text, a.attname::text
    from pg_catalog.pg_partitioned_table as p
    join pg_catalog.pg_class as c on c.oid = p.partrelid
    join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = p.partattrs[0]
    where c.relnamespace::regnamespace::text in ('shared', 'agreement')
    order by c.relname
$$;

comment on function shared.tables_by_month() is 'The tables that are partitioned by the month in their identifiers.';

-- The archive has triggers of its own, so what a table's statement triggers left on its partition goes first.
create function shared.dress_partition(parent regclass, partition regclass) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    v_statement text;
    v_suffix text := substring(dress_partition.partition::text from '_(?:default|\d{4}_\d{2})$');
begin
    for v_statement in
        select s.statement
        from (
            select 1 as step, format('alter table %s enable row level security', dress_partition.partition) as statement
            union all
            select 2, format('drop trigger %I on %s', t.tgname, dress_partition.partition)
            from pg_catalog.pg_trigger as t
            where t.tgrelid = dress_partition.partition and not t.tgisinternal and t.tgparentid = 0
            union all
            select 3, replace(pg_get_triggerdef(t.oid), format(' ON %s ', dress_partition.parent), format(' ON %s ', dress_partition.partition))
            from pg_catalog.pg_trigger as t
            where t.tgrelid = dress_partition.parent and not t.tgisinternal and t.tgtype & 1 = 0
            union all
            select 4, format('comment on trigger %I on %s is %L', t.tgname, dress_partition.partition, obj_description(t.oid, 'pg_trigger'))
            from pg_catalog.pg_trigger as t
            where t.tgrelid = dress_partition.parent and not t.tgisinternal and t.tgtype & 1 = 0
            union all
            -- So that a violation names the key, and behind it the month.
            select 5, format('alter index %s rename to %I', i.inhrelid::regclass, of_parent.relname || v_suffix)
            from pg_catalog.pg_inherits as i
            join pg_catalog.pg_index as x on x.indexrelid = i.inhrelid and x.indrelid = dress_partition.partition
            join pg_catalog.pg_class as of_parent on of_parent.oid = i.inhparent
            join pg_catalog.pg_class as own on own.oid = i.inhrelid
            where own.relname <> of_parent.relname || v_suffix
        ) as s
        order by s.step
    loop
        execute v_statement;
    end loop;
end;
$$;

comment on function shared.dress_partition(regclass, regclass) is 'Gives a partition what it does not get from its table: row security, the triggers of a statement, names for its keys.';

-- Waits half a second for whoever is at work, which is less than PostgreSQL waits before it looks for a deadlock: of
-- upkeep and business, it is upkeep that gives way.
create function shared.make_partition(parent regclass, name text, key text, month date) returns text
language plpgsql volatile
set search_path = '' set lock_timeout = '500ms'
as $$
declare
    v_name text := make_partition.name || to_char(make_partition.month, '_YYYY_MM');
    v_first uuid := shared.first_id(make_partition.month);
    v_next uuid := shared.first_id((make_partition.month + interval '1 month')::date);
begin
    execute format(
        'create table partitions.%I (like %s including all excluding comments, constraint %I check (%I >= %L and %I < %L))',
        v_name, make_partition.parent, v_name || '_of_its_month', make_partition.key, v_first, make_partition.key, v_next
    );
    execute format(
        'alter table %s attach partition partitions.%I for values from (%L) to (%L)', make_partition.parent, v_name, v_first, v_next
    );
    execute format('comment on table partitions.%I is %L', v_name, format('What %s has of %s.', make_partition.parent, to_char(make_partition.month, 'YYYY-MM')));
    perform shared.dress_partition(make_partition.parent, format('partitions.%I', v_name)::regclass);
    return null;
exception
    when check_violation then
        return format('partitions.%s_default holds rows of it already: they stay there, and it is not made', make_partition.name);
    when lock_not_available or deadlock_detected then
        return format('%s is in use by a transaction that takes long: run it again', make_partition.parent);
end;
$$;

comment on function shared.make_partition(regclass, text, text, date) is 'Makes a month of a table, or says why not.';

-- Crosses into the tables' definition, which is the owner's, for the worker.
create function shared.make_partitions(months integer default 3) returns table (partition text, finding text)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_this_month timestamp := date_trunc('month', shared.clock() at time zone 'UTC');
begin
    perform pg_advisory_xact_lock(hashtext('brokerflow partitions'));
    return query
    select n.name, shared.make_partition(t.parent, t.name, t.key, m.month)
    from generate_series(0, least(make_partitions.months, 24)) as s (ahead)
    cross join lateral (select (v_this_month + make_interval(months => s.ahead))::date as month) as m
    cross join shared.tables_by_month() as t
    cross join lateral (select t.name || to_char(m.month, '_YYYY_MM') as name) as n
    where not exists (
        select from pg_catalog.pg_class as c
        where c.relname = n.name and c.relnamespace::regnamespace::text in ('partitions', 'archive')
    );
end;
$$;

comment on function shared.make_partitions(integer) is 'Crosses into the owner''s tables for the worker: makes this month and so many ahead, where they are not there, and says which and what was in the way.';
revoke execute on function shared.make_partitions(integer) from public;
grant execute on function shared.make_partitions(integer) to brokerflow_worker;

-- Detached and attached in one transaction: no snapshot sees a month twice or not at all. DETACH ... CONCURRENTLY would
-- stop nobody, but PostgreSQL has it neither beside a default partition nor within a transaction.
create function shared.archive_partition(parent regclass, name text, key text, month date, out rows bigint, out finding text)
language plpgsql volatile
set search_path = '' set lock_timeout = '500ms'
as $$
declare
    v_name text := archive_partition.name || to_char(archive_partition.month, '_YYYY_MM');
    v_first uuid := shared.first_id(archive_partition.month);
    v_next uuid := shared.first_id((archive_partition.month + interval '1 month')::date);
    v_open bigint;
begin
    if archive_partition.key = 'agreement_id' then
        select count(*) into v_open
        from agreement.agreements as a
        where a.id >= v_first and a.id < v_next and a.status not in ('void', 'closed');
        if v_open > 0 then
            finding := format('%s of its agreements are neither void nor closed', v_open);
            return;
        end if;
    end if;
    execute format('lock table only partitions.%I in share row exclusive mode', v_name);
    execute format('select count(*) from partitions.%I', v_name) into archive_partition.rows;
    execute format('alter table %s detach partition partitions.%I', archive_partition.parent, v_name);
    execute format('alter table partitions.%I set schema archive', v_name);
    execute format(
        'alter table archive.%I attach partition archive.%I for values from (%L) to (%L)', archive_partition.name, v_name, v_first, v_next
    );
    perform shared.dress_partition(format('archive.%I', archive_partition.name)::regclass, format('archive.%I', v_name)::regclass);
    insert into archive.months (table_name, month, from_id, before_id, rows)
    values (archive_partition.parent::text, archive_partition.month, v_first, v_next, archive_partition.rows);
exception
    when lock_not_available or deadlock_detected then
        rows := null;
        finding := format('%s is in use by a transaction that takes long: run it again', archive_partition.parent);
end;
$$;

comment on function shared.archive_partition(regclass, text, text, date) is 'Moves a month of a table into the archive, or says why not.';

-- Crosses into the tables' definition, which is the owner's, for the worker. The present month is never archived.
create function shared.archive_partitions(before date) returns table (partition text, rows bigint, finding text)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_this_month date := date_trunc('month', shared.clock() at time zone 'UTC');
begin
    perform pg_advisory_xact_lock(hashtext('brokerflow partitions'));
    return query
    select c.relname::text, a.rows, a.finding
    from shared.tables_by_month() as t
    join pg_catalog.pg_inherits as i on i.inhparent = t.parent
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
    cross join lateral (select to_date(substring(c.relname from '_(\d{4}_\d{2})$'), 'YYYY_MM') as month) as m
    cross join lateral shared.archive_partition(t.parent, t.name, t.key, m.month) as a
    where m.month < least(archive_partitions.before, v_this_month);
end;
$$;

comment on function shared.archive_partitions(date) is 'Crosses into the owner''s tables for the worker: moves the months before a day into the archive, and says which, with how many rows, and what was in the way.';
revoke execute on function shared.archive_partitions(date) from public;
grant execute on function shared.archive_partitions(date) to brokerflow_worker;

grant usage on schema shared to brokerflow_worker;

-- Those that are there: what catches the rest, and months that stayed when this chapter was rolled back.
do $$
declare
    v_left text;
begin
    perform shared.dress_partition(t.parent, i.inhrelid::regclass)
    from shared.tables_by_month() as t
    join pg_catalog.pg_inherits as i on i.inhparent = t.parent;
    for v_left in select format('%s: %s', p.partition, p.finding) from shared.make_partitions() as p where p.finding is not null loop
        raise warning '%', v_left;
    end loop;
end;
$$;
