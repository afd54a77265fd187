-- name: list_wrapped_keys(master_key_id, after_secret_id, after_version, limit)
-- Data keys that another master key wraps than this one; for the operator, as the vault.
-- record: WrappedKey
-- role: brokerflow_vault
select
    w.secret_id as "secret_id!", w.organization_id as "organization_id!", w.environment_id, w.key as "key!",
    w.version as "version!", w.provenance as "provenance!", w.wrapped_key as "wrapped_key!", w.wrapped_by as "wrapped_by!"
from secretstore.list_wrapped_keys(:master_key_id, :after_secret_id, :after_version, :limit) as w;

-- name: rewrap_keys(master_key_id, secret_ids, versions, wrapped_keys, rewrapped_keys)$
-- Put data keys that are wrapped anew in place of those read; for the operator, as the vault.
-- role: brokerflow_vault
select secretstore.rewrap_keys(:master_key_id, :secret_ids, :versions, :wrapped_keys, :rewrapped_keys) as "count!";

-- name: admit_master_keys(ids, proofs)$
-- The master keys that are known and not proved by these; where there is none, the first may seal.
select secretstore.admit_master_keys(:ids, :proofs) as "missing!";

-- name: keep_master_key(id, proof)!
-- Forget every other master key; for the operator, as the vault.
-- role: brokerflow_vault
select secretstore.keep_master_key(:id, :proof);
