-- The entrances: each takes what a bearer proved, and seals the actor or refuses. All are the guard's, because only
-- he reads credentials; each crosses from "anybody" to "this actor", and the service may execute each.
-- depends: 0200_apiauth_tables

set local role brokerflow_guard;

create function apiauth.refuse_credential() returns void
language sql volatile
set search_path = ''
as $$
    select shared.refuse('credential_authenticates', 'the credential is unknown, expired or revoked', 'invalid_authorization_specification')
$$;

comment on function apiauth.refuse_credential() is 'One refusal for every reason, so that nobody learns which it was.';

-- The statements of one message share their transaction's start, so that of two transactions in it the second would
-- accept the seal of the first. An entrance that comes in a later message than its transaction's BEGIN has a start of
-- its own: nothing else can begin at that time in this backend.
create function apiauth.seal_actor(
    kind shared.credential_kind, credential_id uuid, user_id uuid, organization_id uuid, role shared.member_role,
    scopes text[], is_platform_admin boolean
) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    v_body text := (kind, credential_id, user_id, organization_id, role, scopes, is_platform_admin)::shared.actor::text;
    v_key apiauth.seal_keys := apiauth.newest_seal_key();
begin
    if statement_timestamp() = transaction_timestamp() then
        perform shared.refuse('current_actor', 'an entrance comes in a message of its own, after BEGIN', 'invalid_transaction_state');
    end if;
    perform set_config('brokerflow.actor', apiauth.seal_of(v_body, v_key) || v_key.id || v_body, true);
end;
$$;

comment on function apiauth.seal_actor(shared.credential_kind, uuid, uuid, uuid, shared.member_role, text[], boolean) is
    'Puts the proved actor into the transaction. Granted to nobody: entrances call it.';

-- Without a slug an actor works where he has the highest role, and of equals where he joined first: an admin of
-- another organization may add him, and must not thereby move his work. A slug of none of his is refused.
create function apiauth.admit(
    kind shared.credential_kind, credential_id uuid, user_id uuid, scopes text[], organization text
) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    v_organization_id uuid;
    v_role shared.member_role;
begin
    select m.organization_id, m.role into v_organization_id, v_role
    from shared.memberships as m
    where m.user_id = admit.user_id
        and (
            admit.organization is null
            or m.organization_id = (select o.id from shared.organizations as o where o.slug = admit.organization)
        )
    order by m.role desc, m.created_at, m.organization_id
    limit 1;
    if not found and admit.organization is not null then
        perform shared.refuse('actor_is_member', 'the actor is no member of that organization', 'insufficient_privilege');
    end if;
    perform apiauth.seal_actor(
        admit.kind, admit.credential_id, admit.user_id, v_organization_id, v_role, admit.scopes,
        exists (select from shared.platform_admins as a where a.user_id = admit.user_id)
    );
end;
$$;

comment on function apiauth.admit(shared.credential_kind, uuid, uuid, text[], text) is 'Resolves organization and role as they are now, and seals the actor. Granted to nobody: entrances call it.';

create function apiauth.enter_session(digest bytea, organization text default null) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_session apiauth.sessions;
    v_now timestamptz := shared.clock();
begin
    select * into v_session
    from apiauth.sessions as s
    where s.digest = sha256(enter_session.digest)
        and s.revoked_at is null
        and s.expires_at > v_now
        and s.last_seen_at + s.idle > v_now;
    if not found then
        perform apiauth.refuse_credential();
    end if;
    -- Seldom enough to cost nothing, often enough for any idle time; who finds the row locked leaves it alone.
    if v_session.last_seen_at < v_now - least(interval '1 minute', v_session.idle / 10) then
        update apiauth.sessions as s set last_seen_at = v_now
        where s.id = (select l.id from apiauth.sessions as l where l.id = v_session.id for update skip locked);
    end if;
    perform apiauth.admit('session', v_session.id, v_session.user_id, null, enter_session.organization);
end;
$$;

comment on function apiauth.enter_session(bytea, text) is
    'Axiom A10: expired or revoked never authenticates, from the next statement on. Takes the SHA-256 of a session token.';

create function apiauth.enter_token(digest bytea, organization text default null) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_token apiauth.personal_tokens;
    v_now timestamptz := shared.clock();
begin
    select * into v_token
    from apiauth.personal_tokens as t
    where t.digest = sha256(enter_token.digest)
        and t.revoked_at is null
        and t.expires_at > v_now;
    if not found then
        perform apiauth.refuse_credential();
    end if;
    if v_token.last_used_at is null or v_token.last_used_at < v_now - interval '5 minutes' then
        update apiauth.personal_tokens as t set last_used_at = v_now
        where t.id = (select l.id from apiauth.personal_tokens as l where l.id = v_token.id for update skip locked);
    end if;
    perform apiauth.admit('personal_token', v_token.id, v_token.user_id, v_token.scopes, enter_token.organization);
end;
$$;

comment on function apiauth.enter_token(bytea, text) is
    'Axiom A10: expired or revoked never authenticates, from the next statement on. Takes the SHA-256 of a personal access token.';

create function apiauth.enter_esign(digest bytea) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
    if not exists (
        select from apiauth.esign_keys as k where k.digest = sha256(enter_esign.digest) and k.revoked_at is null
    ) then
        perform apiauth.refuse_credential();
    end if;
    perform apiauth.seal_actor('esign', null, null, null, null, '{}', false);
end;
$$;

comment on function apiauth.enter_esign(bytea) is
    'Axiom A9: who asks is proved to the database. Takes the SHA-256 of a webhook secret; the actor completes signatures and sees nothing else.';

revoke execute on function apiauth.enter_session(bytea, text), apiauth.enter_token(bytea, text), apiauth.enter_esign(bytea) from public;
grant execute on function apiauth.enter_session(bytea, text), apiauth.enter_token(bytea, text), apiauth.enter_esign(bytea) to brokerflow_app;
