-- Logging a machine in by device authorization (RFC 8628): it shows a short code, a person who is logged in approves
-- it, and the machine that waits for that takes a personal access token.
--
-- The device code is the machine's and the user code the person's. Both are stored as digests of digests; since the user
-- code is short enough to be tried out, what the service hands over for it is a MAC under a key of its own, so that
-- neither a dump nor this database alone finds it.
-- depends: 0240_apiauth_identities

set local role brokerflow_guard;

create table apiauth.device_codes (
    id uuid primary key default shared.uuidv7(),
    device_digest bytea not null,
    user_digest bytea not null,
    name text not null,
    address inet,
    scopes text[] not null,
    token_lifetime interval not null,
    created_at timestamptz not null default shared.clock(),
    expires_at timestamptz not null,
    poll_interval interval not null default interval '5 seconds',
    polled_at timestamptz,
    user_id uuid references shared.users (id) on delete cascade,
    is_approved boolean,
    decided_at timestamptz,
    token_id uuid references apiauth.personal_tokens (id) on delete cascade,
    redeemed_at timestamptz,
    constraint device_codes_device_digest_key unique (device_digest),
    constraint device_codes_user_digest_key unique (user_digest),
    constraint device_codes_token_id_key unique (token_id),
    constraint device_codes_stored_as_digests check (octet_length(device_digest) = 32 and octet_length(user_digest) = 32),
    constraint device_codes_name_is_present check (name ~ '\S' and length(name) <= 100),
    constraint device_codes_scopes_are_known check (cardinality(scopes) > 0 and shared.are_known_scopes(scopes)),
    constraint device_codes_token_ends_within_a_year check (token_lifetime between interval '1 day' and interval '365 days'),
    constraint device_codes_end_within_10_minutes check (expires_at > created_at and expires_at <= created_at + interval '10 minutes'),
    constraint device_codes_poll_interval_is_bounded check (poll_interval between interval '5 seconds' and interval '1 minute'),
    constraint device_codes_decided_by_a_user_in_time check (
        num_nonnulls(user_id, is_approved, decided_at) = 0
        or (num_nonnulls(user_id, is_approved, decided_at) = 3 and decided_at between created_at and expires_at)
    ),
    constraint device_codes_redeemed_approved_in_time check (
        num_nonnulls(token_id, redeemed_at) = 0
        or (num_nonnulls(token_id, redeemed_at) = 2 and is_approved is true and redeemed_at between decided_at and expires_at)
    )
);

-- Serves the foreign key, and the revocation of all that a user has.
create index device_codes_user_id_idx on apiauth.device_codes (user_id);

-- Serves their removal.
create index device_codes_expires_at_idx on apiauth.device_codes (expires_at);

comment on table apiauth.device_codes is 'Machines that ask to act for a person: who asks, who decided, and the token that came of it.';
comment on constraint device_codes_stored_as_digests on apiauth.device_codes is
    'Axiom A10: no credential at rest can be replayed. Both codes are stored as digests of digests.';
comment on constraint device_codes_end_within_10_minutes on apiauth.device_codes is
    'Axiom A10: expired never authenticates. A code that was not used ends after ten minutes.';
comment on constraint device_codes_redeemed_approved_in_time on apiauth.device_codes is
    'Axiom A10: expired never authenticates. A code yields a token while it lives, and when a user approved it.';

-- No key can say that a value, once there, stays: a second token would merely replace the first.
create function apiauth.device_codes_settled_once() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse(tg_name, 'a device code is decided once and used once');
    return null;
end;
$$;

create trigger device_codes_settled_once
before update on apiauth.device_codes
for each row
when (
    (old.decided_at is not null and (new.user_id, new.is_approved, new.decided_at) is distinct from (old.user_id, old.is_approved, old.decided_at))
    or (old.token_id is not null and (new.token_id, new.redeemed_at) is distinct from (old.token_id, old.redeemed_at))
)
execute function apiauth.device_codes_settled_once();

comment on trigger device_codes_settled_once on apiauth.device_codes is
    'Axiom A10: no credential can be replayed. A device code yields one token, for the one user who approved it.';

-- Whoever asks is nobody yet. A few codes that are long past make room.
create function apiauth.request_device(
    device_digest bytea, user_digest bytea, name text, address inet, scopes text[], token_lifetime interval
) returns table (expires_at timestamptz, poll_interval interval)
language sql volatile security definer
set search_path = ''
as $$
    delete from apiauth.device_codes as c
    where c.id in (
        select p.id from apiauth.device_codes as p
        where p.expires_at < shared.clock() - interval '1 day' order by p.expires_at limit 10 for update skip locked
    );
    insert into apiauth.device_codes as c (
        device_digest, user_digest, name, address, scopes, token_lifetime, created_at, expires_at
    )
    select
        sha256(request_device.device_digest), sha256(request_device.user_digest), request_device.name,
        request_device.address, request_device.scopes, request_device.token_lifetime, n.now, n.now + interval '10 minutes'
    from (select shared.clock() as now) as n
    returning c.expires_at, c.poll_interval
$$;

comment on function apiauth.request_device(bytea, bytea, text, inet, text[], interval) is
    'Axiom A10: both codes are stored as digests of digests. A machine asks for a token of whoever will approve it.';

-- Its own type, so that the query files see which columns may be null.
create type apiauth.device_request as (
    name text, address text, scopes text[], token_days integer, created_at timestamptz, expires_at timestamptz
);

-- A person decides, present and logged in: a token that leaked shall not make others, and a program has nobody to name.
create function apiauth.find_device(user_digest bytea) returns setof apiauth.device_request
language sql stable security definer
set search_path = ''
as $$
    select c.name, host(c.address), c.scopes, extract(epoch from c.token_lifetime)::integer / 86400, c.created_at, c.expires_at
    from shared.current_actor() as a
    join apiauth.device_codes as c on c.user_digest = sha256(find_device.user_digest)
    where a.kind = 'session' and c.decided_at is null and c.expires_at > shared.clock()
$$;

comment on function apiauth.find_device(bytea) is
    'Crosses into the guard''s table: the machine that shows this code and waits, told to a session that knows the code.';

-- The same decision of the same user again changes nothing and is told as done.
create function apiauth.decide_device(user_digest bytea, is_approved boolean) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_code apiauth.device_codes;
begin
    if v_actor.kind is distinct from 'session' then
        return false;
    end if;
    perform apiauth.hold_credential();
    select * into v_code
    from apiauth.device_codes as c
    where c.user_digest = sha256(decide_device.user_digest) and c.expires_at > shared.clock()
    for update;
    if not found then
        return false;
    end if;
    if v_code.decided_at is not null then
        return (v_code.user_id, v_code.is_approved) = (v_actor.user_id, decide_device.is_approved);
    end if;
    perform apiauth.hold_credential();
    update apiauth.device_codes as c
    set user_id = v_actor.user_id, is_approved = decide_device.is_approved, decided_at = shared.clock()
    where c.id = v_code.id;
    perform shared.write_audit(
        case when decide_device.is_approved then 'device.approve' else 'device.deny' end, 'device/' || v_code.id,
        detail => jsonb_build_object('name', v_code.name, 'scopes', v_code.scopes)
    );
    return true;
end;
$$;

comment on function apiauth.decide_device(bytea, boolean) is
    'Axiom A9: who asks is proved. The session''s user lets the machine that shows this code act for him, or does not; false where there is none that waits.';

create type apiauth.redeemed_device as (
    outcome text, poll_interval interval, token_id uuid, name text, scopes text[], expires_at timestamptz
);

-- The outcomes are the error codes of RFC 8628 and RFC 6749. They are returned, not raised: a refusal would take along
-- when the machine asked last, and that it asked too soon. Of two who ask at once the second waits for the first.
create function apiauth.redeem_device(device_digest bytea, token_digest bytea, token_hint text) returns apiauth.redeemed_device
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_code apiauth.device_codes;
    v_token apiauth.personal_tokens;
    v_told apiauth.redeemed_device;
    v_now timestamptz;
begin
    select * into v_code from apiauth.device_codes as c where c.device_digest = sha256(redeem_device.device_digest) for update;
    v_now := shared.clock();
    v_told.outcome := case
        when v_code.id is null or v_code.token_id is not null then 'invalid_grant'
        when v_code.expires_at <= v_now then 'expired_token'
        when v_code.is_approved then 'issued'
        when not v_code.is_approved then 'access_denied'
        -- A second's grace, for what a network adds and takes.
        when v_now < v_code.polled_at + v_code.poll_interval - interval '1 second' then 'slow_down'
        else 'authorization_pending'
    end;
    if v_told.outcome in ('authorization_pending', 'slow_down') then
        update apiauth.device_codes as c
        set polled_at = v_now,
            poll_interval = least(c.poll_interval + case v_told.outcome when 'slow_down' then interval '5 seconds' else '0' end, interval '1 minute')
        where c.id = v_code.id
        returning c.poll_interval into v_told.poll_interval;
    elsif v_told.outcome = 'issued' then
        insert into apiauth.personal_tokens as t (user_id, name, digest, token_hint, scopes, created_at, expires_at)
        values (
            v_code.user_id, v_code.name, sha256(redeem_device.token_digest), redeem_device.token_hint, v_code.scopes,
            v_now, v_now + v_code.token_lifetime
        )
        returning t.* into v_token;
        update apiauth.device_codes as c set token_id = v_token.id, redeemed_at = v_now where c.id = v_code.id;
        perform shared.write_audit(
            'device.redeem', 'device/' || v_code.id,
            detail => jsonb_build_object('token_id', v_token.id, 'user_id', v_token.user_id, 'scopes', v_token.scopes)
        );
        v_told := ('issued', null::interval, v_token.id, v_token.name, v_token.scopes, v_token.expires_at)::apiauth.redeemed_device;
    end if;
    return v_told;
end;
$$;

comment on function apiauth.redeem_device(bytea, bytea, text) is
    'Axiom A10: expired or used never authenticates. Makes the token of an approved code, once; otherwise tells what the machine is to do.';

-- Needs no scope: whoever holds a token may always throw it away.
create function apiauth.revoke_own_token() returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
begin
    update apiauth.personal_tokens as t set revoked_at = shared.clock()
    where v_actor.kind = 'personal_token' and t.id = v_actor.credential_id and t.revoked_at is null;
    if found then
        perform shared.write_audit('token.revoke', 'token/' || v_actor.credential_id);
    end if;
    return found;
end;
$$;

comment on function apiauth.revoke_own_token() is 'Axiom A10: revoked never authenticates, from the next statement on. Ends the personal access token that asks.';

-- For the operator, as the guard: granted to nobody. Sessions first, then what was approved in one, then tokens: each
-- statement waits for whoever begets of what it ends, and the next one sees what that was. Tokens beget tokens, so these
-- are looked for until there is none. A code whose token was taken meanwhile stays, without it.
create function apiauth.revoke_all(email text) returns table (sessions bigint, tokens bigint, device_codes bigint)
language plpgsql volatile
set search_path = ''
as $$
declare
    v_user_id uuid;
    v_ended bigint;
begin
    select u.id into v_user_id
    from shared.users as u
    where shared.address_key(u.email) = shared.address_key(revoke_all.email);
    if not found then
        return;
    end if;
    sessions := cardinality(apiauth.end_sessions(v_user_id, shared.clock()));
    delete from apiauth.device_codes as c where c.user_id = v_user_id and c.token_id is null;
    get diagnostics device_codes = row_count;
    tokens := 0;
    loop
        update apiauth.personal_tokens as t set revoked_at = shared.clock()
        where t.user_id = v_user_id and t.revoked_at is null and t.expires_at > shared.clock();
        get diagnostics v_ended = row_count;
        tokens := tokens + v_ended;
        exit when not exists (
            select from apiauth.personal_tokens as t
            where t.user_id = v_user_id and t.revoked_at is null and t.expires_at > shared.clock()
        );
    end loop;
    perform shared.write_audit(
        'user.revoke_all', 'user/' || v_user_id,
        detail => jsonb_build_object('sessions', sessions, 'tokens', tokens, 'device_codes', device_codes)
    );
    return next;
end;
$$;

comment on function apiauth.revoke_all(text) is
    'Axiom A10: revoked never authenticates, from the next statement on. Ends every session and token of a user and every device code he approved; no row where there is no such user.';

revoke execute on function
    apiauth.request_device(bytea, bytea, text, inet, text[], interval), apiauth.find_device(bytea),
    apiauth.decide_device(bytea, boolean), apiauth.redeem_device(bytea, bytea, text), apiauth.revoke_own_token()
from public;
grant execute on function
    apiauth.request_device(bytea, bytea, text, inet, text[], interval), apiauth.find_device(bytea),
    apiauth.decide_device(bytea, boolean), apiauth.redeem_device(bytea, bytea, text), apiauth.revoke_own_token()
to brokerflow_app;

-- Nobody but the guard touches the codes: row security is on and there is no policy and no grant.
alter table apiauth.device_codes enable row level security;
