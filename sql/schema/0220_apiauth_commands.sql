-- How credentials come and go: registration, login, logout, personal tokens, trusted webhook secrets. Each crosses
-- into the guard's tables; where an actor is needed, it is the sealed one, never an argument.
-- depends: 0215_apiauth_tickets

set local role brokerflow_guard;

create type apiauth.stretching as (salt bytea, method text);

comment on type apiauth.stretching is 'Over which 16 bytes and how the service stretches a password; no method while nobody has one.';

-- An unknown address gets a salt too, always the same one, so that the answer does not tell who has an account. Nor does
-- the work that a login takes: salts lie evenly, so with the method of whose salt comes next as many strangers as
-- accounts in a hundred are stretched in each way.
create function apiauth.find_stretching(email text) returns apiauth.stretching
language sql stable security definer
set search_path = ''
as $$
    select s.salt, s.method
    from (
        select p.salt, p.method, 1 as choice
        from shared.users as u
        join apiauth.passwords as p on p.user_id = u.id
        where shared.address_key(u.email) = shared.address_key(find_stretching.email)
        union all
        select
            d.salt,
            coalesce(
                (select n.method from apiauth.passwords as n where n.salt > d.salt order by n.salt limit 1),
                (select n.method from apiauth.passwords as n order by n.salt limit 1)
            ),
            2
        from (
            select substring(apiauth.derived('salt ' || shared.address_key(find_stretching.email)) from 1 for 16)
        ) as d (salt)
    ) as s
    order by s.choice
    limit 1
$$;

comment on function apiauth.find_stretching(text) is 'Crosses into the guard''s table: how a password is stretched before it is proved; for an unknown address as for a known one.';

create function apiauth.register(email text, full_name text, salt bytea, key bytea, method text) returns shared.users
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_user shared.users;
begin
    insert into shared.users as u (email, full_name)
    values (register.email, register.full_name)
    returning u.* into v_user;
    insert into apiauth.passwords (user_id, salt, method, key_digest)
    values (v_user.id, register.salt, register.method, sha256(register.key));
    return v_user;
end;
$$;

comment on function apiauth.register(text, text, bytea, bytea, text) is
    'Axiom A9: who asks is proved. Registration makes a user without membership or role; there is no argument to ask for one.';

-- The password stays the same, so changed_at does. Of two logins at once the second finds another key, and nothing to do.
create function apiauth.restretch_password(email text, key bytea, salt bytea, stretched bytea, method text) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
begin
    update apiauth.passwords as p
    set salt = restretch_password.salt, method = restretch_password.method, key_digest = sha256(restretch_password.stretched)
    from shared.users as u
    where u.id = p.user_id
        and shared.address_key(u.email) = shared.address_key(restretch_password.email)
        and p.key_digest = sha256(restretch_password.key);
    return found;
end;
$$;

comment on function apiauth.restretch_password(text, bytea, bytea, bytea, text) is
    'Axiom A10: passwords are proved to the database. Whoever proves one may have it stretched anew, when what that costs has risen; false where he does not.';

-- A ticket has no row to lock. It was live when it entered; whoever logged its user out since then stamped a moment that
-- is later than the one at which its id was made.
create function apiauth.hold_ticket(user_id uuid, session_id uuid) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended(hold_ticket.user_id::text, 0));
    if exists (select from apiauth.ended_tickets as e where e.session_id = hold_ticket.session_id)
        or exists (
            select from apiauth.logouts as l
            where l.user_id = hold_ticket.user_id and l.ended_before >= shared.made_at(hold_ticket.session_id)
        )
    then
        perform apiauth.refuse_credential();
    end if;
end;
$$;

comment on function apiauth.hold_ticket(uuid, uuid) is 'Keeps a ticket from being ended before this transaction ends. Granted to nobody.';

-- Whoever ends all that a user has locks what he ends, and so does whoever begets from it: the one waits for the
-- other and then sees what it did, so that nothing is born of a credential that was just revoked.
create function apiauth.hold_credential() returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
begin
    case v_actor.kind
        when 'session' then
            perform from apiauth.sessions as s where s.id = v_actor.credential_id and s.revoked_at is null for share;
            if not found and not exists (select from apiauth.sessions as s where s.id = v_actor.credential_id) then
                perform apiauth.hold_ticket(v_actor.user_id, v_actor.credential_id);
                return;
            end if;
        else
            perform from apiauth.personal_tokens as t where t.id = v_actor.credential_id and t.revoked_at is null for share;
    end case;
    if not found then
        perform apiauth.refuse_credential();
    end if;
end;
$$;

comment on function apiauth.hold_credential() is 'Keeps the person''s credential that asks from being revoked before this transaction ends. Granted to nobody: commands that make another of it call it.';

create function apiauth.begin_session(user_id uuid, digest bytea, idle interval, lifetime interval, detail jsonb default '{}')
returns apiauth.sessions
language plpgsql volatile
set search_path = ''
as $$
declare
    v_session apiauth.sessions;
    v_now timestamptz := shared.clock();    -- read once: the longest lifetime counts from created_at
begin
    insert into apiauth.sessions as s (user_id, digest, idle, created_at, expires_at)
    values (
        begin_session.user_id, sha256(begin_session.digest), begin_session.idle, v_now, v_now + begin_session.lifetime
    )
    returning s.* into v_session;
    perform shared.write_audit(
        'session.open', 'user/' || begin_session.user_id,
        detail => jsonb_build_object('session_id', v_session.id) || begin_session.detail
    );
    return v_session;
end;
$$;

comment on function apiauth.begin_session(uuid, bytea, interval, interval, jsonb) is
    'Opens a session of whom its caller has proved, and tells the audit log. Granted to nobody: it asks for no proof.';

create function apiauth.open_session(email text, key bytea, digest bytea, idle interval, lifetime interval)
returns table (session_id uuid, expires_at timestamptz, user_id uuid, user_email text, full_name text, created_at timestamptz)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_user shared.users;
    v_session apiauth.sessions;
begin
    select u.* into v_user
    from shared.users as u
    join apiauth.passwords as p on p.user_id = u.id
    where shared.address_key(u.email) = shared.address_key(open_session.email)
        and p.key_digest = sha256(open_session.key)
    for key share of p;
    if not found then
        perform shared.refuse('credential_authenticates', 'the email or the password is wrong', 'invalid_authorization_specification');
    end if;
    v_session := apiauth.begin_session(v_user.id, open_session.digest, open_session.idle, open_session.lifetime);
    return query select v_session.id, v_session.expires_at, v_user.id, v_user.email, v_user.full_name, v_user.created_at;
end;
$$;

comment on function apiauth.open_session(text, bytea, bytea, interval, interval) is
    'Axiom A10: passwords are proved to the database. It compares the digest of the stretched password and stores the digest of the token''s digest.';

-- Of a session that is kept elsewhere the service brings the ticket, which it took from there.
create function apiauth.close_session(tickets text[] default '{}', half bytea default null) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_is_closed boolean;
begin
    if v_actor.kind is distinct from 'session' then
        return false;
    end if;
    update apiauth.sessions as s set revoked_at = shared.clock()
    where s.id = v_actor.credential_id and s.revoked_at is null;
    v_is_closed := found
        or cardinality(apiauth.end_tickets(
            coalesce(v_actor.impersonator_id, v_actor.user_id), v_actor.credential_id, close_session.tickets, close_session.half
        )) > 0;
    update apiauth.impersonations as i set stopped_at = shared.clock()
    where i.admin_id = v_actor.impersonator_id and i.user_id = v_actor.user_id and i.stopped_at is null;
    if v_is_closed then
        perform shared.write_audit('session.close', 'user/' || v_actor.user_id, detail => jsonb_build_object('session_id', v_actor.credential_id));
    end if;
    return v_is_closed;
end;
$$;

comment on function apiauth.close_session(text[], bytea) is 'Axiom A10: revoked never authenticates, from the next statement on. Ends the session that asks.';

-- Sessions speak of sessions: a token that leaked shall neither see where its user is logged in nor log him out.
create type apiauth.open_session as (
    id uuid, created_at timestamptz, last_seen_at timestamptz, expires_at timestamptz, is_current boolean
);

-- Another store says which tickets it has and when each was last seen; whose they are, their seals say.
create function apiauth.list_sessions(tickets text[] default '{}', seen_at timestamptz[] default '{}', half bytea default null)
returns setof apiauth.open_session
language sql volatile security definer
set search_path = ''
as $$
    select s.id, s.created_at, s.last_seen_at, s.expires_at, s.id = a.credential_id
    from shared.current_actor() as a
    join apiauth.sessions as s on s.user_id = a.user_id
    where a.kind = 'session' and a.impersonator_id is null
        and s.revoked_at is null and s.expires_at > shared.clock() and s.last_seen_at + s.idle > shared.clock()
    union all
    select t.session_id, t.created_at, l.seen_at, t.expires_at, t.session_id = a.credential_id
    from shared.current_actor() as a
    cross join unnest(list_sessions.tickets, list_sessions.seen_at) as l (sealed, seen_at)
    cross join lateral apiauth.read_ticket(l.sealed, list_sessions.half) as t
    where a.kind = 'session' and a.impersonator_id is null and t.user_id = a.user_id and apiauth.is_live(t)
$$;

comment on function apiauth.list_sessions(text[], timestamptz[], bytea) is
    'Crosses into the guard''s table and key: the live sessions of the user whose session asks, here and among these tickets.';

-- The rows are ended, and the stamp ends what is kept elsewhere, and rows that are not committed yet.
create function apiauth.end_sessions(user_id uuid, before timestamptz) returns uuid[]
language plpgsql volatile
set search_path = ''
as $$
declare
    v_ended uuid[];
begin
    perform pg_advisory_xact_lock(hashtextextended(end_sessions.user_id::text, 0));
    insert into apiauth.logouts as l (user_id, ended_before)
    values (end_sessions.user_id, end_sessions.before)
    on conflict on constraint logouts_pkey do update
    set ended_before = greatest(l.ended_before, excluded.ended_before);
    with ended as (
        update apiauth.sessions as s set revoked_at = shared.clock()
        where s.user_id = end_sessions.user_id and s.created_at <= end_sessions.before and s.revoked_at is null
        returning s.id
    )
    select coalesce(array_agg(e.id), '{}') into v_ended from ended as e;
    return v_ended;
end;
$$;

comment on function apiauth.end_sessions(uuid, timestamptz) is
    'Axiom A10: revoked never authenticates, from the next statement on. Ends all sessions of a user that were opened until then, wherever they are kept; returns those that were kept here. Granted to nobody.';

create function apiauth.revoke_sessions(id uuid default null, tickets text[] default '{}', half bytea default null) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_revoked uuid[];
begin
    if v_actor.kind is distinct from 'session' then
        return 0;
    end if;
    if v_actor.impersonator_id is not null then
        perform shared.refuse('revoke_sessions', 'who acts as another does not log him out', 'insufficient_privilege');
    end if;
    v_revoked := apiauth.end_tickets(v_actor.user_id, revoke_sessions.id, revoke_sessions.tickets, revoke_sessions.half);
    if revoke_sessions.id is null then
        v_revoked := v_revoked || apiauth.end_sessions(v_actor.user_id, shared.clock());
    else
        update apiauth.sessions as s set revoked_at = shared.clock()
        where s.user_id = v_actor.user_id and s.revoked_at is null and s.expires_at > shared.clock() and s.id = revoke_sessions.id;
        v_revoked := v_revoked || case when found then array[revoke_sessions.id] else '{}' end;
    end if;
    if cardinality(v_revoked) > 0 then
        perform shared.write_audit('session.revoke', 'user/' || v_actor.user_id, detail => jsonb_build_object('session_ids', v_revoked));
    end if;
    return cardinality(v_revoked);
end;
$$;

comment on function apiauth.revoke_sessions(uuid, text[], bytea) is
    'Axiom A10: revoked never authenticates, from the next statement on. Ends one session of the user whose session asks, or all of them; tells how many.';

-- Without the digest: what the bearer keeps is in no row that leaves.
create type apiauth.personal_token as (
    id uuid, name text, token_hint text, scopes text[], created_at timestamptz, expires_at timestamptz, last_used_at timestamptz
);

create function apiauth.create_personal_token(name text, digest bytea, token_hint text, scopes text[], lifetime interval)
returns apiauth.personal_token
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_token apiauth.personal_tokens;
    v_now timestamptz := shared.clock();    -- read once: the longest lifetime counts from created_at
begin
    perform shared.acting_person();
    if not (array['tokens:write'] || create_personal_token.scopes) <@ coalesce(v_actor.scopes, array['tokens:write'] || create_personal_token.scopes) then
        perform shared.refuse('credential_scope', 'a token mints no scope that it lacks, and none without tokens:write', 'insufficient_privilege');
    end if;
    perform apiauth.hold_credential();
    insert into apiauth.personal_tokens as t (user_id, name, digest, token_hint, scopes, created_at, expires_at)
    values (
        v_actor.user_id, create_personal_token.name, sha256(create_personal_token.digest), create_personal_token.token_hint,
        create_personal_token.scopes, v_now, v_now + create_personal_token.lifetime
    )
    returning t.* into v_token;
    perform shared.write_audit('token.create', 'token/' || v_token.id, detail => jsonb_build_object('scopes', v_token.scopes));
    return (v_token.id, v_token.name, v_token.token_hint, v_token.scopes, v_token.created_at, v_token.expires_at, v_token.last_used_at);
end;
$$;

comment on function apiauth.create_personal_token(text, bytea, text, text[], interval) is
    'Axiom A10: tokens are stored as digests of digests. Makes a token of the actor''s own user, with no scope that the actor lacks.';

create function apiauth.list_personal_tokens(after uuid default null, count integer default null) returns setof apiauth.personal_token
language sql stable security definer
set search_path = ''
as $$
    select t.id, t.name, t.token_hint, t.scopes, t.created_at, t.expires_at, t.last_used_at
    from apiauth.personal_tokens as t
    where t.user_id = (select shared.current_user_id()) and t.revoked_at is null
        and t.id < coalesce(list_personal_tokens.after, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by t.id desc
    limit list_personal_tokens.count
$$;

comment on function apiauth.list_personal_tokens(uuid, integer) is 'The tokens of the actor''s user that are not revoked, newest first.';

create function apiauth.revoke_personal_token(id uuid) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
begin
    if not 'tokens:write' = any (coalesce(v_actor.scopes, array['tokens:write'])) then
        perform shared.refuse('credential_scope', 'the credential lacks the scope tokens:write', 'insufficient_privilege');
    end if;
    update apiauth.personal_tokens as t set revoked_at = shared.clock()
    where t.id = revoke_personal_token.id and t.user_id = v_actor.user_id and t.revoked_at is null;
    if found then
        perform shared.write_audit('token.revoke', 'token/' || revoke_personal_token.id);
    end if;
    return found;
end;
$$;

comment on function apiauth.revoke_personal_token(uuid) is
    'Axiom A10: revoked never authenticates, from the next statement on. False where the actor''s user has no such token.';

-- Its own type, so that the query files see which columns may be null.
create type apiauth.organization_token as (
    id uuid, name text, token_hint text, scopes text[], created_at timestamptz, expires_at timestamptz, last_used_at timestamptz
);

create function apiauth.create_organization_token(
    organization_id uuid, name text, digest bytea, token_hint text, scopes text[], lifetime interval
) returns apiauth.organization_token
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_token apiauth.organization_tokens;
    v_now timestamptz := shared.clock();
begin
    if not shared.can_administer(create_organization_token.organization_id) then
        perform shared.refuse('not_found', 'there is no such organization, or it is not yours', 'no_data_found');
    end if;
    if not (array['tokens:write'] || create_organization_token.scopes) <@ coalesce(v_actor.scopes, array['tokens:write'] || create_organization_token.scopes) then
        perform shared.refuse('credential_scope', 'a token mints no scope that it lacks, and none without tokens:write', 'insufficient_privilege');
    end if;
    insert into apiauth.organization_tokens as t (organization_id, name, digest, token_hint, scopes, created_at, expires_at)
    values (
        create_organization_token.organization_id, create_organization_token.name, sha256(create_organization_token.digest),
        create_organization_token.token_hint, create_organization_token.scopes, v_now, v_now + create_organization_token.lifetime
    )
    returning t.* into v_token;
    perform shared.write_audit(
        'organization_token.create', 'token/' || v_token.id,
        detail => jsonb_build_object('organization_id', v_token.organization_id, 'scopes', v_token.scopes)
    );
    return (v_token.id, v_token.name, v_token.token_hint, v_token.scopes, v_token.created_at, v_token.expires_at, v_token.last_used_at);
end;
$$;

comment on function apiauth.create_organization_token(uuid, text, bytea, text, text[], interval) is
    'Axiom A10: tokens are stored as digests of digests. Makes a token of an organization that the actor administers, with no scope that he lacks; a null lifetime is endless.';

create function apiauth.list_organization_tokens(organization_id uuid, after uuid, max integer) returns setof apiauth.organization_token
language plpgsql stable security definer
set search_path = ''
as $$
begin
    if not shared.can_administer(list_organization_tokens.organization_id) then
        perform shared.refuse('not_found', 'there is no such organization, or it is not yours', 'no_data_found');
    end if;
    return query
    select t.id, t.name, t.token_hint, t.scopes, t.created_at, t.expires_at, t.last_used_at
    from apiauth.organization_tokens as t
    where t.organization_id = list_organization_tokens.organization_id
        and t.id < coalesce(list_organization_tokens.after, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        and t.revoked_at is null
    order by t.id desc
    limit list_organization_tokens.max;
end;
$$;

comment on function apiauth.list_organization_tokens(uuid, uuid, integer) is
    'Axiom A9: nobody sees another tenant''s rows. The tokens of an organization that the actor administers, newest first.';

create function apiauth.revoke_organization_token(organization_id uuid, id uuid) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
begin
    if not (shared.can_administer(revoke_organization_token.organization_id) and shared.can_use('tokens:write')) then
        return false;
    end if;
    update apiauth.organization_tokens as t set revoked_at = shared.clock()
    where t.id = revoke_organization_token.id
        and t.organization_id = revoke_organization_token.organization_id
        and t.revoked_at is null;
    if found then
        perform shared.write_audit('organization_token.revoke', 'token/' || revoke_organization_token.id);
    end if;
    return found;
end;
$$;

comment on function apiauth.revoke_organization_token(uuid, uuid) is
    'Axiom A10: revoked never authenticates, from the next statement on. False where an organization of the actor has no such token.';

-- Rows are locked before they are changed: of two rotations the second waits, and then sees the first one's keys.
create function apiauth.issue_environment_keys(
    environment_id uuid, secret_digest bytea, secret_hint text, public_digest bytea, public_hint text, grace interval
) returns timestamptz
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_organization_id uuid;
    v_now timestamptz;
begin
    select e.organization_id into v_organization_id
    from shared.environments as e
    where e.id = issue_environment_keys.environment_id;
    if not found or not shared.can_build(v_organization_id) then
        perform shared.refuse('not_found', 'there is no such environment, or it is not yours', 'no_data_found');
    end if;
    perform from apiauth.environment_keys as k where k.environment_id = issue_environment_keys.environment_id order by k.id for update;
    v_now := shared.clock();
    update apiauth.environment_keys as k
    set rotated_at = coalesce(k.rotated_at, v_now), expires_at = least(k.expires_at, v_now + issue_environment_keys.grace)
    where k.environment_id = issue_environment_keys.environment_id and coalesce(k.expires_at > v_now, true);
    insert into apiauth.environment_keys (organization_id, environment_id, kind, digest, token_hint)
    values
        (v_organization_id, issue_environment_keys.environment_id, 'secret_key', sha256(issue_environment_keys.secret_digest), issue_environment_keys.secret_hint),
        (v_organization_id, issue_environment_keys.environment_id, 'public_key', sha256(issue_environment_keys.public_digest), issue_environment_keys.public_hint);
    perform shared.write_audit(
        'environment_keys.issue', 'environment/' || issue_environment_keys.environment_id,
        detail => jsonb_build_object('grace', issue_environment_keys.grace)
    );
    return v_now + issue_environment_keys.grace;
end;
$$;

comment on function apiauth.issue_environment_keys(uuid, bytea, text, bytea, text, interval) is
    'Axiom A10: keys are stored as digests of digests. New keys of an environment in which the actor may build; the earlier ones end with the grace, and sooner if they were to.';

-- Runs as its caller, under the policies of shared; only the keys cross into the guard's table.
create function apiauth.create_environment(
    project_id uuid, slug text, type shared.environment_type, secret_digest bytea, secret_hint text, public_digest bytea, public_hint text
) returns shared.environments
language plpgsql volatile
set search_path = ''
as $$
declare
    v_environment shared.environments := shared.create_environment(create_environment.project_id, create_environment.slug, create_environment.type);
begin
    perform apiauth.issue_environment_keys(
        v_environment.id, create_environment.secret_digest, create_environment.secret_hint, create_environment.public_digest,
        create_environment.public_hint, interval '0'
    );
    return v_environment;
end;
$$;

comment on function apiauth.create_environment(uuid, text, shared.environment_type, bytea, text, bytea, text) is
    'Creates an environment together with its first keys.';

-- One statement, so that processes that ask at once take turns at the row and never together get more than there is.
-- The clock is read after the wait, and runs backwards for nobody. Buckets that must be full again make room.
create function apiauth.take_attempt(bucket text, capacity integer, period interval)
returns table (is_taken boolean, remaining integer, retry_after integer, full_after integer)
language sql volatile security definer
set search_path = ''
as $$
    delete from apiauth.rate_buckets as b
    where b.key in (
        select f.key from apiauth.rate_buckets as f
        where f.full_before < shared.clock() order by f.full_before limit 2 for update skip locked
    );
    insert into apiauth.rate_buckets as b (key, level, filled_at, is_taken, full_before)
    select
        apiauth.derived('bucket ' || take_attempt.bucket), take_attempt.capacity - 1, c.at, true,
        date_trunc('minute', c.at + take_attempt.period) + interval '1 minute'
    from (select shared.clock() as at) as c
    on conflict (key) do update set (level, filled_at, is_taken, full_before) = (
        select
            case when n.level >= 1 then n.level - 1 else n.level end, n.at, n.level >= 1,
            date_trunc('minute', n.at + take_attempt.period) + interval '1 minute'
        from (
            select c.at, least(
                take_attempt.capacity,
                b.level + extract(epoch from c.at - b.filled_at) * take_attempt.capacity / extract(epoch from take_attempt.period)
            ) as level
            from (select greatest(shared.clock(), b.filled_at) as at) as c
        ) as n
    )
    returning b.is_taken, floor(b.level)::integer,
        ceil(greatest(0, 1 - b.level) * extract(epoch from take_attempt.period) / take_attempt.capacity)::integer,
        ceil((take_attempt.capacity - b.level) * extract(epoch from take_attempt.period) / take_attempt.capacity)::integer
$$;

comment on function apiauth.take_attempt(text, integer, interval) is
    'Crosses into the guard''s buckets: takes one of the attempts that a bucket has for a period, and tells in how many seconds there is one again, and all.';

create domain apiauth.jwt_lifetime as interval
    -- No table has it, so that nothing is read again when this changes.
    -- squawk-ignore ban-create-domain-with-constraint
    constraint jwts_end_within_30_days check (value between '1 second' and '30 days');

comment on constraint jwts_end_within_30_days on domain apiauth.jwt_lifetime is 'A JWT has an end, at most 30 days ahead.';

create function apiauth.mint_jwt(environment_id uuid, scopes text[], lifetime apiauth.jwt_lifetime, one_time boolean, half bytea)
returns table (token text, jti uuid, expires_at timestamptz)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_jti uuid := shared.uuidv7();
    v_issued bigint := floor(extract(epoch from shared.clock()));
    v_expires bigint := v_issued + floor(extract(epoch from mint_jwt.lifetime));
    v_signed text;
begin
    if v_actor.kind is distinct from 'secret_key' or v_actor.environment_id is distinct from mint_jwt.environment_id then
        perform shared.refuse('not_found', 'there is no such environment, or the credential is not its secret key', 'no_data_found');
    end if;
    if not (array['tokens:write'] || mint_jwt.scopes) <@ v_actor.scopes then
        perform shared.refuse('credential_scope', 'a key mints no scope that it lacks', 'insufficient_privilege');
    end if;
    if not apiauth.is_trusted_half(mint_jwt.half) then
        perform apiauth.refuse_credential();
    end if;
    -- Written out, since the entrance compares it byte by byte.
    v_signed := apiauth.to_base64url(convert_to(format('{"alg":"HS256","kid":"%s","typ":"JWT"}', v_actor.credential_id), 'UTF8')) || '.'
        || apiauth.to_base64url(convert_to(
            jsonb_build_object(
                'iss', 'brokerflow', 'aud', 'brokerflow', 'sub', mint_jwt.environment_id, 'jti', v_jti, 'iat', v_issued,
                'exp', v_expires, 'scopes', mint_jwt.scopes, 'one_time', mint_jwt.one_time
            )::text,
            'UTF8'
        ));
    perform shared.write_audit(
        'jwt.mint', 'environment/' || mint_jwt.environment_id,
        detail => jsonb_build_object('jti', v_jti, 'scopes', mint_jwt.scopes, 'one_time', mint_jwt.one_time)
    );
    return query select
        v_signed || '.' || apiauth.to_base64url(apiauth.hmac(apiauth.jwt_key(v_actor.credential_id, mint_jwt.half), convert_to(v_signed, 'UTF8'))),
        v_jti, to_timestamp(v_expires);
end;
$$;

comment on function apiauth.mint_jwt(uuid, text[], apiauth.jwt_lifetime, boolean, bytea) is
    'Axiom A10: expired never authenticates. A JWT of the environment whose secret key asks, with no scope that the key lacks; it ends with that key at the latest.';

-- The first secrets are trusted on first use, when the service first starts; after that only a holder of a trusted
-- one introduces others, which is how secrets rotate. So a stranger who reaches this function gains nothing.
create function apiauth.trust_esign_keys(digests bytea[]) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
    lock table apiauth.esign_keys in exclusive mode;
    if exists (select from apiauth.esign_keys)
        and not exists (
            select from apiauth.esign_keys as k
            where k.revoked_at is null
                and k.digest = any (array(select sha256(d.digest) from unnest(trust_esign_keys.digests) as d (digest)))
        )
    then
        perform apiauth.refuse_credential();
    end if;
    insert into apiauth.esign_keys (digest)
    select sha256(d.digest) from unnest(trust_esign_keys.digests) as d (digest)
    on conflict (digest) do nothing;
end;
$$;

comment on function apiauth.trust_esign_keys(bytea[]) is
    'Axiom A9: who asks is proved. A webhook secret is trusted on the word of one that is trusted already.';

-- For the operator, as the guard: granted to nobody.
create function apiauth.replace_esign_keys(digests bytea[]) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    update apiauth.esign_keys as k set revoked_at = shared.clock()
    where k.revoked_at is null
        and k.digest <> all (array(select sha256(d.digest) from unnest(replace_esign_keys.digests) as d (digest)));
    insert into apiauth.esign_keys as k (digest)
    select sha256(d.digest) from unnest(replace_esign_keys.digests) as d (digest)
    on conflict (digest) do update set revoked_at = null;
end;
$$;

comment on function apiauth.replace_esign_keys(bytea[]) is 'Trusts exactly these webhook secrets from now on.';

-- As with the webhook's secrets: the first are trusted on first use.
create function apiauth.trust_key_halves(halves bytea[]) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
    if (select bool_and(octet_length(h.half) = 32) from unnest(trust_key_halves.halves) as h (half)) is not true then
        perform apiauth.refuse_credential();
    end if;
    lock table apiauth.key_halves in exclusive mode;
    if exists (select from apiauth.key_halves)
        and not exists (select from unnest(trust_key_halves.halves) as h (half) where apiauth.is_trusted_half(h.half))
    then
        perform apiauth.refuse_credential();
    end if;
    insert into apiauth.key_halves (digest)
    select sha256(h.half) from unnest(trust_key_halves.halves) as h (half)
    on conflict (digest) do nothing;
end;
$$;

comment on function apiauth.trust_key_halves(bytea[]) is
    'Axiom A9: who asks is proved. A half of a key is trusted on the word of one that is trusted already.';

-- For the operator, as the guard: granted to nobody.
create function apiauth.keep_key_halves(halves bytea[]) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    delete from apiauth.key_halves as k
    where k.digest <> all (array(select sha256(h.half) from unnest(keep_key_halves.halves) as h (half)));
    insert into apiauth.key_halves (digest)
    select sha256(h.half) from unnest(keep_key_halves.halves) as h (half)
    on conflict (digest) do nothing;
end;
$$;

comment on function apiauth.keep_key_halves(bytea[]) is 'Trusts exactly these halves from now on: JWTs and tickets of others are refused.';

revoke execute on function
    apiauth.find_stretching(text), apiauth.register(text, text, bytea, bytea, text),
    apiauth.restretch_password(text, bytea, bytea, bytea, text),
    apiauth.open_session(text, bytea, bytea, interval, interval), apiauth.close_session(text[], bytea),
    apiauth.list_sessions(text[], timestamptz[], bytea), apiauth.revoke_sessions(uuid, text[], bytea),
    apiauth.create_personal_token(text, bytea, text, text[], interval), apiauth.list_personal_tokens(uuid, integer),
    apiauth.revoke_personal_token(uuid), apiauth.create_organization_token(uuid, text, bytea, text, text[], interval),
    apiauth.list_organization_tokens(uuid, uuid, integer), apiauth.revoke_organization_token(uuid, uuid),
    apiauth.issue_environment_keys(uuid, bytea, text, bytea, text, interval),
    apiauth.create_environment(uuid, text, shared.environment_type, bytea, text, bytea, text),
    apiauth.take_attempt(text, integer, interval),
    apiauth.mint_jwt(uuid, text[], apiauth.jwt_lifetime, boolean, bytea), apiauth.trust_esign_keys(bytea[]),
    apiauth.trust_key_halves(bytea[])
from public;
grant execute on function
    apiauth.find_stretching(text), apiauth.register(text, text, bytea, bytea, text),
    apiauth.restretch_password(text, bytea, bytea, bytea, text),
    apiauth.open_session(text, bytea, bytea, interval, interval), apiauth.close_session(text[], bytea),
    apiauth.list_sessions(text[], timestamptz[], bytea), apiauth.revoke_sessions(uuid, text[], bytea),
    apiauth.create_personal_token(text, bytea, text, text[], interval), apiauth.list_personal_tokens(uuid, integer),
    apiauth.revoke_personal_token(uuid), apiauth.create_organization_token(uuid, text, bytea, text, text[], interval),
    apiauth.list_organization_tokens(uuid, uuid, integer), apiauth.revoke_organization_token(uuid, uuid),
    apiauth.issue_environment_keys(uuid, bytea, text, bytea, text, interval),
    apiauth.create_environment(uuid, text, shared.environment_type, bytea, text, bytea, text),
    apiauth.take_attempt(text, integer, interval),
    apiauth.mint_jwt(uuid, text[], apiauth.jwt_lifetime, boolean, bytea), apiauth.trust_esign_keys(bytea[]),
    apiauth.trust_key_halves(bytea[])
to brokerflow_app;
