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
    v_suffix text := substring(dress_partition.partition::text from '_(?:default|[0-9]{4}_[0-9]{2})$');
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

-- The one place that reads the month off a partition's name.
create function shared.month_of(partition text)
returns table (parent regclass, name text, key text, month date, from_id uuid, before_id uuid)
language sql stable
set search_path = ''
as $$
    select t.parent, t.name, t.key, m.month, shared.first_id(m.month), shared.first_id((m.month + interval '1 month')::date)
    from shared.tables_by_month() as t
    cross join (select to_date(substring(month_of.partition from '_([0-9]{4}_[0-9]{2})$'), 'YYYY_MM') as month) as m
    where t.name = left(month_of.partition, -8)
$$;

comment on function shared.month_of(text) is 'The table and the month of a partition, and between which identifiers it lies; no row for what is none of a month.';

create function shared.missing_partitions(months integer) returns table (partition text)
language sql stable security definer
set search_path = ''
as $$
    select n.name
    from shared.tables_by_month() as t
    cross join generate_series(0, missing_partitions.months) as s (ahead)
    cross join lateral (
        select t.name || to_char(date_trunc('month', shared.clock() at time zone 'UTC') + make_interval(months => s.ahead), '_YYYY_MM') as name
    ) as n
    where not exists (
        select from pg_catalog.pg_class as c
        where c.relname = n.name and c.relnamespace::regnamespace::text in ('partitions', 'archive')
    )
    order by right(n.name, 7), n.name
$$;

comment on function shared.missing_partitions(integer) is 'Crosses into the names of the owner''s tables for the worker: what is to be made, for this month and so many ahead.';

create function shared.archivable_partitions(before date) returns table (partition text)
language sql stable security definer
set search_path = ''
as $$
    select c.relname::text
    from shared.tables_by_month() as t
    join pg_catalog.pg_inherits as i on i.inhparent = t.parent
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
    cross join lateral shared.month_of(c.relname::text) as m
    where m.month < least(archivable_partitions.before, date_trunc('month', shared.clock() at time zone 'UTC'))
    order by right(c.relname, 7), c.relname
$$;

comment on function shared.archivable_partitions(date) is 'Crosses into the names of the owner''s tables for the worker: the months that are over and begin before a day.';

-- One month a transaction. Every lock that will be needed is taken first, and none is waited for longer than 0.2 seconds:
-- all of them together less than PostgreSQL waits before it looks for a deadlock. Of upkeep and business, it is upkeep
-- that gives way (55P03: ask again), and business never waits for a second.
--
-- Crosses into the tables' definition, which is the owner's, for the worker.
create function shared.make_partition(partition text) returns text
language plpgsql volatile security definer
set search_path = '' set lock_timeout = '200ms'
as $$
declare
    v_name text := make_partition.partition;
    v_month record;
begin
    if v_name not in (select m.partition from shared.missing_partitions(24) as m) then
        return 'it is there, or is no month of the next two years';
    end if;
    select m.* into v_month from shared.month_of(v_name) as m;
    execute format('lock table only %s in share update exclusive mode', v_month.parent);
    execute format('lock table only partitions.%I in access exclusive mode', v_month.name || '_default');
    if v_month.key = 'agreement_id' then
        lock table only agreement.agreements in share row exclusive mode;
    end if;
    execute format(
        'create table partitions.%I (like %s including all excluding comments, constraint %I check (%I >= %L and %I < %L))',
        v_name, v_month.parent, v_name || '_of_its_month', v_month.key, v_month.from_id, v_month.key, v_month.before_id
    );
    execute format(
        'alter table %s attach partition partitions.%I for values from (%L) to (%L)', v_month.parent, v_name, v_month.from_id, v_month.before_id
    );
    execute format('comment on table partitions.%I is %L', v_name, format('What %s has of %s.', v_month.parent, to_char(v_month.month, 'YYYY-MM')));
    perform shared.dress_partition(v_month.parent, format('partitions.%I', v_name)::regclass);
    return null;
exception
    when check_violation then
        return format('partitions.%s_default holds rows of it already: they stay there, and it is not made', v_month.name);
end;
$$;

comment on function shared.make_partition(text) is 'Crosses into the definition of the owner''s tables for the worker: makes a month of one that is missing, or says why not.';

-- Detached and attached in one transaction: no snapshot sees a month twice or not at all. DETACH ... CONCURRENTLY would
-- stop nobody, but PostgreSQL has it neither beside a default partition nor within a transaction. Both take no look at
-- the rows: the month has a constraint that says which they are. Crosses into the tables' definition likewise.
create function shared.archive_partition(partition text) returns text
language plpgsql volatile security definer
set search_path = '' set lock_timeout = '200ms'
as $$
declare
    v_name text := archive_partition.partition;
    v_month record;
    v_open bigint := 0;
begin
    if v_name not in (select a.partition from shared.archivable_partitions('infinity') as a) then
        return 'it is archived, or is no month that is over';
    end if;
    select m.* into v_month from shared.month_of(v_name) as m;
    if v_month.key = 'agreement_id' then
        -- Before they are counted: a transaction that is older than the new month may still bring one about.
        lock table only agreement.agreements in share row exclusive mode;
        select count(*) into v_open
        from agreement.agreements as a
        where a.id >= v_month.from_id and a.id < v_month.before_id and a.status not in ('void', 'closed');
    end if;
    if v_open > 0 then
        return format('%s of its agreements are neither void nor closed', v_open);
    end if;
    execute format(
        'lock table only %s, only partitions.%I, only partitions.%I in access exclusive mode',
        v_month.parent, v_name, v_month.name || '_default'
    );
    execute format('alter table %s detach partition partitions.%I', v_month.parent, v_name);
    execute format('alter table partitions.%I set schema archive', v_name);
    execute format(
        'alter table archive.%I attach partition archive.%I for values from (%L) to (%L)', v_month.name, v_name, v_month.from_id, v_month.before_id
    );
    perform shared.dress_partition(format('archive.%I', v_month.name)::regclass, format('archive.%I', v_name)::regclass);
    insert into archive.months (table_name, month, from_id, before_id)
    values (v_month.parent::text, v_month.month, v_month.from_id, v_month.before_id);
    return null;
end;
$$;

comment on function shared.archive_partition(text) is 'Crosses into the definition of the owner''s tables for the worker: moves a month that is over into the archive, or says why not.';

-- After the move has committed, so that nobody waits for it. Crosses into the archive, which changes no more.
create function shared.count_archived() returns table (partition text, rows bigint)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_month record;
begin
    for v_month in
        select m.table_name, m.month, t.name || to_char(m.month, '_YYYY_MM') as name
        from archive.months as m
        join shared.tables_by_month() as t on t.parent::text = m.table_name
        where m.rows is null
        order by m.month, m.table_name
        for update of m
    loop
        execute format('select count(*) from archive.%I', v_month.name) into count_archived.rows;
        update archive.months as m set rows = count_archived.rows
        where m.table_name = v_month.table_name and m.month = v_month.month;
        count_archived.partition := v_month.name;
        return next;
    end loop;
end;
$$;

comment on function shared.count_archived() is 'Crosses into the archive for the worker: writes down, once, how many rows each month had that was moved there.';

revoke execute on function
    shared.missing_partitions(integer), shared.archivable_partitions(date), shared.make_partition(text), shared.archive_partition(text),
    shared.count_archived()
from public;
grant execute on function
    shared.missing_partitions(integer), shared.archivable_partitions(date), shared.make_partition(text), shared.archive_partition(text),
    shared.count_archived()
to brokerflow_worker;

grant usage on schema shared to brokerflow_worker;

-- Those that are there: what catches the rest, and months that stayed when this chapter was rolled back.
do $$
declare
    v_left text;
begin
    perform shared.dress_partition(t.parent, i.inhrelid::regclass)
    from shared.tables_by_month() as t
    join pg_catalog.pg_inherits as i on i.inhparent = t.parent;
    for v_left in
        select format('%s: %s', m.partition, f.finding)
        from shared.missing_partitions(3) as m
        cross join lateral shared.make_partition(m.partition) as f (finding)
        where f.finding is not null
    loop
        raise warning '%', v_left;
    end loop;
end;
$$;
