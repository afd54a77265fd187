-- Which master keys may have sealed something here: a service without one of them does not start. None is stored, only
-- its name and the digest of a proof that whoever holds it can make.
-- depends: 0350_secretstore_notices

set local role brokerflow_vault;

create table secretstore.master_keys (
    id text primary key,
    digest bytea not null,
    introduced_at timestamptz not null default shared.clock(),
    constraint master_keys_id_is_named check (id ~ '^[0-9a-f]{16}$'),
    constraint master_keys_stored_as_digest check (octet_length(digest) = 32)
);

comment on table secretstore.master_keys is 'The master keys that sealed since the last rotation ended, by name and by the digest of a proof.';

alter table secretstore.master_keys enable row level security;
alter table secretstore.master_keys force row level security;

create policy all_vault on secretstore.master_keys for all to brokerflow_vault using (true) with check (true);

-- master_keys: nothing is granted.

-- An empty table trusts the first comer, so that a new database needs no ceremony; then the one that is to seal is
-- introduced by who proves all that are known. The lock is for two services that start at once.
create function secretstore.admit_master_keys(ids text[], proofs bytea[]) returns text[]
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_missing text[];
begin
    lock table secretstore.master_keys in share row exclusive mode;
    v_missing := array(
        select k.id from secretstore.master_keys as k
        where not exists (
            select from unnest(admit_master_keys.ids, admit_master_keys.proofs) as g (id, proof)
            where g.id = k.id and sha256(g.proof) = k.digest
        )
        order by k.introduced_at
    );
    if v_missing = '{}' then
        insert into secretstore.master_keys (id, digest)
        values (admit_master_keys.ids[1], sha256(admit_master_keys.proofs[1]))
        on conflict on constraint master_keys_pkey do nothing;
    end if;
    return v_missing;
end;
$$;

comment on function secretstore.admit_master_keys(text[], bytea[]) is
    'Crosses into the vault: the master keys that are known here and not proved by these; where there is none, the first of these may seal.';

-- For the operator, as the vault: granted to nobody.
create function secretstore.keep_master_key(id text, proof bytea) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
    delete from secretstore.master_keys as k where k.id <> keep_master_key.id;
    insert into secretstore.master_keys (id, digest)
    values (keep_master_key.id, sha256(keep_master_key.proof))
    on conflict on constraint master_keys_pkey do nothing;
    perform shared.write_audit('master_key.keep', 'master-key/' || keep_master_key.id);
end;
$$;

comment on function secretstore.keep_master_key(text, bytea) is 'Forgets every other master key, once it wraps nothing or is lost.';

revoke execute on function secretstore.admit_master_keys(text[], bytea[]) from public;
grant execute on function secretstore.admit_master_keys(text[], bytea[]) to brokerflow_app;
