-- What may be asked of the secret store. Each command crosses into the vault, acts in the scope of the proved actor and
-- leaves its audit row: a write in its own transaction, a read in one that is committed before the value is handed out.
--
-- A value is sealed to its version, so a write has two steps in one transaction: reserve_version locks the secret and
-- tells what the value will be sealed to, put_version takes it sealed. A read has two steps in two transactions:
-- grant_reads audits, take_reads hands out what the committed grant names. Between them the service needs no entrance:
-- a grant is a random number that is good once, for ten seconds.
-- depends: 0310_secretstore_rules

set local role brokerflow_vault;

create type secretstore.scope as (organization_id uuid, environment_id uuid, id uuid);

comment on type secretstore.scope is 'Where keys live: an organization, or one of its environments; id is that of the narrower.';

create type secretstore.place as (
    secret_id uuid, organization_id uuid, environment_id uuid, key text, version integer, provenance bytea
);

comment on type secretstore.place is 'What a value is sealed to, and the secret that it belongs to.';

-- As PostgreSQL sends a row: each column with its type and length, so that no two rows are the same bytes.
create function secretstore.provenance_of(
    restores integer, expires_at timestamptz, credential_kind shared.credential_kind, credential_id uuid, created_by uuid,
    created_at timestamptz
) returns bytea
language sql stable
as 'select record_send(row(restores, expires_at, credential_kind::text, credential_id, created_by, created_at))';

comment on function secretstore.provenance_of(integer, timestamptz, shared.credential_kind, uuid, uuid, timestamptz) is
    'Axiom A11: a secret''s value is sealed to its scope, key and version. It is sealed to what stands beside it, too: who put it and when, what it restores, when it ends.';

-- Takes the actor, so that a command which needs him again proves him once.
create function secretstore.scope_of(actor shared.actor, right_needed text, environment_id uuid) returns secretstore.scope
language plpgsql stable
set search_path = ''
as $$
declare
    v_organization_id uuid := shared.required_organization(scope_of.actor, scope_of.right_needed);
    v_own_id uuid := (scope_of.actor).environment_id;
    v_environment_id uuid := coalesce(scope_of.environment_id, v_own_id);
begin
    if v_environment_id <> v_own_id or v_environment_id is distinct from v_own_id and not exists (
        select from shared.environments as e where e.id = v_environment_id and e.organization_id = v_organization_id
    ) then
        perform shared.refuse('not_found', 'there is no such environment, or it is not yours', 'no_data_found');
    end if;
    return (v_organization_id, v_environment_id, coalesce(v_environment_id, v_organization_id));
end;
$$;

comment on function secretstore.scope_of(shared.actor, text, uuid) is
    'Axiom A9: nobody sees or touches another tenant''s rows. The scope that an actor asks for, if it is of his organization and he may use it so; a key of an environment has that one and no other.';

create function secretstore.acting_scope(right_needed text, environment_id uuid) returns secretstore.scope
language sql stable
as 'select secretstore.scope_of(shared.current_actor(), acting_scope.right_needed, acting_scope.environment_id)';

comment on function secretstore.acting_scope(text, uuid) is 'The scope that the proved actor asks for.';

-- No concat, which is stable: PostgreSQL inlines no function that claims more than what it calls.
create function secretstore.subject_of(organization_id uuid, environment_id uuid, key text) returns text
language sql immutable parallel safe
as $$
    select 'secret/' || coalesce(organization_id::text, '') || '/' || coalesce(environment_id::text, '-') || '/' || coalesce(key, '')
$$;

comment on function secretstore.subject_of(uuid, uuid, text) is 'What the audit log calls a key, be there a secret or not.';

create function secretstore.is_live(secret secretstore.secrets) returns boolean
language sql volatile
as $$ select secret.version > 0 and secret.deleted_at is null and coalesce(secret.expires_at > shared.clock(), true) $$;

comment on function secretstore.is_live(secretstore.secrets) is 'Whether a key has a value that can be read now: put, not deleted, not expired.';

-- Racing writers of a key queue here, and each sees what the one before has committed.
create function secretstore.locked_secret(scope secretstore.scope, key text) returns secretstore.secrets
language plpgsql volatile
set search_path = ''
as $$
declare
    v_secret secretstore.secrets;
begin
    select * into v_secret from secretstore.secrets as s
    where s.organization_id = (locked_secret.scope).organization_id and s.scope_id = (locked_secret.scope).id
        and s.key = locked_secret.key
    for no key update;
    return v_secret;
end;
$$;

comment on function secretstore.locked_secret(secretstore.scope, text) is 'The secret of a key under its lock; null where there is none.';

create function secretstore.live_version(secret secretstore.secrets) returns integer
language sql volatile
as $$ select case when secretstore.is_live(live_version.secret) then (live_version.secret).version else 0 end $$;

comment on function secretstore.live_version(secretstore.secrets) is 'The version that can be read now; 0 where there is none.';

create function secretstore.expect_version(version integer, expected integer) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    if expect_version.expected <> expect_version.version then
        perform shared.refuse(
            'secrets_version_matches',
            case expect_version.version
                when 0 then 'there is no such secret now' else format('the secret is at version %s', expect_version.version)
            end,
            'object_not_in_prerequisite_state'
        );
    end if;
end;
$$;

comment on function secretstore.expect_version(integer, integer) is 'Refuses unless a secret is at the version expected; 0 expects none. Null expects nothing.';

-- Racing writers of a key queue at its row. It keeps the moment, for the version that is to come.
create function secretstore.reserve_version(
    key text, environment_id uuid, expected_version integer, restores integer, expires_at timestamptz
) returns secretstore.place
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_scope secretstore.scope := secretstore.scope_of(v_actor, 'secrets:write', reserve_version.environment_id);
    v_secret secretstore.secrets;
begin
    insert into secretstore.secrets as s (organization_id, environment_id, key)
    values (v_scope.organization_id, v_scope.environment_id, reserve_version.key)
    on conflict on constraint secrets_one_per_key do update set updated_at = shared.clock(), reserved_in = pg_current_xact_id()
    returning s.* into v_secret;
    perform secretstore.expect_version(secretstore.live_version(v_secret), reserve_version.expected_version);
    return (
        v_secret.id, v_secret.organization_id, v_secret.environment_id, v_secret.key, v_secret.version + 1,
        secretstore.provenance_of(
            reserve_version.restores, reserve_version.expires_at, v_actor.kind, v_actor.credential_id, v_actor.user_id,
            v_secret.updated_at
        )
    );
end;
$$;

comment on function secretstore.reserve_version(text, uuid, integer, integer, timestamptz) is
    'Axiom A11: a secret''s value is sealed to its scope, key and version. Locks the secret and tells what its next value is sealed to; of racing writers who expect one version, one wins.';

-- The value is in no detail.
create function secretstore.write_audit(
    action text, secret secretstore.secrets, version integer, request_id text, address text, more jsonb default '{}'
) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    perform shared.write_audit(
        write_audit.action,
        secretstore.subject_of((write_audit.secret).organization_id, (write_audit.secret).environment_id, (write_audit.secret).key),
        detail => jsonb_strip_nulls(jsonb_build_object('version', write_audit.version, 'address', write_audit.address) || write_audit.more),
        request_id => write_audit.request_id
    );
end;
$$;

comment on function secretstore.write_audit(text, secretstore.secrets, integer, text, text, jsonb) is
    'Axiom A11: writes are audited. What was done with a secret, to which version, from where. Granted to nobody: commands call it.';

-- The second step. A value that deletion or expiry hid comes back with a new version only.
create function secretstore.put_version(
    secret_id uuid, version integer, ciphertext bytea, wrapped_key bytea, master_key_id text, restores integer,
    expires_at timestamptz, max_versions integer, request_id text, address text
) returns secretstore.secrets
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_organization_id uuid := shared.acting_organization('secrets:write');
    v_secret secretstore.secrets;
begin
    select * into v_secret from secretstore.secrets as s
    where s.id = put_version.secret_id and s.organization_id = v_organization_id
        and s.environment_id is not distinct from coalesce(shared.current_environment_id(), s.environment_id)
    for no key update;
    if not found then
        perform shared.refuse('not_found', 'there is no such secret, or it is not yours', 'no_data_found');
    end if;
    insert into secretstore.secret_versions (
        secret_id, version, ciphertext, wrapped_key, master_key_id, restores, expires_at
    )
    values (
        put_version.secret_id, put_version.version, put_version.ciphertext, put_version.wrapped_key,
        put_version.master_key_id, put_version.restores, put_version.expires_at
    );
    update secretstore.secrets as s
    set deleted_at = null, max_versions = coalesce(put_version.max_versions, s.max_versions)
    where s.id = put_version.secret_id
    returning s.* into v_secret;
    update secretstore.secret_versions as v set wrapped_key = null, destroyed_at = shared.clock()
    where v.secret_id = v_secret.id and v.version <= v_secret.version - v_secret.max_versions and v.wrapped_key is not null;
    perform secretstore.write_audit(
        case when put_version.restores is null then 'secret.write' else 'secret.rollback' end,
        v_secret, v_secret.version, put_version.request_id, put_version.address,
        jsonb_build_object('restores', put_version.restores, 'expires_at', put_version.expires_at)
    );
    return v_secret;
end;
$$;

comment on function secretstore.put_version(uuid, integer, bytea, bytea, text, integer, timestamptz, integer, text, text) is
    'Axiom A11: writes are audited. Puts a sealed value as the version that was reserved; versions beyond max_versions are destroyed.';

-- What is deleted or expired is not there to be deleted.
create function secretstore.delete_secret(key text, environment_id uuid, expected_version integer, request_id text, address text)
returns secretstore.secrets
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_scope secretstore.scope := secretstore.acting_scope('secrets:write', delete_secret.environment_id);
    v_secret secretstore.secrets := secretstore.locked_secret(v_scope, delete_secret.key);
begin
    if v_secret.id is null or not secretstore.is_live(v_secret) then
        perform shared.refuse('not_found', 'there is no such secret, or it is not yours', 'no_data_found');
    end if;
    perform secretstore.expect_version(v_secret.version, delete_secret.expected_version);
    update secretstore.secrets as s set deleted_at = shared.clock(), updated_at = shared.clock()
    where s.id = v_secret.id
    returning s.* into v_secret;
    perform secretstore.write_audit('secret.delete', v_secret, v_secret.version, delete_secret.request_id, delete_secret.address);
    return v_secret;
end;
$$;

comment on function secretstore.delete_secret(text, uuid, integer, text, text) is
    'Axiom A11: writes are audited. Hides a key and its value until it is undeleted or put again.';

create function secretstore.undelete_secret(key text, environment_id uuid, expected_version integer, request_id text, address text)
returns secretstore.secrets
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_scope secretstore.scope := secretstore.acting_scope('secrets:write', undelete_secret.environment_id);
    v_secret secretstore.secrets := secretstore.locked_secret(v_scope, undelete_secret.key);
begin
    if v_secret.deleted_at is null then
        perform shared.refuse('not_found', 'no secret of this key is deleted', 'no_data_found');
    end if;
    perform secretstore.expect_version(v_secret.version, undelete_secret.expected_version);
    update secretstore.secrets as s set deleted_at = null, updated_at = shared.clock()
    where s.id = v_secret.id
    returning s.* into v_secret;
    perform secretstore.write_audit('secret.undelete', v_secret, v_secret.version, undelete_secret.request_id, undelete_secret.address);
    return v_secret;
end;
$$;

comment on function secretstore.undelete_secret(text, uuid, integer, text, text) is
    'Axiom A11: writes are audited. Brings a deleted key back with the value that it had.';

create function secretstore.destroy_version(
    key text, environment_id uuid, version integer, expected_version integer, request_id text, address text
) returns secretstore.secrets
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_scope secretstore.scope := secretstore.acting_scope('secrets:write', destroy_version.environment_id);
    v_secret secretstore.secrets := secretstore.locked_secret(v_scope, destroy_version.key);
begin
    update secretstore.secret_versions as v set wrapped_key = null, destroyed_at = shared.clock()
    where v.secret_id = v_secret.id and v.version = destroy_version.version and v.wrapped_key is not null;
    if not found then
        perform shared.refuse('not_found', 'there is no such version, or it is destroyed', 'no_data_found');
    end if;
    perform secretstore.expect_version(v_secret.version, destroy_version.expected_version);
    perform secretstore.write_audit('secret.destroy', v_secret, destroy_version.version, destroy_version.request_id, destroy_version.address);
    return v_secret;
end;
$$;

comment on function secretstore.destroy_version(text, uuid, integer, integer, text, text) is
    'Axiom A11: a secret''s value is sealed. Destroys the key of one version for good; its row stays as a tombstone.';

-- Never refuses for a key: what is not granted is told and audited with its reason, whether one key is asked or many.
-- Several requests of one caller may ask at once, so each key comes with the request that it is of; a key may come twice.
-- The plan is the same for one key and for a hundred, by the indexes; to be asked for a better one each time costs more
-- than the read.
create function secretstore.grant_reads(
    digest bytea, keys text[], environment_id uuid, version integer, request_ids text[], addresses text[],
    held_ids uuid[] default '{}', held_versions integer[] default '{}'
) returns table (key text, refusal text, is_held boolean)
language plpgsql volatile security definer
set search_path = '' set plan_cache_mode = force_generic_plan
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_scope secretstore.scope := secretstore.scope_of(v_actor, 'secrets:read', grant_reads.environment_id);
    v_now timestamptz := shared.clock();
    v_ids uuid[];
    v_versions integer[];
    v_refusals text[];
    v_held boolean[];
    v_subjects text[];
    v_details jsonb[];
begin
    if cardinality(grant_reads.keys) not between 1 and 100 then
        perform shared.refuse('grant_reads', 'one read takes 1 to 100 keys', 'invalid_parameter_value');
    end if;
    select
        array_agg(f.id), array_agg(f.version), array_agg(f.refusal), array_agg(f.is_held), array_agg(f.subject),
        array_agg(f.detail)
    into v_ids, v_versions, v_refusals, v_held, v_subjects, v_details
    from (
        select s.id, coalesce(grant_reads.version, s.version) as version,
            case
                when s.id is null then 'missing'
                when (s.version, s.expires_at) is distinct from (l.version, l.expires_at) then 'secret_integrity'
                when s.deleted_at is not null then 'deleted'
                when s.expires_at <= v_now then 'expired'
                when v.version is null then 'missing_version'
                when (v.wrapped_key is null) <> (v.destroyed_at is not null) then 'secret_integrity'
                when v.wrapped_key is null then 'destroyed'
            end as refusal,
            coalesce((grant_reads.held_ids[k.n], grant_reads.held_versions[k.n]) = (v.secret_id, v.version), false) as is_held,
            secretstore.subject_of(v_scope.organization_id, v_scope.environment_id, k.key) as subject,
            jsonb_strip_nulls(jsonb_build_object(
                'version', coalesce(grant_reads.version, s.version), 'address', nullif(grant_reads.addresses[k.n], '')
            )) as detail
        from unnest(grant_reads.keys) with ordinality as k (key, n)
        left join secretstore.secrets as s
            on s.organization_id = v_scope.organization_id and s.scope_id = v_scope.id and s.key = k.key
        left join secretstore.secret_versions as v
            on v.secret_id = s.id and v.version = coalesce(grant_reads.version, s.version)
        left join lateral (
            select o.version, o.expires_at from secretstore.secret_versions as o
            where o.secret_id = s.id
            order by o.version desc
            limit 1
        ) as l on true
        order by k.n
    ) as f;
    perform shared.write_audits(v_actor, 'secret.read', v_subjects, v_refusals, v_details, grant_reads.request_ids);
    insert into secretstore.read_grants (digest, secret_ids, versions)
    select grant_reads.digest, array_agg(g.id), array_agg(g.version)
    from unnest(v_ids, v_versions, v_refusals, v_held) as g (id, version, refusal, is_held)
    where g.refusal is null and not g.is_held
    having count(*) > 0;
    -- Now and then, those that nobody used.
    if random() < 0.01 then
        delete from secretstore.read_grants as g where g.digest in (
            select o.digest from secretstore.read_grants as o
            where o.granted_at < v_now - interval '10 seconds'
            order by o.granted_at limit 1000
            for update skip locked
        );
    end if;
    return query select * from unnest(grant_reads.keys, v_refusals, v_held);
end;
$$;

comment on function secretstore.grant_reads(bytea, text[], uuid, integer, text[], text[], uuid[], integer[]) is
    'Axiom A11: reads and denials are audited. Writes a row for each key, done or denied, and grants what may be read to the holder of the number whose SHA-256 this is; not what he says to hold already, if it is what would be read.';

create function secretstore.take_reads(number bytea)
returns table (
    secret_id uuid, organization_id uuid, environment_id uuid, key text, version integer, provenance bytea,
    ciphertext bytea, wrapped_key bytea, master_key_id text
)
language plpgsql volatile security definer
set search_path = '' set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    with used as (
        delete from secretstore.read_grants as g
        where g.digest = sha256(take_reads.number) and g.granted_at > shared.clock() - interval '10 seconds'
        returning g.secret_ids, g.versions
    )
    select s.id, s.organization_id, s.environment_id, s.key, v.version,
        secretstore.provenance_of(v.restores, v.expires_at, v.credential_kind, v.credential_id, v.created_by, v.created_at),
        v.ciphertext, v.wrapped_key, v.master_key_id
    from used
    cross join unnest(used.secret_ids, used.versions) as g (secret_id, version)
    join secretstore.secrets as s on s.id = g.secret_id
    join secretstore.secret_versions as v on v.secret_id = g.secret_id and v.version = g.version
    where v.wrapped_key is not null;
end;
$$;

comment on function secretstore.take_reads(bytea) is
    'Axiom A11: reads are audited. The only way to a sealed value: what a committed grant names, once, within ten seconds. It takes no actor; the number proves the grant.';

-- A refusal takes its own traces along, so this runs in a transaction of its own; it can only say that the proved actor was denied.
create function secretstore.record_denials(
    action text, keys text[], environment_id uuid, reason text, request_id text, address text
) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_environment_id uuid := coalesce(record_denials.environment_id, (v_actor).environment_id);
    v_detail jsonb := jsonb_strip_nulls(jsonb_build_object('address', record_denials.address));
begin
    if v_actor is null then
        perform shared.refuse('current_actor', 'a denial names a proved actor', 'invalid_authorization_specification');
    end if;
    if cardinality(record_denials.keys) not between 1 and 100 then
        perform shared.refuse('record_denials', 'one denial is of 1 to 100 keys', 'invalid_parameter_value');
    end if;
    perform shared.write_audits(
        v_actor, record_denials.action,
        array_agg(secretstore.subject_of(v_actor.organization_id, v_environment_id, k.key)),
        array_agg(record_denials.reason), array_agg(v_detail), array_agg(record_denials.request_id)
    )
    from unnest(record_denials.keys) as k (key);
end;
$$;

comment on function secretstore.record_denials(text, text[], uuid, text, text, text) is
    'Axiom A11: denials are audited. Writes down what the actor was refused, a row for each key that he named; no key is the scope itself.';

-- For lists, which row security answers: with the scope asked, so that a stranger's environment is refused like an
-- unknown one. Crosses into the environments of the tenant.
create function secretstore.visible_scope(environment_id uuid) returns secretstore.scope
language sql stable security definer
set search_path = ''
as $$ select secretstore.acting_scope('secrets:read', visible_scope.environment_id) $$;

comment on function secretstore.visible_scope(uuid) is 'Crosses into the vault''s question: the scope in which the actor may list keys.';

create function secretstore.find_secret(key text, environment_id uuid) returns uuid
language plpgsql stable
set search_path = ''
as $$
declare
    v_scope secretstore.scope := secretstore.visible_scope(find_secret.environment_id);
    v_id uuid;
begin
    select s.id into v_id from secretstore.secrets as s
    where s.organization_id = v_scope.organization_id and s.scope_id = v_scope.id and s.key = find_secret.key;
    if not found then
        perform shared.refuse('not_found', 'there is no such secret, or it is not yours', 'no_data_found');
    end if;
    return v_id;
end;
$$;

comment on function secretstore.find_secret(text, uuid) is 'The secret of a key, be it deleted or not; refuses where there is none.';

-- For the operator, as the vault: granted to nobody. By the primary key, so that one pass sees each version once.
create function secretstore.list_wrapped_keys(master_key_id text, after_secret_id uuid, after_version integer, count integer)
returns table (
    secret_id uuid, organization_id uuid, environment_id uuid, key text, version integer, provenance bytea,
    wrapped_key bytea, wrapped_by text
)
language sql stable
as $$
    select v.secret_id, s.organization_id, s.environment_id, s.key, v.version,
        secretstore.provenance_of(v.restores, v.expires_at, v.credential_kind, v.credential_id, v.created_by, v.created_at),
        v.wrapped_key, v.master_key_id
    from secretstore.secret_versions as v
    join secretstore.secrets as s on s.id = v.secret_id
    where v.wrapped_key is not null and v.master_key_id <> list_wrapped_keys.master_key_id
        and (v.secret_id, v.version) > (list_wrapped_keys.after_secret_id, list_wrapped_keys.after_version)
    order by v.secret_id, v.version
    limit list_wrapped_keys.count
$$;

comment on function secretstore.list_wrapped_keys(text, uuid, integer, integer) is
    'Data keys that another master key wraps than the named one, and what they are sealed to.';

-- What was destroyed or wrapped anew in the meantime stays as it is.
create function secretstore.rewrap_keys(
    master_key_id text, secret_ids uuid[], versions integer[], wrapped_keys bytea[], rewrapped_keys bytea[]
) returns integer
language plpgsql volatile
set search_path = ''
as $$
declare
    v_count integer;
begin
    update secretstore.secret_versions as v set wrapped_key = r.rewrapped_key, master_key_id = rewrap_keys.master_key_id
    from unnest(rewrap_keys.secret_ids, rewrap_keys.versions, rewrap_keys.wrapped_keys, rewrap_keys.rewrapped_keys)
        as r (secret_id, version, wrapped_key, rewrapped_key)
    where v.secret_id = r.secret_id and v.version = r.version and v.wrapped_key = r.wrapped_key;
    get diagnostics v_count = row_count;
    perform shared.write_audit('secret.rewrap', 'master-key/' || rewrap_keys.master_key_id, detail => jsonb_build_object('versions', v_count));
    return v_count;
end;
$$;

comment on function secretstore.rewrap_keys(text, uuid[], integer[], bytea[], bytea[]) is
    'Puts data keys that the operator wrapped anew, each in place of the one that he read; leaves an audit row a batch.';

revoke execute on function
    secretstore.visible_scope(uuid),
    secretstore.reserve_version(text, uuid, integer, integer, timestamptz),
    secretstore.put_version(uuid, integer, bytea, bytea, text, integer, timestamptz, integer, text, text),
    secretstore.delete_secret(text, uuid, integer, text, text), secretstore.undelete_secret(text, uuid, integer, text, text),
    secretstore.destroy_version(text, uuid, integer, integer, text, text),
    secretstore.grant_reads(bytea, text[], uuid, integer, text[], text[], uuid[], integer[]), secretstore.take_reads(bytea),
    secretstore.record_denials(text, text[], uuid, text, text, text)
from public;
grant execute on function
    secretstore.visible_scope(uuid), secretstore.find_secret(text, uuid),
    secretstore.reserve_version(text, uuid, integer, integer, timestamptz),
    secretstore.put_version(uuid, integer, bytea, bytea, text, integer, timestamptz, integer, text, text),
    secretstore.delete_secret(text, uuid, integer, text, text), secretstore.undelete_secret(text, uuid, integer, text, text),
    secretstore.destroy_version(text, uuid, integer, integer, text, text),
    secretstore.grant_reads(bytea, text[], uuid, integer, text[], text[], uuid[], integer[]), secretstore.take_reads(bytea),
    secretstore.record_denials(text, text[], uuid, text, text, text)
to brokerflow_app;
