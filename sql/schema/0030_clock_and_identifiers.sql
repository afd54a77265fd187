-- The clock, the identifiers and the refusal: small things that every chapter uses.
-- depends: 0020_schemas

set local role brokerflow_owner;

-- Not now(): that is the transaction's start, and a command that waited for a lock happens after the wait.
create function shared.clock() returns timestamptz
language sql volatile parallel safe
as 'select clock_timestamp()';

comment on function shared.clock() is 'Axiom A3: business time is the database''s. Every recorded time comes from here, none from a caller.';

-- A UUIDv7 by RFC 9562: 48 bits of milliseconds, 12 bits of the fraction below them, then the variant and 62 random
-- bits, which a version 4 UUID has in the same place. Times 512 / 125, microseconds are milliseconds and those twelve
-- bits at once. One expression, so that PostgreSQL inlines it. It has its own from 18 only.
create function shared.uuidv7() returns uuid
language sql volatile parallel safe
as $$
    select (
        overlay(lpad(to_hex((extract(epoch from clock_timestamp()) * 1000000)::bigint * 512 / 125), 15, '0') placing '7' from 13 for 0)
        || substring(gen_random_uuid()::text from 20)
    )::uuid
$$;

comment on function shared.uuidv7() is 'A time-ordered identifier, so that keys arrive at the right edge of their index.';

-- PostgreSQL has its own from 17 only.
create function shared.made_at(id uuid) returns timestamptz
language sql immutable parallel safe
as $$ select to_timestamp(('x' || translate(left(made_at.id::text, 13), '-', ''))::bit(48)::bigint / 1000.0) $$;

comment on function shared.made_at(uuid) is 'The millisecond in which a UUIDv7 was made.';

-- Stable, as to_char is: PostgreSQL inlines no function that claims more than what it calls.
create function shared.iso8601(moment timestamptz) returns text
language sql stable parallel safe
as $$ select to_char(iso8601.moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

comment on function shared.iso8601(timestamptz) is 'RFC 3339 in UTC with microseconds, whatever the session''s time zone: hashes depend on it.';

-- A trigger's refusal looks like a native violation: a standard SQLSTATE and the broken proposition as its
-- constraint, which is always the name of the object that refuses.
create function shared.refuse(proposition text, message text, code text default 'check_violation') returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    raise exception using errcode = refuse.code, constraint = refuse.proposition, message = refuse.message;
end;
$$;

comment on function shared.refuse(text, text, text) is 'Raises a refusal that names the proposition it keeps.';

grant execute on function shared.clock(), shared.uuidv7(), shared.refuse(text, text, text)
to brokerflow_app, brokerflow_guard, brokerflow_vault;
grant execute on function shared.made_at(uuid) to brokerflow_guard;
grant execute on function shared.iso8601(timestamptz) to brokerflow_app, brokerflow_guard, brokerflow_auditor;
