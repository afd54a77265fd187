-- The entrances: each takes what a bearer proved and the scopes that he is going to need, and seals the actor or
-- refuses. All are the guard's, because only he reads credentials; each crosses from "anybody" to "this actor", and the
-- service may execute each.
-- depends: 0200_apiauth_tables

set local role brokerflow_guard;

create function apiauth.derived(purpose text) returns bytea
language sql stable
set search_path = ''
as $$
    select sha256(k.key || sha256(convert_to(derived.purpose, 'UTF8'))) from apiauth.root_keys as k
$$;

comment on function apiauth.derived(text) is 'A key of 32 bytes for a purpose, always the same. Granted to nobody.';

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
    kind shared.credential_kind, credential_id uuid, user_id uuid, organization_id uuid, environment_id uuid, branch_id uuid,
    role shared.member_role, scopes text[], is_platform_admin boolean, needed text[], impersonator_id uuid default null
) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    v_body text := (kind, credential_id, user_id, organization_id, environment_id, branch_id, role, scopes, is_platform_admin, impersonator_id)::shared.actor::text;
    v_key apiauth.seal_keys := apiauth.newest_seal_key();
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
    perform set_config('brokerflow.actor', apiauth.seal_of(v_body, v_key) || v_key.id || v_body, true);
end;
$$;

comment on function apiauth.seal_actor(shared.credential_kind, uuid, uuid, uuid, uuid, uuid, shared.member_role, text[], boolean, text[], uuid) is
    'Puts the proved actor into the transaction, if his credential bears the scopes that are needed. Granted to nobody: entrances call it.';

-- Without a slug an actor works in the first organization that he founded or whose invitation he took, and only where
-- there is none in the first that added him: anybody may add him to his own organization, in whatever role, and must
-- not thereby move his work. A slug of none of his is refused.
create function apiauth.admit(
    kind shared.credential_kind, credential_id uuid, user_id uuid, scopes text[], organization text, needed text[],
    impersonator_id uuid default null
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
    order by m.accepted_at, m.created_at, m.organization_id
    limit 1;
    if not found and admit.organization is not null then
        perform shared.refuse('actor_is_member', 'the actor is no member of that organization', 'insufficient_privilege');
    end if;
    perform apiauth.seal_actor(
        admit.kind, admit.credential_id, admit.user_id, v_organization_id, null, null, v_role, admit.scopes,
        admit.impersonator_id is null and exists (select from shared.platform_admins as a where a.user_id = admit.user_id),
        admit.needed, admit.impersonator_id
    );
end;
$$;

comment on function apiauth.admit(shared.credential_kind, uuid, uuid, text[], text, text[], uuid) is 'Resolves organization and role as they are now, and seals the actor. Granted to nobody: entrances call it.';

-- Without a branch a PREVIEW environment is nowhere. Elsewhere a branch is refused rather than ignored, lest what was
-- meant for a preview be done to production. Archived, unknown and another environment's are one refusal.
create function apiauth.find_branch(environment_id uuid, branch text) returns uuid
language plpgsql volatile
set search_path = ''
as $$
declare
    v_type shared.environment_type;
    v_branch_id uuid;
begin
    select e.type, b.id into v_type, v_branch_id
    from shared.environments as e
    left join shared.preview_branches as b
        on b.environment_id = e.id and b.name = find_branch.branch and b.archived_at is null
    where e.id = find_branch.environment_id;
    if v_type = 'PREVIEW' and v_branch_id is null then
        perform shared.refuse(
            'branch_is_live', 'a credential of a PREVIEW environment needs X-Branch to name a live branch of it',
            'invalid_authorization_specification'
        );
    end if;
    if v_type <> 'PREVIEW' and find_branch.branch is not null then
        perform shared.refuse('branch_of_preview', 'X-Branch goes with a credential of a PREVIEW environment', 'insufficient_privilege');
    end if;
    return v_branch_id;
end;
$$;

comment on function apiauth.find_branch(uuid, text) is
    'Axiom A10: revoked never authenticates, from the next statement on. The live branch in which a credential of a PREVIEW environment acts, null in any other. Granted to nobody: entrances call it.';

-- A credential of an organization can act nowhere else; who names another one is refused as a stranger to it is.
create function apiauth.admit_program(
    kind shared.credential_kind, credential_id uuid, organization_id uuid, environment_id uuid, branch text, scopes text[],
    organization text, needed text[]
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
        case when admit_program.environment_id is not null then apiauth.find_branch(admit_program.environment_id, admit_program.branch) end,
        null, admit_program.scopes, false, admit_program.needed
    );
end;
$$;

comment on function apiauth.admit_program(shared.credential_kind, uuid, uuid, uuid, text, text[], text, text[]) is
    'Seals an actor that is no person: it has no user and no role, and does what its scopes say. Granted to nobody: entrances call it.';

-- Who acts as another may see what the user sees of agreements, and do what helps him there. Contacts, secrets,
-- credentials, members and votes are closed to him like to any credential that lacks their scopes, on every path;
-- what agreements:write would open beyond that, its tables close (0270).
create function apiauth.scopes_of_impersonators() returns text[]
language sql immutable parallel safe
as $$ select array['agreements:read', 'agreements:write'] $$;

comment on function apiauth.scopes_of_impersonators() is
    'Axiom A9: who asks is proved. A platform admin who acts as a user has these scopes of his and no others; nor is he a platform admin meanwhile, who judges.';

create function apiauth.admit_session(session_id uuid, user_id uuid, impersonation_id uuid, organization text, needed text[]) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    v_impersonation apiauth.impersonations;
begin
    if admit_session.impersonation_id is null then
        perform apiauth.admit('session', admit_session.session_id, admit_session.user_id, null, admit_session.organization, admit_session.needed);
        return;
    end if;
    select i.* into v_impersonation
    from apiauth.impersonations as i
    join shared.platform_admins as a on a.user_id = i.admin_id and a.granted_at < i.started_at
    join shared.users as u on u.id = i.user_id
    where i.id = admit_session.impersonation_id and i.admin_id = admit_session.user_id
        and i.stopped_at is null and i.ends_at > shared.clock();
    if not found then
        perform apiauth.refuse_credential();
    end if;
    perform apiauth.admit(
        'session', admit_session.session_id, v_impersonation.user_id, apiauth.scopes_of_impersonators(),
        admit_session.organization, admit_session.needed, v_impersonation.admin_id
    );
end;
$$;

comment on function apiauth.admit_session(uuid, uuid, uuid, text, text[]) is
    'Axiom A10: expired or revoked never authenticates, from the next statement on. A session that acts as another does so while its hour lasts and its user is the platform admin who began it. Granted to nobody: entrances call it.';

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
        and s.last_seen_at + s.idle > v_now
        and not exists (select from apiauth.logouts as l where l.user_id = s.user_id and l.ended_before >= s.created_at);
    if not found then
        perform apiauth.refuse_credential();
    end if;
    -- Seldom enough to cost nothing, often enough for any idle time; who finds the row locked leaves it alone.
    if v_session.last_seen_at < v_now - least(interval '1 minute', v_session.idle / 10) then
        update apiauth.sessions as s set last_seen_at = v_now
        where s.id = (select l.id from apiauth.sessions as l where l.id = v_session.id for update skip locked);
    end if;
    perform apiauth.admit_session(
        v_session.id, v_session.user_id, v_session.impersonation_id, enter_session.organization, enter_session.needed
    );
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
        'organization_token', v_token.id, v_token.organization_id, null, null, v_token.scopes,
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
        when 'secret_key' then array['accounts:read', 'accounts:write', 'agreements:read', 'secrets:read', 'secrets:write', 'tokens:write']
        else '{}'
    end
$$;

comment on function apiauth.scopes_of(shared.credential_kind) is 'The scopes of every key of a kind; none where the kind has none of its own.';

create function apiauth.admit_key(kind shared.credential_kind, digest bytea, organization text, needed text[], branch text) returns void
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
        admit_key.kind, v_key.id, v_key.organization_id, v_key.environment_id, admit_key.branch,
        apiauth.scopes_of(admit_key.kind), admit_key.organization, admit_key.needed
    );
end;
$$;

comment on function apiauth.admit_key(shared.credential_kind, bytea, text, text[], text) is 'Finds a live key of a kind and seals its environment as the actor. Granted to nobody: entrances call it.';

create function apiauth.enter_secret_key(
    digest bytea, organization text default null, needed text[] default '{}', branch text default null
) returns void
language sql volatile security definer
set search_path = ''
as $$
    select apiauth.admit_key(
        'secret_key', enter_secret_key.digest, enter_secret_key.organization, enter_secret_key.needed, enter_secret_key.branch
    )
$$;

comment on function apiauth.enter_secret_key(bytea, text, text[], text) is
    'Axiom A10: expired never authenticates, from the next statement on. Takes the SHA-256 of an environment''s secret key; a rotated one enters until its grace ends.';

create function apiauth.enter_public_key(
    digest bytea, organization text default null, needed text[] default '{}', branch text default null
) returns void
language sql volatile security definer
set search_path = ''
as $$
    select apiauth.admit_key(
        'public_key', enter_public_key.digest, enter_public_key.organization, enter_public_key.needed, enter_public_key.branch
    )
$$;

comment on function apiauth.enter_public_key(bytea, text, text[], text) is
    'Axiom A9: who asks is proved. Takes the SHA-256 of an environment''s public key, which proves too little for PRODUCTION and bears no scope.';

create function apiauth.to_base64url(bytes bytea) returns text
language sql immutable parallel safe
as $$ select translate(encode(to_base64url.bytes, 'base64'), '+/=' || chr(10), '-_') $$;

comment on function apiauth.to_base64url(bytea) is 'RFC 4648 without padding. PostgreSQL breaks its lines, which goes too.';

create function apiauth.from_base64url(text text) returns bytea
language sql immutable parallel safe
as $$
    select decode(rpad(translate(from_base64url.text, '-_', '+/'), (length(from_base64url.text) + 3) / 4 * 4, '='), 'base64')
$$;

comment on function apiauth.from_base64url(text) is 'The inverse, for what holds the alphabet only.';

create function apiauth.hmac(key bytea, message bytea) returns bytea
language sql immutable parallel safe
set search_path = ''
as $$
    select sha256(apiauth.xor_block(hmac.key, 92) || sha256(apiauth.xor_block(hmac.key, 54) || hmac.message))   -- 0x5c, 0x36
$$;

comment on function apiauth.hmac(bytea, bytea) is 'HMAC-SHA256 by RFC 2104 under a key of at most 64 bytes.';

-- To verify a MAC is to be able to make one, so a key that lay here whole would turn a dump into credentials. It has two
-- halves. This one comes from the root key and says which secret key minted; the service derives the other from its
-- master key, which no database holds, and hands it over with each request. A dump without the master key forges
-- nothing, and so does the service's role without this function, which is granted to nobody. What it costs: who has
-- both the dump and the master key can mint, and a new master key ends every JWT.
create function apiauth.is_trusted_half(half bytea) returns boolean
language sql stable
set search_path = ''
as $$ select exists (select from apiauth.key_halves as h where h.digest = sha256(is_trusted_half.half)) $$;

comment on function apiauth.is_trusted_half(bytea) is
    'Axiom A9: who asks is proved. A half that the service did not introduce makes no key, whoever brings it.';

create function apiauth.jwt_key(kid uuid, half bytea) returns bytea
language sql stable
set search_path = ''
as $$ select sha256(apiauth.derived('jwt ' || jwt_key.kid) || jwt_key.half) where apiauth.is_trusted_half(jwt_key.half) $$;

comment on function apiauth.jwt_key(uuid, bytea) is
    'Axiom A10: no credential at rest can be replayed. The key of the JWTs of a secret key, half of which is not in this database.';

-- The header is compared whole, not interpreted: there is one, so that "alg", "jwk" or "crit" have nobody to persuade.
-- The claims are read only after the MAC has shown that they were written here. The service sends the digest of the
-- signature, since signing input and signature together would be the credential.
-- A use is recorded in the request's own transaction: who was refused and left nothing behind has not used it up. A
-- refusal that is recorded is a use, and all transactions of a request are one.
create function apiauth.enter_jwt(
    digest bytea, organization text, needed text[], branch text, signing_input text, half bytea, used_by bytea
) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_header text;
    v_key apiauth.environment_keys;
    v_claims jsonb;
    v_scopes text[];
    v_now timestamptz := shared.clock();
begin
    if (enter_jwt.signing_input ~ '^[0-9A-Za-z_-]{96}[.][0-9A-Za-z_-]+$' and length(enter_jwt.signing_input) <= 4096) is not true then
        perform apiauth.refuse_credential();
    end if;
    v_header := encode(apiauth.from_base64url(left(enter_jwt.signing_input, 96)), 'escape');
    if v_header !~ '^[{]"alg":"HS256","kid":"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}","typ":"JWT"[}]$' then
        perform apiauth.refuse_credential();
    end if;
    select * into v_key
    from apiauth.environment_keys as k
    where k.id = substr(v_header, 23, 36)::uuid and k.kind = 'secret_key' and coalesce(k.expires_at > v_now, true);
    if (enter_jwt.digest = sha256(apiauth.hmac(apiauth.jwt_key(v_key.id, enter_jwt.half), convert_to(enter_jwt.signing_input, 'UTF8')))) is not true then
        perform apiauth.refuse_credential();
    end if;
    v_claims := convert_from(apiauth.from_base64url(substr(enter_jwt.signing_input, 98)), 'UTF8')::jsonb;
    v_scopes := array(select jsonb_array_elements_text(v_claims -> 'scopes'));
    if (
        v_claims ->> 'iss' = 'brokerflow' and v_claims ->> 'aud' = 'brokerflow' and v_claims ->> 'sub' = v_key.environment_id::text
        and to_timestamp((v_claims ->> 'iat')::bigint) <= v_now and to_timestamp((v_claims ->> 'exp')::bigint) > v_now
        and v_scopes <@ apiauth.scopes_of('secret_key')
    ) is not true then
        perform apiauth.refuse_credential();
    end if;
    if (v_claims -> 'one_time') is distinct from 'false'::jsonb then
        perform apiauth.use_jwt((v_claims ->> 'jti')::uuid, enter_jwt.used_by, to_timestamp((v_claims ->> 'exp')::bigint));
    end if;
    perform apiauth.admit_program(
        'jwt', (v_claims ->> 'jti')::uuid, v_key.organization_id, v_key.environment_id, enter_jwt.branch, v_scopes,
        enter_jwt.organization, enter_jwt.needed
    );
end;
$$;

comment on function apiauth.enter_jwt(bytea, text, text[], text, text, bytea, bytea) is
    'Axiom A9: who asks is proved to the database. It recomputes the MAC of a JWT itself; the actor is the environment whose live secret key minted it.';

-- Whoever comes second waits for the first to commit. A few rows that are past their time make room.
create function apiauth.use_jwt(jti uuid, used_by bytea, expires_at timestamptz) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    insert into apiauth.used_jwts (jti, used_by, expires_at)
    values (use_jwt.jti, use_jwt.used_by, use_jwt.expires_at)
    on conflict on constraint used_jwts_pkey do nothing;
    if not exists (select from apiauth.used_jwts as u where u.jti = use_jwt.jti and u.used_by = use_jwt.used_by) then
        perform apiauth.refuse_credential();
    end if;
    delete from apiauth.used_jwts as u
    where u.jti in (
        select p.jti from apiauth.used_jwts as p where p.expires_at < shared.clock() order by p.expires_at limit 10 for update skip locked
    );
end;
$$;

comment on function apiauth.use_jwt(uuid, bytea, timestamptz) is 'Uses a one-time JWT up, or refuses. Granted to nobody: the entrance calls it.';

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
    perform apiauth.seal_actor('esign', null, null, null, null, null, null, '{}', false, '{}');
end;
$$;

comment on function apiauth.enter_esign(bytea) is
    'Axiom A9: who asks is proved to the database. Takes the SHA-256 of a webhook secret; the actor completes signatures and sees nothing else.';

revoke execute on function
    apiauth.enter_session(bytea, text, text[]), apiauth.enter_token(bytea, text, text[]),
    apiauth.enter_organization_token(bytea, text, text[]), apiauth.enter_secret_key(bytea, text, text[], text),
    apiauth.enter_public_key(bytea, text, text[], text), apiauth.enter_jwt(bytea, text, text[], text, text, bytea, bytea),
    apiauth.enter_esign(bytea)
from public;
grant execute on function
    apiauth.enter_session(bytea, text, text[]), apiauth.enter_token(bytea, text, text[]),
    apiauth.enter_organization_token(bytea, text, text[]), apiauth.enter_secret_key(bytea, text, text[], text),
    apiauth.enter_public_key(bytea, text, text[], text), apiauth.enter_jwt(bytea, text, text[], text, text, bytea, bytea),
    apiauth.enter_esign(bytea)
to brokerflow_app;
