-- A platform admin acts as a user: explicitly, with a reason, for an hour at most, and always under both names.
--
-- His session changes into one that acts as the user, and back; each time under a new token, and the old one ends, so
-- that no token means the one today and the other tomorrow. When the hour is over the session is, too: it does not
-- turn back by itself under the hands of somebody who believes himself the user.
-- depends: 0260_apiauth_rises

set local role brokerflow_guard;

create function apiauth.impersonations_by_a_platform_admin() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
begin
    if (v_actor.kind = 'session' and v_actor.is_platform_admin and v_actor.user_id = new.admin_id) is not true then
        perform shared.refuse(tg_name, 'only a platform admin acts as another, in a session of his own', 'insufficient_privilege');
    end if;
    return new;
end;
$$;

-- Compares the row with what it was, which no constraint sees.
create function apiauth.impersonations_stop_once() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse(tg_name, 'an impersonation is stopped, once, and not otherwise changed');
    return null;
end;
$$;

create trigger impersonations_by_a_platform_admin
before insert on apiauth.impersonations
for each row execute function apiauth.impersonations_by_a_platform_admin();

create trigger impersonations_stop_once
before update on apiauth.impersonations
for each row when (
    old.stopped_at is not null
    or (old.id, old.admin_id, old.user_id, old.reason, old.started_at, old.ends_at)
        is distinct from (new.id, new.admin_id, new.user_id, new.reason, new.started_at, new.ends_at)
)
execute function apiauth.impersonations_stop_once();

create trigger impersonations_never_deleted
before delete on apiauth.impersonations
for each row execute function shared.refuse_change();

create trigger impersonations_never_emptied
before truncate on apiauth.impersonations
for each statement execute function shared.refuse_change();

comment on trigger impersonations_by_a_platform_admin on apiauth.impersonations is
    'Axiom A9: who asks is proved. Nobody acts as another but a platform admin, himself, and not while he acts as one.';
comment on trigger impersonations_stop_once on apiauth.impersonations is
    'Axiom A10: expired or revoked never authenticates. What was stopped stays stopped, and no hour grows longer.';
comment on trigger impersonations_never_deleted on apiauth.impersonations is
    'Axiom A9: who asks is proved. Who acted as whom, why and when stays written.';
comment on trigger impersonations_never_emptied on apiauth.impersonations is
    'Axiom A9: who asks is proved. TRUNCATE fires no row trigger, so it has its own.';

-- What would outlive the hour, or let its holder in by another door, is closed here whatever command writes it.
create trigger passwords_closed_to_impersonators
before insert or update on apiauth.passwords
for each row execute function shared.refuse_impersonator();

create trigger personal_tokens_closed_to_impersonators
before insert on apiauth.personal_tokens
for each row execute function shared.refuse_impersonator();

create trigger organization_tokens_closed_to_impersonators
before insert on apiauth.organization_tokens
for each row execute function shared.refuse_impersonator();

create trigger environment_keys_closed_to_impersonators
before insert on apiauth.environment_keys
for each row execute function shared.refuse_impersonator();

create trigger device_codes_closed_to_impersonators
before update on apiauth.device_codes
for each row execute function shared.refuse_impersonator();

comment on trigger passwords_closed_to_impersonators on apiauth.passwords is
    'Axiom A9: who asks is proved. Who acts as a user does not choose how the user proves himself.';
comment on trigger personal_tokens_closed_to_impersonators on apiauth.personal_tokens is
    'Axiom A9: who asks is proved. A token that an impersonator made would act as the user alone, long after the hour.';
comment on trigger organization_tokens_closed_to_impersonators on apiauth.organization_tokens is
    'Axiom A9: who asks is proved. A token that an impersonator made would outlive his hour.';
comment on trigger environment_keys_closed_to_impersonators on apiauth.environment_keys is
    'Axiom A9: who asks is proved. A key that an impersonator made would outlive his hour, and mint JWTs.';
comment on trigger device_codes_closed_to_impersonators on apiauth.device_codes is
    'Axiom A9: who asks is proved. A machine that an impersonator let in would act as the user alone.';

-- As a ticket in both stores, so that what follows is written once.
create function apiauth.asking_session(ticket text, half bytea) returns apiauth.ticket
language plpgsql volatile
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_session apiauth.ticket;
begin
    select s.id, s.user_id, s.digest, s.created_at, s.expires_at, s.impersonation_id into v_session
    from apiauth.sessions as s
    where v_actor.kind = 'session' and s.id = v_actor.credential_id and s.revoked_at is null
    for update;
    if not found then
        v_session := apiauth.read_ticket(asking_session.ticket, asking_session.half);
        if (v_session.session_id = v_actor.credential_id and v_actor.kind = 'session' and apiauth.is_live(v_session)) is not true then
            perform apiauth.refuse_credential();
        end if;
    end if;
    return v_session;
end;
$$;

comment on function apiauth.asking_session(text, bytea) is 'The session that asks, by its row or by its ticket. Granted to nobody.';

-- The new one keeps when its user logged in and when that ends: neither is a login.
create function apiauth.replace_session(session apiauth.ticket, digest bytea, impersonation_id uuid, half bytea) returns text
language plpgsql volatile
set search_path = ''
as $$
declare
    v_new apiauth.ticket := (
        shared.uuidv7(), (session).user_id, sha256(replace_session.digest), (session).created_at, (session).expires_at,
        replace_session.impersonation_id
    )::apiauth.ticket;
begin
    insert into apiauth.sessions (id, user_id, digest, idle, created_at, expires_at, impersonation_id)
    select v_new.session_id, v_new.user_id, v_new.digest, s.idle, v_new.created_at, v_new.expires_at, v_new.impersonation_id
    from apiauth.sessions as s
    where s.id = (session).session_id;
    if found then
        update apiauth.sessions as s set revoked_at = shared.clock() where s.id = (session).session_id;
        return null;
    end if;
    perform pg_advisory_xact_lock(hashtextextended((session).user_id::text, 0));
    insert into apiauth.ended_tickets (session_id, expires_at) values ((session).session_id, (session).expires_at);
    return apiauth.seal_ticket(v_new, replace_session.half);
end;
$$;

comment on function apiauth.replace_session(apiauth.ticket, bytea, uuid, bytea) is
    'Axiom A10: revoked never authenticates, from the next statement on. Puts another session in the place of one that changes what it may do; returns its ticket where that one was a ticket. Granted to nobody.';

create function apiauth.start_impersonation(
    user_id uuid, reason text, lifetime interval, digest bytea, ticket text default null, half bytea default null
) returns table (impersonation_id uuid, started_at timestamptz, ends_at timestamptz, new_ticket text)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_session apiauth.ticket := apiauth.asking_session(start_impersonation.ticket, start_impersonation.half);
    v_now timestamptz := shared.clock();    -- read once: the longest hour counts from started_at
    v_new apiauth.impersonations;
begin
    insert into apiauth.impersonations as i (admin_id, user_id, reason, started_at, ends_at)
    select v_session.user_id, start_impersonation.user_id, start_impersonation.reason, v_now,
        least(v_now + start_impersonation.lifetime, v_session.expires_at)
    returning i.* into v_new;
    if not exists (select from shared.users as u where u.id = start_impersonation.user_id) then
        perform shared.refuse('not_found', 'there is no such user', 'no_data_found');
    end if;
    perform shared.write_audit(
        'impersonation.start', 'user/' || v_new.user_id,
        detail => jsonb_build_object('impersonation_id', v_new.id, 'reason', v_new.reason, 'ends_at', shared.iso8601(v_new.ends_at))
    );
    return query select v_new.id, v_new.started_at, v_new.ends_at,
        apiauth.replace_session(v_session, start_impersonation.digest, v_new.id, start_impersonation.half);
end;
$$;

comment on function apiauth.start_impersonation(uuid, text, interval, bytea, text, bytea) is
    'Axiom A9: who asks is proved. The platform admin whose session asks acts as a user from now on, under a new token; who he is and why is in the audit log first.';

create function apiauth.stop_impersonation(digest bytea, ticket text default null, half bytea default null)
returns table (expires_at timestamptz, new_ticket text)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_session apiauth.ticket := apiauth.asking_session(stop_impersonation.ticket, stop_impersonation.half);
begin
    if v_session.impersonation_id is null then
        perform shared.refuse('not_found', 'this session acts as nobody else', 'no_data_found');
    end if;
    update apiauth.impersonations as i set stopped_at = shared.clock() where i.id = v_session.impersonation_id and i.stopped_at is null;
    perform shared.write_audit(
        'impersonation.stop', 'user/' || v_actor.user_id, detail => jsonb_build_object('impersonation_id', v_session.impersonation_id)
    );
    return query select v_session.expires_at,
        apiauth.replace_session(v_session, stop_impersonation.digest, null, stop_impersonation.half);
end;
$$;

comment on function apiauth.stop_impersonation(bytea, text, bytea) is
    'Axiom A10: revoked never authenticates, from the next statement on. The platform admin is himself again, under a new token.';

revoke execute on function
    apiauth.start_impersonation(uuid, text, interval, bytea, text, bytea), apiauth.stop_impersonation(bytea, text, bytea)
from public;
grant execute on function
    apiauth.start_impersonation(uuid, text, interval, bytea, text, bytea), apiauth.stop_impersonation(bytea, text, bytea)
to brokerflow_app;
