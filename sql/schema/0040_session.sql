-- Who acts: the sealed actor of a transaction, and the questions that policies ask about it.
--
-- An entrance (0220) proves a credential and seals the actor into a transaction-local setting. Anybody may write
-- that setting, nobody can forge it: it carries an HMAC-SHA256 whose key only the guard reads, bound to this backend
-- and to this transaction's start. So a value written by hand, kept for a later transaction or carried to another
-- backend is refused.
-- depends: 0030_clock_and_identifiers

set local role brokerflow_owner;

create type shared.member_role as enum ('viewer', 'agent', 'admin', 'owner');
create type shared.credential_kind as enum (
    'session', 'personal_token', 'organization_token', 'secret_key', 'public_key', 'jwt', 'esign'
);

create type shared.actor as (
    kind shared.credential_kind,
    credential_id uuid,
    user_id uuid,
    organization_id uuid,
    environment_id uuid,
    branch_id uuid,             -- of a PREVIEW environment only
    role shared.member_role,    -- null without a user: then the scopes alone decide
    scopes text[],              -- null: all, as a session has
    is_platform_admin boolean,
    impersonator_id uuid        -- the platform admin who acts as the user; null where the user acts himself
);

comment on type shared.actor is 'Who acts, as an entrance proved it; null fields where the credential says nothing.';

-- The scopes that exist, and the least role that may use each. Constants of the type, not a cast of the whole: the
-- cast of a text is not immutable, and the function would not be inlined.
create function shared.minimum_role(scope text) returns shared.member_role
language sql immutable parallel safe
as $$
    select case minimum_role.scope
        when 'accounts:read' then shared.member_role 'agent'
        when 'accounts:write' then shared.member_role 'agent'
        when 'agreements:read' then shared.member_role 'viewer'
        when 'agreements:write' then shared.member_role 'agent'
        when 'contacts:read' then shared.member_role 'agent'
        when 'organizations:write' then shared.member_role 'admin'
        when 'secrets:read' then shared.member_role 'agent'
        when 'secrets:write' then shared.member_role 'admin'
        when 'tokens:write' then shared.member_role 'viewer'
        when 'votes:write' then shared.member_role 'viewer'
    end
$$;

comment on function shared.minimum_role(text) is 'The least role that may use a scope; null for a scope that does not exist.';

create function shared.are_known_scopes(scopes text[]) returns boolean
language sql immutable parallel safe
as $$
    select coalesce(bool_and(shared.minimum_role(s.name) is not null), true) from unnest(are_known_scopes.scopes) as s (name)
$$;

comment on function shared.are_known_scopes(text[]) is 'Whether each scope exists.';

-- Who signed, who read a contact and who votes is a person; a program of an organization has none to name.
create function shared.is_personal(scope text) returns boolean
language sql immutable parallel safe
as $$ select is_personal.scope in ('agreements:write', 'contacts:read', 'votes:write') $$;

comment on function shared.is_personal(text) is 'Whether what a scope allows records the person who did it, so that no credential without a user may bear it.';

create function shared.are_personal(scopes text[]) returns boolean
language sql immutable parallel safe
as $$ select coalesce(bool_or(shared.is_personal(s.name)), false) from unnest(are_personal.scopes) as s (name) $$;

comment on function shared.are_personal(text[]) is 'Whether one of these scopes takes a person.';

grant execute on function shared.minimum_role(text) to brokerflow_app, brokerflow_guard, brokerflow_vault;
grant execute on function shared.are_known_scopes(text[]), shared.is_personal(text), shared.are_personal(text[]) to brokerflow_guard;

set local role brokerflow_guard;

-- Keys as the two padded blocks of RFC 2104, so that an HMAC costs two hashes. The newest seals; it is replaced after
-- an hour, and no seal of it counts after three, so that what a dump or a backup holds forges nothing.
create table apiauth.seal_keys (
    id uuid primary key default gen_random_uuid(),
    inner_block bytea not null,
    outer_block bytea not null,
    made_at timestamptz not null default shared.clock(),
    constraint seal_keys_blocks_are_64_bytes check (octet_length(inner_block) = 64 and octet_length(outer_block) = 64)
);

comment on table apiauth.seal_keys is 'Axiom A9: who asks is proved to the database, not told to it. The keys that seal actors are the guard''s alone, so only an entrance can name an actor.';

alter table apiauth.seal_keys enable row level security;

-- As bits, because bytes have no xor; bit_send puts four bytes of length before them.
create function apiauth.xor_block(key bytea, pad integer) returns bytea
language sql immutable parallel safe
as $$
    select substring(
        bit_send(
            ('x' || rpad(encode(xor_block.key, 'hex'), 128, '0'))::bit(512)
            # ('x' || repeat(lpad(to_hex(xor_block.pad), 2, '0'), 64))::bit(512)
        )
        from 5
    )
$$;

comment on function apiauth.xor_block(bytea, integer) is 'A key of at most 64 bytes as a padded block of RFC 2104.';

-- Three version 4 UUIDs carry 366 random bits from the server's strong generator.
create function apiauth.random_key() returns bytea
language sql volatile parallel safe
as 'select sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))';

comment on function apiauth.random_key() is '32 random bytes.';

create function apiauth.make_seal_key() returns apiauth.seal_keys
language plpgsql volatile
set search_path = ''
as $$
declare
    v_secret bytea := apiauth.random_key();
    v_key apiauth.seal_keys;
begin
    insert into apiauth.seal_keys as k (inner_block, outer_block)
    values (apiauth.xor_block(v_secret, 54), apiauth.xor_block(v_secret, 92))   -- 0x36 and 0x5c
    returning k.* into v_key;
    return v_key;
end;
$$;

comment on function apiauth.make_seal_key() is 'Makes the key that seals from now on. Granted to nobody.';

select from apiauth.make_seal_key();

-- Who finds the newest key worn out replaces it; who finds it locked, because another is just doing so, still uses it,
-- unless it is so old that the other will remove it: then he waits for the next.
create function apiauth.newest_seal_key() returns apiauth.seal_keys
language plpgsql volatile
set search_path = ''
as $$
declare
    v_key apiauth.seal_keys;
begin
    loop
        select * into v_key from apiauth.seal_keys as k order by k.made_at desc limit 1;
        if v_key.made_at > shared.clock() - interval '1 hour' then
            return v_key;
        end if;
        perform from apiauth.seal_keys as k where k.id = v_key.id for update skip locked;
        if found or v_key.id is null then
            delete from apiauth.seal_keys as k where k.made_at < shared.clock() - interval '2 hours';
            return apiauth.make_seal_key();
        end if;
        if v_key.made_at > shared.clock() - interval '100 minutes' then
            return v_key;
        end if;
        perform from apiauth.seal_keys as k where k.id = v_key.id for update;
    end loop;
end;
$$;

comment on function apiauth.newest_seal_key() is 'The key to seal with, replaced when it is an hour old. Granted to nobody.';

-- Backend and transaction start are in the message, not in the setting: a seal is valid here and now only.
create function apiauth.seal_of(body text, key apiauth.seal_keys) returns text
language sql stable
as $$
    select encode(
        sha256(seal_of.key.outer_block || sha256(seal_of.key.inner_block || convert_to(
            pg_backend_pid() || ' ' || (extract(epoch from transaction_timestamp()) * 1000000)::bigint || ' ' || seal_of.body, 'UTF8'
        ))),
        'hex'
    )
$$;

comment on function apiauth.seal_of(text, apiauth.seal_keys) is 'HMAC-SHA256 of an actor in this transaction of this backend. Granted to nobody: who could call it could forge.';

-- Crosses into the guard's key. Parallel restricted, since a worker has another pid than the backend that was sealed.
create function shared.current_actor() returns shared.actor
language plpgsql stable parallel restricted security definer
set search_path = ''
as $$
declare
    v_setting text := current_setting('brokerflow.actor', true);    -- seal (64), key (36), body
    v_body text := substr(v_setting, 101);
    v_key apiauth.seal_keys;
begin
    -- After a transaction-local use the setting reads as '' for the rest of the session.
    if coalesce(v_setting, '') = '' then
        return null;
    end if;
    select * into v_key from apiauth.seal_keys as k
    where k.id::text = substr(v_setting, 65, 36) and k.made_at > shared.clock() - interval '3 hours';
    -- Hashes are compared, so that the time taken says nothing about the seal.
    if sha256(convert_to(left(v_setting, 64), 'UTF8')) is distinct from sha256(convert_to(apiauth.seal_of(v_body, v_key), 'UTF8')) then
        raise exception using
            errcode = 'invalid_authorization_specification',
            constraint = 'current_actor',
            message = 'the actor of this transaction was not sealed by an entrance';
    end if;
    return v_body::shared.actor;
end;
$$;

comment on function shared.current_actor() is 'Axiom A9: who asks is proved to the database, not told to it. A forged, kept or carried setting is refused.';

revoke execute on function shared.current_actor() from public;
grant execute on function shared.current_actor() to brokerflow_owner, brokerflow_app, brokerflow_vault;

set local role brokerflow_owner;

create function shared.current_user_id() returns uuid
language sql stable parallel restricted
as 'select (shared.current_actor()).user_id';

comment on function shared.current_user_id() is 'The proved user, or null.';

create function shared.current_organization_id() returns uuid
language sql stable parallel restricted
as 'select (shared.current_actor()).organization_id';

comment on function shared.current_organization_id() is 'The tenant of the proved actor, or null.';

create function shared.current_environment_id() returns uuid
language sql stable parallel restricted
as 'select (shared.current_actor()).environment_id';

comment on function shared.current_environment_id() is 'The environment whose key or JWT asks, or null.';

-- What an Idempotency-Key belongs to. A key that is rotated, or a JWT that is minted anew, stays the same actor.
create function shared.current_actor_id() returns uuid
language sql stable parallel restricted
as 'select coalesce(a.impersonator_id, a.user_id, a.environment_id, a.organization_id) from shared.current_actor() as a';

comment on function shared.current_actor_id() is 'The proved user, or who acts as him; or else environment, or else organization; null for nobody.';

-- What records a person asks for one here, lest a program be told of a missing value.
create function shared.acting_person() returns uuid
language plpgsql stable parallel restricted
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
begin
    if v_actor.kind is not null and v_actor.user_id is null then
        perform shared.refuse('actor_is_person', 'this takes a person, not a key or token of an organization', 'insufficient_privilege');
    end if;
    return v_actor.user_id;
end;
$$;

comment on function shared.acting_person() is 'The proved user; refuses the credential of an organization or environment, null for nobody.';

-- It raises rather than hides, because a credential without the scope, or a viewer who writes, is told so (403),
-- whereas another tenant's row does not exist for him (404).
create function shared.organization_of(actor shared.actor, scope text) returns uuid
language plpgsql stable parallel restricted
set search_path = ''
as $$
begin
    if not organization_of.scope = any (coalesce((organization_of.actor).scopes, array[organization_of.scope])) then
        perform shared.refuse(
            'credential_scope', format('the credential lacks the scope %s', organization_of.scope), 'insufficient_privilege'
        );
    end if;
    if (organization_of.actor).role < shared.minimum_role(organization_of.scope) then
        perform shared.refuse(
            'member_role', format('the role %s may not use %s', (organization_of.actor).role, organization_of.scope),
            'insufficient_privilege'
        );
    end if;
    return (organization_of.actor).organization_id;
end;
$$;

comment on function shared.organization_of(shared.actor, text) is 'The organization of an actor whose credential bears the scope and whose role may use it; refuses another.';

-- Commands that name what is an organization's ask this, lest who has none be told that what he names is not there.
create function shared.required_organization(actor shared.actor, scope text) returns uuid
language plpgsql stable parallel restricted
set search_path = ''
as $$
declare
    v_organization_id uuid := shared.organization_of(required_organization.actor, required_organization.scope);
begin
    if v_organization_id is null then
        perform shared.refuse('actor_is_member', 'this takes an organization, and the actor works for none', 'insufficient_privilege');
    end if;
    return v_organization_id;
end;
$$;

comment on function shared.required_organization(shared.actor, text) is 'The same; refuses where the actor has none.';

-- Policies compare a row's tenant with this.
create function shared.acting_organization(scope text) returns uuid
language sql stable parallel restricted
as 'select shared.organization_of(shared.current_actor(), acting_organization.scope)';

comment on function shared.acting_organization(text) is 'Axiom A9: the actor''s organization, if his credential bears the scope and his role may use it. Every tenant policy compares with it.';

grant execute on function shared.current_user_id(), shared.acting_person() to brokerflow_app, brokerflow_guard, brokerflow_vault;
grant execute on function shared.current_organization_id() to brokerflow_app, brokerflow_guard;
grant execute on function
    shared.current_environment_id(), shared.organization_of(shared.actor, text),
    shared.required_organization(shared.actor, text), shared.acting_organization(text)
to brokerflow_app, brokerflow_vault;
grant execute on function shared.current_actor_id() to brokerflow_app;
