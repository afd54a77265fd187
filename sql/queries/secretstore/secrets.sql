-- name: reserve_version(key, environment_id, expected_version, restores, expires_at)<!
-- Lock a secret and say what its next value is to be sealed to.
-- record: Place
-- optional: environment_id, expected_version, restores, expires_at
select
    p.secret_id as "secret_id!", p.organization_id as "organization_id!", p.environment_id, p.key as "key!",
    p.version as "version!", p.provenance as "provenance!"
from secretstore.reserve_version(:key, :environment_id, :expected_version, :restores, :expires_at) as p;

-- name: put_version(secret_id, version, ciphertext, wrapped_key, master_key_id, restores, expires_at, max_versions, request_id, address)<!
-- Put a sealed value as the version that this transaction reserved.
-- record: Secret
-- optional: restores, expires_at, max_versions, address
select s.key, s.environment_id, s.version, s.max_versions, s.created_at, s.updated_at, s.expires_at
from secretstore.put_version(
    :secret_id, :version, :ciphertext, :wrapped_key, :master_key_id, :restores, :expires_at, :max_versions, :request_id,
    :address
) as s;

-- name: delete_secret(key, environment_id, expected_version, request_id, address)!
-- Hide a secret until it is undeleted or put again.
-- optional: environment_id, expected_version, address
select secretstore.delete_secret(:key, :environment_id, :expected_version, :request_id, :address);

-- name: undelete_secret(key, environment_id, expected_version, request_id, address)<!
-- Bring a deleted secret back with the value that it had.
-- record: Secret
-- optional: environment_id, expected_version, address
select s.key, s.environment_id, s.version, s.max_versions, s.created_at, s.updated_at, s.expires_at
from secretstore.undelete_secret(:key, :environment_id, :expected_version, :request_id, :address) as s;

-- name: destroy_version(key, environment_id, version, expected_version, request_id, address)!
-- Destroy the key of one version for good.
-- optional: environment_id, expected_version, address
select secretstore.destroy_version(:key, :environment_id, :version, :expected_version, :request_id, :address);

-- name: grant_reads(digest, keys, environment_id, version, request_ids, addresses, held_ids, held_versions)
-- Audit the read of each key, and grant what is not refused; to be committed before it is taken.
-- record: ReadGrant
-- optional: environment_id, version
select g.key as "key!", g.refusal as "refusal?", g.is_held as "is_held!"
from secretstore.grant_reads(
    :digest, :keys, :environment_id, :version, :request_ids, :addresses, :held_ids, :held_versions
) as g;

-- name: take_reads(number)
-- Take the sealed values that a committed grant names, once.
-- record: SealedVersion
select
    t.secret_id as "secret_id!", t.organization_id as "organization_id!", t.environment_id, t.key as "key!",
    t.version as "version!", t.provenance as "provenance!", t.ciphertext as "ciphertext!",
    t.wrapped_key as "wrapped_key!", t.master_key_id as "master_key_id!"
from secretstore.take_reads(:number) as t;

-- name: list_secrets(environment_id, prefix, after, limit)
-- The keys of a scope that begin with a prefix, in their order; never values.
-- record: Secret
-- optional: environment_id, after
select s.key, s.environment_id, s.version, s.max_versions, s.created_at, s.updated_at, s.expires_at
from secretstore.visible_scope(:environment_id) as v
cross join lateral (
    -- An index sees no prefix that is a parameter, but where it begins and, as no key holds a tilde, where it ends.
    select *
    from secretstore.secrets as k
    where k.organization_id = v.organization_id and k.scope_id = v.id and k.key ^@ :prefix and k.key >= :prefix and k.key < :prefix || '~'
        and k.key > (select coalesce(:after::text, '')) and k.deleted_at is null
        and (k.expires_at is null or k.expires_at > shared.clock())
    order by k.key
    limit :limit
) as s
order by s.key;

-- name: count_secrets(environment_id, prefix)$
-- How many keys of a scope begin with a prefix.
-- optional: environment_id
select count(s.id) as "count!"   -- It grows with the keys that it counts.
from secretstore.visible_scope(:environment_id) as v
left join secretstore.secrets as s
    on s.organization_id = v.organization_id and s.scope_id = v.id and s.key ^@ :prefix and s.key >= :prefix and s.key < :prefix || '~' and s.deleted_at is null
    and (s.expires_at is null or s.expires_at > shared.clock());

-- name: list_versions(key, environment_id, before, limit)
-- The versions of a secret, the latest first: who put each and when; also of a deleted secret.
-- record: SecretVersion
-- optional: environment_id, before
select v.version, v.restores, v.credential_kind, v.created_by, v.created_at, v.destroyed_at
from secretstore.find_secret(:key, :environment_id) as f (id)
join secretstore.secret_versions as v on v.secret_id = f.id
where v.version < (select coalesce(:before::integer, 2147483647))
order by v.version desc
limit :limit;

-- name: record_secret_denials(action, keys, environment_id, reason, request_id, address)!
-- Write down what the caller was refused, by key, in a transaction of its own.
-- optional: environment_id, address
select secretstore.record_denials(:action, :keys, :environment_id, :reason, :request_id, :address);
