-- Sessions that another store keeps: there each is a ticket that the database sealed at login, and brings back to the
-- database with each request.
--
-- The store finds a ticket and ends it when it idles; it vouches for nothing. What a ticket says is believed for its
-- seal, it enters only with the token that it was sealed to, and whether it was ended stands here. So who steals the
-- store's contents has no token, who writes to it has no seal, and who restores an old copy of it brings nothing back.
-- depends: 0210_apiauth_entrances

set local role brokerflow_guard;

create type apiauth.ticket as (
    session_id uuid,
    user_id uuid,
    digest bytea,               -- of the digest of the token, as in apiauth.sessions
    created_at timestamptz,
    expires_at timestamptz,
    impersonation_id uuid
);

comment on type apiauth.ticket is 'What a ticket says: whose session it is, of which token, from when to when, and as whom it acts.';

create table apiauth.ended_tickets (
    session_id uuid primary key,
    ended_at timestamptz not null default shared.clock(),
    expires_at timestamptz not null
);

-- Serves their removal.
create index ended_tickets_expires_at_idx on apiauth.ended_tickets (expires_at);

comment on table apiauth.ended_tickets is 'Tickets that were ended before their time, until they would have ended by themselves.';

-- Of two halves, like the key of JWTs and for its reasons: a dump alone seals nothing, nor does the service.
create function apiauth.ticket_key(half bytea) returns bytea
language sql stable
set search_path = ''
as $$ select sha256(apiauth.derived('ticket') || ticket_key.half) where apiauth.is_trusted_half(ticket_key.half) $$;

comment on function apiauth.ticket_key(bytea) is
    'Axiom A10: no credential at rest can be replayed. The key that seals tickets, half of which is not in this database.';

-- As JSON, which writes times in one way whatever the caller's settings.
create function apiauth.seal_ticket(ticket apiauth.ticket, half bytea) returns text
language sql stable
set search_path = ''
as $$
    select encode(apiauth.hmac(apiauth.ticket_key(seal_ticket.half), convert_to(b.body, 'UTF8')), 'hex') || b.body
    from (select to_jsonb(seal_ticket.ticket)::text as body) as b
$$;

comment on function apiauth.seal_ticket(apiauth.ticket, bytea) is 'A ticket behind its HMAC-SHA256. Granted to nobody: who could call it could forge.';

create function apiauth.read_ticket(sealed text, half bytea) returns apiauth.ticket
language plpgsql stable
set search_path = ''
as $$
begin
    -- Hashes are compared, so that the time taken says nothing about the seal.
    if (
        length(read_ticket.sealed) <= 4096 and sha256(convert_to(left(read_ticket.sealed, 64), 'UTF8')) = sha256(convert_to(
            encode(apiauth.hmac(apiauth.ticket_key(read_ticket.half), convert_to(substr(read_ticket.sealed, 65), 'UTF8')), 'hex'), 'UTF8'
        ))
    ) is not true then
        return null;
    end if;
    return jsonb_populate_record(null::apiauth.ticket, substr(read_ticket.sealed, 65)::jsonb);
end;
$$;

comment on function apiauth.read_ticket(text, bytea) is
    'Axiom A9: who asks is proved to the database, not told to it. What a ticket says, if it was sealed here; else null.';

create function apiauth.is_live(ticket apiauth.ticket) returns boolean
language sql volatile
set search_path = ''
as $$
    select (is_live.ticket).expires_at > shared.clock()
        and not exists (select from apiauth.ended_tickets as e where e.session_id = (is_live.ticket).session_id)
        and exists (
            select
            from shared.users as u
            left join apiauth.logouts as l on l.user_id = u.id
            where u.id = (is_live.ticket).user_id and coalesce((is_live.ticket).created_at > l.ended_before, true)
        )
$$;

comment on function apiauth.is_live(apiauth.ticket) is
    'Axiom A10: expired or revoked never authenticates, from the next statement on. Asked of the database with each request, since the store cannot be trusted to have forgotten.';

create function apiauth.enter_ticket(digest bytea, organization text, needed text[], ticket text, half bytea) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_ticket apiauth.ticket := apiauth.read_ticket(enter_ticket.ticket, enter_ticket.half);
begin
    if (v_ticket.digest = sha256(enter_ticket.digest) and apiauth.is_live(v_ticket)) is not true then
        perform apiauth.refuse_credential();
    end if;
    perform apiauth.admit_session(
        v_ticket.session_id, v_ticket.user_id, v_ticket.impersonation_id, enter_ticket.organization, enter_ticket.needed
    );
end;
$$;

comment on function apiauth.enter_ticket(bytea, text, text[], text, bytea) is
    'Axiom A10: expired or revoked never authenticates, from the next statement on. Takes the SHA-256 of a session token and the ticket that was sealed to it; either alone enters nobody.';

-- So a session is opened in one way only, whoever opens it and wherever it is kept.
create function apiauth.exchange_session(digest bytea, half bytea) returns text
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_session apiauth.sessions;
begin
    delete from apiauth.sessions as s
    where s.digest = sha256(exchange_session.digest) and s.revoked_at is null and s.expires_at > shared.clock()
    returning s.* into v_session;
    if not found or not apiauth.is_trusted_half(exchange_session.half) then
        perform apiauth.refuse_credential();
    end if;
    return apiauth.seal_ticket(
        (v_session.id, v_session.user_id, v_session.digest, v_session.created_at, v_session.expires_at, v_session.impersonation_id)::apiauth.ticket,
        exchange_session.half
    );
end;
$$;

comment on function apiauth.exchange_session(bytea, bytea) is
    'Axiom A10: no credential at rest can be replayed. Takes a session that was just opened out of its table, and returns the ticket that says the same.';

-- A few rows that are past their time make room.
-- The lock is that of apiauth.hold_credential: a ticket has no row to take.
create function apiauth.end_tickets(user_id uuid, id uuid, tickets text[], half bytea) returns uuid[]
language plpgsql volatile
set search_path = ''
as $$
declare
    v_ended apiauth.ticket[];
begin
    perform pg_advisory_xact_lock(hashtextextended(end_tickets.user_id::text, 0));
    select coalesce(array_agg(t::apiauth.ticket), '{}') into v_ended
    from unnest(end_tickets.tickets) as l (sealed)
    cross join lateral apiauth.read_ticket(l.sealed, end_tickets.half) as t
    where t.user_id = end_tickets.user_id and t.session_id = coalesce(end_tickets.id, t.session_id) and apiauth.is_live(t);
    delete from apiauth.ended_tickets as e
    where e.session_id in (
        select p.session_id from apiauth.ended_tickets as p where p.expires_at < shared.clock() order by p.expires_at limit 10 for update skip locked
    );
    insert into apiauth.ended_tickets (session_id, expires_at)
    select t.session_id, t.expires_at from unnest(v_ended) as t
    on conflict on constraint ended_tickets_pkey do nothing;
    return array(select t.session_id from unnest(v_ended) as t);
end;
$$;

comment on function apiauth.end_tickets(uuid, uuid, text[], bytea) is
    'Axiom A10: revoked never authenticates, from the next statement on. Ends those of these tickets that are of a user, and of one session where it is named; returns their sessions. Granted to nobody.';

alter table apiauth.ended_tickets enable row level security;

revoke execute on function
    apiauth.enter_ticket(bytea, text, text[], text, bytea), apiauth.exchange_session(bytea, bytea)
from public;
grant execute on function
    apiauth.enter_ticket(bytea, text, text[], text, bytea), apiauth.exchange_session(bytea, bytea)
to brokerflow_app;
