-- The entrances: each takes what a bearer proved and the scopes that he is going to need, and seals the actor or
-- refuses. All are the guard's, because only he reads credentials; each crosses from "anybody" to "this actor", and the
-- service may execute each.
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
    kind shared.credential_kind, credential_id uuid, user_id uuid, organization_id uuid, environment_id uuid,
    role shared.member_role, scopes text[], is_platform_admin boolean, needed text[]
) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    v_body text := (kind, credential_id, user_id, organization_id, environment_id, role, scopes, is_platform_admin)::shared.actor::text;
begin
    if statement_timestamp() = transaction_timestamp() then
        perform shared.refuse('current_actor', 'an entrance comes in a message of its own, after BEGIN', 'invalid_transaction_state');
    end if;
    if not needed <@ coalesce(scopes, needed) then
        perform shared.refuse(
            'credential_scope',
            format('the credential lacks the scope %s', (select n.scope from unnest(needed) as n (scope) where n.scope <> all (scopes) limit 1)),
            'insufficient_privilege'
        );
    end if;
    perform set_config('brokerflow.actor', apiauth.seal_of(v_body) || v_body, true);
end;
$$;

comment on function apiauth.seal_actor(shared.credential_kind, uuid, uuid, uuid, uuid, shared.member_role, text[], boolean, text[]) is
    'Puts the proved actor into the transaction, if his credential bears the scopes that are needed. Granted to nobody: entrances call it.';

-- Without a slug an actor works where he has the highest role, and of equals where he joined first: an admin of
-- another organization may add him, and must not thereby move his work. A slug of none of his is refused.
create function apiauth.admit(
    kind shared.credential_kind, credential_id uuid, user_id uuid, scopes text[], organization text, needed text[]
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
        admit.kind, admit.credential_id, admit.user_id, v_organization_id, null, v_role, admit.scopes,
        exists (select from shared.platform_admins as a where a.user_id = admit.user_id), admit.needed
    );
end;
$$;

comment on function apiauth.admit(shared.credential_kind, uuid, uuid, text[], text, text[]) is 'Resolves organization and role as they are now, and seals the actor. Granted to nobody: entrances call it.';

-- A credential of an organization can act nowhere else; who names another one is refused as a stranger to it is.
create function apiauth.admit_program(
    kind shared.credential_kind, credential_id uuid, organization_id uuid, environment_id uuid, scopes text[], organization text,
    needed text[]
) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    if admit_program.organization is not null and not exists (
        select from shared.organizations as o
        where o.id = admit_program.organization_id and o.slug = admit_program.organization
    ) then
        perform shared.refuse('actor_is_member', 'the credential is of another organization', 'insufficient_privilege');
    end if;
    perform apiauth.seal_actor(
        admit_program.kind, admit_program.credential_id, null, admit_program.organization_id, admit_program.environment_id,
        null, admit_program.scopes, false, admit_program.needed
    );
end;
$$;

comment on function apiauth.admit_program(shared.credential_kind, uuid, uuid, uuid, text[], text, text[]) is
    'Seals an actor that is no person: it has no user and no role, and does what its scopes say. Granted to nobody: entrances call it.';

create function apiauth.enter_session(digest bytea, organization text default null, needed text[] default '{}') returns void
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
    perform apiauth.admit('session', v_session.id, v_session.user_id, null, enter_session.organization, enter_session.needed);
end;
$$;

comment on function apiauth.enter_session(bytea, text, text[]) is
    'Axiom A10: expired or revoked never authenticates, from the next statement on. Takes the SHA-256 of a session token.';

create function apiauth.enter_token(digest bytea, organization text default null, needed text[] default '{}') returns void
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
    perform apiauth.admit('personal_token', v_token.id, v_token.user_id, v_token.scopes, enter_token.organization, enter_token.needed);
end;
$$;

comment on function apiauth.enter_token(bytea, text, text[]) is
    'Axiom A10: expired or revoked never authenticates, from the next statement on. Takes the SHA-256 of a personal access token.';

create function apiauth.enter_organization_token(digest bytea, organization text default null, needed text[] default '{}') returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_token apiauth.organization_tokens;
    v_now timestamptz := shared.clock();
begin
    select * into v_token
    from apiauth.organization_tokens as t
    where t.digest = sha256(enter_organization_token.digest)
        and t.revoked_at is null
        and coalesce(t.expires_at > v_now, true);
    if not found then
        perform apiauth.refuse_credential();
    end if;
    if v_token.last_used_at is null or v_token.last_used_at < v_now - interval '5 minutes' then
        update apiauth.organization_tokens as t set last_used_at = v_now
        where t.id = (select l.id from apiauth.organization_tokens as l where l.id = v_token.id for update skip locked);
    end if;
    perform apiauth.admit_program(
        'organization_token', v_token.id, v_token.organization_id, null, v_token.scopes,
        enter_organization_token.organization, enter_organization_token.needed
    );
end;
$$;

comment on function apiauth.enter_organization_token(bytea, text, text[]) is
    'Axiom A10: expired or revoked never authenticates, from the next statement on. Takes the SHA-256 of an organization''s token; the actor is never a user.';

-- What a kind of key is for. Not a column: a scope that is added here is every key's at once.
create function apiauth.scopes_of(kind shared.credential_kind) returns text[]
language sql immutable parallel safe
as $$
    select case scopes_of.kind
        when 'secret_key' then array['agreements:read', 'secrets:read', 'secrets:write', 'tokens:write']
        else '{}'
    end
$$;

comment on function apiauth.scopes_of(shared.credential_kind) is 'The scopes of every key of a kind; none where the kind has none of its own.';

create function apiauth.admit_key(kind shared.credential_kind, digest bytea, organization text, needed text[]) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    v_key apiauth.environment_keys;
    v_now timestamptz := shared.clock();
begin
    select * into v_key
    from apiauth.environment_keys as k
    where k.digest = sha256(admit_key.digest)
        and k.kind = admit_key.kind
        and coalesce(k.expires_at > v_now, true);
    if not found then
        perform apiauth.refuse_credential();
    end if;
    if v_key.last_used_at is null or v_key.last_used_at < v_now - interval '5 minutes' then
        update apiauth.environment_keys as k set last_used_at = v_now
        where k.id = (select l.id from apiauth.environment_keys as l where l.id = v_key.id for update skip locked);
    end if;
    if admit_key.kind = 'public_key' and exists (
        select from shared.environments as e where e.id = v_key.environment_id and e.type = 'PRODUCTION'
    ) then
        perform apiauth.refuse_credential();
    end if;
    perform apiauth.admit_program(
        admit_key.kind, v_key.id, v_key.organization_id, v_key.environment_id, apiauth.scopes_of(admit_key.kind),
        admit_key.organization, admit_key.needed
    );
end;
$$;

comment on function apiauth.admit_key(shared.credential_kind, bytea, text, text[]) is 'Finds a live key of a kind and seals its environment as the actor. Granted to nobody: entrances call it.';

create function apiauth.enter_secret_key(digest bytea, organization text default null, needed text[] default '{}') returns void
language sql volatile security definer
set search_path = ''
as $$ select apiauth.admit_key('secret_key', enter_secret_key.digest, enter_secret_key.organization, enter_secret_key.needed) $$;

comment on function apiauth.enter_secret_key(bytea, text, text[]) is
    'Axiom A10: expired never authenticates, from the next statement on. Takes the SHA-256 of an environment''s secret key; a rotated one enters until its grace ends.';

create function apiauth.enter_public_key(digest bytea, organization text default null, needed text[] default '{}') returns void
language sql volatile security definer
set search_path = ''
as $$ select apiauth.admit_key('public_key', enter_public_key.digest, enter_public_key.organization, enter_public_key.needed) $$;

comment on function apiauth.enter_public_key(bytea, text, text[]) is
    'Axiom A9: who asks is proved. Takes the SHA-256 of an environment''s public key, which proves too little for PRODUCTION and bears no scope.';

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
    perform apiauth.seal_actor('esign', null, null, null, null, null, '{}', false, '{}');
end;
$$;

comment on function apiauth.enter_esign(bytea) is
    'Axiom A9: who asks is proved to the database. Takes the SHA-256 of a webhook secret; the actor completes signatures and sees nothing else.';

revoke execute on function
    apiauth.enter_session(bytea, text, text[]), apiauth.enter_token(bytea, text, text[]),
    apiauth.enter_organization_token(bytea, text, text[]), apiauth.enter_secret_key(bytea, text, text[]),
    apiauth.enter_public_key(bytea, text, text[]), apiauth.enter_esign(bytea)
from public;
grant execute on function
    apiauth.enter_session(bytea, text, text[]), apiauth.enter_token(bytea, text, text[]),
    apiauth.enter_organization_token(bytea, text, text[]), apiauth.enter_secret_key(bytea, text, text[]),
    apiauth.enter_public_key(bytea, text, text[]), apiauth.enter_esign(bytea)
to brokerflow_app;
